//! Requests to the server: a turn, and a look at its health. Nothing is tried again here.

use std::time::{Duration, UNIX_EPOCH};

use protocol::content::Draft;
use protocol::event::Delivery;
use protocol::id::Lane;
use protocol::worker::{FromWorker, Memory, Network, OpenAiSettings};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::health::Shut;
use super::sse::{Read, Sse};
use super::status::{self, Doubt, Failure};
use super::turn::{Answer, End, Sign, Turn, error_of};
use crate::Error;
use crate::agent::Say;
use crate::clock;
use crate::http::{Http, NoAnswer, Stream};

/// For a look.
const LOOK: Duration = Duration::from_secs(5);
/// For the body of a refusal.
const ERROR: Duration = Duration::from_secs(5);
const ERROR_MAX: usize = 64 * 1024;
/// With pictures.
const WHOLE_MAX: usize = 12 * 1024 * 1024;

/// How a turn ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// With an answer.
    Answer(Answer),
    /// Without one, and why.
    Nothing(String),
    /// A person ended it; what had been said.
    Stopped(String),
    /// Not at all; what had been said.
    Failed(Failure, String),
}

/// Shows an answer in the making, and knows whether anybody still wants it.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) say: Say,
    pub(super) draft: Draft,
    pub(super) stop: CancellationToken,
}

/// An answer that is whole within this time is not shown before: one message instead of several calls.
const FIRST_DRAFT: Duration = Duration::from_millis(200);
/// From the reason to finish to the end of the stream.
const LAST: Duration = Duration::from_secs(5);
/// Between two drafts of one answer.
const DRAFT: Duration = Duration::from_millis(250);

impl Watch {
    fn has_shown(&self) -> bool {
        !self.draft.text.is_empty()
    }

    async fn show(&mut self, text: String) {
        if !text.trim().is_empty() && text != self.draft.text {
            self.draft.text = text;
            self.say.say(FromWorker::Draft(Box::new(self.draft.clone()))).await;
        }
    }
}

/// Makes requests.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: Http,
    settings: OpenAiSettings,
}

impl Client {
    pub(super) fn new(settings: OpenAiSettings, network: &Network) -> Result<Self, Error> {
        Ok(Self { http: Http::over(&settings.base_url, network)?, settings })
    }

    fn request(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let request = request.header("accept-encoding", "identity");
        match &self.settings.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    /// Whether it takes requests.
    pub(super) async fn look(&self) -> Result<(), Shut> {
        let base = &self.settings.base_url;
        let url = match self.settings.memory {
            Memory::Ours => format!("{base}/models"),
            Memory::Hermes => format!("{}/health/detailed", base.trim_end_matches("/v1")),
        };
        let request = self.request(self.http.fresh().get(url)).timeout(LOOK);
        let shut = |reason: String, remedy: Option<&str>| {
            let remedy = remedy.map(str::to_owned);
            Err(Shut { reason, wish: None, remedy })
        };
        match self.http.call(request).await {
            Err(why) => shut(format!("ask the server: {why}"), None),
            // A server without a list of its models may serve them all the same.
            Ok(answer) if answer.status < 300 || answer.status == 404 => Ok(()),
            Ok(answer) if [401, 403].contains(&answer.status) => {
                let remedy = "check the key of this agent";
                shut(format!("ask the server: HTTP {}", answer.status), Some(remedy))
            }
            Ok(answer) => shut(format!("ask the server: HTTP {}", answer.status), None),
        }
    }

    /// One turn, to its end. What stops it closes its connection, which is how the server learns of it.
    pub(super) async fn turn(
        &self,
        delivery: &Delivery,
        messages: Vec<Value>,
        watch: Watch,
    ) -> Outcome {
        let limit = Duration::from_secs(u64::from(self.settings.turn_limit_s));
        let (stop, mut turn) = (watch.stop.clone(), Turn::default());
        let ended = tokio::select! {
            outcome = async {
                let outcome = self.asked(delivery, messages, watch, &mut turn).await;
                self.seen(outcome).await
            } => Some(outcome),
            () = stop.cancelled() => None,
            () = tokio::time::sleep(limit) => {
                Some(broken(format!("the turn was not over after {} s", limit.as_secs())))
            }
        };
        match ended {
            None => Outcome::Stopped(turn.so_far().to_owned()),
            Some(Outcome::Failed(failure, _)) => Outcome::Failed(failure, turn.so_far().to_owned()),
            Some(outcome) => outcome,
        }
    }

    /// Looks whether the server is there, where that says whose fault a failure is.
    async fn seen(&self, outcome: Outcome) -> Outcome {
        let Outcome::Failed(Failure::Unclear(doubt, reason), _) = outcome else { return outcome };
        failed(match self.look().await {
            Ok(()) => Failure::Unclear(doubt, reason),
            Err(Shut { reason, remedy: Some(_), .. }) => Failure::Setup(reason),
            Err(Shut { reason, .. }) => Failure::Unclear(Doubt::Away, reason),
        })
    }

    async fn asked(
        &self,
        delivery: &Delivery,
        messages: Vec<Value>,
        watch: Watch,
        turn: &mut Turn,
    ) -> Outcome {
        let first = Duration::from_secs(u64::from(self.settings.first_s));
        let body = json!({ "model": self.settings.model, "messages": messages, "stream": true });
        let url = format!("{}/chat/completions", self.settings.base_url);
        // The limits are ours: the client's own would cut a long answer.
        let whole = Duration::from_secs(u64::from(self.settings.turn_limit_s));
        let mut request = self.request(self.http.fresh().post(url)).timeout(whole).json(&body);
        request = request.header("x-hermes-gw-event", delivery.event_id.0);
        request = request.header("x-hermes-gw-attempt", delivery.attempt);
        request = request.header("x-hermes-gw-before-restart", delivery.before_restart.to_string());
        if let Some(late) = delivery.late_by_ms {
            request = request.header("x-hermes-gw-late-by-ms", late);
        }
        if self.settings.memory == Memory::Hermes {
            let name = session(&delivery.lane, delivery.session.epoch);
            request = request.header("x-hermes-session-id", &name);
            // Whom it remembers for long is the same after a new beginning.
            request = request.header("x-hermes-session-key", session(&delivery.lane, 0));
        }
        let mut stream = match tokio::time::timeout(first, Stream::open(request)).await {
            Err(_) => return broken(format!("no answer within {} s", first.as_secs())),
            Ok(Err(NoAnswer { unsent: true, why })) => {
                return failed(Failure::Busy(format!("reach the server: {why}"), None));
            }
            // So does what accepts connections for a server that is away.
            Ok(Err(NoAnswer { unsent: false, why })) => {
                return failed(Failure::Unclear(Doubt::Failed, why));
            }
            Ok(Ok(stream)) => stream,
        };
        if !(200..300).contains(&stream.status()) {
            return failed(refused(&mut stream).await);
        }
        let kind = stream.header("content-type").unwrap_or_default().to_ascii_lowercase();
        if kind.starts_with("application/json") {
            return match tokio::time::timeout(first, stream.rest(WHOLE_MAX)).await {
                Ok(Ok(body)) => ended(Turn::whole(&body)),
                Ok(Err(why)) => broken(why),
                Err(_) => broken(format!("no whole answer within {} s", first.as_secs())),
            };
        }
        if let Some(why) = stream.packed() {
            return failed(Failure::Unclear(Doubt::Failed, why));
        }
        // What says nothing of its kind is read as what was asked for.
        if !kind.is_empty() && !kind.starts_with("text/event-stream") {
            let why = format!("it answers with {kind:?}, as a proxy would");
            return failed(Failure::Busy(why, None));
        }
        self.streamed(stream, first, watch, turn).await
    }

    async fn streamed(
        &self,
        mut stream: Stream,
        first: Duration,
        mut watch: Watch,
        turn: &mut Turn,
    ) -> Outcome {
        let pause = Duration::from_secs(u64::from(self.settings.pause_s));
        let (mut sse, mut show_at) = (Sse::default(), None);
        // Only what is said moves it: a connection can be kept alive for ever.
        let mut silent_at = clock::now() + first;
        loop {
            let chunk = tokio::select! {
                chunk = stream.chunk() => chunk,
                () = tokio::time::sleep_until(show_at.unwrap_or(silent_at)), if show_at.is_some() => {
                    show_at = None;
                    watch.show(turn.shown()).await;
                    continue;
                }
                () = tokio::time::sleep_until(silent_at) => {
                    // A connection that is left open behind the last word holds nothing up.
                    return match turn.clone().end() {
                        End::Broken(_) => broken("it fell silent in the middle of the answer".into()),
                        end => ended(end),
                    };
                }
            };
            let bytes = match chunk {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return ended(turn.clone().end()),
                Err(why) => {
                    // A connection that breaks behind the last word breaks nothing.
                    return match turn.clone().end() {
                        End::Broken(_) => broken(why),
                        end => ended(end),
                    };
                }
            };
            let Ok(read) = sse.feed(&bytes) else {
                return broken("it sends an event without an end".into());
            };
            for read in read {
                let Read::Event { name, data } = read else { continue };
                match turn.event(&name, &data) {
                    Sign::Content => silent_at = clock::now() + pause,
                    Sign::Alive => {}
                    Sign::Over => return ended(turn.clone().end()),
                }
            }
            if turn.is_finished() {
                silent_at = silent_at.min(clock::now() + LAST);
            }
            if show_at.is_none() {
                show_at = Some(clock::now() + if watch.has_shown() { DRAFT } else { FIRST_DRAFT });
            }
        }
    }
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failed(failure, String::new())
}

fn broken(why: String) -> Outcome {
    failed(Failure::Broken(why))
}

fn ended(end: End) -> Outcome {
    match end {
        End::Answer(answer) => Outcome::Answer(answer),
        End::Nothing(why) => Outcome::Nothing(why),
        End::Broken(why) => broken(why),
    }
}

async fn refused(stream: &mut Stream) -> Failure {
    let body = tokio::time::timeout(ERROR, stream.rest(ERROR_MAX)).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    let error = serde_json::from_slice(&body).ok().and_then(|value| error_of(&value));
    let ms = u64::try_from(clock::unix_ms()).unwrap_or(0);
    let now = UNIX_EPOCH + Duration::from_millis(ms);
    status::judge(stream.status(), error, stream.header("retry-after"), now)
}

/// The name of a conversation: the same until somebody begins it anew, and safe in a header whatever the
/// ids are.
fn session(lane: &Lane, epoch: u64) -> String {
    let Lane { instance, chat_id, thread_id } = lane;
    let whole = json!([instance, chat_id, thread_id]).to_string();
    let digest = ring::digest::digest(&ring::digest::SHA256, whole.as_bytes());
    let name: String = protocol::id::hex(digest.as_ref()).chars().take(32).collect();
    if epoch == 0 { format!("hgw-{name}") } else { format!("hgw-{name}-{epoch}") }
}
