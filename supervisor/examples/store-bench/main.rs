//! Measures the store, alone and behind a worker's link, against a raw append with `fdatasync` in
//! groups of the same size.
//!
//!     store-bench line DIR [DEPTH]      worker → link → run loop → commit → accepted, at 1, 8, 64, 256
//!     store-bench table DIR [DEPTH]     the store alone at 1, 8, 64 and 256 in flight, and its engine at its best
//!     store-bench backlog DIR [COUNT]   fill, SIGKILL, reopen, drain, disk given back
//!
//! DIR must be on the disk in question and is left behind. Disks are noisy: raw and store take turns,
//! and what counts is the ratio.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program that measures"
)]
#![expect(clippy::unwrap_used, reason = "it may panic")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod engine;
mod line;
mod raw;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::Engine;
use protocol::id::{EventId, Instance};
use protocol::worker::Cursor;
use raw::{Random, Raw, quantile};
use supervisor::store::{Answer, Done, Files, Op, Opened, Quota, Store, Ticket};
use tokio::sync::mpsc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|role| role == "worker") {
        return line::worker();
    }
    let dir = PathBuf::from(args.get(1).map_or("store-bench.tmp", String::as_str));
    let count = args.get(2).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    fs::create_dir_all(&dir).unwrap();
    match args.first().map(String::as_str) {
        Some("table") => match args.get(2).and_then(|depth| depth.parse().ok()) {
            Some(depth) => table(&dir, &[depth]),
            None => table(&dir, &[1, 8, 64, 256]),
        },
        Some("line") => line::supervisor(&dir, args.get(2).map_or("", String::as_str)),
        Some("backlog") => backlog(&dir, count),
        Some("fill") => fill(&dir, count),
        Some("drain") => drain(&dir),
        _ => println!("usage: store-bench line|table|backlog DIR [DEPTH or COUNT]"),
    }
}

fn table(dir: &Path, depths: &[usize]) {
    println!(
        "in flight  group    raw/s engine/s  ratio  store/s  ratio   raw p50/p99 ms engine p50/p99 ms  store p50/p99 ms  events/commit  checkpoints"
    );
    for &depth in depths {
        let dir = dir.join(format!("depth-{depth}"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let mut bench = Bench::open(&dir);
        let slice = Duration::from_millis(400);
        // Of those in flight, one part waits while another is written: a group is smaller.
        let (start, mut warm) = (bench.files(), Vec::new());
        bench.accept(depth, slice, &mut warm);
        let before = bench.files();
        let group = warm.len().div_ceil(usize::try_from(before.commits - start.commits).unwrap());
        let mut raw = Raw::new(&dir.join("raw"), group);
        let mut engine = Engine::open(&dir);
        let (mut raw_times, mut engine_times, mut times) = (Vec::new(), Vec::new(), Vec::new());
        let (mut raw_spent, mut engine_spent, mut spent) = (0.0, 0.0, 0.0);
        for _ in 0..8 {
            raw_spent += raw.run(slice, &mut raw_times);
            engine_spent += engine.run(group, slice, &mut engine_times);
            spent += bench.accept(depth, slice, &mut times);
        }
        let after = bench.files();
        let raw_rate = (raw_times.len() * group) as f64 / raw_spent;
        let engine_rate = (engine_times.len() * group) as f64 / engine_spent;
        let rate = times.len() as f64 / spent;
        let commits = after.commits - before.commits;
        println!(
            "{depth:9} {group:6} {raw_rate:8.0} {engine_rate:8.0} {:6.2} {rate:8.0} {:6.2} {:>9.2}/{:<7.2} {:>9.2}/{:<7.2} {:>9.2}/{:<7.2} {:11.1} {:10}",
            engine_rate / raw_rate,
            rate / raw_rate,
            quantile(&mut raw_times, 0.5),
            quantile(&mut raw_times, 0.99),
            quantile(&mut engine_times, 0.5),
            quantile(&mut engine_times, 0.99),
            quantile(&mut times, 0.5),
            quantile(&mut times, 0.99),
            times.len() as f64 / commits as f64,
            format!("{} of {commits} commits", after.checkpoints - before.checkpoints),
        );
        bench.store.close().unwrap();
    }
    println!("memory: {}", memory());
}

fn backlog(dir: &Path, count: u64) {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).unwrap();
    let started = Instant::now();
    let run = |what: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args([what, dir.to_str().unwrap(), &count.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = run("fill");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.by_ref() {
        let line = line.unwrap();
        println!("{line}");
        if line.starts_with("full") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    println!("filled and killed after {:.1} s", started.elapsed().as_secs_f64());
    let mut child = run("drain");
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        println!("{}", line.unwrap());
    }
    child.wait().unwrap();
}

fn fill(dir: &Path, count: u64) {
    let mut bench = Bench::open(dir);
    let started = Instant::now();
    let mut times = Vec::new();
    while (times.len() as u64) < count {
        bench.accept(256, Duration::from_secs(1), &mut times);
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    println!(
        "filled {} events, {rate:.0}/s, p99 {:.1} ms",
        times.len(),
        quantile(&mut times, 0.99)
    );
    println!("full: {}, disk {} KiB", memory(), disk(dir) >> 10);
    std::io::stdout().flush().unwrap();
    // Until the parent kills this process, in the middle of its work.
    loop {
        bench.accept(64, Duration::from_secs(1), &mut times);
    }
}

fn drain(dir: &Path) {
    let started = Instant::now();
    let mut bench = Bench::open(dir);
    let opened = started.elapsed();
    bench.accept(1, Duration::ZERO, &mut Vec::new());
    println!(
        "reopened in {:.1} ms, first event accepted after {:.1} ms, {}",
        opened.as_secs_f64() * 1e3,
        started.elapsed().as_secs_f64() * 1e3,
        memory()
    );
    while bench.files().counting {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("counted after {:.1} ms", started.elapsed().as_secs_f64() * 1e3);

    let started = Instant::now();
    let (mut after, mut drained) = (0, 0_u64);
    loop {
        let found = bench.heads(after);
        let Some(last) = found.last() else { break };
        after = last.0;
        for id in &found {
            let id = *id;
            bench.submit(|ticket| Op::Begin { ticket, id, hand: None });
        }
        bench.wait_all();
        for id in &found {
            let id = *id;
            bench.submit(|ticket| Op::Settle { ticket, id });
        }
        bench.wait_all();
        drained += found.len() as u64;
    }
    let spent = started.elapsed().as_secs_f64();
    println!("drained {drained} in {spent:.1} s, {:.0}/s, {}", drained as f64 / spent, memory());

    let started = Instant::now();
    let mut forgotten = 0;
    loop {
        match bench.ask(|ticket| Op::Purge {
            ticket,
            seen_before_ms: i64::MAX,
            replies_before_ms: i64::MAX,
            failures_before_ms: i64::MAX,
        }) {
            Answer::Purged { forgotten: some, more } => {
                forgotten += some;
                if !more {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    println!("forgot {forgotten} keys in {:.1} s", started.elapsed().as_secs_f64());

    // A writer that comes by now and then must not wait for the tidying.
    let mut times = Vec::new();
    let size = |dir: &Path| disk(dir) >> 10;
    let mut small = None;
    while started.elapsed() < Duration::from_mins(1) {
        if started.elapsed() < Duration::from_secs(30) && small.is_none() {
            bench.accept(1, Duration::ZERO, &mut times);
            // The head of the only waiting lane.
            for id in bench.heads(0) {
                bench.ask(|ticket| Op::Settle { ticket, id });
            }
        }
        std::thread::sleep(Duration::from_millis(20));
        if small.is_none() && size(dir) <= 1024 {
            small = Some(started.elapsed());
            break;
        }
    }
    println!(
        "disk {} KiB, at most 1 MiB after {:?}; a writer meanwhile: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms; {}",
        size(dir),
        small,
        quantile(&mut times, 0.5),
        quantile(&mut times, 0.99),
        quantile(&mut times, 1.0),
        memory()
    );
    println!("{:?}", bench.files());
    bench.store.close().unwrap();
}

struct Bench {
    store: Store,
    answers: mpsc::Receiver<Vec<Done>>,
    submitted: HashMap<u64, Instant>,
    tickets: u64,
    random: Random,
}

impl Bench {
    fn open(dir: &Path) -> Self {
        let (send, answers) = mpsc::channel(8);
        let (store, Opened { .. }) = Store::open(dir, now_ms(), send).unwrap();
        let random = Random::new(now_ms());
        Self { store, answers, submitted: HashMap::new(), tickets: 0, random }
    }

    fn submit(&mut self, op: impl FnOnce(Ticket) -> Op) {
        self.tickets += 1;
        let op = op(Ticket(self.tickets));
        self.submitted.insert(self.tickets, Instant::now());
        self.store.submit(op);
    }

    fn submit_event(&mut self) {
        let event = self.random.event(now_ms());
        let received_ms = event.origin_ms;
        let instance = Instance::new("feishu").unwrap();
        let cursor = Some(Cursor(self.tickets.to_le_bytes().to_vec()));
        let arrival = self.store.arrival(&instance, &event);
        self.submit(|ticket| Op::Accept {
            ticket,
            arrival,
            cursor,
            received_ms,
            quota: Quota::NONE,
        });
    }

    fn batch(&mut self) -> Vec<(Duration, Answer)> {
        let batch = self.answers.blocking_recv().unwrap();
        let now = Instant::now();
        let told = batch.into_iter().map(|done| match done {
            Done::Answered { ticket, answer } => {
                (now - self.submitted.remove(&ticket.0).unwrap(), answer)
            }
            Done::Poisoned { error } => panic!("{error}"),
        });
        told.collect()
    }

    fn ask(&mut self, op: impl FnOnce(Ticket) -> Op) -> Answer {
        self.submit(op);
        self.batch().pop().unwrap().1
    }

    fn wait_all(&mut self) {
        while !self.submitted.is_empty() {
            self.batch();
        }
    }

    /// Keeps `depth` events in flight for a while. Seconds spent.
    fn accept(&mut self, depth: usize, length: Duration, times: &mut Vec<f64>) -> f64 {
        let started = Instant::now();
        for _ in 0..depth {
            self.submit_event();
        }
        while !self.submitted.is_empty() {
            let on = started.elapsed() < length;
            for (time, answer) in self.batch() {
                assert!(matches!(answer, Answer::Accepted { .. }), "{answer:?}");
                times.push(time.as_secs_f64() * 1e3);
                if on {
                    self.submit_event();
                }
            }
        }
        started.elapsed().as_secs_f64()
    }

    /// All waiting events behind `after`, a few at a time: of each lane all, by its own search.
    fn heads(&mut self, after: u64) -> Vec<EventId> {
        let instances = vec![Instance::new("feishu").unwrap()];
        match self.ask(|ticket| Op::Heads { ticket, instances, after: EventId(after), limit: 256 })
        {
            // Ids lie close together: what lies between two of them waits as well.
            Answer::Heads { found, .. } => match (found.first(), found.last()) {
                (Some(a), Some(b)) => (a.id.0..=b.id.0.min(a.id.0 + 255)).map(EventId).collect(),
                _ => Vec::new(),
            },
            other => panic!("{other:?}"),
        }
    }

    fn files(&mut self) -> Files {
        match self.ask(|ticket| Op::Counts { ticket }) {
            Answer::Counts { files, .. } => files,
            other => panic!("{other:?}"),
        }
    }
}

/// Resident memory, now and at most, where the system tells.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or("?").to_owned()
    };
    format!("RSS {} KiB, anonymous {} KiB, peak {} KiB", of("VmRSS"), of("RssAnon"), of("VmHWM"))
}

fn disk(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().map_or(0, |m| m.len())).sum()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
