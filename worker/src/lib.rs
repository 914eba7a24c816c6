//! One instance of hermes-gw in one process: a platform account, or an agent endpoint.
//!
//! A worker knows its supervisor and the outside world, and nothing else: it opens no file, keeps no
//! state that must outlive it, and may be killed at any moment. What it heard and what is not yet
//! accepted is still owed to us by the platform; what it was told to send is still in the outbox.

pub mod clock;
pub mod error;
pub mod platform;

pub use error::Error;
