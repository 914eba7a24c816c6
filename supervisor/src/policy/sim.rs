//! A world for the lifecycle: virtual time, scripted children, operators who interfere at any moment.
//!
//! Every world comes from a seed. Children start slowly or not at all, crash, hang, ignore polite
//! requests, die while they are being ended, and speak up after they were replaced. What must hold in
//! all of them is checked at every step; a failure names its seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use protocol::id::Generation;

use super::lifecycle::{Action, Force, Input, Lifecycle, Phase, Settings, Verdict, Wanted};
use super::liveness::Liveness;

const WORLDS: u64 = 10_000;
const STALE: Duration = Duration::from_secs(16);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// `splitmix64`.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.roll(most + 1))
    }
}

/// What will happen next to a child, or what it will say.
#[derive(Clone, Debug)]
enum Coming {
    Working,
    Ready,
    Beat,
    Exit(Verdict),
}

/// A process, from its making to its end.
#[derive(Debug)]
struct Child {
    hears_term: bool,
    /// Until then no signal ends it.
    unkillable: Duration,
    hung: bool,
    /// So long after its end something that it started is still there.
    remains: Duration,
}

struct World {
    seed: u64,
    dice: Dice,
    now: Instant,
    settings: Settings,
    life: Lifecycle,
    living: BTreeMap<Generation, Child>,
    coming: Vec<(Instant, Generation, Coming)>,
    liveness: Option<Liveness>,
    spawned: u64,
    /// No start before then.
    paced: Option<Instant>,
    /// Children of this world are well from now on.
    calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = crate::clock::now();
        let settings = Settings::default();
        Self {
            seed,
            dice: Dice(seed),
            now,
            settings,
            life: Lifecycle::new(settings, Generation(0), seed, now),
            living: BTreeMap::new(),
            coming: Vec::new(),
            liveness: None,
            spawned: 0,
            paced: None,
            calm: false,
        }
    }

    fn feed(&mut self, input: Input) {
        let former = match &input {
            Input::Working(of) | Input::Ready(of) | Input::Stale(of) => Some(*of),
            Input::Fallen(of) | Input::Exited(of, _) | Input::SpawnFailed(of, _) => Some(*of),
            _ => None,
        };
        let late = former.is_some_and(|of| of != self.life.generation());
        let before = (self.life.phase().clone(), self.life.wanted(), self.life.generation());
        let action = self.life.on(input, self.now);
        if late {
            let after = (self.life.phase().clone(), self.life.wanted(), self.life.generation());
            assert_eq!((action, &after), (None, &before), "seed {}: a late message", self.seed);
        }
        match action {
            Some(Action::Spawn(generation)) => self.spawn(generation),
            Some(Action::End(generation)) => self.end(generation),
            Some(Action::Kill(generation)) => self.kill(generation),
            None => {}
        }
        if let Some(due) = self.life.deadline() {
            let far = self.now + self.settings.probe + self.settings.backoff.cap;
            assert!(due <= far, "seed {}: a deadline beyond everything", self.seed);
        }
    }

    fn spawn(&mut self, generation: Generation) {
        assert!(self.living.is_empty(), "seed {}: two at once: {:?}", self.seed, self.living);
        assert_eq!(self.life.wanted(), Wanted::Up, "seed {}: nobody wants it", self.seed);
        let is_due = self.paced.is_none_or(|due| due <= self.now);
        assert!(is_due, "seed {}: started out of its turn", self.seed);
        let pace = (self.dice.roll(4) == 0).then(|| self.dice.millis(60_000));
        self.pace(pace);
        self.spawned += 1;
        self.liveness = None;
        let trouble = if self.calm { 9 } else { self.dice.roll(13) };
        let child = Child {
            hears_term: trouble != 0,
            unkillable: if trouble == 1 { self.dice.millis(20_000) } else { Duration::ZERO },
            hung: trouble == 2,
            remains: if trouble == 7 { self.dice.millis(20_000) } else { Duration::ZERO },
        };
        if trouble == 3 {
            let verdict = self.verdict();
            self.after(Duration::ZERO, generation, Coming::Exit(verdict));
        }
        if trouble == 4 || trouble == 7 {
            let (verdict, when) = (self.verdict(), self.dice.millis(60_000));
            self.after(when, generation, Coming::Exit(verdict));
        }
        // Some never get to work at all.
        if trouble != 5 {
            let slow = if trouble == 6 { 120_000 } else { 200 };
            let when = self.dice.millis(slow);
            self.after(when, generation, Coming::Working);
            let ready = when + self.dice.millis(slow);
            self.after(ready, generation, Coming::Ready);
        }
        self.living.insert(generation, child);
    }

    fn pace(&mut self, wait: Option<Duration>) {
        self.paced = wait.map(|wait| self.now + wait);
        self.life.pace(self.paced);
    }

    fn end(&mut self, generation: Generation) {
        let Some(child) = self.living.get(&generation) else { return };
        if child.hears_term && !child.hung {
            let takes = self.dice.millis(if self.calm { 100 } else { 8_000 });
            self.after(takes, generation, Coming::Exit(Verdict::Counted));
        }
    }

    fn kill(&mut self, generation: Generation) {
        let Some(child) = self.living.get(&generation) else { return };
        let takes = child.unkillable + self.dice.millis(5);
        self.after(takes, generation, Coming::Exit(Verdict::Counted));
    }

    fn verdict(&mut self) -> Verdict {
        match self.dice.roll(6) {
            5 => Verdict::NotYet(self.dice.millis(5_000)),
            0 => Verdict::Uncounted,
            1 => Verdict::HeldIfAgain { reason: "r".into(), remedy: "m".into() },
            2 => Verdict::Held { reason: "r".into(), remedy: "m".into() },
            _ => Verdict::Counted,
        }
    }

    fn after(&mut self, delay: Duration, of: Generation, what: Coming) {
        self.coming.push((self.now + delay, of, what));
    }

    /// Goes to the next moment at which anything happens, at most `most` ahead.
    fn step(&mut self, most: Duration) {
        let stale = self.liveness.as_ref().map(Liveness::deadline);
        let next = self.coming.iter().map(|(at, ..)| *at).chain(self.life.deadline()).chain(stale);
        let next = next.min().unwrap_or(self.now + most).min(self.now + most);
        self.now = self.now.max(next);
        let mut due = Vec::new();
        self.coming.retain(|(at, of, what)| {
            if *at <= self.now {
                due.push((*of, what.clone()));
            }
            *at > self.now
        });
        for (of, what) in due {
            self.happen(of, what);
        }
        if self.liveness.as_ref().is_some_and(|liveness| liveness.deadline() <= self.now) {
            self.liveness = None;
            self.feed(Input::Stale(self.life.generation()));
        }
        self.feed(Input::Tick);
    }

    fn happen(&mut self, of: Generation, what: Coming) {
        let alive = self.living.get(&of).is_some_and(|child| !child.hung);
        match what {
            Coming::Exit(verdict) => {
                let remains =
                    self.living.get_mut(&of).map(|child| std::mem::take(&mut child.remains));
                if let Some(remains) = remains.filter(|remains| !remains.is_zero()) {
                    self.hang(of);
                    self.feed(Input::Fallen(of));
                    return self.after(remains, of, Coming::Exit(verdict));
                }
                if self.living.remove(&of).is_some() {
                    self.feed(Input::Exited(of, verdict));
                }
                // Its words may be read after its end.
                if self.dice.roll(4) == 0 {
                    self.feed(Input::Ready(of));
                }
            }
            Coming::Working if alive => {
                self.liveness = Some(Liveness::new(STALE, self.now));
                self.after(HEARTBEAT, of, Coming::Beat);
                self.feed(Input::Working(of));
                if !self.calm && self.dice.roll(10) == 0 {
                    self.hang(of);
                }
            }
            Coming::Ready if alive => self.feed(Input::Ready(of)),
            Coming::Beat if alive => {
                if let Some(liveness) = &mut self.liveness {
                    liveness.beat(self.now);
                }
                self.after(HEARTBEAT, of, Coming::Beat);
            }
            Coming::Working | Coming::Ready | Coming::Beat => {}
        }
    }

    fn hang(&mut self, of: Generation) {
        if let Some(child) = self.living.get_mut(&of) {
            child.hung = true;
        }
    }

    fn operator(&mut self) {
        let force = if self.dice.roll(2) == 0 { Force::No } else { Force::Yes };
        // Whoever acts ends the waiting for a turn.
        self.pace(None);
        let input = match self.dice.roll(8) {
            0 | 1 => Input::Start,
            2..=4 => Input::Restart(force),
            5 | 6 => Input::Kill(force),
            _ => return self.sleep(),
        };
        self.feed(input);
    }

    /// Something of a former generation is heard of only now.
    fn late(&mut self) {
        let newest = self.life.generation().0;
        if newest < 2 {
            return;
        }
        let of = Generation(1 + self.dice.roll(newest - 1));
        let verdict = self.verdict();
        let input = match self.dice.roll(6) {
            5 => Input::Fallen(of),
            0 => Input::Ready(of),
            1 => Input::Working(of),
            2 => Input::Stale(of),
            3 => Input::SpawnFailed(of, verdict),
            _ => Input::Exited(of, verdict),
        };
        self.feed(input);
    }

    /// Everything stands still for a while, and the supervisor notices.
    fn sleep(&mut self) {
        let pause = Duration::from_secs(self.dice.roll(3000));
        self.now += pause;
        for (at, ..) in &mut self.coming {
            *at += pause;
        }
        if let Some(liveness) = &mut self.liveness {
            liveness.discount(pause);
        }
        let before = self.life.phase().word();
        self.feed(Input::Slept(pause));
        self.feed(Input::Tick);
        let after = self.life.phase().word();
        let waited = matches!(before, "backoff" | "held") && after == "starting";
        assert!(before == after || waited, "seed {}: {before} slept, {after}", self.seed);
    }

    /// From now on children are well and nobody interferes: what is wanted must come about.
    fn settle(&mut self) {
        self.calm = true;
        let last = if self.dice.roll(2) == 0 { Wanted::Up } else { Wanted::Down };
        match last {
            Wanted::Up => self.feed(Input::Restart(Force::Yes)),
            Wanted::Down => self.feed(Input::Kill(Force::No)),
        }
        for _ in 0..2_000 {
            let reached = match last {
                Wanted::Up => matches!(self.life.phase(), Phase::Ready { .. }),
                Wanted::Down => self.life.phase() == &Phase::Down && self.living.is_empty(),
            };
            if reached {
                return;
            }
            self.step(Duration::from_secs(60));
        }
        panic!("seed {}: {last:?} never came about: {:?}", self.seed, self.life);
    }
}

#[test]
fn whatever_children_and_operators_do() {
    let first = std::env::var("HERMES_GW_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..WORLDS, |seed| seed..seed + 1);
    let mut spawned = 0;
    for seed in seeds {
        let mut world = World::new(seed);
        world.feed(Input::Start);
        for _ in 0..60 {
            if world.dice.roll(6) == 0 {
                world.operator();
            }
            if world.dice.roll(6) == 0 {
                world.late();
            }
            let most = world.dice.millis(30_000);
            world.step(most);
        }
        world.settle();
        spawned += world.spawned;
    }
    assert!(spawned > WORLDS || first.is_some(), "worlds in which nothing happens prove nothing");
}
