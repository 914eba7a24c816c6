//! The first thing that a new user sees.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::gateway::{Gateway, PROGRAM, signal, stderr, stdout};

fn piped(mut command: Command, text: impl AsRef<[u8]>) -> std::process::Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have left by now, without reading.
    let _ = child.stdin.take().unwrap().write_all(text.as_ref());
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
    assert!(stderr(&output).contains("`hermes-gw supervise` starts one"), "{}", stderr(&output));
}

/// Whoever ends it, and however: the terminal is closed, or somebody wants it gone.
#[test]
fn try_leaves_nothing_behind_when_it_is_told_to_leave() {
    for by in ["INT", "TERM", "HUP"] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("try").env("TMPDIR", dir.path()).env("HERMES_GW_CONFIG", "/nowhere");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut typed = child.stdin.take().unwrap();
        typed.write_all(b"hello\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "hello\n");
        signal(child.id().into(), by);
        child.wait().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{by}");
    }
}

/// What was said and not answered would be waited for, for whoever comes back; here nobody can.
#[test]
fn try_whose_reader_has_left_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["try", "-v"]).env("TMPDIR", dir.path()).env("HERMES_GW_CONFIG", "/nowhere");
    command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(reader);
    child.stdin.take().unwrap().write_all("hello\n".repeat(50).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141), "{}", stderr(&output));
    assert!(stderr(&output).contains("now=\"forced\""), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_is_no_text_is_replaced_and_told_and_nothing_is_dropped() {
    let gateway = Gateway::running("[platform.local]\n[agent.echo]\n");
    gateway.wait_ready("local");
    let mut command = gateway.command();
    command.arg("chat");
    let output = piped(command, b"one\nab\xff\xfecd\r\nthree\n\xff");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "one\nab\u{fffd}\u{fffd}cd\nthree\n\u{fffd}\n");
    let told = stderr(&output);
    assert!(told.contains("line 2 is not UTF-8"), "{told}");
    assert_eq!(told.lines().count(), 1, "once: {told}");
}

/// Its input goes on, so it ends by what became of its output.
fn chat_into(gateway: &Gateway, out: Stdio) -> (std::process::Child, std::process::ChildStdin) {
    let mut command = gateway.command();
    command.arg("chat").stdin(Stdio::piped()).stdout(out).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let typed = child.stdin.take().unwrap();
    (child, typed)
}

#[test]
fn a_reply_that_cannot_be_shown_ends_the_chat_and_waits_for_the_next() {
    let gateway = Gateway::running("[platform.local]\n[agent.echo]\n");
    gateway.wait_ready("local");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (child, mut typed) = chat_into(&gateway, full.into());
    typed.write_all(b"into a full one\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    let why = "write to standard output: No space left on device";
    assert!(stderr(&output).contains(why), "{}", stderr(&output));

    let (reader, writer) = std::io::pipe().unwrap();
    let (child, mut typed) = chat_into(&gateway, writer.into());
    let mut first = String::new();
    BufReader::new(reader).read_line(&mut first).unwrap();
    assert_eq!(first, "into a full one\n", "it was not taken for shown");
    // The reader is gone by now.
    typed.write_all(b"to nobody\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(141), ""));

    let mut command = gateway.command();
    command.arg("chat");
    assert_eq!(stdout(&piped(command, "again\n")), "to nobody\nagain\n");
}

#[test]
fn data_that_cannot_be_written_is_told() {
    let gateway = Gateway::running("[platform.local]\n[agent.echo]\n");
    gateway.wait_ready("local");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = gateway.command();
    let output = command.args(["ctl", "status"]).stdout(full).stderr(Stdio::piped()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    assert!(stderr(&output).contains("write to standard output"), "{}", stderr(&output));

    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = gateway.command();
    let mut events = command.args(["ctl", "events"]).stdout(writer).spawn().unwrap();
    // The command has kept the other end for another child.
    drop(command);
    BufReader::new(reader).read_line(&mut String::new()).unwrap();
    assert!(gateway.run(&["ctl", "restart", "local"]).status.success());
    assert_eq!(events.wait().unwrap().code(), Some(141));
}

#[test]
fn an_instance_that_is_no_terminal_is_told_with_those_that_are() {
    let config = "[platform.local]\n[platform.second]\nkind = \"local\"\n[agent.echo]\n";
    let gateway = Gateway::running(config);
    let told = |verb: &str, name: &str| {
        let mut command = Command::new(PROGRAM);
        if verb == "chat" {
            command = gateway.command();
        } else {
            command.arg("--config").arg(gateway.path("config.toml"));
        }
        command.args([verb, "--instance", name]);
        let output = piped(command, "hello\n");
        assert_eq!(output.status.code(), Some(64), "{verb} {name}: {}", stderr(&output));
        stderr(&output)
    };
    for verb in ["chat", "try"] {
        let near = told(verb, "secnod");
        assert!(near.contains("no instance is called \"secnod\""), "{near}");
        assert!(
            near.contains("hint: did you mean \"second\"? local here: local, second"),
            "{near}"
        );
        let other = told(verb, "echo");
        assert!(other.contains("echo is no local platform"), "{other}");
        assert!(other.contains("hint: local here: local, second"), "{other}");
    }
}
