//! The real program against simulated platforms and a real agent. One binary, a file a feature.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    reason = "all of this binary is tests"
)]

mod absence;
mod access;
mod accounts;
mod acp_agent;
mod backup;
mod bad_input;
mod bot;
mod cli;
mod containers;
mod crowded;
mod disk;
mod doctor;
mod exec_agent;
mod exec_platform;
mod failing;
mod feishu;
mod following;
mod from_within;
mod gateway;
mod hooks;
mod initial;
mod isolation;
mod journal;
mod late;
mod leash;
mod leaving;
mod limits;
mod line;
mod links;
mod matrix;
mod moved;
mod numbers;
mod openai_agent;
mod owner;
mod parked;
mod parts;
mod places;
mod queue;
mod relay_agent;
mod reload;
mod removed;
mod secrets;
mod socket_agent;
mod storm;
mod strangers;
mod streaming;
mod talk;
mod telegram;
mod terminal;
mod tidy;
mod token;
mod traced;
mod trees;
mod trying;
mod upgrade;
mod versions;
mod webhook_agent;
