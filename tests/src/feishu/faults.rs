//! Everything that can be made to go wrong, as data, and the rule for which fault strikes.
//!
//! A fault lies in wait for its occasion (a call, a handshake, a ping) and strikes as often as it was told to. Faults
//! are looked up in the order of their making; the first that fits strikes.

use serde::Deserialize;

/// A fault in waiting.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// New TCP connections are accepted and then neither read nor written; existing ones as well if `existing`.
    /// Clearing the fault resumes them; until then it lasts, whatever its [`Times`]. With an app as scope it concerns
    /// the connections that carried its requests.
    BlackHole {
        #[serde(default)]
        existing: bool,
    },
    /// New TCP connections are reset (RST) as soon as they are accepted. Only with all apps as scope: nobody has asked
    /// for anything yet.
    ResetNew,
    /// Discovery answers a bare HTTP status with this body.
    DiscoveryStatus {
        status: u16,
        #[serde(default)]
        body: String,
    },
    /// Discovery refuses with a code and, if `data`, an empty `data` object.
    DiscoveryCode {
        code: i64,
        #[serde(default = "ok_status")]
        status: u16,
        #[serde(default)]
        data: bool,
    },
    /// Discovery never answers.
    DiscoveryHang,
    /// The handshake never answers.
    HandshakeHang,
    /// The handshake is refused; the three headers are sent if given.
    HandshakeRefuse { status: u16, handshake_status: Option<u16>, autherrcode: Option<i64> },
    /// Pings of the protocol stay unanswered (those of WebSocket itself do not).
    NoPongs,
    /// Pongs carry this payload instead of the client configuration; an empty one is left out.
    PongPayload { payload: String },
    /// A REST route misbehaves; all routes without `route`.
    Rest {
        route: Option<Route>,
        #[serde(flatten)]
        trouble: Trouble,
    },
}

/// The REST routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    Token,
    Send,
    Reply,
    BotInfo,
    Edit,
    Patch,
    Recall,
    Message,
    History,
    Chat,
    React,
    Unreact,
    Reactions,
    Image,
    File,
    Resource,
    Card,
    CardContent,
    CardSettings,
    CardUpdate,
    CardConvert,
    CardByToken,
    Other,
}

impl Route {
    /// The name in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Send => "send",
            Self::Reply => "reply",
            Self::BotInfo => "bot_info",
            Self::Edit => "edit",
            Self::Patch => "patch",
            Self::Recall => "recall",
            Self::Message => "message",
            Self::History => "history",
            Self::Chat => "chat",
            Self::React => "react",
            Self::Unreact => "unreact",
            Self::Reactions => "reactions",
            Self::Image => "image",
            Self::File => "file",
            Self::Resource => "resource",
            Self::Card => "card",
            Self::CardContent => "card_content",
            Self::CardSettings => "card_settings",
            Self::CardUpdate => "card_update",
            Self::CardConvert => "card_convert",
            Self::CardByToken => "card_by_token",
            Self::Other => "other",
        }
    }

    /// The scope that an app needs for it.
    pub(crate) fn scope(self) -> Option<&'static str> {
        Some(match self {
            Self::Token | Self::BotInfo | Self::Other => return None,
            Self::Send | Self::Reply => "im:message:send_as_bot",
            Self::Edit | Self::Patch => "im:message:update",
            Self::Recall => "im:message:recall",
            Self::Message | Self::History => "im:message:readonly",
            Self::Chat => "im:chat:readonly",
            Self::React | Self::Unreact => "im:message.reactions:write_only",
            Self::Reactions => "im:message.reactions:read",
            Self::Image | Self::File | Self::Resource => "im:resource",
            Self::Card
            | Self::CardContent
            | Self::CardSettings
            | Self::CardUpdate
            | Self::CardConvert => "cardkit:card:write",
            Self::CardByToken => return None,
        })
    }
}

/// What a REST route does wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "trouble", rename_all = "snake_case")]
pub enum Trouble {
    /// An HTTP status with an HTML page, as from a gateway. The request is not applied.
    Html { status: u16 },
    /// A refusal in Feishu's envelope. The request is not applied.
    Code { status: u16, code: i64 },
    /// Code 99991400, and again for every call to the route until `reset_s` seconds are over.
    RateLimit {
        reset_s: u64,
        #[serde(default = "too_many")]
        status: u16,
    },
    /// The request is applied and the connection is reset instead of an answer.
    LostAnswer,
    /// The connection is reset; the request is not applied.
    LostRequest,
    /// The request is applied, the answer comes this much later.
    Delay { ms: u64 },
    /// The request is applied, its answer comes a few bytes at a time, and so does all behind it.
    Trickle,
    /// Never answered, not applied.
    Hang,
    /// Neither applied nor answered before faults are taken back.
    Hold,
}

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Always,
    Only(u32),
}

/// Whom a fault or an act concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    All,
    App(String),
}

impl Scope {
    pub(crate) fn covers(&self, app: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::App(own) => app == Some(own),
        }
    }
}

impl From<&str> for Scope {
    fn from(app: &str) -> Self {
        Self::App(app.to_owned())
    }
}

/// The name of a fault in waiting, to clear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(u64);

/// All faults in waiting.
#[derive(Default)]
pub(crate) struct Faults {
    waiting: Vec<(FaultId, Scope, Fault, Times)>,
    next: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, scope: Scope, fault: Fault, times: Times) -> FaultId {
        self.next += 1;
        let id = FaultId(self.next);
        self.waiting.push((id, scope, fault, times));
        id
    }

    pub(crate) fn clear(&mut self, id: FaultId) {
        self.waiting.retain(|(known, ..)| *known != id);
    }

    pub(crate) fn clear_all(&mut self) {
        self.waiting.clear();
    }

    /// The first fault for this app that `fits`; it is used up by one time.
    pub(crate) fn strike<T>(
        &mut self,
        app: Option<&str>,
        mut fits: impl FnMut(&Fault) -> Option<T>,
    ) -> Option<T> {
        for (_, scope, fault, times) in &mut self.waiting {
            if !scope.covers(app) {
                continue;
            }
            let Some(found) = fits(fault) else { continue };
            match times {
                Times::Always => return Some(found),
                Times::Only(0) => {}
                Times::Only(left) => {
                    *left -= 1;
                    return Some(found);
                }
            }
        }
        None
    }

    /// Whether a black hole swallows this app's connections (those of nobody in particular without an app).
    pub(crate) fn swallows(&self, app: Option<&str>) -> bool {
        let hole = |fault: &Fault| matches!(fault, Fault::BlackHole { .. });
        self.waiting.iter().any(|(_, scope, fault, _)| scope.covers(app) && hole(fault))
    }
}

fn ok_status() -> u16 {
    200
}

fn too_many() -> u16 {
    429
}

#[cfg(test)]
mod tests {
    use super::{Fault, Faults, Route, Scope, Times, Trouble};

    #[test]
    fn a_fault_strikes_its_own_app_and_as_often_as_told() {
        let mut faults = Faults::default();
        faults.add(Scope::from("cli_a"), Fault::NoPongs, Times::Only(2));
        let mut strike = |app| faults.strike(app, |fault| (*fault == Fault::NoPongs).then_some(()));
        assert_eq!(strike(Some("cli_b")), None);
        assert_eq!(strike(None), None);
        assert_eq!(strike(Some("cli_a")), Some(()));
        assert_eq!(strike(Some("cli_a")), Some(()));
        assert_eq!(strike(Some("cli_a")), None);
    }

    #[test]
    fn faults_are_written_as_json() {
        let fault: Fault = serde_json::from_str(
            r#"{"kind":"rest","route":"send","trouble":"rate_limit","reset_s":2}"#,
        )
        .unwrap();
        let trouble = Trouble::RateLimit { reset_s: 2, status: 429 };
        assert_eq!(fault, Fault::Rest { route: Some(Route::Send), trouble });
    }
}
