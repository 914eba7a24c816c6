//! Durable ingest through the whole path: terminal → worker → link → store → commit → accepted.
//!
//! No agent is configured, so events wait. The baseline appends the very lines that the terminal
//! writes, as many in a group as the terminal keeps in flight, and syncs each group. The store cannot
//! have so many in a group: while it commits some, the others are on their way. So there is a second
//! baseline with groups as large as the store's own, as far as strace is there to count them. While a
//! baseline runs the supervisor is stopped, so that neither disturbs the other.
//!
//! The ratios hang on how long a sync takes: what the path does beside it is all the less the longer that is.
//! So the same can be measured on a slower disk: strace lets each sync of the supervisor take longer.

use std::io;
use std::time::Duration;

use rustix::process::Signal;

use super::gateway::{Gateway, memory, signal};
use super::raw::Raw;
use super::stats::{Pairs, Slice};
use super::table::Goal;
use super::terminal::Terminal;
use super::{Bench, Row, Table, link, syncs};

/// Texts in flight, and what their rate is to be in comparison to the baseline's.
const DEPTHS: [(usize, Option<f64>); 4] =
    [(1, Some(0.8)), (8, None), (64, Some(0.4)), (256, Some(0.4))];
/// Before anything counts: the log has grown to its size.
const WARM_UP: Duration = Duration::from_secs(1);

pub(super) fn measure(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let mut gateway = Gateway::start(&bench.ground, "[platform.local]\n")?;
    if let Some(longer) = bench.longer {
        gateway.start_again_under(&syncs::longer(&gateway, longer))?;
        gateway.until_ready()?;
    }
    let gateway = gateway;
    let idle = memory(gateway.pid())?;
    let mut terminal = Terminal::join(&gateway.chat_socket("local"), "bench")?;
    let sample = terminal.sample()?;
    terminal.run(64, WARM_UP)?;
    let mut cases = Vec::new();
    for (depth, goal) in DEPTHS {
        if bench.depth.is_none_or(|only| only == depth) {
            let (row, group) = syncs::look(bench, &gateway, &mut terminal, depth);
            let group = group.filter(|group| *group < depth);
            cases.push(Case {
                depth,
                goal,
                group,
                row,
                pairs: Pairs::default(),
                equal: Pairs::default(),
            });
        }
    }
    for _ in 0..bench.rounds {
        for case in &mut cases {
            let raw = |records| {
                let run = || {
                    let raw = Raw::new(gateway.dir(), &sample, records)?;
                    raw.on_slower(bench.longer).run(bench.slice)
                };
                aside(&gateway, run)
            };
            let full = raw(case.depth)?;
            let equal = case.group.map(raw).transpose()?;
            let path = terminal.run(case.depth, bench.slice)?;
            case.pairs.push(path, full);
            if let Some(equal) = equal {
                case.equal.push(path, equal);
            }
        }
    }
    for case in &cases {
        case.tell(table);
        if case.depth == 1 {
            floor(bench, &case.pairs, table)?;
        }
    }
    for case in cases {
        table.push(case.row);
    }
    let (waiting, backlog) = (gateway.waiting()?, memory(gateway.pid())?);
    table.push(
        Row::new(
            format!("memory of the supervisor, {waiting} events waiting"),
            backlog.to_string(),
        )
        .against(format!("{} KiB idle", idle.now), ratio(backlog.now, idle.now))
        .goal(Goal::AtMost(10.0), mib(backlog.now), " MiB"),
    );
    Ok(())
}

/// Runs something while the supervisor is stopped.
fn aside<T>(gateway: &Gateway, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    signal(gateway.pid(), Signal::STOP)?;
    let result = run();
    signal(gateway.pid(), Signal::CONT)?;
    result
}

fn show(rate: f64, p50: f64, p99: f64) -> String {
    format!("{rate:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms")
}

fn of(pick: impl Fn(fn(&Slice) -> f64) -> f64) -> String {
    show(pick(|slice| slice.rate), pick(|slice| slice.p50), pick(|slice| slice.p99))
}

/// Some number of events in flight.
struct Case {
    depth: usize,
    goal: Option<f64>,
    /// How many the store has in a group, if fewer than are in flight.
    group: Option<usize>,
    row: Row,
    pairs: Pairs,
    equal: Pairs,
}

impl Case {
    fn tell(&self, table: &mut Table) {
        let Self { depth, pairs, .. } = self;
        table.push(self.rate(format!("durable ingest, {depth} in flight"), pairs));
        if let Some(group) = self.group {
            let what = format!("… to raw groups of {group}, as committed");
            table.push(self.rate(what, &self.equal));
        }
        if *depth == 1 {
            latency(table, pairs);
        }
    }

    fn rate(&self, what: String, pairs: &Pairs) -> Row {
        let ratio = pairs.ratio(|slice| slice.rate);
        let row = Row::new(what, of(|p| pairs.thing(p))).against(of(|p| pairs.baseline(p)), ratio);
        match self.goal {
            Some(goal) => row.goal(Goal::AtLeast(goal), ratio, "×"),
            None => row,
        }
    }
}

fn latency(table: &mut Table, pairs: &Pairs) {
    let mut row = |name: &str, pick: fn(&Slice) -> f64, goal: f64| {
        let ratio = pairs.ratio(pick);
        table.push(
            Row::new(
                format!("accepted, one at a time, {name}"),
                format!("{:.2} ms", pairs.thing(pick)),
            )
            .against(format!("{:.2} ms one sync", pairs.baseline(pick)), ratio)
            .goal(Goal::AtMost(goal), ratio, "×"),
        );
    };
    row("p50", |slice| slice.p50, 1.5);
    row("p99", |slice| slice.p99, 2.0);
}

/// No event can be accepted in less time than one message to another process and back, and one sync,
/// take one after the other.
fn floor(bench: &Bench, pairs: &Pairs, table: &mut Table) -> io::Result<()> {
    let p50 = |slice: &Slice| slice.p50;
    let floor = pairs.baseline(p50) + link::bare_ping(bench)?;
    table.push(
        Row::new("accepted, one at a time, p50", format!("{:.2} ms", pairs.thing(p50)))
            .against(format!("{floor:.2} ms bare ping, then one sync"), pairs.thing(p50) / floor),
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn ratio(now: u64, before: u64) -> f64 {
    mib(now) / mib(before)
}
