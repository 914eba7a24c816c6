//! A worker's only event loop: frames to and from the supervisor, the adapter, the heartbeat, the end.
//!
//! The adapter runs inside this loop's task, so a heartbeat proves that the adapter's code lets the
//! loop turn. Nothing here blocks on the adapter: what the supervisor sends is bounded by its own
//! windows, and what the adapter hands in waits for credit.

mod ports;

use std::collections::HashMap;
use std::time::Duration;

use protocol::content::Fetched;
use protocol::event::{Outbound, Outcome};
use protocol::id::{Instance, Seq};
use protocol::link::{Receiver, Sender};
use protocol::step;
use protocol::worker::{
    Adapter, Configure, FromWorker, Heartbeat, Outside, ReplyVerdict, ToWorker, Verdict,
};
use protocol::{Error as LinkError, frame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::ports::{Ports, Running, start};
use crate::Error;
use crate::agent::{self, ToAgent};
use crate::clock::{self, Instant};
use crate::copies::Copies;
use crate::exchange::Exchange;
use crate::fit::{fit, fitting};
use crate::platform::{self, Ask, Note};
use crate::scrub::{scrub, scrub_raw};
use crate::unacked::Unacked;

/// Wishes for bytes without an answer.
const WISHES: usize = 32;

/// Serves one link until the adapter ends. `stop` asks the adapter to end.
pub(crate) async fn run<R, W>(
    receiver: Receiver<R>,
    sender: Sender<W>,
    (instance, configure): (Instance, Configure),
    stop: CancellationToken,
) -> Result<(), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let heartbeat = Duration::from_millis(u64::from(configure.heartbeat_ms.max(10)));
    let grace = Duration::from_millis(u64::from(configure.grace_ms));
    let (window, bytes) = (configure.window, configure.window_bytes);
    // Other agents have nobody to tell.
    let hears_receipts = matches!(configure.adapter, Adapter::Socket(_) | Adapter::Exec(_));
    let copies = Copies::new(Exchange::from(configure.exchange.clone()), instance);
    let (ports, adapter) = start(configure, &stop);
    let mut pump = Pump {
        receiver,
        sender,
        ports,
        copies,
        events: Unacked::new(window, bytes),
        replies: Unacked::new(window, bytes),
        wishes: HashMap::new(),
        wished: 0,
        hears_receipts,
        progress: None,
        ignored: 0,
        malformed: 0,
    };
    pump.turn(adapter, heartbeat, grace, stop).await
}

struct Pump<R, W> {
    receiver: Receiver<R>,
    sender: Sender<W>,
    ports: Ports,
    copies: Copies,
    events: Unacked<oneshot::Sender<Verdict>>,
    replies: Unacked<oneshot::Sender<ReplyVerdict>>,
    /// Wishes for bytes that are not answered yet.
    wishes: HashMap<Seq, oneshot::Sender<Result<Fetched, String>>>,
    wished: u64,
    hears_receipts: bool,
    progress: Option<Instant>,
    ignored: u64,
    malformed: u64,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Pump<R, W> {
    async fn turn(
        &mut self,
        mut adapter: Running,
        heartbeat: Duration,
        grace: Duration,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let mut heartbeat = tokio::time::interval(heartbeat);
        let mut leaving: Option<Instant> = None;
        let mut lost: Option<LinkError> = None;
        let ended = loop {
            let late = leaving.unwrap_or_else(clock::now);
            tokio::select! {
                frame = self.receiver.next(), if lost.is_none() => match frame {
                    Ok(Some(frame)) => self.hear(frame, &stop)?,
                    Ok(None) => {
                        lost = Some(LinkError::Torn);
                        stop.cancel();
                    }
                    Err(e) => {
                        lost = Some(e);
                        stop.cancel();
                    }
                },
                Some(submitted) = self.ports.events.recv(), if self.events.has_credit() => {
                    self.submit_event(submitted)?;
                }
                Some(kept) = self.ports.kept.recv(), if self.events.has_credit() => self.keep(kept)?,
                Some(submitted) = self.ports.replies.recv(), if self.takes_reply() => {
                    self.take_reply(submitted)?;
                }
                made = self.copies.made(), if !self.copies.is_free() => {
                    made.map_or(Ok(()), |submitted| self.submit_reply(submitted))?;
                }
                Some(wished) = self.ports.wishes.recv(), if self.wishes.len() < WISHES => {
                    self.wish(wished)?;
                }
                Some(note) = self.ports.notes.recv() => self.note(note)?,
                Some(frame) = self.ports.said.recv() => self.say(&scrub(frame))?,
                _ = heartbeat.tick() => self.beat()?,
                () = stop.cancelled(), if leaving.is_none() => leaving = Some(clock::now() + grace),
                () = tokio::time::sleep_until(late), if leaving.is_some() => break None,
                result = &mut adapter => break Some(result),
            }
            while lost.is_none() {
                match self.receiver.ready() {
                    Ok(Some(frame)) => self.hear(frame, &stop)?,
                    Ok(None) => break,
                    Err(e) => {
                        lost = Some(e);
                        stop.cancel();
                    }
                }
            }
            self.drain()?;
            if lost.is_none()
                && let Err(e) = self.sender.flush().await
            {
                lost = Some(e);
                stop.cancel();
            }
        };
        if let Some(e) = lost {
            return Err(e.into());
        }
        self.drain()?;
        let reason = match &ended {
            None => "the platform or the agent took too long to end".to_owned(),
            Some(Ok(())) => "told to end".to_owned(),
            Some(Err(e)) => e.to_string(),
        };
        self.sender.send(&scrub(FromWorker::Bye { reason })).await?;
        ended.unwrap_or(Ok(()))
    }

    /// Everything that the adapter has ready goes with the same write.
    fn drain(&mut self) -> Result<(), Error> {
        self.note_all()?;
        while let Ok(frame) = self.ports.said.try_recv() {
            self.say(&scrub(frame))?;
        }
        while self.events.has_credit()
            && let Ok(submitted) = self.ports.events.try_recv()
        {
            self.submit_event(submitted)?;
        }
        while self.takes_reply()
            && let Ok(submitted) = self.ports.replies.try_recv()
        {
            self.take_reply(submitted)?;
        }
        Ok(())
    }

    /// Goes with the next write.
    fn say(&mut self, frame: &FromWorker) -> Result<(), Error> {
        step::pass("worker-says", frame);
        Ok(self.sender.feed(frame)?)
    }

    fn hear(&mut self, frame: ToWorker, stop: &CancellationToken) -> Result<(), Error> {
        step::pass("worker-hears", &frame);
        match frame {
            ToWorker::Configure(_) => return Err(Error::Unexpected("a second configuration")),
            ToWorker::Verdict { seq, verdict } => {
                let waiter = self.events.answered(seq);
                let waiter = waiter.ok_or(Error::Unexpected("a verdict for no event"))?;
                // An adapter that no longer waits has told the platform nothing.
                let _ = waiter.send(verdict);
            }
            ToWorker::ReplyVerdict { seq, verdict } => {
                let waiter = self.replies.answered(seq);
                let waiter = waiter.ok_or(Error::Unexpected("a verdict for no reply"))?;
                let _ = waiter.send(verdict);
            }
            ToWorker::Send(outbound) => {
                let more = "more replies than the adapter can hold";
                if let Some(Outbound { id, attempt, .. }) =
                    handed(self.ports.outbound.try_send(*outbound), more)?
                {
                    let reason = "the worker is stopping".to_owned();
                    let outcome = Outcome::Retry { reason, after_ms: None };
                    self.note(Note::Outcome(id, attempt, outcome))?;
                }
            }
            // What an agent that ends has not taken is handed back with its end.
            ToWorker::Deliver(delivery) => {
                let delivered = self.ports.incoming.try_send(ToAgent::Deliver(delivery));
                handed(delivered, "more events than the adapter can hold")?;
            }
            ToWorker::Settled { event_id } => self.inform(ToAgent::Settled(event_id)),
            ToWorker::Interrupt { event_id } => self.inform(ToAgent::Interrupt(event_id)),
            ToWorker::Steer { event_id, more } => self.inform(ToAgent::Steer { event_id, more }),
            ToWorker::Receipt(receipt) if self.hears_receipts => {
                self.inform(ToAgent::Receipt(receipt));
            }
            ToWorker::Receipt(receipt) => {
                self.say(&FromWorker::Told { id: receipt.id })?;
            }
            ToWorker::Draft(draft) => {
                let key = draft.key.clone();
                if self.ports.asks.try_send(Ask::Draft(draft)).is_err() {
                    self.note(Note::Drafted(key, None))?;
                }
            }
            ToWorker::Busy(busy) => {
                // It matters little, and not at all to adapters that cannot show it.
                let _ = self.ports.asks.try_send(Ask::Busy(busy));
            }
            ToWorker::Fetch { ticket, fetch } => {
                if self.ports.asks.try_send(Ask::Fetch(ticket, fetch)).is_err() {
                    let why = "this platform brings no files".to_owned();
                    self.note(Note::Fetched(ticket, Err(why)))?;
                }
            }
            ToWorker::Order { ticket, order } => {
                if self.ports.asks.try_send(Ask::Order(ticket, order)).is_err() {
                    let why = "this platform has nothing of the kind".to_owned();
                    self.note(Note::Ordered(ticket, Err(why)))?;
                }
            }
            ToWorker::Hook { seq, event } => {
                let told = self.ports.occasions.try_send((seq, event));
                handed(told, "more occasions than the adapter can hold")?;
            }
            ToWorker::Fetched { seq, result } => {
                let waiter = self.wishes.remove(&seq);
                let waiter = waiter.ok_or(Error::Unexpected("bytes that nobody wished for"))?;
                let _ = waiter.send(result);
            }
            ToWorker::Stop => stop.cancel(),
        }
        Ok(())
    }

    /// News that an agent which does not read cannot be made to hear.
    fn inform(&self, news: ToAgent) {
        if self.ports.incoming.try_send(news).is_err() {
            tracing::warn!("the agent does not read; news for it is dropped");
        }
    }

    fn submit_event(&mut self, submitted: platform::Submitted) -> Result<(), Error> {
        let platform::Submitted { mut event, former, cursor, verdict } = submitted;
        let cursor = cursor.and_then(fitting);
        self.note_all()?;
        event.raw = scrub_raw(event.raw);
        let event = fit(event, cursor.as_ref());
        let bytes = frame::size(&event)?;
        let seq = self.events.sent(bytes, verdict);
        self.say(&FromWorker::Inbound { seq, event: Box::new(event), cursor, former })
    }

    fn keep(&mut self, kept: platform::Kept) -> Result<(), Error> {
        let platform::Kept { cursor, verdict } = kept;
        let Some(cursor) = fitting(cursor) else { return Ok(()) };
        self.note_all()?;
        let seq = self.events.sent(cursor.0.len(), verdict);
        self.say(&FromWorker::Keep { seq, cursor })
    }

    fn takes_reply(&self) -> bool {
        self.replies.has_credit() && self.copies.is_free()
    }

    fn take_reply(&mut self, submitted: agent::Submitted) -> Result<(), Error> {
        self.copies.take(submitted).map_or(Ok(()), |submitted| self.submit_reply(submitted))
    }

    /// What was said before the reply goes before it: a draft that came after would be shown for ever.
    fn submit_reply(&mut self, submitted: agent::Submitted) -> Result<(), Error> {
        while let Ok(frame) = self.ports.said.try_recv() {
            self.say(&scrub(frame))?;
        }
        let agent::Submitted { reply, note, verdict } = submitted;
        let bytes = frame::size(&reply)? + note.as_ref().map_or(0, |note| note.bytes.len());
        let most = frame::CARRIED_MAX;
        if bytes > most {
            let _ = verdict.send(ReplyVerdict::Rejected(format!(
                "the reply has {bytes} bytes, at most {most} are possible"
            )));
            return Ok(());
        }
        let seq = self.replies.sent(bytes, verdict);
        self.say(&FromWorker::Reply { seq, reply: Box::new(reply), note })
    }

    fn wish(&mut self, wished: agent::Wished) -> Result<(), Error> {
        self.wished += 1;
        let seq = Seq(self.wished);
        self.wishes.insert(seq, wished.result);
        self.say(&FromWorker::Fetch { seq, fetch: Box::new(wished.fetch) })
    }

    /// Before a cursor that goes with something else: one that was told earlier must not take its place.
    fn note_all(&mut self) -> Result<(), Error> {
        while let Ok(note) = self.ports.notes.try_recv() {
            self.note(note)?;
        }
        Ok(())
    }

    fn note(&mut self, note: Note) -> Result<(), Error> {
        let frame = match note {
            Note::Progress => {
                self.progress = Some(clock::now());
                return Ok(());
            }
            Note::Ignored => {
                self.ignored += 1;
                return Ok(());
            }
            Note::Malformed => {
                self.malformed += 1;
                return if self.malformed.is_power_of_two() { self.beat() } else { Ok(()) };
            }
            Note::Ready(ready) => {
                self.progress = Some(clock::now());
                FromWorker::Ready(ready)
            }
            Note::Outside(outside) => {
                if matches!(outside, Outside::Up | Outside::Limited { .. }) {
                    self.progress = Some(clock::now());
                }
                FromWorker::Outside(outside)
            }
            Note::Outcome(id, attempt, outcome) => FromWorker::Outcome { id, attempt, outcome },
            Note::Drafted(key, message_id) => FromWorker::Drafted { key, message_id },
            Note::Fetched(ticket, result) => FromWorker::Fetched { ticket, result },
            Note::Ordered(ticket, result) => FromWorker::Ordered { ticket, result },
            Note::Cursor(cursor) => match fitting(cursor) {
                Some(cursor) => FromWorker::Cursor(cursor),
                None => return Ok(()),
            },
            Note::Waits(id) => FromWorker::Waits { id },
            Note::Reached(id, progress) => FromWorker::Reached { id, progress },
        };
        self.say(&scrub(frame))
    }

    fn beat(&mut self) -> Result<(), Error> {
        let age = self.progress.map(|at| clock::now().duration_since(at).as_millis());
        let heartbeat = Heartbeat {
            progress_age_ms: age.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
            ignored: self.ignored,
            malformed: self.malformed,
        };
        self.say(&FromWorker::Heartbeat(heartbeat))
    }
}

/// What comes back from an adapter that has ended; what it has no room for is more than it was promised.
fn handed<T>(sent: Result<(), TrySendError<T>>, more: &'static str) -> Result<Option<T>, Error> {
    match sent {
        Ok(()) => Ok(None),
        Err(TrySendError::Closed(back)) => Ok(Some(back)),
        Err(TrySendError::Full(_)) => Err(Error::Unexpected(more)),
    }
}

#[cfg(test)]
mod tests;
