//! Children: how they are made, how they are ended, how it is known that they are gone.

pub mod reap;
pub mod spawn;
pub mod tree;
