//! Every cell of the table in `lifecycle`, once.

use super::*;

fn start() -> Instant {
    crate::clock::now()
}

const SETTINGS: fn() -> Settings = Settings::default;
const G1: Generation = Generation(1);
const G2: Generation = Generation(2);

fn held() -> Verdict {
    Verdict::Held { reason: "bad secret".into(), remedy: "mend it".into() }
}

/// A worker in each phase, generation 1.
fn down(now: Instant) -> Lifecycle {
    Lifecycle::new(SETTINGS(), Generation(0), 1, now)
}

fn starting(now: Instant) -> Lifecycle {
    let mut life = down(now);
    assert_eq!(life.on(Input::Start, now), Some(Action::Spawn(G1)));
    life
}

fn ready(now: Instant) -> Lifecycle {
    let mut life = starting(now);
    assert_eq!(life.on(Input::Ready(G1), now), None);
    life
}

fn stopping(now: Instant) -> Lifecycle {
    let mut life = ready(now);
    assert_eq!(life.on(Input::Kill(Force::No), now), Some(Action::End(G1)));
    life
}

fn in_backoff(now: Instant) -> Lifecycle {
    let mut life = starting(now);
    life.on(Input::Exited(G1, Verdict::Counted), now);
    life.on(Input::Exited(G2, Verdict::Counted), now);
    assert_eq!(life.phase().word(), "backoff");
    life
}

fn is_held(now: Instant) -> Lifecycle {
    let mut life = starting(now);
    assert_eq!(life.on(Input::Exited(G1, held()), now), None);
    life
}

fn check(mut life: Lifecycle, input: Input, action: Option<Action>, word: &str, wanted: Wanted) {
    let now = life.since();
    let before = life.phase().word();
    let told = format!("{before} + {input:?}");
    assert_eq!(life.on(input, now), action, "{told}");
    assert_eq!((life.phase().word(), life.wanted()), (word, wanted), "{told}");
}

#[test]
fn every_command_in_every_phase() {
    use Force::{No, Yes};
    use Wanted::{Down, Up};
    let now = start();
    let next = |life: &Lifecycle| Some(Action::Spawn(Generation(life.generation().0 + 1)));
    for force in [No, Yes] {
        check(down(now), Input::Restart(force), Some(Action::Spawn(G1)), "starting", Up);
        check(down(now), Input::Kill(force), None, "down", Down);
        let life = in_backoff(now);
        let spawn = next(&life);
        check(life, Input::Restart(force), spawn, "starting", Up);
        check(in_backoff(now), Input::Kill(force), None, "down", Down);
        check(is_held(now), Input::Restart(force), Some(Action::Spawn(G2)), "starting", Up);
        check(is_held(now), Input::Kill(force), None, "down", Down);
    }
    for life in [starting(now), ready(now)] {
        check(life.clone(), Input::Restart(No), Some(Action::End(G1)), "stopping", Up);
        check(life.clone(), Input::Restart(Yes), Some(Action::Kill(G1)), "stopping", Up);
        check(life.clone(), Input::Kill(No), Some(Action::End(G1)), "stopping", Down);
        check(life, Input::Kill(Yes), Some(Action::Kill(G1)), "stopping", Down);
    }
    check(stopping(now), Input::Restart(No), None, "stopping", Up);
    check(stopping(now), Input::Restart(Yes), Some(Action::Kill(G1)), "stopping", Up);
    check(stopping(now), Input::Kill(No), None, "stopping", Down);
    check(stopping(now), Input::Kill(Yes), Some(Action::Kill(G1)), "stopping", Down);

    check(down(now), Input::Start, Some(Action::Spawn(G1)), "starting", Up);
    check(starting(now), Input::Start, None, "starting", Up);
    check(ready(now), Input::Start, None, "ready", Up);
    check(stopping(now), Input::Start, None, "stopping", Up);
    check(in_backoff(now), Input::Start, None, "backoff", Up);
    check(is_held(now), Input::Start, None, "held", Up);
}

/// F44
#[test]
fn every_sign_of_the_child_in_every_phase() {
    use Wanted::{Down, Up};
    let now = start();
    check(starting(now), Input::Ready(G1), None, "ready", Up);
    check(ready(now), Input::Ready(G1), None, "ready", Up);
    check(stopping(now), Input::Ready(G1), None, "stopping", Down);
    check(ready(now), Input::Stale(G1), Some(Action::End(G1)), "stopping", Up);
    check(starting(now), Input::Stale(G1), Some(Action::End(G1)), "stopping", Up);
    check(stopping(now), Input::Stale(G1), None, "stopping", Down);
    check(stopping(now), Input::Fallen(G1), Some(Action::Kill(G1)), "stopping", Down);
    for life in [down(now), in_backoff(now), is_held(now)] {
        let (word, wanted, of) = (life.phase().word(), life.wanted(), life.generation());
        check(life.clone(), Input::Ready(of), None, word, wanted);
        check(life.clone(), Input::Stale(of), None, word, wanted);
        check(life.clone(), Input::Fallen(of), None, word, wanted);
        check(life, Input::Exited(of, Verdict::Counted), None, word, wanted);
    }
    for life in [starting(now), ready(now)] {
        let crash = Input::Exited(G1, Verdict::Counted);
        check(life.clone(), crash, Some(Action::Spawn(G2)), "starting", Up);
        let outage = Input::Exited(G1, Verdict::Uncounted);
        check(life.clone(), outage, Some(Action::Spawn(G2)), "starting", Up);
        check(life.clone(), Input::Fallen(G1), Some(Action::Kill(G1)), "stopping", Up);
        check(life, Input::Exited(G1, held()), None, "held", Up);
    }
    check(starting(now), Input::SpawnFailed(G1, held()), None, "held", Up);
    check(stopping(now), Input::Exited(G1, Verdict::Counted), None, "down", Down);
    let mut restarting = ready(now);
    restarting.on(Input::Restart(Force::No), now);
    check(restarting, Input::Exited(G1, held()), Some(Action::Spawn(G2)), "starting", Up);
}

#[test]
fn every_deadline() {
    let now = start();
    let settings = SETTINGS();
    let mut life = starting(now);
    assert_eq!(life.on(Input::Tick, now), None, "not yet");
    assert_eq!(life.on(Input::Tick, now + settings.start), Some(Action::End(G1)));
    let until = now + settings.start + settings.grace;
    assert_eq!(life.on(Input::Tick, until), Some(Action::Kill(G1)));
    assert_eq!(life.on(Input::Tick, until + settings.kill), Some(Action::Kill(G1)), "again");
    assert_eq!(life.on(Input::Exited(G1, held()), until), Some(Action::Spawn(G2)), "slow: counted");

    let mut life = starting(now);
    life.on(Input::Working(G1), now);
    assert_eq!(life.deadline(), None, "an outage of the platform is no slow start");

    let mut life = in_backoff(now);
    let due = life.deadline().unwrap();
    assert!(matches!(life.on(Input::Tick, due), Some(Action::Spawn(_))));
    let mut life = is_held(now);
    assert_eq!(life.on(Input::Tick, now), None, "not at once");
    assert_eq!(life.on(Input::Tick, now + settings.first_probe), Some(Action::Spawn(G2)));
    assert_eq!((down(now).deadline(), ready(now).deadline()), (None, None));
}

/// F51
#[test]
fn a_late_sign_of_a_former_generation_changes_nothing() {
    let now = start();
    let mut life = ready(now);
    life.on(Input::Restart(Force::Yes), now);
    assert_eq!(life.on(Input::Exited(G1, Verdict::Counted), now), Some(Action::Spawn(G2)));
    let before = life.phase().clone();
    for late in [
        Input::Exited(G1, held()),
        Input::Ready(G1),
        Input::Stale(G1),
        Input::Working(G1),
        Input::SpawnFailed(G1, held()),
    ] {
        assert_eq!(life.on(late, now), None);
        assert_eq!(life.phase(), &before);
    }
}

/// F49: a platform may refuse what it takes a moment later, and needs no person for that.
#[test]
fn what_a_person_must_mend_is_looked_at_soon_and_then_ever_more_slowly() {
    let mut now = start();
    let mut life = starting(now);
    let held_for = |life: &mut Lifecycle, now: &mut Instant| {
        assert_eq!(life.on(Input::Exited(life.generation(), held()), *now), None);
        let pause = life.deadline().unwrap() - *now;
        *now += pause;
        let again = life.is_held_again();
        assert!(matches!(life.on(Input::Tick, *now), Some(Action::Spawn(_))));
        (pause.as_secs(), again)
    };
    let found: Vec<_> = (0..12).map(|_| held_for(&mut life, &mut now)).collect();
    let seconds: Vec<_> = found.iter().map(|(seconds, _)| *seconds).collect();
    assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800, 1800]);
    assert!(!found[0].1 && found[1..].iter().all(|(_, again)| *again), "{found:?}");

    let mut other = life.clone();
    other.on(Input::Restart(Force::Yes), now);
    other.on(Input::Exited(other.generation(), held()), now);
    other.on(Input::Exited(other.generation(), held()), now);
    other.on(Input::Restart(Force::No), now);
    assert_eq!(held_for(&mut other, &mut now).0, 5, "a person acted");
    life.on(Input::Ready(life.generation()), now);
    now += SETTINGS().stable;
    assert_eq!(held_for(&mut life, &mut now).0, 5, "it was well");

    // What has no process is for the supervisor itself to look at.
    let mut life = starting(now);
    life.on(Input::SpawnFailed(G1, held()), now);
    assert_eq!(life.deadline(), Some(now + SETTINGS().probe));
}

/// F48
#[test]
fn a_crash_loop_ends_held_and_a_stable_run_is_forgiven() {
    let now = start();
    let mut life = starting(now);
    let mut at = now;
    let mut starts = 1;
    while life.phase().word() != "held" {
        at = life.deadline().filter(|_| life.phase().word() == "backoff").unwrap_or(at);
        if life.phase().word() == "backoff" {
            life.on(Input::Tick, at);
            starts += 1;
        } else {
            let of = life.generation();
            if life.on(Input::Exited(of, Verdict::Counted), at).is_some() {
                starts += 1;
            }
        }
    }
    assert!(starts <= SETTINGS().intensity + 1, "{starts} starts");
    // It may be well by now; if it is not, it is held again.
    assert_eq!(life.deadline(), Some(at + SETTINGS().crash_probe));
    assert!(SETTINGS().crash_probe <= Duration::from_secs(120));
    at += SETTINGS().crash_probe;
    assert!(matches!(life.on(Input::Tick, at), Some(Action::Spawn(_))));
    let mut well = life.clone();
    assert_eq!(life.on(Input::Exited(life.generation(), Verdict::Counted), at), None);
    assert_eq!(life.phase().word(), "held");
    well.on(Input::Ready(well.generation()), at);
    at += SETTINGS().stable;
    let crash = Input::Exited(well.generation(), Verdict::Counted);
    assert!(matches!(well.on(crash, at), Some(Action::Spawn(_))), "forgiven");

    let mut life = ready(now);
    let mut at = now;
    for _ in 0..50 {
        at += SETTINGS().stable;
        let of = life.generation();
        assert!(life.on(Input::Exited(of, Verdict::Counted), at).is_some(), "at once, each time");
        life.on(Input::Ready(life.generation()), at);
    }
}

/// F48: where one login after the other would be too many, each start has its time, and no person has to act.
#[test]
fn a_paced_worker_waits_for_its_turn_and_for_nothing_else() {
    use Force::{No, Yes};
    let now = start();
    let due = now + Duration::from_secs(60);
    let paced = |mut life: Lifecycle| {
        life.pace(Some(due));
        life
    };
    let is_paced =
        |life: &Lifecycle| life.phase() == &Phase::Backoff { until: due, wait: Wait::Paced };
    for (mut life, input) in [
        (paced(down(now)), Input::Start),
        (paced(down(now)), Input::Restart(No)),
        (paced(ready(now)), Input::Exited(G1, Verdict::Counted)),
        (paced(ready(now)), Input::Exited(G1, Verdict::Uncounted)),
        (paced(in_backoff(now)), Input::Restart(Yes)),
        (paced(is_held(now)), Input::Restart(No)),
    ] {
        let generation = life.generation();
        assert_eq!(life.on(input, now), None);
        assert!(is_paced(&life) && life.wanted() == Wanted::Up, "{life:?}");
        assert_eq!(life.generation(), generation, "none was made");
        assert_eq!(life.on(Input::Tick, now + Duration::from_secs(59)), None);
        assert!(matches!(life.on(Input::Tick, due), Some(Action::Spawn(_))));
    }
    let mut life = paced(ready(now));
    life.on(Input::Exited(G1, Verdict::Counted), now);
    // A person acts.
    life.pace(None);
    assert_eq!(life.on(Input::Restart(No), now), Some(Action::Spawn(G2)));
    let mut life = paced(ready(now));
    assert_eq!(life.on(Input::Exited(G1, held()), now), None);
    assert_eq!(life.phase().word(), "held", "what a person must mend");
}

#[test]
fn what_cannot_be_made_yet_is_tried_again_and_counts_for_nothing() {
    let mut now = start();
    let mut life = starting(now);
    for _ in 0..50 {
        let after = Duration::from_secs(5);
        let not_yet = Input::SpawnFailed(life.generation(), Verdict::NotYet(after));
        assert_eq!(life.on(not_yet, now), None);
        assert_eq!(life.phase(), &Phase::Backoff { until: now + after, wait: Wait::NotYet });
        now += after;
        assert!(matches!(life.on(Input::Tick, now), Some(Action::Spawn(_))));
    }
    let crash = Input::Exited(life.generation(), Verdict::Counted);
    assert!(matches!(life.on(crash, now), Some(Action::Spawn(_))), "the first one, at once");
}

/// F93
#[test]
fn an_outage_never_uses_up_the_crash_budget() {
    let mut now = start();
    let mut life = starting(now);
    for _ in 0..500 {
        let of = life.generation();
        life.on(Input::Exited(of, Verdict::Uncounted), now);
        if let Some(due) = life.deadline().filter(|_| life.phase().word() == "backoff") {
            now = due;
            life.on(Input::Tick, now);
        }
        assert_eq!(life.phase().word(), "starting");
    }
}

#[test]
fn what_a_dead_worker_left_behind_is_waited_for() {
    let now = start();
    let mut life = ready(now);
    assert_eq!(life.on(Input::Fallen(G1), now), Some(Action::Kill(G1)));
    let again = now + SETTINGS().kill;
    assert_eq!(life.on(Input::Tick, again), Some(Action::Kill(G1)), "and killed again");
    assert_eq!(life.on(Input::Exited(G1, Verdict::Counted), again), Some(Action::Spawn(G2)));

    let mut life = ready(now);
    life.on(Input::Fallen(G1), now);
    assert_eq!(life.on(Input::Exited(G1, held()), now), None);
    assert_eq!(life.phase().word(), "held", "its own exit code still decides");

    let mut life = ready(now);
    life.on(Input::Fallen(G1), now);
    life.on(Input::Kill(Force::No), now);
    assert_eq!(life.on(Input::Exited(G1, Verdict::Counted), now), None);
    assert_eq!(life.phase(), &Phase::Down);
}

#[test]
fn another_protocol_is_replaced_once_and_then_held() {
    let now = start();
    let verdict = Verdict::HeldIfAgain { reason: "r".into(), remedy: "m".into() };
    let mut life = starting(now);
    assert_eq!(life.on(Input::Exited(G1, verdict.clone()), now), Some(Action::Spawn(G2)));
    assert_eq!(life.on(Input::Exited(G2, verdict.clone()), now), None);
    assert_eq!(life.phase().word(), "held");
    let third = Generation(3);
    assert_eq!(life.on(Input::Restart(Force::No), now), Some(Action::Spawn(third)));
    let fourth = Some(Action::Spawn(Generation(4)));
    assert_eq!(life.on(Input::Exited(third, verdict), now), fourth, "forgotten by the operator");
}
