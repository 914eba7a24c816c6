//! Tells a write-ahead log that is damaged from one whose end a power loss has torn.
//!
//! The engine reads a log up to the first frame that does not fit, and takes what is behind it for a leftover.
//! So one byte that the disk has changed would take all the commits behind it along, without a word.
//!
//! Here one connection writes one commit after another, each is synced before the next begins, and what a start
//! finds in the log is synced before anything is written behind it. So a power loss leaves any part of the frames
//! of one commit, the last, and any part of what stood there before. **What proves damage is a commit's last frame
//! that fits, and behind it another that goes on from its sum, both with the salts of this log and beyond the first
//! that does not fit**: only when a commit was on the disk does the engine go on from its sum. For leftovers:
//!
//! - Those of former logs have other salts. Where of a frame only the head reached the disk, the old page behind it
//!   does not fit; where of the head only a part did, as it lies across two sectors, the sum or the salts are the old
//!   ones in at most one of two neighbours, and the other one does not go with it.
//! - Those of commits of this log that were torn or rolled back earlier have nothing behind the frame that ends
//!   them, and none goes on from what has overwritten the one before it.
//!
//! The head is synced before the first frame, and a log that was cut is synced before it grows again: so a wrong
//! head in front of frames is damage, if the main file does not have all of them anyway.
//!
//! What is not seen: damage of the last commit and of the last two frames before it, which looks like a tear; a log
//! that somebody has cut. One that somebody has removed is missed ([`is_missing`]), and nobody knows what it held.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::frames::{Frame, Frames, Head, Order, Sum};
use super::schema::PAGE_SIZE;

/// Where the first page counts how often it was changed.
const CHANGES: usize = 24;

/// Where a file says which program may write and read it: 2 with a log, 1 without
/// (<https://www.sqlite.org/fileformat2.html>, "file format version numbers").
const MODES: u64 = 18;

/// Whether the store `main` should have a log, and has none: it keeps one from its first moment, also at rest.
pub(super) fn is_missing(log: &Path, main: &Path) -> bool {
    let mut modes = [0; 2];
    let read = File::open(main).and_then(|main| main.read_exact_at(&mut modes, MODES));
    read.is_ok() && modes == [2; 2] && std::fs::symlink_metadata(log).is_err()
}

/// Says in a copy of a store, in which nothing of its log is missing, that it has none.
pub(super) fn none_in(copy: &File) -> io::Result<()> {
    copy.write_all_at(&[1; 2], MODES)
}

/// What is behind a log.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing but what a power loss may leave.
    Sound,
    /// Its head is wrong, and nothing that can be told is missing in the main file: it is to be emptied. The
    /// engine would begin the next log with the salts of that head, and leftovers would pass for frames of it.
    Void,
    Broken(Broken),
}

/// A log with frames that are not as they were written.
#[derive(Debug)]
pub(super) struct Broken {
    frames: Frames,
    head: Head,
    /// The newest version of each page.
    newest: BTreeMap<u32, Kept>,
    /// Pages of the main file after the last commit.
    pages: u32,
    /// Frames that were damaged.
    damaged: u64,
    /// Frames that are not as they were, and whose page is not in a later one.
    missing: u64,
    /// Those whose page is known: where they stood, and which.
    lost: Vec<(u64, u32)>,
}

#[derive(Debug)]
struct Kept {
    at: u64,
    /// If it is not what stands there.
    mended: Option<Frame>,
}

impl Broken {
    fn page(&self, kept: &Kept) -> Option<Frame> {
        kept.mended.clone().or_else(|| self.frames.get(kept.at))
    }

    /// Whether all that is left of it is in the main file.
    fn is_in(&self, main: &Main) -> bool {
        self.newest.iter().all(|(number, kept)| {
            let page = main.page(*number);
            self.page(kept).is_some_and(|frame| page.is_some_and(|page| page == frame.page()))
        })
    }

    /// Ready to be read in spite of what is missing.
    fn without_what_misleads(mut self, main: &Main) -> Self {
        if self.missing > 0 && self.is_in(main) {
            // What is missing may be there as well, and newer than another version here.
            self.newest.clear();
            return self;
        }
        for (at, number) in std::mem::take(&mut self.lost) {
            let here = self.newest.get(&number);
            if here.is_some_and(|here| here.at == at) {
                continue;
            }
            let here = here.and_then(|kept| self.page(kept));
            let old = here.map(|frame| frame.page().to_vec()).or_else(|| main.page(number));
            // A tree may be read from an older page of it. What continues a long row would make it another row.
            let is_tree = |page: Vec<u8>| number == 1 || matches!(page[..], [2 | 5 | 10 | 13, ..]);
            if old.is_some_and(|old| !is_tree(old)) {
                self.newest.insert(number, Kept { at, mended: Some(Frame::empty(number)) });
            }
        }
        self
    }

    /// Whether nothing of it is of use.
    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// How many pages are lost, older than they were, or wrong in a byte.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    pub(super) fn reason(&self) -> String {
        match self.damaged {
            0 => "the head of its log is damaged".to_owned(),
            1 => "a part of its log is damaged".to_owned(),
            n => format!("{n} parts of its log are damaged"),
        }
    }

    /// Makes a log that the engine takes, with the newest intact version of each page.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut file = BufWriter::new(new);
        file.write_all(self.head.bytes())?;
        let mut sum = self.head.sum();
        let last = self.newest.keys().next_back();
        for (page, kept) in &self.newest {
            let Some(frame) = self.page(kept) else { continue };
            let mark = if Some(page) == last { self.pages } else { 0 };
            let frame = frame.placed(&self.head, mark, sum);
            file.write_all(frame.bytes())?;
            sum = frame.stored();
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    /// The newest version of the first page.
    pub(super) fn first_page(&self) -> Option<Vec<u8>> {
        Some(self.page(self.newest.get(&1)?)?.page().to_vec())
    }
}

/// Looks at the log of the file `main`. Where nothing is wrong, it is read once.
pub(super) fn examine(log: &Path, main: &Path) -> Found {
    let Some(frames) = Frames::open(log) else { return Found::Sound };
    let head = frames.head();
    if !head.is_right() && head.is_intact() {
        // Of something else.
        return Found::Sound;
    }
    if !head.is_right() {
        return with_wrong_head(frames, &head, &Main(File::open(main).ok()));
    }
    let whole = whole(&frames, &head);
    let Some(last) = proven(&frames, &head, whole) else { return Found::Sound };
    let main = Main(File::open(main).ok());
    let broken = Walk::new(frames, &main, head, Before::Right).through(0, last + 1).end();
    broken.map_or(Found::Sound, |broken| Found::Broken(broken.without_what_misleads(&main)))
}

/// What follows tells the head's salts: a right frame, or else the first frames that go on from one another.
fn with_wrong_head(frames: Frames, found: &Head, main: &Main) -> Found {
    let goes_on = |at: &u64| {
        let (salts, two) = (frames.salts(*at), || frames.get(*at).zip(frames.get(at + 1)));
        salts != [0; 8]
            && salts == frames.salts(at + 1)
            && two().is_some_and(|(one, next)| next.fits(Order::OWN, one.stored()))
    };
    let mended = frames.get(0).and_then(|first| found.mended(&first));
    let (head, first, before) = if let Some(head) = mended {
        (head, 0, Before::Right)
    } else {
        let Some(first) = (0..frames.count().saturating_sub(1)).find(goes_on) else {
            return if found.is_blank() { Found::Sound } else { Found::Void };
        };
        (Head::new(Order::OWN, frames.salts(first)), first, Before::Anything)
    };
    let behind = proven(&frames, &head, first).map_or(first, |last| last + 1);
    let Some(mut broken) = Walk::new(frames, main, head, before).through(first, behind).end()
    else {
        return Found::Void;
    };
    if first > 0 {
        // It may be what is left of the log before this one, and older than the main file.
        broken.missing += 1;
        let changes = |page: Vec<u8>| page.get(CHANGES..CHANGES + 4).map(<[u8]>::to_vec);
        if broken.first_page().and_then(changes) <= main.page(1).and_then(changes) {
            broken.newest.clear();
        }
    } else if broken.missing == 0 && broken.is_in(main) {
        return Found::Void;
    }
    Found::Broken(broken.without_what_misleads(main))
}

/// How many frames the engine takes, whether or not a commit ends with the last.
fn whole(frames: &Frames, head: &Head) -> u64 {
    let mut sum = head.sum();
    let is_next = |at: &u64| {
        let Some(frame) = frames.get(*at) else { return false };
        let fits = frame.is_of(head, sum);
        sum = frame.stored();
        fits
    };
    (0..frames.count()).take_while(is_next).count() as u64
}

/// The last frame at `from` or behind it that ends a commit which was surely on the disk: the next goes on from it.
fn proven(frames: &Frames, head: &Head, from: u64) -> Option<u64> {
    let before = from.checked_sub(1).and_then(|at| frames.get(at));
    let mut sum = before.map_or(head.sum(), |before| before.stored());
    let (mut ends, mut found) = (false, None);
    for at in from..frames.count() {
        let frame = frames.get(at)?;
        let fits = frame.is_of(head, sum);
        if fits && ends {
            found = Some(at - 1);
        }
        ends = fits && frame.mark() != 0;
        sum = frame.stored();
    }
    found
}

/// The main file.
struct Main(Option<File>);

impl Main {
    fn page(&self, number: u32) -> Option<Vec<u8>> {
        let mut page = vec![0; PAGE_SIZE as usize];
        let at = u64::from(number.checked_sub(1)?) * u64::from(PAGE_SIZE);
        self.0.as_ref()?.read_exact_at(&mut page, at).ok()?;
        Some(page)
    }

    fn pages(&self) -> u64 {
        let metadata = self.0.as_ref().and_then(|file| file.metadata().ok());
        metadata.map_or(0, |metadata| metadata.len() / u64::from(PAGE_SIZE))
    }
}

/// What is known of the sum that a frame has to go on from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    /// It is right.
    Right,
    /// It stands in a frame of this log that is damaged elsewhere.
    Damaged,
    /// It stands in what may have been a frame of this log.
    Anything,
}

/// A frame of the log.
#[derive(Debug)]
struct Read {
    at: u64,
    /// Unknown if that part of it is damaged.
    number: Option<u32>,
    /// None: damaged, and nothing is left of it.
    kept: Option<Kept>,
    mark: u32,
    /// It is surely not as it was written.
    is_lost: bool,
}

/// A walk along the frames that were on the disk.
struct Walk<'a> {
    frames: Frames,
    head: Head,
    main: &'a Main,
    sum: Sum,
    before: Before,
    newest: BTreeMap<u32, Kept>,
    lost: Vec<(u64, Option<u32>)>,
    pages: u32,
    damaged: u64,
}

impl<'a> Walk<'a> {
    fn new(frames: Frames, main: &'a Main, head: Head, before: Before) -> Self {
        Self {
            frames,
            head,
            main,
            sum: head.sum(),
            before,
            newest: BTreeMap::new(),
            lost: Vec::new(),
            pages: 0,
            damaged: 0,
        }
    }

    /// Every frame from `first` to that before `behind` was on the disk, whatever stands there now. What follows is
    /// read as the engine would.
    fn through(mut self, first: u64, behind: u64) -> Self {
        for at in first..behind {
            let Some(frame) = self.frames.get(at) else { break };
            let read = self.read(at, &frame);
            self.take(read);
        }
        let mut open = Vec::new();
        for at in behind..self.frames.count() {
            let Some(frame) = self.frames.get(at) else { break };
            if self.before != Before::Right || !frame.is_of(&self.head, self.sum) {
                break;
            }
            let read = self.read(at, &frame);
            let ends = read.mark != 0;
            open.push(read);
            if ends {
                open.drain(..).for_each(|read| self.take(read));
            }
        }
        self
    }

    fn read(&mut self, at: u64, frame: &Frame) -> Read {
        let right = self.right(at, frame);
        let (sum, before) = match &right {
            Some(right) => (right.stored(), Before::Right),
            None if frame.salts() == self.head.salts() => (frame.stored(), Before::Damaged),
            None => (frame.stored(), Before::Anything),
        };
        let read = if let Some(right) = right {
            let (number, mark) = (Some(right.number()), right.mark());
            let mended = if right == *frame { None } else { Some(right) };
            Read { at, number, kept: Some(Kept { at, mended }), mark, is_lost: false }
        } else {
            self.damaged_one(at, frame)
        };
        (self.sum, self.before) = (sum, before);
        read
    }

    /// A frame that is not right.
    fn damaged_one(&self, at: u64, frame: &Frame) -> Read {
        // More pages than this no store can have.
        let most = self.main.pages() + self.frames.count();
        let is_number = |number: &u32| *number != 0 && u64::from(*number) <= most;
        let seems_ours = frame.salts() == self.head.salts() && u64::from(frame.mark()) <= most;
        let number = Some(frame.number()).filter(|number| seems_ours && is_number(number));
        // With the frame before it its sum was lost: then it can only be believed. And a page with one wrong
        // byte that cannot be told holds more than an older one.
        let is_believed = number.is_some() && self.before == Before::Anything;
        let is_kept =
            is_believed || (number.is_some() && frame.is_nearly_right(self.head.order(), self.sum));
        let kept = is_kept.then_some(Kept { at, mended: None });
        let mark = if number.is_some() { frame.mark() } else { 0 };
        Read { at, number, kept, mark, is_lost: !is_believed }
    }

    /// The frame as it was written, if that can be told.
    fn right(&self, at: u64, frame: &Frame) -> Option<Frame> {
        let (order, sum) = (self.head.order(), self.sum);
        let mut right = if frame.fits(order, sum) {
            frame.clone()
        } else {
            frame.mended(order, sum, self.frames.get(at + 1).as_ref()).or_else(|| {
                let copied = frame.with_page(&self.main.page(frame.number())?);
                copied.fits(order, sum).then_some(copied)
            })?
        };
        right.set_salts(self.head.salts());
        Some(right)
    }

    fn take(&mut self, read: Read) {
        let is_mended = read.kept.as_ref().is_some_and(|kept| kept.mended.is_some());
        self.damaged += u64::from(read.is_lost || is_mended);
        if read.is_lost {
            self.lost.push((read.at, read.number));
        }
        if read.mark != 0 {
            self.pages = read.mark;
        }
        if let (Some(number), Some(kept)) = (read.number, read.kept) {
            self.newest.insert(number, kept);
        }
    }

    /// What was found; none: no commit.
    fn end(self) -> Option<Broken> {
        let Self { frames, head, mut newest, lost, pages, damaged, .. } = self;
        if pages != 0 {
            // What the file no longer has.
            newest.retain(|number, _| *number <= pages);
        }
        let is_missing = |(at, number): &&(u64, Option<u32>)| {
            let later = number.and_then(|number| newest.get(&number));
            let is_gone = number.is_some_and(|number| pages != 0 && number > pages);
            !is_gone && later.is_none_or(|later| later.at <= *at)
        };
        let lost: Vec<_> = lost.iter().filter(is_missing).collect();
        let missing = lost.len() as u64;
        let any = !newest.is_empty() || missing > 0;
        let lost = lost.into_iter().filter_map(|(at, number)| Some((*at, (*number)?))).collect();
        any.then_some(Broken { frames, head, newest, pages, damaged, missing, lost })
    }
}
