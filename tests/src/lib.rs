//! Simulated platforms, endpoints and clients for the tests of hermes-gw.

pub mod bench;
pub mod feishu;
pub mod hermes;
pub mod openai;
pub mod torture;
