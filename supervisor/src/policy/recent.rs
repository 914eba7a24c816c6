//! What listeners were told lately, so that one that comes back hears what it has missed. Numbers grow, also from
//! one supervisor to the next: they begin with the time of its start.

use std::collections::VecDeque;

/// How much is kept.
const KEPT: usize = 256;

/// Numbers for each millisecond that a supervisor has lived, so that the next one begins behind them.
const EACH_MS: u64 = 1024;

/// The last of what was told, with its numbers.
#[derive(Debug)]
pub struct Recent {
    last: u64,
    kept: VecDeque<(u64, String)>,
}

impl Recent {
    /// Of a supervisor that started at `started_ms`.
    pub fn new(started_ms: i64) -> Self {
        Self { last: started_ms.max(0).unsigned_abs() * EACH_MS, kept: VecDeque::new() }
    }

    /// The number of the next line.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The number of the last line.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// A line is told.
    pub fn keep(&mut self, number: u64, line: String) {
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((number, line));
    }

    /// What was told behind a number, as far as it is kept.
    pub fn since(&self, after: u64) -> impl Iterator<Item = &str> {
        let kept = self.kept.iter().filter(move |(number, _)| *number > after);
        kept.map(|(_, line)| line.as_str())
    }

    /// For the supervisor after this one in the same process.
    pub fn rest(&self) -> (u64, Vec<(u64, String)>) {
        (self.last, self.kept.iter().cloned().collect())
    }

    /// Takes over what [`Recent::rest`] told.
    pub fn resume(&mut self, (last, kept): (u64, Vec<(u64, String)>)) {
        self.last = self.last.max(last);
        for (number, line) in kept {
            self.keep(number, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(recent: &mut Recent, line: &str) -> u64 {
        let number = recent.number();
        recent.keep(number, line.to_owned());
        number
    }

    #[test]
    fn who_comes_back_hears_what_came_behind_its_last_number() {
        let mut old = Recent::new(1_000);
        let first = tell(&mut old, "a");
        tell(&mut old, "b");
        let mut new = Recent::new(900);
        new.resume(old.rest());
        tell(&mut new, "c");
        assert_eq!(new.since(first).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(new.since(new.last()).count(), 0);
        let mut next = Recent::new(1_001);
        tell(&mut next, "d");
        assert_eq!(next.since(old.last()).collect::<Vec<_>>(), ["d"], "another process");
        for _ in 0..=KEPT {
            tell(&mut next, "more");
        }
        assert_eq!(next.since(0).count(), KEPT, "not without end");
    }
}
