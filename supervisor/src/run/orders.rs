//! What a person tells a platform's worker to do: passed on, and answered when the worker has answered.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use protocol::control::{Ordered, Refusal, SCHEMA};
use protocol::worker::{Order, ToWorker};

use super::Gateway;
use crate::clock;
use crate::config::{Kind, PlatformKind};
use crate::exit::Code;
use crate::link::Reply;
use crate::socket::Peer;

/// How long a platform may take.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Open {
    platform: usize,
    instance: String,
    until: Instant,
    reply: Reply,
}

/// Orders that nobody has answered yet.
#[derive(Debug, Default)]
pub(super) struct Orders {
    last: u64,
    open: HashMap<u64, Open>,
}

impl Orders {
    /// When somebody has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|open| open.until).min()
    }
}

impl Gateway {
    /// A person orders something.
    pub(super) fn order(&mut self, order: Order, instance: &str, peer: Peer, reply: Reply) {
        let found = self.find(instance);
        let telegram = Kind::Platform(Some(PlatformKind::Telegram));
        let is_telegram =
            |index: &usize| self.slots.get(*index).is_some_and(|slot| slot.kind == telegram);
        let Some(platform) = found.as_ref().ok().copied().filter(is_telegram) else {
            let unknown = found.err();
            return reply.refuse(unknown.unwrap_or_else(|| Refusal {
                code: Code::Usage.number(),
                message: format!("{instance} is no platform telegram"),
                hint: Some("`hermes-gw ctl status` tells what each instance is".into()),
            }));
        };
        let wish = match order {
            Order::DeleteWebhook => "telegram delete-webhook",
            Order::DropPending => "telegram drop-pending",
        };
        self.announce_asked(Some(platform), wish, peer);
        self.orders.last += 1;
        let ticket = self.orders.last;
        if !self.pass(platform, ToWorker::Order { ticket, order }) {
            return reply.refuse(unavailable(instance, "its worker does not run"));
        }
        let (instance, until) = (instance.to_owned(), clock::now() + LIMIT);
        self.orders.open.insert(ticket, Open { platform, instance, until, reply });
    }

    /// A worker has done it, or not.
    pub(super) fn ordered(&mut self, index: usize, ticket: u64, result: Result<String, String>) {
        let own = self.orders.open.get(&ticket).is_some_and(|open| open.platform == index);
        let Some(Open { instance, reply, .. }) =
            own.then(|| self.orders.open.remove(&ticket)).flatten()
        else {
            return;
        };
        match result {
            Ok(result) => {
                tracing::info!(instance, result, "done as a person wanted");
                reply.answer(&Ordered { schema: SCHEMA, instance, result });
            }
            Err(why) => reply.refuse(unavailable(&instance, &why)),
        }
    }

    /// The link of a platform is over.
    pub(super) fn orders_down(&mut self, index: usize) {
        self.give_up_orders(|open| open.platform == index, "its worker has ended; nobody knows");
    }

    /// Who has waited long enough is told so.
    pub(super) fn tick_orders(&mut self, now: Instant) {
        self.give_up_orders(|open| open.until <= now, "the platform does not answer");
    }

    fn give_up_orders(&mut self, which: impl Fn(&Open) -> bool, why: &str) {
        for (_, open) in self.orders.open.extract_if(|_, open| which(open)) {
            open.reply.refuse(unavailable(&open.instance, why));
        }
    }
}

fn unavailable(instance: &str, why: &str) -> Refusal {
    Refusal {
        code: Code::Unavailable.number(),
        message: format!("{instance}: {why}"),
        hint: Some(format!("see {instance} in `hermes-gw ctl status`, and try again")),
    }
}
