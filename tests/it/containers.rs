//! Processes that cannot see one another: a supervisor in a container, tools and agents beside it, one state directory.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::gateway::{Gateway, stderr};
use crate::socket_agent::{Lines, terminal, typed};

const CONFIG: &str = "[platform.local]\n[agent.mine]\nkind = \"socket\"\n";
const NAMESPACE: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// A gateway that is process 1 among its own; `None`: none can be made here.
fn contained() -> Option<Gateway> {
    let mut possible = Command::new("unshare");
    possible.args(NAMESPACE).arg("true").stderr(Stdio::null());
    if !possible.status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no process can be number 1 here");
        return None;
    }
    let mut gateway = Gateway::new(CONFIG);
    let mut command = Command::new("unshare");
    let supervise = gateway.command();
    command.args(NAMESPACE).arg(supervise.get_program()).args(supervise.get_args());
    gateway.start_as(command);
    assert_eq!(gateway.status().unwrap()["pid"], 1);
    gateway.wait_ready("local");
    Some(gateway)
}

/// Ends with the test.
struct Successor(Child);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_agent_and_a_terminal_of_another_container_are_let_in() {
    let Some(gateway) = contained() else { return };
    let mut terminal = terminal(&gateway, "home");
    typed(&mut terminal, "one");
    let mut agent = Lines::ready(&gateway);
    let event = agent.event();
    assert_eq!(event["params"]["message_id"], "one");
    agent.acknowledge(&event);
}

#[test]
fn one_of_another_container_is_replaced_when_it_is_asked() {
    let Some(gateway) = contained() else { return };
    let mut successor = gateway.command();
    successor.args(["supervise", "--replace"]);
    let mut successor = Successor(successor.stderr(Stdio::null()).spawn().unwrap());
    let pid = u64::from(successor.0.id());
    gateway.until("the successor serves", || {
        gateway.status().filter(|status| status["pid"] == json!(pid))
    });
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    assert!(successor.0.wait().unwrap().success());
}

#[test]
fn what_cannot_be_killed_from_here_is_told_with_what_can_be_done() {
    let Some(gateway) = contained() else { return };
    let outside = gateway.run(&["ctl", "kill", "--force"]);
    assert_eq!(outside.status.code(), Some(71), "{}", stderr(&outside));
    let said = stderr(&outside);
    assert!(
        said.contains("nothing was signalled") && said.contains("hermes-gw ctl kill"),
        "{said}"
    );

    // Among its own it is process 1, which no signal ends: it is asked.
    let outer = gateway.pid();
    let children = format!("/proc/{outer}/task/{outer}/children");
    let first = std::fs::read_to_string(children).unwrap().trim().to_owned();
    let mut inside = Command::new("nsenter");
    let tool = gateway.command();
    inside.args(["--target", &first, "--pid", "--mount"]).arg(tool.get_program());
    // With process 1 the kernel ends all that is among its own, this command as well.
    inside.args(tool.get_args()).args(["ctl", "kill", "--force"]).output().unwrap();
    gateway.until("it has left", || gateway.status().is_none().then_some(()));
}
