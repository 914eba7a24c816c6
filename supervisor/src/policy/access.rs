//! Who may speak to the agent: decided before anything is stored, the same for every platform.
//!
//! Default deny: without a list, a pairing or an explicit `open`, no sender reaches the agent. What is
//! denied is acknowledged to the platform (nobody waits for it) and counted, never stored; of what a
//! person's word could let in, the keys are.
//!
//! In this order:
//!
//! | what | verdict |
//! |---|---|
//! | nobody could read it | in: it is kept for a person, and no agent hears it |
//! | a message is taken back, and nobody says whose it was | in where the message was, unless the chat is shut |
//! | it is our own, or has no sender, or comes from a program and `bots` is off | denied |
//! | the sender, or the chat, was denied by a person | denied |
//! | a direct chat, `direct = "off"` | denied |
//! | a direct chat with somebody known | in |
//! | a direct chat with a stranger: `open`, `pairing`, `list` | in; one code, then silence; silence |
//! | a group, `groups = "off"` | denied |
//! | a group, the sender is not known, and the group is not open to everybody | denied; as such if it addresses the bot or `groups = "all"` |
//! | a group, `groups = "all"` | in |
//! | a group, the bot is addressed | in, otherwise denied |
//!
//! *Known* are the users of the list, of the chat's own list, and those whom a person has let in. A group
//! is *open to everybody* if it is listed, if a person has let it in, or if `direct = "open"`; with
//! `groups = "list"` none is.

use std::collections::{BTreeMap, BTreeSet};

use protocol::event::{ChatType, Inbound, InboundKind, Mention, SenderKind};

/// Who may speak in a direct chat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direct {
    /// Those on the list of users.
    #[default]
    List,
    /// Those on the list; others get a code by which a person can let them in.
    Pairing,
    /// Everybody.
    Open,
    /// Nobody.
    Off,
}

/// When a message in a group is for the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Groups {
    /// When it addresses the bot.
    #[default]
    Mention,
    /// Always.
    All,
    /// When a known user addresses the bot with it; no group is open to everybody.
    List,
    /// Never.
    Off,
}

/// The access rules of one platform instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Direct chats.
    pub direct: Direct,
    /// Groups.
    pub groups: Groups,
    /// Users who may speak, by the platform's id, in direct chats and in groups.
    pub users: BTreeSet<String>,
    /// Groups in which everybody may speak, by the platform's id.
    pub chats: BTreeSet<String>,
    /// Groups with rules of their own.
    pub chat: BTreeMap<String, GroupRule>,
    /// Whether programs are heard like users.
    pub bots: bool,
    /// Whether whoever addresses everybody addresses the bot.
    pub at_all: bool,
}

/// The rules of one group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupRule {
    /// When a message is for the agent.
    pub groups: Groups,
    /// Users who may speak there, besides those who may everywhere.
    pub users: BTreeSet<String>,
}

/// What people have decided while the gateway ran: `true` lets in, `false` denies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grants {
    /// About users, by the platform's id.
    pub users: BTreeMap<String, bool>,
    /// About groups.
    pub chats: BTreeMap<String, bool>,
}

/// Why an event is denied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Denial {
    /// Its sender is not on the list.
    Stranger,
    /// The same, and a code may be told.
    Unpaired,
    /// This kind of chat is switched off.
    Off,
    /// A group message that does not address the bot.
    NotAddressed,
    /// The same of somebody who is not on the list either.
    Bystander,
    /// It comes from another program, from ourselves, or from nobody the platform names.
    NotAPerson,
    /// A person has denied its sender or its chat.
    Refused,
    /// Programs talk to one another without a person: see [`super::loops`].
    Loop,
}

impl Denial {
    /// Whether it is most of what people in a group say to one another.
    pub fn is_overheard(self) -> bool {
        matches!(self, Self::NotAddressed | Self::Bystander)
    }

    /// What a person can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Stranger | Self::Unpaired => {
                "let senders in with `hermes-gw ctl access allow INSTANCE USER`, or in this platform's access table"
            }
            Self::NotAddressed => {
                "the bot is to be addressed in groups, unless `groups = \"all\"` in this platform's access table"
            }
            Self::Bystander => {
                "who is to be heard there is let in with `hermes-gw ctl access allow`, and addresses the bot"
            }
            Self::Off => {
                "`direct` or `groups` in this platform's access table switches such chats off"
            }
            Self::NotAPerson => {
                "other programs are heard with `bots = true` in this platform's access table"
            }
            Self::Refused => "`hermes-gw ctl access revoke INSTANCE USER` takes the denial back",
            Self::Loop => "programs go on to talk to one another when a person speaks",
        }
    }
}

impl Access {
    /// Decides about `event`; `Ok` lets it in. `former` is the id that its chat had before: what is said of that
    /// one holds, unless something is said of the new one.
    pub fn admit(
        &self,
        grants: &Grants,
        event: &Inbound,
        former: Option<&str>,
    ) -> Result<(), Denial> {
        let ids = || [Some(event.chat_id.as_str()), former].into_iter().flatten();
        if event.kind == InboundKind::Unreadable {
            return Ok(());
        }
        let is_heard = match event.sender.kind {
            SenderKind::User => true,
            SenderKind::Bot => self.bots,
            SenderKind::System | SenderKind::Own => false,
        };
        let user = event.sender.user_id.as_str();
        if !is_heard || user.is_empty() {
            return Err(Denial::NotAPerson);
        }
        let decided = (grants.users.get(user), ids().find_map(|id| grants.chats.get(id)));
        if decided.0 == Some(&false) || decided.1 == Some(&false) {
            return Err(Denial::Refused);
        }
        let known = self.users.contains(user) || decided.0 == Some(&true);
        if event.chat_type == ChatType::Direct {
            return match self.direct {
                Direct::Off => Err(Denial::Off),
                _ if known => Ok(()),
                Direct::Open => Ok(()),
                Direct::Pairing => Err(Denial::Unpaired),
                Direct::List => Err(Denial::Stranger),
            };
        }
        let own = ids().find_map(|id| self.chat.get(id));
        let groups = own.map_or(self.groups, |rule| rule.groups);
        if groups == Groups::Off {
            return Err(Denial::Off);
        }
        let known = known || own.is_some_and(|rule| rule.users.contains(user));
        let listed = ids().any(|id| self.chats.contains(id)) || decided.1 == Some(&true);
        let open = groups != Groups::List && (listed || self.direct == Direct::Open);
        let addressed = match event.mention {
            Mention::Me => true,
            Mention::All => self.at_all,
            Mention::None | Mention::Other => false,
        };
        match (known || open, addressed || groups == Groups::All) {
            (true, true) => Ok(()),
            (true, false) => Err(Denial::NotAddressed),
            (false, true) => Err(Denial::Stranger),
            (false, false) => Err(Denial::Bystander),
        }
    }

    /// Whether a person's word about its sender and its chat would let `event` in. Such an event is denied for
    /// good: when the platform tells of it again, it must not overtake what was heard since that word.
    pub fn could_admit(&self, event: &Inbound, former: Option<&str>) -> bool {
        let grants = Grants {
            users: BTreeMap::from([(event.sender.user_id.clone(), true)]),
            chats: BTreeMap::from([(event.chat_id.clone(), true)]),
        };
        self.admit(&grants, event, former).is_ok()
    }

    /// Whether a recall that was denied so comes in nevertheless where the message did: a platform may not say whose it
    /// was, and whom it addressed.
    pub fn admits_with_message(
        &self,
        denial: Denial,
        grants: &Grants,
        event: &Inbound,
        former: Option<&str>,
    ) -> bool {
        let ids = || [Some(event.chat_id.as_str()), former].into_iter().flatten();
        let is_open = match denial {
            Denial::NotAddressed => true,
            Denial::NotAPerson if event.sender.kind == SenderKind::System => {
                let own = ids().find_map(|id| self.chat.get(id));
                let is_refused = ids().find_map(|id| grants.chats.get(id)) == Some(&false);
                !is_refused
                    && match event.chat_type {
                        ChatType::Direct => self.direct != Direct::Off,
                        _ => own.map_or(self.groups, |rule| rule.groups) != Groups::Off,
                    }
            }
            _ => false,
        };
        is_open && event.kind == InboundKind::Recall && event.message_id.is_some()
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
