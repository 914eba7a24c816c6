//! Tells a write-ahead log that is damaged from one whose end a crash has torn.
//!
//! The engine reads a log up to the first frame that does not fit, and takes what is behind it for a leftover.
//! So one byte that the disk has changed would take all the commits behind it along, without a word.
//!
//! Here one connection writes one commit after another, and each is synced before the next begins. So a crash
//! can only have torn the last one: *a frame that goes on from the sum of a commit's last frame proves that this
//! commit was on the disk*, and everything before it. Leftovers prove nothing of the kind: of former logs they
//! have other salts; of a commit that was torn or rolled back earlier, and of which a part was overwritten, no
//! frame goes on from what overwrote it.
//!
//! What is not seen: damage of the last commit, which looks like a tear, unless it is one byte, which is put
//! right either way; damage of more than a byte in the 24 bytes that begin the last frame of the commit before
//! it; a log that somebody has cut or removed. What is damaged and was in the main file already is no loss.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::frames::{Frame, Frames, Head, Order, Sum};
use super::schema::PAGE_SIZE;

/// Where the first page counts how often it was changed.
const CHANGES: usize = 24;

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
    is_proven: bool,
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

    /// Whether a commit is concerned that was surely on the disk. Else it is the last one, which is whole again.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
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

/// Looks whether the log of the file `main` is damaged. Where nothing is wrong, it is read once.
pub(super) fn examine(log: &Path, main: &Path) -> Option<Broken> {
    let frames = Frames::open(log)?;
    let found = frames.head();
    if found.is_right() {
        let whole = whole(&frames, &found);
        if !(whole..frames.count()).any(|at| frames.salts(at) == found.salts()) {
            return None;
        }
    }
    let main = Main(File::open(main).ok());
    let is_right = found.is_right();
    if let Some(head) = if is_right { Some(found) } else { found.mended(&frames.get(0)?) } {
        let broken = Walk::new(frames, &main, head, Before::Right).from(0).end()?;
        if is_right && broken.damaged == 0 {
            return None;
        }
        let is_proven = broken.is_proven || !is_right;
        return Some(Broken { is_proven, ..broken }.without_what_misleads(&main));
    }
    without_head(frames, &main)
}

/// A head is on the disk before the first frame behind it. The first frames that go on from one another tell
/// its salts.
fn without_head(frames: Frames, main: &Main) -> Option<Broken> {
    let goes_on = |at: &u64| {
        let (salts, two) = (frames.salts(*at), || frames.get(*at).zip(frames.get(at + 1)));
        salts != [0; 8]
            && salts == frames.salts(at + 1)
            && two().is_some_and(|(one, next)| next.fits(Order::OWN, one.stored()))
    };
    let first = (0..frames.count().saturating_sub(1)).find(goes_on)?;
    let head = Head::new(Order::OWN, frames.salts(first));
    let broken = Walk::new(frames, main, head, Before::Anything).from(first).end()?;
    let mut broken = Broken { is_proven: true, ..broken };
    if first == 0 {
        // The engine does not take a log without a head. Does it need anything of it?
        let is_needed = broken.missing > 0 || !broken.is_in(main);
        return is_needed.then(|| broken.without_what_misleads(main));
    }
    // It may be what is left of the log before this one, and older than the main file.
    broken.missing += 1;
    let changes = |page: Vec<u8>| page.get(CHANGES..CHANGES + 4).map(<[u8]>::to_vec);
    if broken.first_page().and_then(changes) <= main.page(1).and_then(changes) {
        broken.newest.clear();
    }
    Some(broken.without_what_misleads(main))
}

/// How many frames the engine takes, whether or not a commit ends with the last.
fn whole(frames: &Frames, head: &Head) -> u64 {
    let mut sum = head.sum();
    let is_next = |at: &u64| {
        let Some(frame) = frames.get(*at) else { return false };
        let fits = frame.salts() == head.salts() && frame.fits(head.order(), sum);
        sum = frame.stored();
        fits
    };
    (0..frames.count()).take_while(is_next).count() as u64
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

/// A frame that belongs to the log, or may.
#[derive(Debug)]
struct Found {
    at: u64,
    /// Unknown if that part of it is damaged.
    number: Option<u32>,
    /// None: damaged, and nothing is left of it.
    kept: Option<Kept>,
    mark: u32,
    /// It is as it was written.
    is_right: bool,
    /// It is surely not.
    is_lost: bool,
}

/// A walk along all frames.
struct Walk<'a> {
    frames: Frames,
    head: Head,
    main: &'a Main,
    sum: Sum,
    before: Before,
    /// Since the last commit that counts.
    open: Vec<Found>,
    newest: BTreeMap<u32, Kept>,
    lost: Vec<(u64, Option<u32>)>,
    pages: u32,
    damaged: u64,
    is_proven: bool,
}

impl<'a> Walk<'a> {
    fn new(frames: Frames, main: &'a Main, head: Head, before: Before) -> Self {
        Self {
            frames,
            head,
            main,
            sum: head.sum(),
            before,
            open: Vec::new(),
            newest: BTreeMap::new(),
            lost: Vec::new(),
            pages: 0,
            damaged: 0,
            is_proven: false,
        }
    }

    fn from(mut self, first: u64) -> Self {
        for at in first..self.frames.count() {
            let Some(frame) = self.frames.get(at) else { break };
            self.step(at, &frame);
        }
        self
    }

    fn step(&mut self, at: u64, frame: &Frame) {
        let is_ours = frame.salts() == self.head.salts();
        // Beside the sum only the salts tell it from a leftover, unless that sum is surely this log's.
        let right =
            if is_ours || self.before == Before::Right { self.right(at, frame) } else { None };
        let ends = self.open.last().map_or(at > 0, |last| last.mark != 0);
        if right.is_some() && ends {
            self.commit(true);
        }
        let (sum, before) = match &right {
            Some(right) => (right.stored(), Before::Right),
            None if is_ours => (frame.stored(), Before::Damaged),
            None => (frame.stored(), Before::Anything),
        };
        let found = if let Some(right) = right {
            let (number, mark) = (Some(right.number()), right.mark());
            let mended = if right == *frame { None } else { Some(right) };
            let kept = Some(Kept { at, mended });
            Found { at, number, kept, mark, is_right: true, is_lost: false }
        } else {
            self.damaged_one(at, frame, is_ours)
        };
        (self.sum, self.before) = (sum, before);
        self.open.push(found);
        if self.open.last().is_some_and(|last| last.mark != 0)
            && self.open.iter().all(|found| found.is_right)
        {
            self.commit(false);
        }
    }

    /// A frame that is not right, if it is one of this log.
    fn damaged_one(&self, at: u64, frame: &Frame, is_ours: bool) -> Found {
        // More pages than this no store can have.
        let most = self.main.pages() + self.frames.count();
        let is_number = |number: &u32| *number != 0 && u64::from(*number) <= most;
        let seems_ours = is_ours && u64::from(frame.mark()) <= most;
        let number = Some(frame.number()).filter(|number| seems_ours && is_number(number));
        // With the frame before it its sum was lost: then it can only be believed. And a page with one wrong
        // byte that cannot be told holds more than an older one.
        let is_believed = number.is_some() && self.before == Before::Anything;
        let is_kept =
            is_believed || (number.is_some() && frame.is_nearly_right(self.head.order(), self.sum));
        let kept = is_kept.then_some(Kept { at, mended: None });
        Found { at, number, kept, mark: frame.mark(), is_right: false, is_lost: !is_believed }
    }

    /// The frame as it was written, if that can be told.
    fn right(&self, at: u64, frame: &Frame) -> Option<Frame> {
        let (order, sum) = (self.head.order(), self.sum);
        let mut right = if frame.fits(order, sum) {
            frame.clone()
        } else {
            let next = self.frames.get(at + 1);
            frame.mended(order, sum, next.as_ref()).or_else(|| {
                let copied = frame.with_page(&self.main.page(frame.number())?);
                copied.fits(order, sum).then_some(copied)
            })?
        };
        right.set_salts(self.head.salts());
        Some(right)
    }

    /// All that is open belongs to the log.
    fn commit(&mut self, is_on_the_disk: bool) {
        for found in std::mem::take(&mut self.open) {
            let is_mended = found.kept.as_ref().is_some_and(|kept| kept.mended.is_some());
            self.damaged += u64::from(found.is_lost || is_mended);
            if found.is_lost {
                self.lost.push((found.at, found.number));
            }
            if found.mark != 0 && (found.is_right || found.number.is_some()) {
                self.pages = found.mark;
            }
            if let (Some(number), Some(kept)) = (found.number, found.kept) {
                self.newest.insert(number, kept);
            }
        }
        self.is_proven |= is_on_the_disk && self.damaged > 0;
    }

    /// What was found; none: no commit.
    fn end(self) -> Option<Broken> {
        let Self { frames, head, newest, lost, pages, damaged, is_proven, .. } = self;
        let is_missing = |(at, number): &&(u64, Option<u32>)| {
            let later = number.and_then(|number| newest.get(&number));
            later.is_none_or(|later| later.at <= *at)
        };
        let lost: Vec<_> = lost.iter().filter(is_missing).collect();
        let missing = lost.len() as u64;
        let any = !newest.is_empty() || missing > 0;
        let lost = lost.into_iter().filter_map(|(at, number)| Some((*at, (*number)?))).collect();
        any.then_some(Broken { frames, head, newest, pages, damaged, missing, lost, is_proven })
    }
}
