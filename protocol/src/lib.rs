//! What two processes of hermes-gw may say to each other, and the nouns they say it with.
//!
//! Types only, and the few functions that turn them into bytes and back. Nothing here waits, opens a
//! file, reads a clock or logs, except `link`, which moves one frame over a stream that it is given.
//!
//! Two conversations share one socket. A worker opens with the frozen preamble of [`hello`] and then
//! speaks postcard frames ([`worker`]); a tool opens with `{` and speaks JSON lines ([`control`]). The
//! first is exact (both sides come from one executable), the second is additive (a newer tool must be
//! able to stop an older supervisor).
#![warn(missing_docs)]

pub mod content;
pub mod control;
pub mod error;
pub mod event;
pub mod frame;
pub mod hello;
pub mod hook;
pub mod id;
pub mod link;
pub mod local;
pub mod rpc;
pub mod secret;
pub mod step;
pub mod worker;

pub use error::Error;
