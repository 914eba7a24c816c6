//! What is asked of a supervisor that is on its way out (F66).

use crate::gateway::{Gateway, is_alive, signal, stderr};
use crate::socket_agent::{Lines, terminal, typed};

const CONFIG: &str = "[gateway]\nstop_s = 8\n[platform.local]\n[agent.mine]\nkind = \"socket\"\n";

/// The processor time that a process has used, in hundredths of a second.
fn used(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let words = stat.rsplit_once(") ").unwrap().1.split(' ');
    words.skip(11).take(2).map(|word| word.parse::<u64>().unwrap()).sum()
}

#[test]
fn whatever_is_asked_meanwhile_it_only_waits_for_what_is_under_way() {
    let mut gateway = Gateway::running(CONFIG);
    let mut agent = Lines::ready(&gateway);
    typed(&mut terminal(&gateway, "home"), "a");
    // It is not acknowledged, so that the agent's share of the stop is used up.
    agent.event();
    let mut events = gateway.events();
    let pid = gateway.pid();
    signal(pid.into(), "TERM");
    events.wait(|event| event["event"] == "supervisor" && event["now"] == "stopping");
    let before = used(pid);
    signal(pid.into(), "HUP");
    for command in [&["reload"][..], &["restart"], &["restart", "--force", "mine"], &["upgrade"]] {
        let told = gateway.run(&[&["ctl"], command].concat());
        assert_eq!(told.status.code(), Some(75), "{command:?}: {}", stderr(&told));
    }
    events.wait(|event| event["event"] == "phase" && event["now"] == "stopping");
    let after = used(pid);
    assert_eq!(gateway.left(), Some(0));
    assert!(!gateway.log().contains("did not run"), "{}", gateway.log());
    assert!(after - before < 100, "it was busy for {} ms", (after - before) * 10);
}

/// A program that hangs in its self-check leaves with the supervisor, and with what it has started.
#[test]
fn a_program_that_was_asked_whether_it_could_take_over_leaves_too() {
    let mut gateway = Gateway::running(CONFIG);
    gateway.wait_ready("local");
    let hangs = crate::upgrade::script(&gateway, "hangs", crate::upgrade::HANGS);
    let mut command = gateway.command();
    command.args(["ctl", "upgrade", "--program"]).arg(hangs).stderr(std::process::Stdio::null());
    let mut asking = command.spawn().unwrap();
    let pids = crate::upgrade::pids_of(&gateway, "hangs");
    signal(gateway.pid().into(), "TERM");
    assert_eq!(gateway.left(), Some(0));
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    assert_eq!(asking.wait().unwrap().code(), Some(75));
}
