//! Power losses, without the engine: a log as it writes one, in which any sector is as it was at any moment since
//! the last sync. None of that is damage, again and again over what the losses before have left; what changes
//! in it otherwise is.

use proptest::prelude::*;

use super::super::frames::{Frame, Head, Order, Salts};
use super::super::log::{Found, examine};

const PAGE: usize = 4096;
const FRAME: usize = PAGE + 24;
/// Few, so that most stand where they stood in the log before.
const PAGES: u32 = 6;

fn start(frame: usize) -> usize {
    32 + frame * FRAME
}

/// The log, and what its only writer knows of it.
struct Log {
    random: fastrand::Rng,
    durable: Vec<u8>,
    /// What was written since.
    since: Vec<(usize, Vec<u8>)>,
    main: Vec<u8>,
    head: Head,
    /// A frame of each commit: its last.
    commits: Vec<usize>,
    frames: usize,
    is_copied: bool,
    dir: tempfile::TempDir,
}

impl Log {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let salts = random.u64(..).to_be_bytes();
        let zeros = random.usize(..64) * FRAME;
        Self {
            random,
            durable: vec![0; zeros],
            since: Vec::new(),
            main: vec![0; PAGES as usize * PAGE],
            head: Head::new(Order::OWN, salts),
            commits: Vec::new(),
            frames: 0,
            is_copied: true,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// As the system shows it.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        self.since.iter().for_each(|(at, new)| put(&mut bytes, *at, new));
        bytes
    }

    fn sync(&mut self) {
        self.durable = self.bytes();
        self.since.clear();
    }

    fn frame(&self, at: usize) -> Frame {
        Frame::of(&self.bytes()[start(at)..start(at + 1)])
    }

    fn page(&mut self) -> Vec<u8> {
        // Few as well: the same ones come again.
        vec![self.random.u8(..2); PAGE]
    }

    /// The writes of a commit, or of one that is rolled back.
    fn write(&mut self, count: usize, is_commit: bool) {
        if self.frames == 0 || self.is_copied {
            if self.is_copied {
                let [a, b, c, d, ..] = self.head.salts();
                let first = u32::from_be_bytes([a, b, c, d]).wrapping_add(1);
                let mut salts: Salts = [0; 8];
                salts[..4].copy_from_slice(&first.to_be_bytes());
                salts[4..].copy_from_slice(&self.random.u32(..).to_be_bytes());
                self.head = Head::new(Order::OWN, salts);
                self.commits.clear();
                self.frames = 0;
                self.is_copied = false;
            }
            self.since.push((0, self.head.bytes().to_vec()));
            self.sync();
        }
        let mut sum = match self.frames {
            0 => self.head.sum(),
            n => self.frame(n - 1).stored(),
        };
        let first = self.random.u32(..2);
        let mut end = self.frames;
        for n in 0..count {
            let number = 1 + (first + u32::try_from(n).unwrap()) % PAGES;
            let mark = if is_commit && n + 1 == count { PAGES } else { 0 };
            let page = self.page();
            let frame = Frame::empty(number).with_page(&page).placed(&self.head, mark, sum);
            sum = frame.stored();
            let (head, page) = frame.bytes().split_at(24);
            self.since.push((start(end), head.to_vec()));
            self.since.push((start(end) + 24, page.to_vec()));
            end += 1;
        }
        if is_commit {
            self.frames = end;
            self.commits.push(end - 1);
        }
    }

    fn commit(&mut self) {
        let count = if self.random.u8(..8) == 0 { self.random.usize(1..12) } else { 3 };
        self.write(count, true);
    }

    fn copy(&mut self) {
        let bytes = self.bytes();
        copy_into(&mut self.main, &bytes, self.frames);
        self.is_copied = true;
    }

    fn step(&mut self) {
        match self.random.u8(..16) {
            0 => {
                self.copy();
                self.durable = vec![0; self.random.usize(..64) * FRAME];
                self.since.clear();
                self.frames = 0;
                self.commits.clear();
            }
            1 => self.copy(),
            2 | 3 => {
                let count = self.random.usize(1..6);
                self.write(count, false);
            }
            _ => {
                self.commit();
                self.sync();
            }
        }
    }

    /// Each part is as it was after some of the writes.
    fn torn(&mut self, sector: usize) -> Vec<u8> {
        let whole = self.bytes();
        let mut torn = self.durable.clone();
        torn.resize(whole.len(), 0);
        let keep = self.random.usize(..=4);
        let upto: Vec<usize> = (0..=whole.len() / sector)
            .map(|_| match self.random.usize(..5) {
                0 => self.random.usize(..=self.since.len()),
                n if n <= keep => self.since.len(),
                _ => 0,
            })
            .collect();
        for (n, (at, new)) in self.since.iter().enumerate() {
            for (byte, at) in new.iter().zip(*at..) {
                if n < upto[at / sector] {
                    torn[at] = *byte;
                }
            }
        }
        if self.random.bool() {
            torn.truncate(self.random.usize(self.durable.len()..=torn.len()));
        }
        torn
    }

    fn look(&self, bytes: &[u8]) -> Found {
        let (log, main) = (self.dir.path().join("log"), self.dir.path().join("main"));
        std::fs::write(&log, bytes).unwrap();
        std::fs::write(&main, &self.main).unwrap();
        examine(&log, &main)
    }

    /// Goes on after a power loss, as the store does: what it finds is synced first.
    fn go_on(&mut self, bytes: Vec<u8>) {
        let valid = valid(&bytes);
        let head = Head::of(&bytes[..32.min(bytes.len())]).filter(Head::is_right);
        self.durable = bytes;
        self.since.clear();
        (self.frames, self.is_copied) = (valid, head.is_none());
        if let Some(head) = head {
            self.head = head;
        }
        self.commits = (0..valid).filter(|at| self.frame(*at).mark() != 0).collect();
    }
}

/// What the engine makes of it: so many frames.
fn valid(bytes: &[u8]) -> usize {
    let head = Head::of(&bytes[..32.min(bytes.len())]);
    let Some(head) = head.filter(Head::is_right) else { return 0 };
    let (mut sum, mut valid, mut at) = (head.sum(), 0, 0);
    while bytes.len() >= start(at + 1) {
        let frame = Frame::of(&bytes[start(at)..start(at + 1)]);
        if !frame.is_of(&head, sum) {
            break;
        }
        (sum, at) = (frame.stored(), at + 1);
        if frame.mark() != 0 {
            valid = at;
        }
    }
    valid
}

fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    let end = at + new.len();
    bytes.resize(bytes.len().max(end), 0);
    bytes[at..end].copy_from_slice(new);
}

fn copy_into(main: &mut Vec<u8>, log: &[u8], frames: usize) {
    for at in 0..frames {
        let frame = Frame::of(&log[start(at)..start(at + 1)]);
        put(main, (frame.number() as usize - 1) * PAGE, frame.page());
    }
}

fn lose_power(seed: u64) {
    let mut log = Log::new(seed);
    let sector = [512, 4096, 1][log.random.usize(..3)];
    for loss in 0..5 {
        for _ in 0..log.random.usize(..24) {
            log.step();
        }
        let synced = log.frames;
        let was_copied = log.is_copied;
        log.commit();
        // A sector of one byte: whole writes.
        let torn = if sector == 1 {
            let mut torn = log.durable.clone();
            let all = std::mem::take(&mut log.since);
            let keep = log.random.usize(..=4);
            for (at, new) in &all {
                if log.random.usize(..4) < keep {
                    put(&mut torn, *at, new);
                }
            }
            torn
        } else {
            log.torn(sector)
        };
        let found = log.look(&torn);
        assert!(matches!(found, Found::Sound), "seed {seed}, loss {loss}: {found:?}");
        log.go_on(torn);
        assert!(was_copied || log.frames >= synced, "seed {seed}, loss {loss}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_a_power_loss_leaves_is_no_damage(seed: u64) {
        lose_power(seed);
    }

    /// In front of the last frame of the last commit but one, and of the sum that this one goes on from.
    #[test]
    fn a_wrong_byte_before_the_last_commits_is_damage(seed: u64, place: u64, flip in 1..=255_u8) {
        let mut log = Log::new(seed);
        for _ in 0..log.random.usize(..30) {
            log.step();
        }
        while log.is_copied || log.commits.len() < 3 {
            log.commit();
            log.sync();
        }
        let upto = start(log.commits[log.commits.len() - 2] - 1);
        let mut bytes = log.bytes();
        bytes[usize::try_from(place).unwrap() % upto] ^= flip;
        let is_in_main = {
            let mut main = log.main.clone();
            copy_into(&mut main, &log.bytes(), log.frames);
            main == log.main
        };
        let found = log.look(&bytes);
        prop_assert!(matches!(found, Found::Broken(_)) || is_in_main, "{:?}", found);
    }
}

/// A head that lies across two sectors, of which one is still that of the log before, where a commit ended.
#[test]
fn a_head_of_which_a_part_was_written_is_no_damage() {
    for place in 1..64_u64 {
        let mut log = Log::new(place);
        // Commits end everywhere, in this log and the one before.
        for count in [place + 3, place] {
            log.copy();
            for _ in 0..count {
                log.write(1, true);
                log.sync();
            }
        }
        let first = log.frames;
        log.write(3, true);
        let (old, new) = (log.durable.clone(), log.bytes());
        // The sectors with heads one by one, the others together.
        let heads = (first..first + 3).flat_map(|at| [start(at) / 512, (start(at) + 23) / 512]);
        let mut units: Vec<usize> = heads.collect();
        units.dedup();
        for kept in 0..1 << (units.len() + 1) {
            let mut torn = old.clone();
            torn.resize(new.len().max(old.len()), 0);
            for (sector, at) in (start(first)..start(first + 3)).map(|at| (at / 512, at)) {
                let bit = units.iter().position(|unit| *unit == sector).unwrap_or(units.len());
                if kept >> bit & 1 == 1 {
                    torn[at] = new[at];
                }
            }
            let found = log.look(&torn);
            assert!(matches!(found, Found::Sound), "{kept:b} at {place}: {found:?}");
        }
    }
}
