//! `hermes-gw ctl access`: who may speak, and what a person decides about it.

use std::path::Path;

use protocol::control::{AccessChanged, AccessList, AccessRules, Decide, Request, Subject};
use supervisor::clock;
use supervisor::error::Error;
use supervisor::policy::pairing;
use supervisor::text::span;

use super::{ANSWER, Client};
use crate::args::{Access, Common, Whom};
use crate::command::{print, print_json};

pub(super) async fn run(common: &Common, socket: &Path, what: Access) -> Result<(), Error> {
    let mut client = Client::dial(socket).await?;
    let decide = match what {
        Access::List => {
            let list: AccessList = client.ask(&Request::AccessList, ANSWER).await?;
            if common.json {
                print_json(&list);
            } else {
                list.instances.iter().for_each(show);
            }
            return Ok(());
        }
        Access::Approve { code } => {
            told(common, &approve(&mut client, code).await?);
            return Ok(());
        }
        Access::Allow(whom) => Decide::Allow(subject(whom)),
        Access::Deny(whom) => Decide::Deny(subject(whom)),
        Access::Revoke(whom) => Decide::Revoke(subject(whom)),
    };
    told(common, &client.ask(&Request::Access(decide), ANSWER).await?);
    Ok(())
}

/// A code holds once. A supervisor that becomes another program before it answers has let in whom it was told to, or
/// not: to let that one in by name does no harm twice.
async fn approve(client: &mut Client, code: String) -> Result<AccessChanged, Error> {
    let list: AccessList = client.ask(&Request::AccessList, ANSWER).await?;
    let whom = list.instances.into_iter().find_map(|AccessRules { instance, codes, .. }| {
        let told = codes.into_iter().find(|told| told.code == pairing::plain(&code))?;
        Some(Subject { instance: instance.to_string(), user: Some(told.user), chat: None })
    });
    let approve = Request::Access(Decide::Approve(code));
    if let Some(changed) = client.ask_once(&approve, ANSWER).await? {
        return Ok(changed);
    }
    client.again().await?;
    let again = whom.map_or(approve, |subject| Request::Access(Decide::Allow(subject)));
    client.ask(&again, ANSWER).await
}

fn told(common: &Common, changed: &AccessChanged) {
    if common.json {
        print_json(changed);
    } else if !common.quiet {
        let result = match changed.result.as_str() {
            "unknown" => {
                "nobody had decided about it (`hermes-gw ctl access list` shows what was; what the configuration \
                 says stands there)"
            }
            result => result,
        };
        print(&format!("{}: {result}", name(&changed.subject)));
    }
}

fn subject(whom: Whom) -> Subject {
    let (user, chat) = if whom.chat { (None, Some(whom.id)) } else { (Some(whom.id), None) };
    Subject { instance: whom.instance, user, chat }
}

fn name(subject: &Subject) -> String {
    match (&subject.user, &subject.chat) {
        (Some(user), _) => format!("{} user {user}", subject.instance),
        (None, chat) => {
            format!("{} chat {}", subject.instance, chat.as_deref().unwrap_or_default())
        }
    }
}

fn show(rules: &AccessRules) {
    let AccessRules { instance, direct, groups, .. } = rules;
    print(&format!("{instance}: direct {direct}, groups {groups}"));
    for user in &rules.users {
        print(&format!("  user {user}  allowed by the configuration"));
    }
    for chat in &rules.chats {
        print(&format!("  chat {chat}  allowed by the configuration"));
    }
    for about in &rules.decided {
        let subject = name(&about.subject);
        let subject = subject.strip_prefix(&format!("{instance} ")).unwrap_or(&subject);
        print(&format!("  {subject}  {}", about.result));
    }
    let now_ms = clock::unix_ms();
    for code in &rules.codes {
        let left = span(code.until_ms - now_ms);
        print(&format!(
            "  code {}  told to user {} in chat {}, {left} left",
            code.code, code.user, code.chat
        ));
    }
}
