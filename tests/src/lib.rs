//! Simulated platforms, endpoints and clients for the tests of hermes-gw.

pub mod bench;
mod clock;
pub mod feishu;
mod journal;
mod listening;
pub mod telegram;
pub mod torture;
mod wire;
