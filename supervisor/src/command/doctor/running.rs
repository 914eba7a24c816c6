//! What a running supervisor says of itself, as findings.

use protocol::control::{InstanceStatus, Request, Status};
use supervisor::Error;
use supervisor::exit::Code;
use supervisor::paths::Paths;

use super::Findings;
use crate::command::ctl::{self, Client};
use crate::command::runtime;

const ABOUT: &str = "gateway";

pub(super) fn look(paths: &Paths, findings: &mut Findings) -> Result<(), Error> {
    let asked = runtime()?.block_on(async {
        let mut client = Client::dial(&paths.socket()).await?;
        client.ask::<Status>(&Request::Status, ctl::ANSWER).await
    });
    match asked {
        Ok(status) => told(&status, findings),
        Err(Error::Unreachable { why, .. }) => {
            let absence = ctl::absence(paths, &why);
            if absence.state == "stopped" {
                findings.doubt(ABOUT, absence.error.to_string(), absence.error.hint());
            } else {
                findings.error(ABOUT, &absence.error);
            }
        }
        Err(e) => findings.error(ABOUT, &e),
    }
    Ok(())
}

fn told(status: &Status, findings: &mut Findings) {
    let (version, pid) = (&status.version, status.pid);
    match &status.reason {
        Some(reason) => {
            let text = format!("{}: {reason}", status.state);
            findings.wrong(ABOUT, text, status.remedy.clone(), Code::Unavailable);
        }
        None => findings.ok(ABOUT, format!("{}, version {version}, pid {pid}", status.state)),
    }
    let own = env!("CARGO_PKG_VERSION");
    if version != own {
        let text = format!("it runs version {version}, and this program is {own}");
        findings.doubt(ABOUT, text, Some("`hermes-gw ctl upgrade`".into()));
    }
    for instance in &status.instances {
        of_instance(instance, findings);
    }
    for left in &status.unconfigured {
        let text = format!(
            "it is not in the configuration; {} events and {} replies of it wait",
            left.waiting, left.replies
        );
        let hint = "they go on when a platform with this name is in it again".to_owned();
        findings.doubt(&left.name, text, Some(hint));
    }
}

/// How an instance is, as one finding; and what waits for a person, as another.
fn of_instance(instance: &InstanceStatus, findings: &mut Findings) {
    let InstanceStatus { name, phase, wanted, reason, remedy, .. } = instance;
    let because = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let outside = instance.outside.as_deref();
    match (wanted.as_str(), phase.as_str(), outside) {
        ("down", ..) => findings.doubt(
            name,
            "somebody told it to stay down".into(),
            Some(format!("`hermes-gw ctl start {name}`")),
        ),
        (_, "held", _) => {
            findings.wrong(name, format!("held{because}"), remedy.clone(), Code::Unavailable);
        }
        (_, "ready", Some("down" | "conflict")) => {
            let word = outside.unwrap_or_default();
            let text = format!("its outer connection: {word}{because}");
            findings.wrong(name, text, remedy.clone(), Code::Unavailable);
        }
        (_, "ready", Some("limited")) => {
            findings.doubt(name, format!("limited{because}"), remedy.clone());
        }
        (_, "ready", _) => {
            let account = instance.account.as_ref();
            let account = account.map_or_else(String::new, |account| format!(", {account}"));
            findings.ok(name, format!("{} {}, ready{account}", instance.role, instance.kind));
        }
        (_, phase, _) => findings.doubt(name, format!("{phase}{because}"), remedy.clone()),
    }
    let Some(store) = &instance.store else { return };
    for (count, what) in
        [(store.parked, "events are set aside"), (store.undelivered, "replies have not arrived")]
    {
        if count > 0 {
            let hint = "`hermes-gw ctl parked` lists them".to_owned();
            findings.doubt(name, format!("{count} {what}"), Some(hint));
        }
    }
}
