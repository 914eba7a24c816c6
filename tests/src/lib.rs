//! Simulated platforms, endpoints and clients for the tests of hermes-gw.

pub mod bench;
mod clock;
pub mod console;
pub mod endurance;
pub mod feishu;
pub mod hermes;
mod journal;
mod listening;
pub mod matrix;
pub mod openai;
pub mod proxy;
pub mod telegram;
pub mod torture;
mod wire;
