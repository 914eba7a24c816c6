//! Agent `relay`: a Hermes Agent that dials in as to a relay connector, contract version 1.
//!
//! We listen on this machine alone; who knows the secret is the agent. What is sent and what the
//! agent's words mean is decided in `connector`; here are the sockets, the clock and the agent's state
//! file. Nothing here waits for the agent: it may be deaf for half a minute at a time.

mod book;
mod connector;
mod door;
mod guests;
mod home;
mod source;
mod token;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use protocol::content::Fetch;
use protocol::event::{Abilities, Delivery, Pause, Reply};
use protocol::worker::{FromWorker, Ready, RelaySettings, ReplyVerdict};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use self::connector::{Action, Conn, Connector, Input, Rules};
use self::door::{Keeper, Line, News, Stranger};
use self::guests::Guests;
use self::home::Home;
use super::{Agent, Context, Files, Replies, ToAgent, port};
use crate::Error;
use crate::clock;
use crate::exchange::Exchange;

/// Lines that an agent may leave unread.
const UNREAD: usize = 512;
/// An answer must come within 30 s, or the agent gives its message up.
const STORE: Duration = Duration::from_secs(20);
const STORE_AGAIN: Duration = Duration::from_millis(500);
/// How often a `home` that cannot be read is looked for. An agent that has just made it dials after a second.
const HOME: Duration = Duration::from_millis(500);

/// The adapter.
#[derive(Debug)]
pub struct Relay {
    settings: RelaySettings,
}

impl Relay {
    /// With its settings.
    pub fn new(settings: RelaySettings) -> Self {
        Self { settings }
    }
}

impl Agent for Relay {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        let RelaySettings { listen, id, secret, home, platforms, concurrency, turn_limit_s } =
            self.settings;
        let account = format!("{id} at ws://{listen}/relay");
        context.say.say(FromWorker::Ready(Ready { account, idempotent_ms: None })).await;
        // In a turn its own `/stop` does it; to be told more would make it deaf for half a minute.
        let can = Abilities { interrupt: true, steer: false };
        context.say.say(FromWorker::Can(can)).await;
        let Some(listener) = port(listen, &context.say, &context.stop).await else { return Ok(()) };
        let turn = Duration::from_secs(u64::from(turn_limit_s));
        let nonce = format!("{:x}", clock::unix_ms());
        let rules = Rules { platforms, concurrency, turn, nonce };
        let (tell, mut news) = mpsc::channel(UNREAD);
        let mut desk = Desk {
            connector: Connector::new(rules, clock::now()),
            lines: HashMap::new(),
            submitted: FuturesOrdered::new(),
            home: home.map(Home::new),
            is_shut: false,
            replies: context.replies.clone(),
        };
        let mut look = tokio::time::interval(HOME);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        desk.look_for_home(&context).await;
        let keeper = Arc::new(Keeper { id, secret });
        let mut brought = FuturesUnordered::new();
        let mut sockets = JoinSet::new();
        let mut guests = Guests::default();
        let ended = loop {
            let due = desk.connector.deadline();
            let input = tokio::select! {
                () = context.stop.cancelled() => break Ok(()),
                Some(incoming) = context.incoming.recv() => match incoming {
                    ToAgent::Deliver(delivery) if delivery.event.parts.is_empty() => {
                        Input::Deliver(delivery)
                    }
                    ToAgent::Deliver(delivery) => {
                        let (files, exchange) = (context.files.clone(), context.exchange.clone());
                        let event_id = delivery.event_id;
                        brought.push(bring(delivery, files, exchange));
                        Input::Coming(event_id)
                    }
                    ToAgent::Interrupt(event_id) => Input::Interrupt(event_id),
                    ToAgent::Settled(_) | ToAgent::Receipt(_) | ToAgent::Steer { .. } => continue,
                },
                Some((conn, said)) = news.recv() => {
                    guests.hear(conn, &said);
                    match said {
                        News::Heard(heard) => Input::Heard(conn, heard),
                        News::Entered => Input::Entered(conn),
                        News::TurnedAway(_, why) => Input::TurnedAway(why),
                        News::Closed => {
                            desk.lines.remove(&conn);
                            Input::Closed(conn)
                        }
                    }
                }
                Some(delivery) = brought.next() => Input::Deliver(delivery),
                Some(judged) = desk.submitted.next() => judged,
                accepted = listener.accept(), if guests.have_room() => {
                    if let Ok((stream, peer)) = accepted {
                        let (conn, leave) = guests.come();
                        let (write, lines) = mpsc::channel(UNREAD);
                        desk.lines.insert(conn, write);
                        let stranger = Stranger { conn, stream, peer, leave };
                        sockets.spawn(door::serve(stranger, keeper.clone(), lines, tell.clone()));
                        desk.look_for_home(&context).await;
                    }
                    continue;
                }
                _ = look.tick(), if desk.is_without_home() => {
                    desk.look_for_home(&context).await;
                    // What was on its way when the gate was shut is here by the next look.
                    match (desk.may_be_succeeded(), desk.is_shut) {
                        (true, is_shut) if is_shut || desk.lines.is_empty() => {
                            context.say.say(FromWorker::Paused(Pause::Asked)).await;
                            let why = "home is there now, and only another worker may read it";
                            break Err(Error::Anew(why.to_owned()));
                        }
                        (may, is_shut) if may != is_shut => {
                            desk.is_shut = may;
                            Input::Shut(may)
                        }
                        _ => continue,
                    }
                }
                Some(_) = sockets.join_next() => continue,
                () = tokio::time::sleep_until(due.unwrap_or_else(clock::now)), if due.is_some() => {
                    Input::Tick
                }
            };
            desk.perform(input, &context).await;
        };
        // The end of its lines tells each socket to close politely.
        desk.lines.clear();
        let all = async { while sockets.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(door::GOODBYE, all).await;
        ended
    }
}

struct Desk {
    connector: Connector,
    lines: HashMap<Conn, mpsc::Sender<Line>>,
    submitted: FuturesOrdered<BoxFuture<'static, Input>>,
    home: Option<Home>,
    /// No event may come, since another worker is to begin.
    is_shut: bool,
    replies: Replies,
}

impl Desk {
    async fn look_for_home(&mut self, context: &Context) {
        let home = self.home.as_mut().and_then(|home| {
            home.look();
            home.trouble()
        });
        self.perform(Input::Home(home), context).await;
    }

    fn is_without_home(&self) -> bool {
        self.home.as_ref().is_some_and(|home| home.trouble().is_some())
    }

    /// Whether another worker would do better, and a change disturbs nobody.
    fn may_be_succeeded(&self) -> bool {
        self.home.as_ref().is_some_and(Home::wants_successor)
            && self.submitted.is_empty()
            && (self.lines.is_empty() || self.connector.is_at_rest())
    }

    async fn perform(&mut self, input: Input, context: &Context) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            for action in self.connector.on(input, clock::now()) {
                match action {
                    Action::Line(conn, line) => self.write(conn, Line::Text(line)),
                    Action::Close(conn) => self.write(conn, Line::Close),
                    Action::Look => {
                        let seen = self.home.as_ref().and_then(Home::process);
                        next = Some(Input::Seen(seen));
                    }
                    Action::Say(frame) => context.say.say(frame).await,
                    Action::Submit { conn, request, ends, reply } => {
                        let replies = self.replies.clone();
                        let submit = async move {
                            let verdict = submit(&replies, *reply).await;
                            Input::Judged { conn, request, ends, verdict }
                        };
                        self.submitted.push_back(submit.boxed());
                    }
                }
            }
        }
    }

    /// What an agent does not read is bounded: then its connection ends.
    fn write(&mut self, conn: Conn, line: Line) {
        let full = self.lines.get(&conn).is_some_and(|lines| {
            matches!(lines.try_send(line), Err(mpsc::error::TrySendError::Full(_)))
        });
        if full {
            tracing::warn!("the agent does not read; its connection is ended");
            self.lines.remove(&conn);
        }
    }
}

/// Has the files of an event put where the agent, which runs on this machine, can read them: the handle of
/// each becomes its path. What cannot be brought is told of in the text.
async fn bring(mut delivery: Box<Delivery>, files: Files, exchange: Exchange) -> Box<Delivery> {
    let message_id = delivery.event.message_id.clone();
    for part in &mut delivery.event.parts {
        let fetch = Fetch {
            instance: delivery.lane.instance.clone(),
            message_id: message_id.clone(),
            part: part.clone(),
        };
        match files.fetch(fetch).await {
            Ok(file) => {
                let path = exchange.path(&file.file).unwrap_or_default();
                part.handle = path.display().to_string();
                part.mime = file.mime.or(part.mime.take());
            }
            Err(why) => {
                let what = part.name.as_ref().unwrap_or(&part.kind);
                let text = &mut delivery.event.text;
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&format!("({what}: it could not be brought: {why})"));
            }
        }
    }
    delivery
}

/// Hands a reply in, again and again while the store is busy.
async fn submit(replies: &Replies, reply: Reply) -> Option<ReplyVerdict> {
    let until = clock::now() + STORE;
    loop {
        match replies.submit(reply.clone()).await {
            Some(ReplyVerdict::Refused) if clock::now() < until => {
                tokio::time::sleep(STORE_AGAIN).await;
            }
            verdict => return verdict,
        }
    }
}
