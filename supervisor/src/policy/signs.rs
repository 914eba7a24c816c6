//! Signs of work that are to be taken back, until it is likely that they are.
//!
//! A platform's worker shows them, and says nothing of it: whoever asks one to take a sign back learns nothing of
//! its death a moment later. So the next worker is asked again for what the last ones were asked for lately, or could
//! not be asked for as there was none. A sign that is gone is what was wanted.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use protocol::content::Busy;

/// Of more, the oldest stay.
const MOST: usize = 256;
/// A worker that lives for so long has done it, or never will.
const DONE: Duration = Duration::from_secs(15);

/// Of one platform instance.
#[derive(Debug, Default)]
pub struct Signs {
    over: VecDeque<Over>,
}

#[derive(Debug)]
struct Over {
    busy: Busy,
    /// When a worker was asked to take it back.
    asked: Option<Instant>,
}

impl Signs {
    /// Somebody works on it from now on.
    pub fn begun(&mut self, busy: &Busy) {
        self.over.retain(|over| over.busy.message_id != busy.message_id);
    }

    /// Nobody does any more, which a worker was told, or there was none.
    pub fn ended(&mut self, busy: &Busy, was_told: bool, now: Instant) {
        self.over.retain(|over| !over.is_done(now));
        if busy.message_id.is_some() {
            let busy = Busy { on: false, ..busy.clone() };
            self.over.push_back(Over { busy, asked: was_told.then_some(now) });
        }
        if self.over.len() > MOST {
            self.over.pop_front();
        }
    }

    /// Another worker is there: what to tell it.
    pub fn again(&mut self, now: Instant) -> Vec<Busy> {
        self.over.retain(|over| !over.is_done(now));
        self.over.iter_mut().for_each(|over| over.asked = Some(now));
        self.over.iter().map(|over| over.busy.clone()).collect()
    }
}

impl Over {
    fn is_done(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.duration_since(asked) >= DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(id: usize) -> Busy {
        let (chat_id, message_id) = ("c".to_owned(), Some(format!("m{id}")));
        Busy { chat_id, thread_id: None, message_id, on: true }
    }

    fn told(signs: &mut Signs, now: Instant) -> Vec<String> {
        let again = signs.again(now);
        assert!(again.iter().all(|busy| !busy.on));
        again.into_iter().filter_map(|busy| busy.message_id).collect()
    }

    #[test]
    fn a_new_worker_is_told_what_the_last_may_not_have_done() {
        let now = crate::clock::now();
        let mut signs = Signs::default();
        signs.ended(&busy(1), true, now);
        signs.ended(&busy(2), false, now);
        signs.ended(&busy(3), false, now);
        signs.ended(&Busy { message_id: None, ..busy(4) }, false, now);
        signs.begun(&busy(3));
        let later = now + DONE.mul_f64(0.9);
        assert_eq!(told(&mut signs, later), ["m1", "m2"]);
        assert_eq!(told(&mut signs, later + DONE / 2), ["m1", "m2"], "nor that one");
        assert!(told(&mut signs, later + 2 * DONE).is_empty());

        signs.ended(&busy(1), true, now);
        signs.ended(&busy(2), false, now);
        assert_eq!(told(&mut signs, now + 2 * DONE), ["m2"]);
        for id in 0..1000 {
            signs.ended(&busy(id), false, now);
        }
        assert_eq!(told(&mut signs, now).len(), MOST);
    }
}
