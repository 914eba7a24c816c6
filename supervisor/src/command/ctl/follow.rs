//! `hermes-gw ctl events`: what changes, also beyond the end of a supervisor if another one comes.
//!
//! Notices have no numbers, so what happens between two connections is for the journal alone, and the
//! reader is told.

use std::path::Path;
use std::time::Duration;

use protocol::control::Request;
use supervisor::clock;
use supervisor::error::Error;

use super::{ANSWER, Client, hung};
use crate::args::Common;
use crate::command::{complain, printed};

/// Between two attempts to reach the next one.
const AGAIN: Duration = Duration::from_millis(50);

pub(super) async fn run(common: &Common, socket: &Path, patience: Duration) -> Result<(), Error> {
    let (mut client, mut line) = subscribe(socket).await?;
    loop {
        printed(&line)?;
        if let Some(next) = client.line().await {
            line = next;
        } else {
            (client, line) = again(common, socket, patience).await?;
        }
    }
}

/// The connection and the first line.
async fn subscribe(socket: &Path) -> Result<(Client, String), Error> {
    let mut client = Client::dial(socket).await?;
    client.say(&Request::Events).await?;
    match tokio::time::timeout(ANSWER, client.line()).await {
        Ok(Some(line)) => Ok((client, line)),
        Ok(None) => Err(client.gone("it ended the connection")),
        Err(_) => Err(hung(socket)),
    }
}

/// The next one, unless nobody comes in time. One that becomes another program is there all along.
async fn again(
    common: &Common,
    socket: &Path,
    patience: Duration,
) -> Result<(Client, String), Error> {
    let tell = |text: &str| {
        if !common.quiet {
            complain(&format!("hermes-gw: {text}"));
        }
    };
    let until = clock::now() + patience;
    let mut told = false;
    loop {
        match subscribe(socket).await {
            Err(Error::Unreachable { .. }) if clock::now() < until => {
                if !std::mem::replace(&mut told, true) {
                    tell("the supervisor has gone; waiting for the next");
                }
                tokio::time::sleep(AGAIN).await;
            }
            Ok(found) => {
                tell("connected again; what happened meanwhile stands in journal.jsonl");
                return Ok(found);
            }
            Err(e) => return Err(e),
        }
    }
}
