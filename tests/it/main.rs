//! The real program against simulated platforms and a real agent. One binary, a file a feature.

mod bad_input;
mod cli;
mod gateway;
mod isolation;
mod line;
mod links;
mod owner;
mod socket_agent;
mod tidy;
mod trying;
