//! The first thing that a new user sees.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::gateway::{Gateway, PROGRAM, stderr, stdout};

fn piped(mut command: Command, text: &str) -> std::process::Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have left by now, without reading.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn try_answers_a_piped_line_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("try").env("TMPDIR", dir.path()).env("HERMES_GW_CONFIG", "/nowhere");
    let output = piped(command, "hello\n\nsecond line\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "hello\nsecond line\n");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the state is gone");
}

#[test]
fn chat_goes_through_the_running_gateway_and_outlives_its_worker() {
    let gateway = Gateway::running("[platform.local]\n[agent.echo]\n");
    let mut command = gateway.command();
    command.arg("chat");
    let output = piped(command, "over the whole line\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "over the whole line\n");
    assert_eq!(gateway.instance("local")["store"]["accepted"], 1);
    gateway.wait("echo", "it is settled", |i| i["gate"]["acknowledged"] == 1);

    let mut command = gateway.command();
    let mut child = command
        .arg("chat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut typed = child.stdin.take().unwrap();
    typed.write_all(b"before\n").unwrap();
    gateway.wait("local", "heard", |i| i["store"]["accepted"] == 2);
    let restarted = gateway.run(&["ctl", "restart", "local", "--force"]);
    assert!(restarted.status.success(), "{}", stderr(&restarted));
    typed.write_all(b"after\n").unwrap();
    drop(typed);
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "before\nafter\n", "{}", stderr(&output));
}

#[test]
fn chat_without_a_gateway_says_so() {
    let gateway = Gateway::new("[platform.local]\n[agent.echo]\n");
    let mut command = gateway.command();
    command.arg("chat");
    let output = piped(command, "hello\n");
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains("none runs there"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: start one"), "{}", stderr(&output));
}
