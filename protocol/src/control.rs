//! The control conversation: how tools ask the running supervisor, in JSON, one object a line.
//!
//! ```text
//! → {"id":1,"method":"restart","params":{"instances":["feishu"],"force":false,"wait_ms":30000}}
//! ← {"id":1,"result":{"schema":1,"results":[{"instance":"feishu","result":"restarted",…}]}}
//! ← {"id":2,"error":{"code":64,"message":"no instance is called \"feishuu\"","hint":"…"}}
//! ```
//! Additive: members are only ever added, and an answer may have more of them than its reader knows. A request
//! may not: half of what was meant, such as `kill` without its misspelt `instances`, could be far too much. A
//! tool leaves out what it does not need, so that an older supervisor obeys it. Unknown methods are answered
//! with an error. `code` is an exit code of the program. After `events` the connection carries one
//! [`Notice`] a line, without `id`, until it is closed; a reader that falls behind is dropped.
//! A request goes on when its asker hangs up.

mod answers;
mod asks;
mod notice;
mod status;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::answers::{
    AccessChanged, AccessList, AccessRules, Acted, BackedUp, Decided, DecidedAbout, DecidedOne,
    Done, Ordered, PairingCode, ParkedItem, ParkedList, Reloaded, Token, WaitingItem, WaitingList,
};
pub use self::asks::{
    Act, Backup, Decide, Decision, Follow, Page, SendAsked, Stop, Subject, Upgrade, Verb,
};
use self::asks::{Code, Nothing, Target, Which};
pub use self::notice::{Asker, Notice};
pub use self::status::{
    BusyCounts, ExitStatus, FileStatus, GateStatus, HooksStatus, InstanceStatus, Status,
    StoreStatus, Unconfigured, Upgraded,
};
use crate::id::ParkedId;
use crate::worker::Order;

/// The longest line that either side accepts, in bytes, without its end.
pub const LINE_MAX: usize = 1024 * 1024;

/// The version of the shapes in this file: raised never, by promise.
pub const SCHEMA: u32 = 1;

/// A request, before its method is looked at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope<'a> {
    /// Those who speak JSON-RPC 2.0 say so.
    #[serde(borrow, default)]
    pub jsonrpc: Option<&'a RawValue>,
    /// Comes back with the answer.
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
    /// What to do.
    pub method: String,
    /// With what; every method has defaults for all of it.
    #[serde(borrow, default)]
    pub params: Option<&'a RawValue>,
    /// For whoever wants to be able to look and no more: see [`Request::only_looks`].
    #[serde(default)]
    pub token: Option<String>,
}

/// What a tool can ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// `status`: [`Status`].
    Status,
    /// `start`, `restart`, `kill`: [`Acted`].
    Act(Verb, Act),
    /// `stop`: the supervisor itself drains and leaves; the connection ends when it is gone.
    Stop(Stop),
    /// `events`: [`Notice`]s from now on, or from one that was heard.
    Events(Follow),
    /// `inbox.list`: [`WaitingList`] of events.
    Inbox(Page),
    /// `outbox.list`: [`WaitingList`] of replies.
    Outbox(Page),
    /// `parked.list`: [`ParkedList`].
    ParkedList(Page),
    /// `parked.show`: [`ParkedItem`] with its content.
    ParkedShow(ParkedId),
    /// `backup`: [`BackedUp`].
    Backup(Backup),
    /// `parked.replay` and `parked.drop`: [`Decided`].
    Decide(Decision, Vec<ParkedId>),
    /// `reload`: the configuration is read anew: [`Reloaded`].
    Reload,
    /// `message.send`: [`crate::rpc::Message`], for handlers of hooks.
    Send(Box<SendAsked>),
    /// `access.list`: [`AccessList`].
    AccessList,
    /// `access.approve`, `access.allow`, `access.deny`, `access.revoke`: [`AccessChanged`].
    Access(Decide),
    /// `token`: [`Token`].
    Token,
    /// `telegram.delete_webhook` and `telegram.drop_pending`: [`Ordered`].
    Order(Order, String),
    /// `upgrade`: answered only if it fails. If not, the connection ends, and `status` tells
    /// [`Status::upgraded`].
    Upgrade(Upgrade),
}

/// A request that cannot be understood: an exit code and a text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The exit code of a tool that met this.
    pub code: u8,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Request {
    /// Whether it changes nothing and lets nobody in: what a dashboard may ask. A list of who may speak
    /// tells live codes, and a token is as good as its giver.
    pub fn only_looks(&self) -> bool {
        match self {
            Self::Status
            | Self::Events(_)
            | Self::Inbox(_)
            | Self::Outbox(_)
            | Self::ParkedList(_)
            | Self::ParkedShow(_) => true,
            Self::Act(..)
            | Self::Stop(_)
            | Self::Backup(_)
            | Self::Decide(..)
            | Self::Reload
            | Self::Send(_)
            | Self::AccessList
            | Self::Access(_)
            | Self::Order(..)
            | Self::Token
            | Self::Upgrade(_) => false,
        }
    }

    /// Whether it leads to the same when it is asked twice, also where its answer got lost.
    pub fn may_repeat(&self) -> bool {
        let harmless = matches!(
            self,
            Self::Act(Verb::Start | Verb::Kill, _)
                | Self::Access(Decide::Allow(_) | Decide::Deny(_) | Decide::Revoke(_))
                | Self::AccessList
                | Self::Order(Order::DeleteWebhook, _)
                | Self::Reload
                | Self::Token
        );
        harmless || self.only_looks()
    }

    /// Its method and parameters on the wire.
    pub fn to_line(&self, id: u64) -> String {
        let (method, params) = match self {
            Self::Status => ("status", serde_json::Value::Null),
            Self::Act(Verb::Start, act) => ("start", json(act)),
            Self::Act(Verb::Restart, act) => ("restart", json(act)),
            Self::Act(Verb::Kill, act) => ("kill", json(act)),
            Self::Stop(stop) => ("stop", json(stop)),
            Self::Events(Follow { after: None }) => ("events", serde_json::Value::Null),
            Self::Events(follow) => ("events", json(follow)),
            Self::Backup(backup) => ("backup", json(backup)),
            Self::Inbox(page) => ("inbox.list", json(page)),
            Self::Outbox(page) => ("outbox.list", json(page)),
            Self::ParkedList(page) => ("parked.list", json(page)),
            Self::ParkedShow(id) => ("parked.show", serde_json::json!({ "id": id })),
            Self::Decide(Decision::Replay, ids) => {
                ("parked.replay", serde_json::json!({ "ids": ids }))
            }
            Self::Decide(Decision::Drop, ids) => ("parked.drop", serde_json::json!({ "ids": ids })),
            Self::Reload => ("reload", serde_json::Value::Null),
            Self::Send(asked) => ("message.send", json(asked)),
            Self::AccessList => ("access.list", serde_json::Value::Null),
            Self::Access(Decide::Approve(code)) => {
                ("access.approve", serde_json::json!({ "code": code }))
            }
            Self::Access(Decide::Allow(subject)) => ("access.allow", json(subject)),
            Self::Access(Decide::Deny(subject)) => ("access.deny", json(subject)),
            Self::Access(Decide::Revoke(subject)) => ("access.revoke", json(subject)),
            Self::Token => ("token", serde_json::Value::Null),
            Self::Order(order, instance) => {
                let method = match order {
                    Order::DeleteWebhook => "telegram.delete_webhook",
                    Order::DropPending => "telegram.drop_pending",
                };
                (method, serde_json::json!({ "instance": instance }))
            }
            Self::Upgrade(upgrade) => ("upgrade", json(upgrade)),
        };
        serde_json::json!({ "id": id, "method": method, "params": params }).to_string()
    }

    /// Reads a method and its parameters.
    pub fn parse(envelope: &Envelope<'_>) -> Result<Self, Refusal> {
        let params = envelope.params.map_or("null", RawValue::get);
        if ["status", "reload", "access.list", "token"].contains(&&*envelope.method) {
            let Nothing {} = read(params)?;
        }
        Ok(match envelope.method.as_str() {
            "status" => Self::Status,
            "start" => Self::Act(Verb::Start, read(params)?),
            "restart" => Self::Act(Verb::Restart, read(params)?),
            "kill" => Self::Act(Verb::Kill, read(params)?),
            "stop" => Self::Stop(read(params)?),
            "events" => Self::Events(read(params)?),
            "backup" => {
                let backup: Backup = read(params)?;
                if !backup.path.is_absolute() {
                    return Err(incomplete("path (an absolute one)"));
                }
                Self::Backup(backup)
            }
            "inbox.list" => Self::Inbox(read(params)?),
            "outbox.list" => Self::Outbox(read(params)?),
            "parked.list" => Self::ParkedList(read(params)?),
            "parked.show" => match read::<Which>(params)?.id {
                Some(id) => Self::ParkedShow(id),
                None => return Err(incomplete("id")),
            },
            "parked.replay" => Self::Decide(Decision::Replay, ids(params)?),
            "parked.drop" => Self::Decide(Decision::Drop, ids(params)?),
            "reload" => Self::Reload,
            "message.send" => Self::Send(Box::new(serde_json::from_str(params).map_err(|e| {
                Refusal { code: 64, message: format!("read parameters: {e}"), hint: None }
            })?)),
            "access.list" => Self::AccessList,
            "access.approve" => match read::<Code>(params)?.code {
                code if code.is_empty() => return Err(incomplete("code")),
                code => Self::Access(Decide::Approve(code)),
            },
            "access.allow" => Self::Access(Decide::Allow(subject(params)?)),
            "access.deny" => Self::Access(Decide::Deny(subject(params)?)),
            "access.revoke" => Self::Access(Decide::Revoke(subject(params)?)),
            "token" => Self::Token,
            "telegram.delete_webhook" => Self::Order(Order::DeleteWebhook, target(params)?),
            "telegram.drop_pending" => Self::Order(Order::DropPending, target(params)?),
            "upgrade" => {
                let upgrade: Upgrade = read(params)?;
                if !upgrade.program.is_absolute() {
                    return Err(incomplete("program (an absolute path)"));
                }
                Self::Upgrade(upgrade)
            }
            other => {
                return Err(Refusal {
                    code: 64,
                    message: format!("unknown method {other:?}"),
                    hint: Some("this supervisor may be older than the tool".into()),
                });
            }
        })
    }
}

/// Ids that one request may name.
pub const IDS_MAX: usize = 1000;

fn ids(params: &str) -> Result<Vec<ParkedId>, Refusal> {
    let ids = read::<Which>(params)?.ids;
    match ids.len() {
        0 => Err(incomplete("ids")),
        1..=IDS_MAX => Ok(ids),
        many => Err(Refusal {
            code: 64,
            message: format!("{many} ids; at most {IDS_MAX} are possible at once"),
            hint: None,
        }),
    }
}

fn subject(params: &str) -> Result<Subject, Refusal> {
    let subject: Subject = read(params)?;
    match (&subject.user, &subject.chat) {
        (Some(id), None) | (None, Some(id)) if !id.is_empty() => Ok(subject),
        _ => Err(incomplete("user or chat")),
    }
}

fn target(params: &str) -> Result<String, Refusal> {
    match read::<Target>(params)?.instance {
        name if name.is_empty() => Err(incomplete("instance")),
        name => Ok(name),
    }
}

fn incomplete(member: &str) -> Refusal {
    Refusal { code: 64, message: format!("read parameters: {member} is missing"), hint: None }
}

fn json<T: Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or(serde_json::Value::Null)
}

fn read<'a, T: Deserialize<'a> + Default>(params: &'a str) -> Result<T, Refusal> {
    if params == "null" {
        return Ok(T::default());
    }
    serde_json::from_str(params).map_err(|e| Refusal {
        code: 64,
        message: format!("read parameters: {e}"),
        hint: None,
    })
}

/// One line back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<RawValue>>,
    /// What it led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    /// Or why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{EventId, OutboundId};

    fn parse(line: &str) -> Result<Request, Refusal> {
        Request::parse(&serde_json::from_str::<Envelope<'_>>(line).unwrap())
    }

    #[test]
    fn requests_survive_the_wire_and_are_not_half_understood() {
        let act = Act { instances: vec!["feishu".into()], force: true, wait_ms: 5 };
        for request in [
            Request::Status,
            Request::Act(Verb::Restart, act.clone()),
            Request::Act(Verb::Start, Act::default()),
            Request::Act(Verb::Kill, act),
            Request::Stop(Stop { force: true }),
            Request::Events(Follow::default()),
            Request::Events(Follow { after: Some(7) }),
            Request::ParkedList(Page { after: Some(ParkedId::Reply(OutboundId(5))), limit: 7 }),
            Request::Inbox(Page { after: Some(ParkedId::Event(EventId(5))), limit: 7 }),
            Request::Outbox(Page::default()),
            Request::Backup(Backup { path: "/b/store.db".into() }),
            Request::ParkedShow(ParkedId::Event(EventId(17))),
            Request::Decide(Decision::Drop, vec![ParkedId::Event(EventId(1))]),
            Request::Reload,
        ] {
            assert_eq!(parse(&request.to_line(7)), Ok(request));
        }
        let all = r#"{"jsonrpc":"2.0","id":"x","method":"kill"}"#;
        assert_eq!(parse(all), Ok(Request::Act(Verb::Kill, Act::default())));
        let misspelt = r#"{"method":"kill","params":{"instance":["feishu"]}}"#;
        let refusal = parse(misspelt).unwrap_err();
        assert!(refusal.code == 64 && refusal.message.contains("`instance`"), "{refusal:?}");
        for method in ["status", "events", "reload", "access.list", "token"] {
            let line = |params| format!(r#"{{"method":"{method}","params":{params}}}"#);
            assert!(parse(&line("{}")).is_ok() && parse(&line("null")).is_ok());
            let refusal = parse(&line(r#"{"instances":[]}"#)).unwrap_err();
            assert!(refusal.message.contains("`instances`"), "{refusal:?}");
        }
        let misplaced = r#"{"method":"kill","instances":["feishu"]}"#;
        assert!(serde_json::from_str::<Envelope<'_>>(misplaced).is_err(), "it would kill all");
        let list = r#"{"method":"parked.list"}"#;
        assert_eq!(parse(list), Ok(Request::ParkedList(Page::default())));
        let strange = r#"{"method":"parked.show","params":{"id":"x5"}}"#;
        assert!(parse(strange).unwrap_err().message.contains("no id such as e17"));
        assert_eq!(parse(r#"{"method":"parked.drop"}"#).unwrap_err().code, 64);
        assert_eq!(parse(r#"{"method":"dance"}"#).unwrap_err().code, 64);
        assert_eq!(parse(r#"{"method":"kill","params":{"force":"yes"}}"#).unwrap_err().code, 64);
    }
}
