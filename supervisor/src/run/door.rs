//! Who comes in: events are judged, strangers are told a code, and what people decide takes effect when it
//! is durable.

use protocol::content::Content;
use protocol::control::{
    AccessChanged, AccessList, AccessRules, Decide, DecidedAbout, PairingCode, Refusal, SCHEMA,
    Subject,
};
use protocol::event::{Inbound, Reply as Said, SenderKind};
use protocol::id::{Instance, Lane};

use super::Gateway;
use super::desk::{Desk, PlatformDesk};
use super::tickets::Pending;
use crate::clock;
use crate::exit::Code;
use crate::link::Reply;
use crate::policy::access::{Denial, Direct, Groups};
use crate::policy::outbox::Input;
use crate::policy::pairing::HOLDS_MS;
use crate::socket::Peer;
use crate::store::{self, Answer, Beside, Grant, Op, Pair};

/// What the gateway itself says is kept under this name. No instance can have it.
pub(super) const GATEWAY: &str = "gateway";

impl PlatformDesk {
    /// Whether `event` comes in.
    pub(super) fn judge(&mut self, event: &Inbound, former: Option<&str>) -> Result<(), Denial> {
        self.access.admit(&self.grants, event, former)?;
        match event.sender.kind {
            SenderKind::Bot if !self.loops.program(&event.chat_id, clock::now()) => {
                Err(Denial::Loop)
            }
            SenderKind::User => {
                self.loops.person(&event.chat_id);
                Ok(())
            }
            SenderKind::Bot | SenderKind::System | SenderKind::Own => Ok(()),
        }
    }

    /// Whether a recall that was denied so comes in where its message did: the id of that.
    pub(super) fn with_message(
        &self,
        denial: Denial,
        event: &Inbound,
        former: Option<&str>,
    ) -> Option<String> {
        let comes = self.access.admits_with_message(denial, &self.grants, event, former);
        event.message_id.clone().filter(|_| comes)
    }

    /// Takes over what a former process or the configuration before knew. Whether something was decided before.
    pub(super) fn remember(&mut self, grant: &Grant) -> bool {
        let list = match grant.subject {
            store::Subject::User => &mut self.grants.users,
            store::Subject::Chat => &mut self.grants.chats,
        };
        let before = match grant.allowed {
            Some(allowed) => list.insert(grant.id.clone(), allowed),
            None => list.remove(&grant.id),
        };
        if grant.subject == store::Subject::User {
            self.pairing.decided(&grant.id);
        }
        before.is_some()
    }
}

impl Gateway {
    /// Somebody whom nobody knows writes to the bot.
    pub(super) fn knock(&mut self, index: usize, event: &Inbound) {
        let Ok(random) = clock::random() else { return };
        let now_ms = clock::unix_ms();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let instance = slot.name.clone();
        let Desk::Platform(desk) = &mut slot.desk else { return };
        let (user, chat) = (event.sender.user_id.as_str(), event.chat_id.as_str());
        let Some(code) = desk.pairing.knock(user, chat, random, now_ms) else { return };
        let code = code.clone();
        tracing::info!(%instance, user, chat, "a stranger was told a code");
        self.store.submit(Op::Pair(Pair {
            instance: instance.clone(),
            user: user.to_owned(),
            chat_id: code.chat_id,
            code: code.code.clone(),
            until_ms: code.until_ms,
        }));
        let minutes = HOLDS_MS / 60_000;
        let text = format!(
            "I do not know you yet. Ask whoever runs me to let you in: `hermes-gw ctl access approve {}` \
             (within {minutes} minutes). My id for you is {user}.",
            code.code
        );
        let lane = event.lane(instance);
        self.say_in_reply(&format!("pair:{user}:{}", code.code), lane, None, text);
    }

    /// Says something in a chat on nobody's behalf.
    pub(super) fn say_in_reply(
        &mut self,
        key: &str,
        lane: Lane,
        reply_to: Option<String>,
        text: String,
    ) {
        let key = key.get(..key.floor_char_boundary(200)).unwrap_or_default().to_owned();
        let Ok(agent) = Instance::new(GATEWAY) else { return };
        let reply = Box::new(Said { key, lane, reply_to, content: Content::text(text) });
        let ticket = self.tickets.name();
        self.tickets.hold(ticket, Pending::OwnReply);
        let beside =
            Beside { answers: None, account: self.leaves_through(&reply.lane.instance, None) };
        self.store.submit(Op::AcceptReply {
            ticket,
            agent,
            reply,
            note: None,
            beside,
            now_ms: clock::unix_ms(),
        });
    }

    /// The store has it, or not.
    pub(super) fn own_reply_accepted(&mut self, answer: Answer) {
        match answer {
            Answer::Reply { receipt, chat, fresh: true } => {
                if let Some(platform) = self.by_name.get(&chat.instance).copied() {
                    self.send(platform, Input::Accepted(receipt.id.0, chat));
                }
            }
            Answer::Reply { .. } => {}
            other => tracing::error!(answer = ?other, "a word of our own was not stored"),
        }
    }

    /// A person decides.
    pub(super) fn decide_access(&mut self, decide: Decide, peer: Peer, reply: Reply) {
        let now_ms = clock::unix_ms();
        // Who was told a code is somebody, and what was once decided can be taken back.
        let is_named = matches!(decide, Decide::Allow(_) | Decide::Deny(_));
        let (subject, allowed) = match decide {
            Decide::Approve(code) => match self.paired(&code, now_ms) {
                Some(subject) => (subject, Some(true)),
                None => {
                    return reply.refuse(Refusal {
                        code: Code::Usage.number(),
                        message: format!("no live code is {code:?}"),
                        hint: Some("`hermes-gw ctl access list` shows those that are live".into()),
                    });
                }
            },
            Decide::Allow(subject) => (subject, Some(true)),
            Decide::Deny(subject) => (subject, Some(false)),
            Decide::Revoke(subject) => (subject, None),
        };
        let index = match self.find(&subject.instance) {
            Ok(index) => index,
            Err(refusal) => return reply.refuse(refusal),
        };
        if !matches!(self.desk(index), Some(Desk::Platform(_))) {
            return reply.refuse(Refusal {
                code: Code::Usage.number(),
                message: format!("{} is no platform that works", subject.instance),
                hint: Some("`hermes-gw ctl status` tells what each instance is, and how".into()),
            });
        }
        let Some(name) = self.slots.get(index).map(|slot| slot.name.clone()) else { return };
        let (kind, id) = match (&subject.user, &subject.chat) {
            (Some(user), _) => (store::Subject::User, user.clone()),
            (None, chat) => (store::Subject::Chat, chat.clone().unwrap_or_default()),
        };
        let Some(Desk::Platform(desk)) = self.desk(index) else { return };
        let nobody = match kind {
            store::Subject::User => desk.settings.no_user(&id),
            store::Subject::Chat => desk.settings.no_group(&id),
        };
        if let Some(why) = nobody.filter(|_| is_named) {
            return reply.refuse(Refusal {
                code: Code::Usage.number(),
                message: format!("{name}: {why}; nothing was decided"),
                hint: Some(
                    "the log shows the ids of those who were denied; a group's wants --chat".into(),
                ),
            });
        }
        let wish = match allowed {
            Some(true) => "access allow",
            Some(false) => "access deny",
            None => "access revoke",
        };
        self.announce_asked(Some(index), &format!("{wish} {id}"), peer);
        let grant = Grant { instance: name, subject: kind, id, allowed, at_ms: now_ms };
        self.ask(Pending::Grant { slot: index, grant, subject, reply });
    }

    /// Whom a code was told to.
    fn paired(&self, code: &str, now_ms: i64) -> Option<Subject> {
        self.slots.iter().find_map(|slot| {
            let Desk::Platform(desk) = &slot.desk else { return None };
            let (user, _) = desk.pairing.find(code, now_ms)?;
            Some(Subject {
                instance: slot.name.to_string(),
                user: Some(user.to_owned()),
                chat: None,
            })
        })
    }

    /// A decision is durable.
    pub(super) fn granted(
        &mut self,
        index: usize,
        grant: &Grant,
        subject: Subject,
        reply: Reply,
        answer: &Answer,
    ) {
        if !matches!(answer, Answer::Granted) {
            tracing::error!(?answer, "a decision was not stored");
            return reply.refuse(Refusal {
                code: Code::Io.number(),
                message: "keep the decision: the store did not take it".into(),
                hint: Some("try again; `hermes-gw ctl status` shows how the store is".into()),
            });
        }
        let Some(Desk::Platform(desk)) = self.desk(index) else { return };
        let now_ms = clock::unix_ms();
        let welcome = (grant.allowed == Some(true) && grant.subject == store::Subject::User)
            .then(|| desk.pairing.live(now_ms).find(|(user, _)| *user == grant.id))
            .flatten()
            .map(|(_, code)| (code.chat_id.clone(), code.code.clone()));
        let was_decided = desk.remember(grant);
        if let Some((chat_id, code)) = welcome {
            let lane = Lane { instance: grant.instance.clone(), chat_id, thread_id: None };
            let text = "You are let in. Write again what you wanted to say.".to_owned();
            self.say_in_reply(&format!("paired:{}:{code}", grant.id), lane, None, text);
        }
        let result = match grant.allowed {
            Some(true) => "allowed",
            Some(false) => "denied",
            None if was_decided => "revoked",
            None => "unknown",
        };
        reply.answer(&AccessChanged { schema: SCHEMA, subject, result: result.into() });
    }

    /// Who may speak.
    pub(super) fn list_access(&self, reply: Reply) {
        let now_ms = clock::unix_ms();
        let instances = self.slots.iter().filter(|slot| !slot.removed);
        let instances = instances.filter_map(|slot| match &slot.desk {
            Desk::Platform(desk) => Some(rules(&slot.name, desk, now_ms)),
            Desk::Agent(_) | Desk::Hooks(_) | Desk::Broken(_) => None,
        });
        reply.answer(&AccessList { schema: SCHEMA, instances: instances.collect() });
    }
}

fn rules(instance: &Instance, desk: &PlatformDesk, now_ms: i64) -> AccessRules {
    let about = |user: Option<&String>, chat: Option<&String>, allowed: bool| DecidedAbout {
        subject: Subject {
            instance: instance.to_string(),
            user: user.cloned(),
            chat: chat.cloned(),
        },
        result: if allowed { "allowed" } else { "denied" }.into(),
    };
    let users = desk.grants.users.iter().map(|(id, allowed)| about(Some(id), None, *allowed));
    let chats = desk.grants.chats.iter().map(|(id, allowed)| about(None, Some(id), *allowed));
    let codes = desk.pairing.live(now_ms).map(|(user, code)| PairingCode {
        code: code.code.clone(),
        user: user.to_owned(),
        chat: code.chat_id.clone(),
        until_ms: code.until_ms,
    });
    AccessRules {
        instance: instance.clone(),
        direct: match desk.access.direct {
            Direct::List => "list",
            Direct::Pairing => "pairing",
            Direct::Open => "open",
            Direct::Off => "off",
        }
        .into(),
        groups: match desk.access.groups {
            Groups::Mention => "mention",
            Groups::All => "all",
            Groups::List => "list",
            Groups::Off => "off",
        }
        .into(),
        users: desk.access.users.iter().cloned().collect(),
        chats: desk.access.chats.iter().cloned().collect(),
        decided: users.chain(chats).collect(),
        codes: codes.collect(),
    }
}
