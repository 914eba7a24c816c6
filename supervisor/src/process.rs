//! Children: how they are made, how they are ended, how it is known that they are gone.

pub mod cgroup;
pub mod kin;
pub mod limits;
pub mod reap;
pub mod signals;
pub mod spawn;
pub mod tree;
