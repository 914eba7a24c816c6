//! What a person is told of the agent's connection.

use protocol::worker::Outside;

use super::{Connector, Live, Phase};

impl Connector {
    /// What is known of the agent's connection; `None`: nothing else than before.
    pub(super) fn outside(&self) -> Option<Outside> {
        match (&self.live, self.left) {
            (None, _) => Some(down(self.home.as_deref())),
            (Some(Live { phase: Phase::Leaving, .. }), Some(why)) => {
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
}

/// Nobody is connected.
fn down(home: Option<&str>) -> Outside {
    let reason = "no agent is connected".to_owned();
    Outside::Down {
        reason: home.map(|home| format!("{reason}, and {home}")).unwrap_or(reason),
        remedy: Some("set GATEWAY_RELAY_URL, _ID, _SECRET and _PLATFORMS in the agent's .env, then start it; \
                      one that was started earlier dials again within minutes".to_owned()),
    }
}

fn without_home(home: &str) -> Outside {
    Outside::Limited {
        reason: format!("{home}: each new connection of the agent counts as a restart of it"),
        remedy: Some("correct `home`, which is the agent's HERMES_HOME, or let this user read it; if that alone does \
                      not help: hermes-gw ctl restart INSTANCE".to_owned()),
    }
}
