//! Children: how they are made, how they are ended, how it is known that they are gone.
//! And what this process itself holds.

mod birth;
pub mod cgroup;
pub mod errand;
pub mod kin;
pub mod limits;
pub mod memory;
pub mod reap;
pub mod room;
pub mod signals;
pub mod spawn;
pub mod terminal;
pub mod tree;
pub mod user;
