//! The pure core: what to do next, decided from what has happened.
//!
//! Every machine takes `now` and inputs, returns actions as data, and tells its next deadline. Nothing
//! here waits, reads a clock, opens a file, touches a socket or logs, so a table can be checked row by
//! row and hours of trouble can be played in a microsecond.

pub mod absence;
pub mod access;
pub mod age;
pub mod backoff;
pub mod blame;
pub mod bursts;
pub mod busy;
pub mod changes;
pub mod closing;
pub mod commands;
pub mod delivery;
pub mod drafts;
pub mod gate;
pub mod hooks;
pub mod intensity;
pub mod lanes;
pub mod lifecycle;
pub mod liveness;
pub mod loops;
pub mod outbox;
pub mod own_hand;
pub mod pairing;
pub mod reach;
pub mod recent;
pub mod repeats;
pub mod routes;
pub mod signs;
pub mod steering;
pub mod told;
pub mod wall;

#[cfg(test)]
mod sim;
