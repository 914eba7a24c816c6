//! `hermes-gw ctl upgrade`, and what a program answers that is asked whether it could take over.

use std::path::PathBuf;
use std::time::Duration;

use protocol::control::{Refusal, Request, Status, Upgrade, Upgraded};
use serde::Serialize;
use supervisor::error::Error;
use supervisor::exit::Code;
use supervisor::paths::Paths;
use supervisor::upgrade::{Check, FORMAT};
use supervisor::{clock, lock, store};

use super::ctl::{self, ANSWER, Client};
use super::{load, print, print_json};
use crate::args::Common;

/// How often to look whether the other program has taken over.
const LOOK: Duration = Duration::from_millis(5);
/// How long it may take to answer.
const TAKE_OVER: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Done<'a> {
    schema: u32,
    result: &'static str,
    pid: u32,
    from: &'a str,
    version: &'a str,
    pause_ms: u64,
}

/// Says what this program understands. A block of the configuration that is wrong holds its own
/// instance only; a file that cannot be read as a whole would end us.
pub(super) fn check(common: &Common) {
    let (problem, instances) = match load(common) {
        Ok(config) => (None, config.instances),
        Err(e) => (Some(e.to_string()), Vec::new()),
    };
    let broken =
        instances.into_iter().filter_map(|spec| Some((spec.name, spec.body.err()?.reason)));
    let check = Check {
        version: env!("CARGO_PKG_VERSION").into(),
        format: FORMAT,
        schema: store::SCHEMA,
        problem,
        broken: broken.collect(),
    };
    // One line, whatever surrounds it.
    if let Ok(line) = serde_json::to_string(&check) {
        print(&line);
    }
}

pub(super) async fn run(
    common: &Common,
    paths: &Paths,
    program: Option<PathBuf>,
    timeout: Duration,
) -> Result<(), Error> {
    let own = || {
        std::env::current_exe().map_err(|source| Error::Os { what: "find this program", source })
    };
    let program = program.map_or_else(own, Ok)?;
    let program = std::path::absolute(&program).unwrap_or(program);
    let socket = &paths.socket();
    let mut client = Client::dial(socket).await?;
    let before: Status = client.ask(&Request::Status, ANSWER).await?;
    let wait_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    client.say(&Request::Upgrade(Upgrade { program, wait_ms })).await?;
    // It says something only if nothing comes of it.
    client.closed().await?;
    let until = clock::now() + TAKE_OVER;
    loop {
        let asked = async {
            let mut client = Client::dial(socket).await?;
            client.ask::<Status>(&Request::Status, ANSWER).await
        };
        match asked.await {
            Ok(status) if status.pid != before.pid => {
                let (former, pid) = (before.pid, status.pid);
                let message =
                    format!("upgrade: pid {former} has ended, and pid {pid} runs instead");
                return Err(not_upgraded(message));
            }
            Ok(status) => {
                if let Some(done) = &status.upgraded
                    && before.upgraded.as_ref() != Some(done)
                {
                    tell(common, &status, done);
                    return Ok(());
                }
            }
            // The lock goes through `exec`: where it is free, nobody has taken over.
            Err(Error::Unreachable { why, .. }) if lock::is_free(&paths.lock()) => {
                return Err(ctl::absent(common, paths, &why));
            }
            Err(_) => {}
        }
        if clock::now() > until {
            return Err(not_upgraded("upgrade: the other program has not answered".into()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn not_upgraded(message: String) -> Error {
    Error::Refused(Refusal {
        code: Code::Temporary.number(),
        message,
        hint: Some("see the log of the supervisor, and `hermes-gw ctl status`".into()),
    })
}

fn tell(common: &Common, status: &Status, done: &Upgraded) {
    if common.json {
        print_json(&Done {
            schema: 1,
            result: "upgraded",
            pid: status.pid,
            from: &done.from,
            version: &status.version,
            pause_ms: done.pause_ms,
        });
    } else if !common.quiet {
        print(&format!(
            "supervisor: upgraded from {} to {}, paused {} ms (pid {})",
            done.from, status.version, done.pause_ms, status.pid
        ));
    }
}
