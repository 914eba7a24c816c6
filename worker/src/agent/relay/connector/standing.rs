//! What a person is told of the agent's connection.

use protocol::worker::Outside;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Action, Conn, Connector, Live, Phase};
use crate::clock::Instant;

/// An agent says hello as soon as it is connected.
const HELLO: Duration = Duration::from_secs(3);

/// An agent that leaves has left by then.
const LEAVING: Duration = Duration::from_mins(3);

/// Who came and is no agent that is served.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// Why somebody was turned away since the last hello.
    pub(super) turned_away: Option<&'static str>,
    /// Connections that have said no hello, and since when they are there.
    pub(super) mute: BTreeMap<Conn, Instant>,
}

impl Strangers {
    /// A connection says who it is.
    pub(super) fn hello(&mut self, conn: Conn) {
        self.mute.remove(&conn);
        self.turned_away = None;
    }
}

impl Connector {
    /// The agent takes no more work.
    pub(super) fn leave(&mut self, why: &'static str, now: Instant, out: &mut Vec<Action>) {
        if let Some(live) = &mut self.live {
            tracing::info!(why, "no more events for the agent until it says hello again");
            live.phase = Phase::Leaving { until: now + LEAVING };
            self.left = Some(why);
            out.push(Action::Say(self.lease(0)));
        }
    }

    /// What is known of the agent's connection; `None`: nothing else than before.
    pub(super) fn outside(&self, now: Instant) -> Option<Outside> {
        match (&self.live, self.left) {
            (None, _) => Some(self.nobody(now)),
            (Some(Live { phase: Phase::Leaving { .. }, .. }), Some(why)) => {
                let reason = format!("the agent takes no work: {why}");
                Some(Outside::Down { reason, remedy: None })
            }
            (Some(live), _) if live.is_open() => {
                let without = || self.home.as_deref().map(without_home);
                Some(self.rivals.outside().or_else(without).unwrap_or(Outside::Up))
            }
            (Some(_), _) => None,
        }
    }

    /// No agent has said hello.
    fn nobody(&self, now: Instant) -> Outside {
        let (reason, remedy) = if self.strangers.mute.values().any(|since| *since + HELLO <= now) {
            (
                "somebody is connected with the right secret, and does not say hello".to_owned(),
                "if it is the agent, see its log: it hangs, or speaks another version of the relay contract",
            )
        } else if let Some(why) = self.strangers.turned_away {
            (
                format!("no agent is connected, and one was turned away: {why}"),
                "make GATEWAY_RELAY_ID and _SECRET in the agent's .env those of here (for an expired token, set \
                 the clock), and start the agent anew",
            )
        } else {
            (
                "no agent is connected".to_owned(),
                "set GATEWAY_RELAY_URL, _ID, _SECRET and _PLATFORMS in the agent's .env, then start it; one that \
                 was started earlier dials again within minutes",
            )
        };
        let home = self.home.as_ref().map(|home| format!(", and {home}"));
        Outside::Down {
            reason: reason + &home.unwrap_or_default(),
            remedy: Some(remedy.to_owned()),
        }
    }
}

fn without_home(home: &str) -> Outside {
    Outside::Limited {
        reason: format!("{home}: each new connection of the agent counts as a restart of it"),
        remedy: Some("correct `home`, which is the agent's HERMES_HOME, or let this user read it; if that alone does \
                      not help: hermes-gw ctl restart INSTANCE".to_owned()),
    }
}
