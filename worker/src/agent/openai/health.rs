//! Whether the server takes requests, and when to look again. Pure, but for the spread of pauses.
//!
//! A server that sends one away is left alone for as long as it wishes, else for a growing while. Only
//! a finished turn proves that it works again: a look at it may succeed where requests do not.

use std::time::Duration;

use protocol::worker::Outside;

use crate::clock::{self, Instant};

/// Between two looks at a server that works.
const AGAIN: Duration = Duration::from_secs(10);
/// However short a pause the server wishes for.
const LEAST: Duration = Duration::from_secs(1);
/// Pauses after failures in a row.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// Why it takes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shut {
    pub(super) reason: String,
    /// Its own wish.
    pub(super) wish: Option<Duration>,
    pub(super) remedy: Option<String>,
}

impl Shut {
    /// Because of what a person has set.
    pub(super) fn by_settings(reason: String) -> Self {
        let remedy = "check base_url, model and key of this agent, and the server".to_owned();
        Self { reason, wish: None, remedy: Some(remedy) }
    }

    /// The same for `ctl status`.
    pub(super) fn outside(&self) -> Outside {
        Outside::Down { reason: self.reason.clone(), remedy: self.remedy.clone() }
    }
}

/// What is known of the server.
#[derive(Debug)]
pub(super) struct Health {
    open: bool,
    failures: usize,
    due: Instant,
    looking: bool,
    /// What was told last: why it takes nothing, or that it does.
    told: Option<Result<(), Shut>>,
}

impl Health {
    /// Nothing is known: look at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { open: false, failures: 0, due: now, looking: false, told: None }
    }

    /// When to look at it.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.looking).then_some(self.due)
    }

    /// A look is under way.
    pub(super) fn looking(&mut self) {
        self.looking = true;
    }

    /// Whether it takes requests.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// A turn came to its end.
    pub(super) fn worked(&mut self) {
        self.failures = 0;
    }

    /// A look came to its end; whether there is news.
    pub(super) fn looked(&mut self, shut: Option<&Shut>, now: Instant) -> bool {
        self.looking = false;
        let before = self.told.clone();
        match shut {
            // It was sent away meanwhile: the pause counts.
            None if self.due > now => return false,
            None => {
                self.open = true;
                self.due = now + AGAIN;
            }
            Some(shut) => {
                self.shut(shut, now);
            }
        }
        self.told = Some(shut.cloned().map_or(Ok(()), Err));
        self.told != before
    }

    /// It takes nothing: for how long.
    pub(super) fn shut(&mut self, shut: &Shut, now: Instant) -> Duration {
        let step = PAUSES.get(self.failures).or(PAUSES.last()).copied().unwrap_or(AGAIN);
        // Several requests that were under way fail together, and count as one.
        let first = std::mem::replace(&mut self.open, false) || self.due <= now;
        self.told = Some(Err(shut.clone()));
        let own = || step + clock::jitter(step / 4);
        // A wish for no pause, or for one that is over, is none.
        let until = now + shut.wish.map_or_else(own, |wish| wish.max(LEAST));
        if first {
            self.failures += 1;
            self.due = until;
        } else {
            self.due = self.due.max(until);
        }
        self.due.duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shut(wish: Option<u64>) -> Shut {
        let wish = wish.map(Duration::from_secs);
        Shut { reason: "no".into(), wish, remedy: None }
    }

    /// F20: a server that is away for an hour is neither pestered nor forgotten.
    #[test]
    fn an_hour_of_absence_is_told_all_the_time_and_ends_by_itself() {
        let start = clock::now();
        let hour = Duration::from_secs(3600);
        let mut health = Health::new(start);
        health.looking();
        health.looked(None, start);
        let (mut now, mut looks) = (start, 0);
        while now < start + hour {
            now = health.due().unwrap();
            health.looking();
            let news = health.looked(Some(&shut(None)), now);
            assert_eq!((news, health.is_open()), (looks == 0, false), "told once, and shut since");
            looks += 1;
        }
        assert!((48..80).contains(&looks), "{looks} looks");
        health.looking();
        let other = Shut { reason: "another".into(), ..shut(None) };
        assert!(health.looked(Some(&other), now), "another reason is news");
        let back = now;
        now = health.due().unwrap();
        health.looking();
        assert!(health.looked(None, now) && health.is_open());
        assert!(now - back <= Duration::from_secs(75));
    }

    #[test]
    fn its_wish_is_obeyed_and_pauses_grow_until_a_turn_works() {
        let now = clock::now();
        let mut health = Health::new(now);
        assert_eq!(health.due(), Some(now));
        health.looking();
        assert_eq!(health.due(), None);
        assert!(health.looked(None, now) && health.is_open());
        assert_eq!(health.shut(&shut(Some(40)), now), Duration::from_secs(40));
        assert!(!health.is_open());
        assert!(!health.looked(None, now), "a look that was under way changes nothing");
        assert!(!health.is_open());
        let mut at = now + Duration::from_secs(40);
        for step in [2, 5, 15, 60, 60] {
            assert!(health.looked(None, at) && health.is_open());
            let pause = health.shut(&shut(None), at);
            // Of those that fail together only the first counts.
            assert!(health.shut(&shut(None), at) >= pause);
            assert!(pause >= Duration::from_secs(step) && pause <= Duration::from_secs(step) * 2);
            at = health.due().unwrap();
        }
        health.looked(None, at);
        assert_eq!(health.shut(&shut(Some(0)), at), Duration::from_secs(1), "not at once");
        at = health.due().unwrap();
        health.worked();
        health.looked(None, at);
        assert!(health.shut(&shut(None), at) < Duration::from_secs(12));
    }
}
