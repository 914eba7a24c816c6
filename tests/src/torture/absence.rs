//! An agent that stays away while messages come: what waiting costs in memory, and whether everything is
//! there, in order, when it is back (F20).

use std::io;
use std::path::Path;
use std::time::Duration;

use super::judge::{Record, Tally, judge};
use super::victims::Side;
use super::{APP, config, on_feishu, rest};
use crate::bench::gateway::{Gateway, memory};
use crate::bench::stats::{float, median};
use crate::bench::{Ground, clock};
use crate::feishu::{End, EventHandle, Feishu};

const CHATS: usize = 50;
/// Memory is looked at after so many messages.
const LOOK: usize = 500;

/// One absence.
#[derive(Clone, Copy, Debug)]
pub struct Absence {
    /// How long it lasts.
    pub lasts: Duration,
    /// Messages that come meanwhile, evenly.
    pub messages: usize,
}

/// What it came to.
#[derive(Debug)]
pub struct Told {
    /// What became of the messages.
    pub tally: Tally,
    /// Messages that wait, and the supervisor's own memory then, in KiB.
    pub memory: Vec<(usize, u64)>,
    /// From the agent's return to the last answer, in seconds.
    pub caught_up_s: f64,
}

impl Absence {
    /// Plays it.
    pub fn run(self, ground: &Ground, own: &Path) -> io::Result<Told> {
        on_feishu(Duration::from_secs(3), |feishu, platform| {
            let gateway = Gateway::start(ground, &config(feishu))?;
            let mut chats = vec![Vec::new(); CHATS];
            let mut memories = Vec::new();
            let pause = self.lasts / u32::try_from(self.messages).unwrap_or(u32::MAX).max(1);
            for n in 0..self.messages {
                let chat = n % CHATS;
                let text = format!("{chat}:{}", n / CHATS);
                let due = clock::now() + pause;
                let (to, from) = (format!("oc_{chat}"), format!("ou_{chat}"));
                let event = feishu.push_text(APP, &to, &from, &text);
                if platform.block_on(event.ended()) != End::GivenUp
                    && let Some(texts) = chats.get_mut(chat)
                {
                    texts.push(text);
                }
                if n % LOOK == LOOK - 1 {
                    memories.push((n + 1, memory(gateway.pid())?.own));
                }
                clock::pause(due.saturating_duration_since(clock::now()));
            }
            let waiting = gateway.waiting()?;
            let since = clock::now();
            let side = Side::new(gateway, own, None)?;
            let rested = rest(&side, feishu, self.messages, &["feishu"]);
            let caught_up_s = clock::ms_since(since) / 1e3;
            let mut tally = judge(&record(chats, 0, rested, &side, feishu, 0)?);
            // All of them waited until then.
            tally.lost += (self.messages as u64).saturating_sub(waiting);
            Ok(Told { tally, memory: memories, caught_up_s })
        })
    }
}

/// Everything that the platform delivers again after a crash.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    /// Crashes of the supervisor.
    pub crashes: u32,
    /// Messages that are delivered again after each.
    pub messages: usize,
}

impl Again {
    /// Plays it (F23, F24). With the usual time of one repetition in milliseconds: many at once, and alone.
    pub fn run(self, ground: &Ground, own: &Path) -> io::Result<(Tally, f64, f64)> {
        on_feishu(Duration::from_secs(3), |feishu, platform| {
            let gateway = Gateway::start(ground, &config(feishu))?;
            let mut side = Side::new(gateway, own, None)?;
            let chats: Vec<_> = (0..self.messages).map(|chat| vec![format!("{chat}:0")]).collect();
            let push = |(chat, texts): (usize, &Vec<String>)| {
                feishu.push_text(APP, &format!("oc_{chat}"), "ou_1", &texts.concat())
            };
            let events: Vec<EventHandle> = chats.iter().enumerate().map(push).collect();
            let mut rested = rest(&side, feishu, self.messages, &["feishu"]);
            let (mut together, mut alone) = (Vec::new(), Vec::new());
            for _ in 0..self.crashes {
                side.gateway.start_again()?;
                side.worker("feishu")?;
                let connected = || (feishu.connections(APP).len() == 1).then_some(());
                clock::until("the worker is connected", Duration::from_secs(60), connected)?;
                let since = clock::now();
                let again: Vec<_> = events.iter().map(|event| feishu.replay(event)).collect();
                platform.block_on(async {
                    for event in &again {
                        event.ended().await;
                    }
                });
                together.push(clock::ms_since(since) / float(events.len().max(1)));
                for event in events.iter().take(20) {
                    let since = clock::now();
                    platform.block_on(feishu.replay(event).ended());
                    alone.push(clock::ms_since(since));
                }
                rested &= rest(&side, feishu, self.messages, &["feishu"]);
            }
            let repeated = u64::from(self.crashes) * self.messages as u64;
            let tally = judge(&record(chats, repeated, rested, &side, feishu, self.crashes)?);
            Ok((tally, median(&together), median(&alone)))
        })
    }
}

fn record(
    chats: Vec<Vec<String>>,
    repeated: u64,
    rested: bool,
    side: &Side,
    feishu: &Feishu,
    kills: u32,
) -> io::Result<Record> {
    Ok(Record {
        chats,
        repeated,
        rested,
        offers: side.agents_log()?,
        sent: feishu.sent(),
        violations: feishu.violations().len() as u64,
        kills,
    })
}
