//! `hermes-gw ctl events`: what changes, also beyond the end of a supervisor if another one comes.
//!
//! Notices have numbers: what happened between two connections is asked for by the last one. A supervisor that
//! gives none is an older one; then that stands in the journal alone, and the reader is told.

use std::path::Path;
use std::time::Duration;

use protocol::control::{Follow, Notice, Request};
use supervisor::clock;
use supervisor::error::Error;

use super::{ANSWER, Client, hung};
use crate::args::Common;
use crate::command::{complain, printed};

/// Between two attempts to reach the next one.
const AGAIN: Duration = Duration::from_millis(50);

pub(super) async fn run(common: &Common, socket: &Path, patience: Duration) -> Result<(), Error> {
    let (mut client, mut line) = subscribe(socket, None).await?;
    let mut last = None;
    loop {
        printed(&line)?;
        if let Ok(Notice { event, seq, .. }) = serde_json::from_str(&line) {
            // What was missed comes behind the first line, which has the number of the last one.
            last = if event == "subscribed" { last.or(seq) } else { seq.or(last) };
        }
        if let Some(next) = client.line().await {
            line = next;
        } else {
            (client, line) = again(common, socket, patience, last).await?;
        }
    }
}

/// The connection and the first line.
async fn subscribe(socket: &Path, after: Option<u64>) -> Result<(Client, String), Error> {
    let mut client = Client::dial(socket).await?;
    client.say(&Request::Events(Follow { after })).await?;
    match tokio::time::timeout(ANSWER, client.line()).await {
        Ok(Some(line)) => Ok((client, line)),
        Ok(None) => Err(client.gone("it ended the connection")),
        Err(_) => Err(hung(socket)),
    }
}

fn has_number(line: &str) -> bool {
    serde_json::from_str::<Notice>(line).is_ok_and(|notice| notice.seq.is_some())
}

/// The next one, unless nobody comes in time. One that becomes another program is there all along.
async fn again(
    common: &Common,
    socket: &Path,
    patience: Duration,
    mut after: Option<u64>,
) -> Result<(Client, String), Error> {
    let tell = |text: &str| {
        if !common.quiet {
            complain(&format!("hermes-gw: {text}"));
        }
    };
    let until = clock::now() + patience;
    let mut told = false;
    loop {
        match subscribe(socket, after).await {
            Err(Error::Unreachable { .. }) if clock::now() < until => {
                if !std::mem::replace(&mut told, true) {
                    tell("the supervisor has gone; waiting for the next");
                }
                tokio::time::sleep(AGAIN).await;
            }
            // It does not know the parameter: an older one.
            Ok((_, line)) if after.is_some() && !has_number(&line) => after = None,
            Ok(found) => {
                tell(match after {
                    Some(_) => "connected again; what happened meanwhile follows",
                    None => "connected again; what happened meanwhile stands in journal.jsonl",
                });
                return Ok(found);
            }
            Err(e) => return Err(e),
        }
    }
}
