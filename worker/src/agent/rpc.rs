//! The method set of [`protocol::rpc`], spoken with one program over any pair of streams: what agents
//! `socket` and `exec` have in common. No adapter itself.

mod rivals;
pub(super) mod session;
#[cfg(test)]
mod tests;
