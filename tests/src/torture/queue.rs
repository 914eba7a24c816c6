//! Telegram under kills: a batch of updates, a kill at a random moment within it, and what became of each.
//!
//! Telegram forgets what is confirmed, so a lost update is lost for good, and it has no keys for replies, so
//! a reply that was under way may end as unknown, and must then say so. Each run pushes a batch, kills the
//! supervisor or the worker, and waits until everything is at rest; the judge looks at all runs of a round
//! together, and only at what the platform and the agent saw.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::judge::Tally;
use super::victims::Side;
use crate::bench::Ground;
use crate::bench::clock;
use crate::bench::gateway::{Gateway, signal};
use crate::telegram::{Observation, Telegram};

const TOKEN: &str = "7700:torture";
/// Updates of a run, two of each chat, so that there is an order to keep.
const BATCH: usize = 200;
/// One update of so many is answered: a bot may send thirty messages a second.
const ANSWERED: usize = 10;
/// The latest moment of a kill after the batch was handed out.
const WITHIN_MS: u64 = 120;
/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(60);

/// Runs on one gateway.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Everything that is random follows from it.
    pub seed: u64,
    /// Runs, each with one kill.
    pub runs: u32,
}

impl Round {
    /// Runs it.
    pub fn run(self, ground: &Ground, own: &Path) -> io::Result<Tally> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let telegram = runtime.block_on(Telegram::start());
        telegram.add_bot(TOKEN, "torture_bot");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = std::thread::Builder::new().name("telegram".into()).spawn(move || {
            let _ = runtime.block_on(stopped);
        })?;
        let result = self.against(ground, own, &telegram);
        drop(stop);
        let _ = serving.join();
        result
    }

    fn against(self, ground: &Ground, own: &Path, telegram: &Telegram) -> io::Result<Tally> {
        let config = format!(
            "[platform.telegram]\ntoken_file = \"secret\"\naccess = {{ direct = \"open\" }}\n\
             base_url = \"{}\"\n[agent.hermes]\nkind = \"socket\"\nmax_attempts = 100\n",
            telegram.base_url()
        );
        let gateway = Gateway::start_with(ground, &config, TOKEN)?;
        let mut side = Side::new(gateway, own, Some(ANSWERED))?;
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut rested = true;
        for run in 0..self.runs {
            let from = usize::try_from(run).unwrap_or(0) * BATCH;
            let pushed: Vec<i64> = (from..from + BATCH)
                .map(|n| {
                    let user = 1000 + i64::try_from(n / 2).unwrap_or(0);
                    telegram.push_text(TOKEN, user, &n.to_string()).0
                })
                .collect();
            clock::until("a part of the batch was handed out", REST, || {
                let handed = |it: &crate::telegram::Entry| matches!(&it.what, Observation::Handed { ids } if ids.iter().any(|id| pushed.contains(id)));
                (telegram.count(handed) > 0).then_some(())
            })?;
            clock::pause(Duration::from_millis(random.u64(..WITHIN_MS)));
            if random.bool() {
                side.gateway.start_again()?;
            } else {
                let pid = side.worker("telegram")?;
                signal(pid, Signal::KILL)?;
            }
            // What has died too often needs its operator.
            side.worker("telegram")?;
            let still = || {
                let confirmed = telegram.pending(TOKEN) == 0;
                (confirmed && side.is_at_rest("telegram")).then_some(())
            };
            rested &= clock::until("everything is at rest", REST, still).is_ok();
        }
        let log = side.agents_log()?;
        let sent: Vec<_> = telegram.sent().into_iter().map(|it| it.text).collect();
        let texts = usize::try_from(self.runs).unwrap_or(0) * BATCH;
        let tally =
            judge(&log, &sent, texts, telegram.violations().len() as u64, self.runs, rested);
        if !tally.is_clean() {
            side.keep(&log, &format!("{:#?}", telegram.journal()))?;
        }
        Ok(tally)
    }
}

fn judge(
    log: &str,
    sent: &[String],
    texts: usize,
    violations: u64,
    runs: u32,
    rested: bool,
) -> Tally {
    let mut tally = Tally {
        kills: runs.into(),
        rounds: 1,
        messages: texts as u64,
        violations,
        unrested: u64::from(!rested),
        ..Tally::default()
    };
    let offered = super::judge::offers(log, &mut tally);
    let seen: BTreeSet<&String> = offered.iter().collect();
    tally.lost = (0..texts).filter(|n| !seen.contains(&n.to_string())).count() as u64;
    // Two neighbours are of one chat.
    let place: BTreeMap<&String, usize> = offered.iter().zip(0..).collect();
    let at = |n: usize| place.get(&n.to_string()).copied();
    let pairs = (0..texts).step_by(2).filter(|n| at(*n) > at(n + 1) && at(n + 1).is_some());
    tally.disordered = pairs.count() as u64;
    let arrived: BTreeSet<&String> = sent.iter().collect();
    tally.replies_doubled = (sent.len() - arrived.len()) as u64;
    let mut unknown = BTreeSet::new();
    for line in log.lines() {
        if let ["receipt", key, state] = line.split(' ').collect::<Vec<_>>()[..] {
            match state {
                "unknown" => drop(unknown.insert(key.to_owned())),
                state => {
                    tally.misreported +=
                        u64::from((state == "sent") != arrived.contains(&key.to_owned()));
                }
            }
        }
    }
    let answered = (0..texts).filter(|n| n % ANSWERED == 0).map(|n| n.to_string());
    tally.replies_lost =
        answered.filter(|text| !arrived.contains(text) && !unknown.contains(text)).count() as u64;
    tally.unknown = unknown.len() as u64;
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(log: &str, sent: &[&str]) -> Vec<&'static str> {
        let sent: Vec<_> = sent.iter().map(|text| (*text).to_owned()).collect();
        let tally = judge(&log.replace(", ", "\n"), &sent, 2, 0, 1, true);
        tally.faults().into_iter().filter(|(_, count)| *count > 0).map(|(name, _)| name).collect()
    }

    #[test]
    fn every_fault_is_seen() {
        let good = "offer 1 1 0, settled 1, offer 2 1 1, offer 2 2 1, receipt 0 sent";
        assert!(faults(good, &["0"]).is_empty());
        assert!(faults("offer 1 1 0, offer 2 1 1, receipt 0 unknown", &[]).is_empty());
        assert_eq!(faults("offer 1 1 0", &["0"]), ["messages lost"]);
        assert_eq!(faults(&format!("{good}, offer 1 2 0"), &["0"]), ["delivered after settlement"]);
        assert_eq!(faults(&format!("{good}, offer 3 1 0"), &["0"]), ["one message as two events"]);
        assert_eq!(faults("offer 2 1 1, offer 1 1 0", &["0"]), ["out of order"]);
        assert_eq!(faults(good, &["0", "0"]), ["replies doubled"]);
        assert_eq!(faults("offer 1 1 0, offer 2 1 1", &[]), ["replies lost"]);
        assert_eq!(faults(good, &[]), ["replies lost", "receipts that lie"]);
    }
}
