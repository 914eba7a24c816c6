//! The hermes-gw program: a dull supervisor that never loses an event.
//!
//! It holds the lock, the local socket, the store and the children, and nothing else: it opens no
//! network connection, reads no byte of a platform and runs no code of a user, so that nothing from
//! outside can end it. Everything that touches the outside is a worker, a process of its own.

pub mod clock;
pub mod config;
pub mod credential;
pub mod dirs;
pub mod error;
pub mod exchange;
pub mod exit;
pub mod identity;
pub mod journal;
pub mod link;
pub mod lock;
pub mod notify;
pub mod owed;
pub mod paths;
pub mod policy;
pub mod process;
pub mod run;
pub mod socket;
pub mod starts;
pub mod store;
pub mod text;
pub mod upgrade;

pub use error::Error;
