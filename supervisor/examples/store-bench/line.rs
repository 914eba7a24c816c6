//! The whole way of an event: a worker in a process of its own, its link, the supervisor's run loop,
//! the store's commit, and the verdict back at the worker.
//!
//! The supervisor is the library's own, started by this program, so that `/proc/self/exe worker` is
//! this program too: the worker is the one that measures. It says hello like any other, hears its
//! configuration, and then keeps a number of events in flight, in turns with a raw append of as many
//! bytes in groups as large as the store's commits.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::hello::{BuildId, Hello};
use protocol::id::{Nonce, Seq};
use protocol::link::{Receiver, Sender, read_preamble, send_preamble};
use protocol::worker::{Adapter, FromWorker, Heartbeat, Ready, ToWorker, Verdict};
use supervisor::config::{Config, System};
use supervisor::journal::Journal;
use supervisor::lock::Lock;
use supervisor::notify::Manager;
use supervisor::paths::Paths;
use supervisor::process::limits;
use supervisor::process::signals::Signals;
use supervisor::process::spawn::close_mask;
use supervisor::run::{self, Parts, Reader};
use supervisor::store::Store;
use tokio::io::{ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use super::{Random, Raw, memory, now_ms, quantile};

const BUILD: BuildId = BuildId([7; 16]);
const SLICE: Duration = Duration::from_millis(400);
const ROUNDS: usize = 8;

/// Serves until the worker has measured.
pub(crate) fn supervisor(dir: &Path, depth: &str) {
    let dir = dir.join("line");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("depth"), depth).unwrap();
    let file = dir.join("config.toml");
    let here = dir.display().to_string();
    let text =
        format!("[gateway]\nstate_dir = {here:?}\nruntime_dir = {here:?}\n[platform.local]\n");
    let read = move || Config::parse(&text, Some(&file), &System);
    let config = read().unwrap();
    let (signals, limits) = (Signals::take().unwrap(), limits::set().unwrap());
    let paths = Paths { state_dir: dir.clone(), runtime_dir: dir };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mask, started_ms) = (close_mask(), now_ms());
        let lock = Lock::take(&paths.lock()).unwrap();
        let (tell, answers) = tokio::sync::mpsc::channel(16);
        let store = Store::open(&paths.state_dir, started_ms, tell).unwrap();
        let released = CancellationToken::new();
        let build = BUILD;
        let journal = Journal::open(&paths.state_dir).unwrap();
        let manager = Manager::from_environment(Instant::now());
        let parts = Parts {
            paths,
            config,
            reader: Reader(Arc::new(read)),
            lock,
            store,
            answers,
            journal,
            manager,
            signals,
            mask,
            limits,
            build,
            started_ms,
            started: Instant::now(),
            released,
            former: None,
        };
        run::run(parts).await.unwrap();
    });
    println!("memory of the supervisor: {}", memory());
}

/// Measures, tells the table on the standard error and has the supervisor leave.
pub(crate) fn worker() {
    let leash = worker::parent::leash().unwrap();
    let dir = leash.socket.parent().unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(&leash.socket).await.unwrap();
        let (mut receive, mut send) = tokio::io::split(stream);
        send_preamble(&mut send, BUILD).await.unwrap();
        let nonce = Nonce::from_hex(&leash.nonce).unwrap();
        let (instance, generation) = (leash.instance, leash.generation);
        let mut sender = Sender::new(send);
        sender.send(&Hello { instance, generation, nonce, pid: std::process::id() }).await.unwrap();
        read_preamble(&mut receive, &[]).await.unwrap();
        let mut receiver = Receiver::new(receive);
        let Some(ToWorker::Configure(configure)) = receiver.next().await.unwrap() else { return };
        assert!(matches!(configure.adapter, Adapter::Local(_)));
        let ready = Ready { account: "bench".into(), idempotent_ms: None };
        sender.send(&FromWorker::Ready(ready)).await.unwrap();
        let load = Load { receiver, sender, random: Random::new(now_ms()), seq: 0, beat: None };
        measure(load, &dir).await;
    });
    say(&dir, r#"{"method":"stop"}"#);
}

async fn measure(mut load: Load, dir: &Path) {
    let wanted: Option<usize> = std::fs::read_to_string(dir.join("depth")).unwrap().parse().ok();
    let mut cases = Vec::new();
    for depth in [1, 8, 64, 256].into_iter().filter(|depth| wanted.is_none_or(|w| w == *depth)) {
        let mut warm = Vec::new();
        load.run(depth, SLICE * 2, &mut warm).await;
        warm.clear();
        let before = commits(dir);
        load.run(depth, SLICE * 2, &mut warm).await;
        let group = warm.len().div_ceil(usize::try_from(commits(dir) - before).unwrap());
        cases.push((depth, group, Vec::new(), Vec::new(), Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (depth, group, rates, raw, path) in &mut cases {
            let from = raw.len();
            let spent = Raw::new(&dir.join("raw"), *group).run(SLICE, raw);
            let at_best = ((raw.len() - from) * *group) as f64 / spent;
            let from = path.len();
            let spent = load.run(*depth, SLICE, path).await;
            let rate = (path.len() - from) as f64 / spent;
            rates.push((rate / at_best, at_best, rate));
        }
    }
    eprintln!(
        "in flight  group    raw/s   line/s  ratio   raw p50/p99 ms    line p50/p99 ms (medians of {ROUNDS})"
    );
    for (depth, group, rates, mut raw, mut path) in cases {
        let median = |pick: fn(&(f64, f64, f64)) -> f64| {
            let mut all: Vec<f64> = rates.iter().map(pick).collect();
            quantile(&mut all, 0.5)
        };
        eprintln!(
            "{depth:9} {group:6} {:8.0} {:8.0} {:6.2} {:>9.2}/{:<7.2} {:>9.2}/{:<7.2}",
            median(|r| r.1),
            median(|r| r.2),
            median(|r| r.0),
            quantile(&mut raw, 0.5),
            quantile(&mut raw, 0.99),
            quantile(&mut path, 0.5),
            quantile(&mut path, 0.99),
        );
    }
}

struct Load {
    receiver: Receiver<ReadHalf<tokio::net::UnixStream>>,
    sender: Sender<WriteHalf<tokio::net::UnixStream>>,
    random: Random,
    seq: u64,
    beat: Option<Instant>,
}

impl Load {
    /// Keeps `depth` events in flight for a while. Seconds spent.
    async fn run(&mut self, depth: usize, length: Duration, times: &mut Vec<f64>) -> f64 {
        let started = Instant::now();
        let mut under_way = HashMap::new();
        for _ in 0..depth {
            self.feed(&mut under_way);
        }
        while !under_way.is_empty() {
            if self.beat.is_none_or(|beat| beat.elapsed() > Duration::from_secs(2)) {
                let beat = Heartbeat { progress_age_ms: Some(0), ignored: 0, malformed: 0 };
                self.sender.feed(&FromWorker::Heartbeat(beat)).unwrap();
                self.beat = Some(Instant::now());
            }
            self.sender.flush().await.unwrap();
            let mut heard = self.receiver.next().await.unwrap();
            assert!(heard.is_some(), "the supervisor hung up");
            while let Some(frame) = heard {
                let ToWorker::Verdict { seq, verdict } = frame else { panic!("{frame:?}") };
                assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
                let since: Instant = under_way.remove(&seq).unwrap();
                times.push(since.elapsed().as_secs_f64() * 1e3);
                if started.elapsed() < length {
                    self.feed(&mut under_way);
                }
                heard = self.receiver.ready().unwrap();
            }
        }
        started.elapsed().as_secs_f64()
    }

    fn feed(&mut self, under_way: &mut HashMap<Seq, Instant>) {
        self.seq += 1;
        let seq = Seq(self.seq);
        let event = Box::new(self.random.event(now_ms()));
        under_way.insert(seq, Instant::now());
        self.sender.feed(&FromWorker::Inbound { seq, event, cursor: None, former: None }).unwrap();
    }
}

/// One request, one answer.
fn say(dir: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(dir.join("gw.sock")).unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line);
    line
}

fn commits(dir: &Path) -> u64 {
    let status = say(dir, r#"{"method":"status"}"#);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status.pointer("/result/store/commits").and_then(serde_json::Value::as_u64).unwrap()
}
