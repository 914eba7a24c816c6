//! Power loss at every instant: what the store writes and syncs is recorded below it, and each prefix of
//! that is made into a disk again, with what was not synced dropped, reordered or torn. Whatever was answered
//! before that instant has to be there.
//!
//!     power-loss run DIR [COMMITS] [EVERY] [SEED]
//!
//! DIR should lie in memory: thousands of disks are written there. One of EVERY instants is judged, in one
//! of four ways. It needs strace, and ends with 1 if a promise is broken.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that judges")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "it may panic")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use protocol::content::Content;
use protocol::event::{ChatType, Inbound, InboundKind, Mention, Reply, Sender, SenderKind};
use protocol::id::{EventId, Instance, Lane};
use protocol::worker::Cursor;
use supervisor::store::{Answer, Beside, Done, Op, Quota, Store, Ticket};
use tokio::sync::mpsc;

/// A disk writes whole sectors.
const SECTOR: usize = 512;
/// Answers looked at again at each instant: the newest, and some of the others.
const NEWEST: usize = 24;
const OTHERS: usize = 8;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u64| args.get(at).and_then(|n| n.parse().ok()).unwrap_or(or);
    match args.first().map(String::as_str) {
        Some("work") => {
            work(Path::new(&args[1]), number(2, 2000), number(3, 1));
            ExitCode::SUCCESS
        }
        Some("run") if args.len() > 1 => {
            run(Path::new(&args[1]), number(2, 2000), number(3, 1).max(1), number(4, 1))
        }
        _ => {
            eprintln!("usage: power-loss run DIR [COMMITS] [EVERY] [SEED]");
            ExitCode::from(64)
        }
    }
}

fn instance() -> Instance {
    Instance::new("feishu").unwrap()
}

fn lane(n: u64) -> Lane {
    Lane { instance: instance(), chat_id: format!("oc_{}", n % 7), thread_id: None }
}

fn event(n: u64) -> Inbound {
    Inbound {
        kind: InboundKind::Message,
        keys: vec![format!("event:{n}"), format!("message:{n}")],
        origin_ms: 1_700_000_000_000,
        chat_id: lane(n).chat_id,
        chat_type: ChatType::Direct,
        thread_id: None,
        message_id: Some(format!("om_{n}")),
        reply_to: None,
        sender: Sender { user_id: "ou_1".into(), name: None, kind: SenderKind::User },
        mention: Mention::None,
        text: format!("{n} {}", "word ".repeat(usize::try_from(n % 900).unwrap())),
        parts: Vec::new(),
        raw: vec![u8::try_from(n % 251).unwrap(); usize::try_from(n * 37 % 3000).unwrap()],
        chat_name: None,
        quote: None,
        album: None,
    }
}

/// Hands the `n`-th reply in.
fn accept(ticket: Ticket, n: u64, now_ms: i64) -> Op {
    let (agent, reply, beside) = (instance(), reply(n), Beside::default());
    Op::AcceptReply { ticket, agent, reply, note: None, beside, now_ms }
}

fn reply(n: u64) -> Box<Reply> {
    let content = Content::text(format!("answer {n}"));
    Box::new(Reply { key: format!("key-{n}"), lane: lane(n), reply_to: None, content })
}

/// A store that is asked and answers.
struct Rig {
    store: Store,
    answers: mpsc::Receiver<Vec<Done>>,
    tickets: u64,
    cursor: u64,
}

impl Rig {
    fn open(dir: &Path) -> Result<Self, String> {
        let (send, answers) = mpsc::channel(64);
        let (store, opened) =
            Store::open(dir, 1_700_000_000_000, send).map_err(|e| e.to_string())?;
        if let Some(damage) = opened.damage {
            return Err(format!("damaged: {}", damage.error));
        }
        let cursor = opened
            .cursors
            .first()
            .map_or(0, |(_, cursor)| u64::from_le_bytes(cursor.0.as_slice().try_into().unwrap()));
        Ok(Self { store, answers, tickets: 0, cursor })
    }

    fn submit(&mut self, op: impl FnOnce(Ticket) -> Op) -> u64 {
        self.tickets += 1;
        self.store.submit(op(Ticket(self.tickets)));
        self.tickets
    }

    fn offer(&mut self, n: u64) -> u64 {
        let arrival = self.store.arrival(&instance(), &event(n));
        let cursor = Some(Cursor(n.to_le_bytes().to_vec()));
        let quota = Quota::NONE;
        self.submit(|ticket| Op::Accept { ticket, arrival, cursor, received_ms: 1, quota })
    }

    fn batch(&mut self) -> Vec<(u64, Answer)> {
        let batch = self.answers.blocking_recv().expect("the store is there");
        let told = batch.into_iter().map(|done| match done {
            Done::Answered { ticket, answer } => (ticket.0, answer),
            Done::Poisoned { error } => panic!("{error}"),
        });
        told.collect()
    }

    fn ask(&mut self, op: impl FnOnce(Ticket) -> Op) -> Answer {
        self.submit(op);
        self.batch().pop().unwrap().1
    }
}

/// What was asked for, by the name of the request.
enum Asked {
    Accept(u64),
    Begin(u64, EventId),
    Settle(u64),
    Reply(u64),
}

/// Keeps a few requests under way, says what it asks for and what was answered, a line each.
fn work(dir: &Path, commits: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rig = Rig::open(dir).unwrap();
    let mut under_way: HashMap<u64, Asked> = HashMap::new();
    let mut waiting: Vec<(u64, EventId)> = Vec::new();
    let (mut next, mut answered) = (1, 0);
    let say = |line: String| {
        let line = format!("{line}\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    };
    while answered < commits || !under_way.is_empty() {
        while answered < commits && under_way.len() < 1 + random.usize(..4) {
            let (ticket, asked) = match random.u32(..10) {
                0..5 => {
                    next += 1;
                    (rig.offer(next), Asked::Accept(next))
                }
                5..8 if !waiting.is_empty() => {
                    let (n, id) = waiting.swap_remove(random.usize(..waiting.len()));
                    let ticket = rig.submit(|ticket| Op::Begin { ticket, id, hand: None });
                    (ticket, Asked::Begin(n, id))
                }
                _ => {
                    next += 1;
                    (rig.submit(|ticket| accept(ticket, next, 1)), Asked::Reply(next))
                }
            };
            under_way.insert(ticket, asked);
        }
        for (ticket, answer) in rig.batch() {
            answered += 1;
            match (under_way.remove(&ticket).unwrap(), answer) {
                (Asked::Accept(n), Answer::Accepted { id, .. }) => {
                    say(format!("accepted {n} {}", id.0));
                    waiting.push((n, id));
                }
                (Asked::Begin(n, id), Answer::Begun(_)) => {
                    say(format!("settling {n}"));
                    let settle = |ticket| Op::Settle { ticket, id };
                    let ticket = rig.submit(settle);
                    under_way.insert(ticket, Asked::Settle(n));
                }
                (Asked::Settle(n), Answer::Settled) => say(format!("settled {n}")),
                (Asked::Reply(n), Answer::Reply { .. }) => say(format!("replied {n}")),
                (_, other) => panic!("{other:?}"),
            }
        }
    }
    rig.store.close().unwrap();
}

/// What happened below the store, or was said above it.
#[derive(Debug)]
enum Event {
    Write { file: String, at: Option<u64>, bytes: Vec<u8> },
    Cut { file: String, len: u64 },
    Sync { file: String },
    Said(Vec<String>),
}

/// Reads one line of strace. `None`: it does not matter.
fn understand(line: &str, waiting: &mut HashMap<String, String>) -> Option<Event> {
    let (pid, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    // What blocks is told in two parts; a sync counts once it has returned.
    let mut done = rest.to_owned();
    if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
        if begun.starts_with("fdatasync(") || begun.starts_with("fsync(") {
            waiting.insert(pid.to_owned(), begun.to_owned());
            return None;
        }
        done = format!("{begun}) = 0");
    } else if rest.starts_with("<... ") {
        let begun = waiting.remove(pid)?;
        done = format!("{begun}) = 0");
    }
    let (call, args) = done.split_once('(')?;
    let path = unhex(args.split_once('<')?.1.split_once('>')?.0);
    let name = String::from_utf8(path).ok()?.rsplit('/').next()?.to_owned();
    let ours = name == "store.db" || name == "store.db-wal";
    let tail = |args: &str| -> Vec<String> {
        let after = args.rsplit_once("\", ").map_or("", |(_, after)| after);
        let after = after.split(") = ").next().unwrap_or_default();
        after.split(", ").map(str::to_owned).collect()
    };
    match call {
        "pwrite64" if ours => {
            let at = tail(args).get(1)?.trim().parse().ok()?;
            Some(Event::Write { file: name, at: Some(at), bytes: bytes(args) })
        }
        "write" if ours => Some(Event::Write { file: name, at: None, bytes: bytes(args) }),
        "write" if args.starts_with("1<") => {
            let text = String::from_utf8(bytes(args)).unwrap();
            Some(Event::Said(text.lines().map(str::to_owned).collect()))
        }
        "ftruncate" if ours => {
            let len = args.split(", ").nth(1)?.split(')').next()?.parse().ok()?;
            Some(Event::Cut { file: name, len })
        }
        "fdatasync" | "fsync" if ours => Some(Event::Sync { file: name }),
        _ => None,
    }
}

/// The bytes of the quoted text.
fn bytes(args: &str) -> Vec<u8> {
    let quoted = args.split_once('"').map_or("", |(_, rest)| rest);
    unhex(quoted.split('"').next().unwrap_or_default())
}

/// Bytes, each as `\xNN`.
fn unhex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|code| u8::from_str_radix(code, 16).unwrap()).collect()
}

/// A file as the kernel has it, what of it is on the disk, and what has happened to it since.
#[derive(Default)]
struct File {
    durable: Vec<u8>,
    len: u64,
    since: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, more) => {
            let at = usize::try_from(*at).unwrap();
            if bytes.len() < at + more.len() {
                bytes.resize(at + more.len(), 0);
            }
            bytes[at..at + more.len()].copy_from_slice(more);
        }
        Change::Cut(len) => bytes.resize(usize::try_from(*len).unwrap(), 0),
    }
}

/// How the disk treats what was not synced.
#[derive(Clone, Copy, Debug)]
enum Way {
    Nothing,
    Everything,
    Some,
    Torn,
}

const WAYS: [Way; 4] = [Way::Nothing, Way::Everything, Way::Some, Way::Torn];

impl File {
    fn after(&self, way: Way, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let mut changes = self.since.clone();
        match way {
            Way::Nothing => changes.clear(),
            Way::Everything => {}
            Way::Some | Way::Torn => {
                changes.retain(|_| random.bool());
                random.shuffle(&mut changes);
            }
        }
        if let (Way::Torn, Some(Change::Write(_, last))) = (way, changes.last_mut()) {
            let sectors = last.len().div_ceil(SECTOR);
            last.truncate(SECTOR * random.usize(..=sectors));
        }
        for change in &changes {
            apply(&mut bytes, change);
        }
        bytes
    }
}

/// What was said so far.
#[derive(Default)]
struct Said {
    accepted: Vec<(u64, EventId)>,
    settling: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    replied: Vec<u64>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "accepted" => self.accepted.push((number(1), EventId(number(2)))),
            "settling" => drop(self.settling.insert(number(1))),
            "settled" => drop(self.settled.insert(number(1))),
            "replied" => self.replied.push(number(1)),
            other => panic!("{other}"),
        }
    }

    /// What of it is not so in the store that lies in `dir`.
    fn broken(&self, dir: &Path, random: &mut fastrand::Rng) -> Vec<String> {
        let mut rig = match Rig::open(dir) {
            Ok(rig) => rig,
            Err(why) => return vec![format!("it does not open: {why}")],
        };
        let mut wrong = Vec::new();
        let newest = self.accepted.iter().map(|(n, _)| *n).max().unwrap_or(0);
        if rig.cursor < newest {
            wrong.push(format!("the cursor is {}, and {newest} was answered", rig.cursor));
        }
        for at in chosen(self.accepted.len(), random) {
            let (n, id) = self.accepted[at];
            let begun = rig.ask(|ticket| Op::Begin { ticket, id, hand: None });
            match begun {
                Answer::Begun(begun) if begun.event.text != event(n).text => {
                    wrong.push(format!("event {n} is another"));
                }
                Answer::Begun(_) if self.settled.contains(&n) => {
                    wrong.push(format!("event {n} is there after its settlement"));
                }
                Answer::Gone if !self.settling.contains(&n) => {
                    wrong.push(format!("event {n} is lost"));
                }
                Answer::Begun(_) | Answer::Gone => {}
                other => wrong.push(format!("event {n}: {other:?}")),
            }
            rig.offer(n);
            let again = rig.batch().pop().unwrap().1;
            if !matches!(again, Answer::Duplicate) {
                wrong.push(format!("event {n} is taken again: {again:?}"));
            }
        }
        for at in chosen(self.replied.len(), random) {
            let n = self.replied[at];
            let asked = rig.ask(|ticket| accept(ticket, n, 2));
            if !matches!(asked, Answer::Reply { fresh: false, .. }) {
                wrong.push(format!("reply {n} is lost"));
            }
        }
        rig.store.close().unwrap();
        wrong
    }
}

fn chosen(len: usize, random: &mut fastrand::Rng) -> BTreeSet<usize> {
    let mut some: BTreeSet<usize> = (len.saturating_sub(NEWEST)..len).collect();
    for _ in 0..OTHERS.min(len) {
        some.insert(random.usize(..len));
    }
    some
}

fn run(dir: &Path, commits: u64, every: u64, seed: u64) -> ExitCode {
    let (live, trace) = (dir.join("live"), dir.join("trace"));
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(&live).unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-xx", "-s", "2000000", "-e"]);
    strace.arg("trace=pwrite64,write,ftruncate,fdatasync,fsync").arg("-o").arg(&trace);
    strace.arg(std::env::current_exe().unwrap()).arg("work").arg(&live);
    strace.args([commits.to_string(), seed.to_string()]).stdout(Stdio::null());
    let ended = strace.status().expect("strace is installed");
    assert!(ended.success(), "the recorded run failed");

    let mut random = fastrand::Rng::with_seed(seed);
    let (mut files, mut said): (BTreeMap<String, File>, Said) = Default::default();
    let mut waiting = HashMap::new();
    let (mut instants, mut syncs, mut judged, mut broken) = (0_u64, 0_u64, 0_u64, 0_u64);
    let disk = dir.join("disk");
    for line in BufReader::new(fs::File::open(&trace).unwrap()).lines() {
        let Some(event) = understand(&line.unwrap(), &mut waiting) else { continue };
        match event {
            Event::Said(lines) => lines.iter().for_each(|line| said.hear(line)),
            Event::Write { file, at, bytes } => {
                let file = files.entry(file).or_default();
                let at = at.unwrap_or(file.len);
                file.len = file.len.max(at + bytes.len() as u64);
                file.since.push(Change::Write(at, bytes));
            }
            Event::Cut { file, len } => {
                let file = files.entry(file).or_default();
                file.len = len;
                file.since.push(Change::Cut(len));
            }
            Event::Sync { file } => {
                syncs += 1;
                let file = files.entry(file).or_default();
                for change in std::mem::take(&mut file.since) {
                    apply(&mut file.durable, &change);
                }
            }
        }
        instants += 1;
        // Before anything was answered there is nothing to keep.
        if said.accepted.is_empty() || instants % every != 0 {
            continue;
        }
        let way = random.choice(WAYS).unwrap();
        let _ = fs::remove_dir_all(&disk);
        fs::create_dir_all(&disk).unwrap();
        for (name, file) in &files {
            fs::write(disk.join(name), file.after(way, &mut random)).unwrap();
        }
        judged += 1;
        if let Some(wrong) = said.broken(&disk, &mut random).first() {
            broken += 1;
            println!("instant {instants}, {way:?} of what was not synced: {wrong}");
            if broken >= 20 {
                println!("and so on");
                return ExitCode::FAILURE;
            }
        }
    }
    let _ = fs::remove_dir_all(dir);
    println!(
        "{syncs} syncs, {instants} instants, {judged} disks judged, {} events and {} replies answered: {broken} broken",
        said.accepted.len(),
        said.replied.len()
    );
    if broken == 0 && judged > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
