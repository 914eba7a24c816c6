//! Who is connected: strangers, who have shown no secret yet, and those who have come in. Any program of this
//! machine may connect and say nothing, so no stranger takes the place of one who has come in, or of the next one.

use std::collections::{BTreeMap, BTreeSet};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::connector::Conn;
use super::door::News;
use crate::strangers::Strangers;

/// Those who have come in; an agent leaves some connections open when its reader dies.
const CONNECTIONS: usize = 16;
/// Strangers.
const STRANGERS: usize = 16;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Guests {
    last: Conn,
    strangers: BTreeMap<Conn, DropGuard>,
    entered: BTreeSet<Conn>,
    refused: Strangers,
}

impl Guests {
    /// Whether one more may come.
    pub(super) fn have_room(&self) -> bool {
        self.entered.len() < CONNECTIONS
    }

    /// One more comes. Its token is cancelled when it is to leave: the oldest stranger makes room.
    pub(super) fn come(&mut self) -> (Conn, CancellationToken) {
        let leave = CancellationToken::new();
        self.last += 1;
        self.strangers.insert(self.last, leave.clone().drop_guard());
        if self.strangers.len() > STRANGERS {
            self.strangers.pop_first();
        }
        (self.last, leave)
    }

    /// A connection tells something.
    pub(super) fn hear(&mut self, conn: Conn, news: &News) {
        match news {
            News::Entered => {
                self.strangers.remove(&conn);
                self.entered.insert(conn);
                self.refused.vouched();
            }
            News::Closed => {
                self.strangers.remove(&conn);
                self.entered.remove(&conn);
            }
            News::TurnedAway(peer, why) => {
                if let Some(times) = self.refused.refused(why) {
                    tracing::warn!(%peer, why, times, "turned away an agent; is its id and secret the same as here?");
                }
            }
            News::Heard(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_stranger_makes_room_and_who_has_come_in_stays() {
        let mut guests = Guests::default();
        let mut tokens: Vec<_> = (0..STRANGERS).map(|_| guests.come()).collect();
        guests.hear(1, &News::Entered);
        tokens.push(guests.come());
        assert!(tokens.iter().skip(1).all(|(_, leave)| !leave.is_cancelled()));
        tokens.push(guests.come());
        let left: Vec<_> =
            tokens.iter().skip(1).filter(|(_, leave)| leave.is_cancelled()).collect();
        assert!(left.len() == 1 && left[0].0 == 2);
        for conn in 2..=16 {
            guests.hear(conn, &News::Entered);
        }
        assert!(!guests.have_room());
        guests.hear(1, &News::Closed);
        assert!(guests.have_room());
    }
}
