//! A system that makes no further process and no further thread: a limit of the service, of the container or of
//! the user (F69).

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::gateway::{Gateway, PATIENCE, signal};
use crate::terminal::Terminal;
use crate::webhook_agent::{SECRET, receiver};

/// A user whom nothing else belongs to.
const NOBODY_ELSE: u32 = 61_234;

/// A gateway whose processes the limits of users hold for, as they do not for root.
fn limitable(gateway: &mut Gateway) {
    if !nix::unistd::geteuid().is_root() {
        return gateway.start();
    }
    gateway.start_as_user(NOBODY_ELSE);
}

/// From now on `pid` may make no process and no thread, or may again.
fn crowd(pid: u64, is_crowded: bool) {
    let most = if is_crowded { "1:" } else { "1000:" };
    let mut command = Command::new("prlimit");
    command.args([format!("--pid={pid}"), format!("--nproc={most}")]);
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY_ELSE).gid(NOBODY_ELSE);
    }
    assert!(command.status().unwrap().success());
}

#[test]
fn a_process_that_cannot_be_made_is_no_death_and_no_start() {
    let mut gateway = Gateway::new(
        "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"http://127.0.0.1:9\"\n\
         [platform.local]\n[agent.echo]\n",
    );
    std::fs::write(gateway.path("token"), "7700:token").unwrap();
    limitable(&mut gateway);
    let before = gateway.wait("telegram", "is at work", |i| i["outside"] == "down");
    crowd(gateway.pid().into(), true);
    signal(before["pid"].as_u64().unwrap(), "KILL");
    let told = gateway.wait("telegram", "waits", |i| {
        i["generation"].as_u64() > Some(before["generation"].as_u64().unwrap() + 2)
    });
    assert_eq!(told["phase"], "backoff", "{told}");
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("no process can be made for it: "), "{told}");
    let remedy = told["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains("TasksMax=") && remedy.contains("ulimit -u"), "{told}");
    let exits = told["exits"].as_array().unwrap();
    assert_eq!(exits.len(), 1, "only that of the one that was killed: {told}");
    let starts = std::fs::read(gateway.state().join("starts.json")).unwrap();
    let starts: serde_json::Value = serde_json::from_slice(&starts).unwrap();
    assert_eq!(starts["telegram"].as_array().unwrap().len(), 1, "{starts}");
    let log = gateway.log();
    assert_eq!(log.matches("no process can be made for it").count(), 1, "{log}");
    crowd(gateway.pid().into(), false);
    gateway.wait("telegram", "is at work again", |i| i["outside"] == "down" && i["pid"].is_u64());
    assert_eq!(gateway.instance("telegram")["restarts"], 1);
}

#[test]
fn a_worker_that_may_make_no_thread_looks_up_names_all_the_same() {
    let (url, posted) = receiver(&[]);
    let url = url.replace("127.0.0.1", "localhost");
    let mut gateway = Gateway::new(&format!(
        "[platform.local]\n[agent.flow]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret_file = \"key\"\n"
    ));
    std::fs::write(gateway.path("key"), SECRET).unwrap();
    limitable(&mut gateway);
    let before = gateway.wait_ready("flow");
    crowd(before["pid"].as_u64().unwrap(), true);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("t1", "ping");
    assert_eq!(posted.recv_timeout(PATIENCE).unwrap().body["data"]["text"], "ping");
    let after = gateway.wait("flow", "settled", |i| i["gate"]["acknowledged"] == 1);
    assert_eq!(after["pid"], before["pid"], "{after}");
}
