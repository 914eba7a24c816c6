//! `hermes-gw ctl telegram`: what only a person may do to a bot's queue at Telegram.

use std::path::Path;
use std::time::Duration;

use protocol::control::{Ordered, Request};
use protocol::worker::Order;
use supervisor::error::Error;

use super::Client;
use crate::args::{Common, Telegram};
use crate::command::{print, print_json};

/// The supervisor itself gives up sooner.
const ANSWER: Duration = Duration::from_secs(40);

pub(super) async fn run(common: &Common, socket: &Path, what: Telegram) -> Result<(), Error> {
    let mut client = Client::dial(socket).await?;
    let request = match what {
        Telegram::DeleteWebhook { instance } => Request::Order(Order::DeleteWebhook, instance),
        Telegram::DropPending { instance } => Request::Order(Order::DropPending, instance),
    };
    let done: Ordered = client.ask(&request, ANSWER).await?;
    if common.json {
        print_json(&done);
    } else if !common.quiet {
        print(&format!("{}: {}", done.instance, done.result));
    }
    Ok(())
}
