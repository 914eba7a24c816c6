//! Who asks, waits or listens while one supervisor goes and another comes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use tests::telegram::Telegram;

use crate::gateway::{Gateway, PROGRAM, stderr, stdout};
use crate::upgrade::script;

const CONFIG: &str = "[platform.local]\n[agent.echo]\n";

fn begin(gateway: &Gateway, args: &[&str]) -> Child {
    let mut command = gateway.command();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn who_follows_events_goes_on_with_what_comes_and_is_told_when_nobody_does() {
    let mut gateway = Gateway::running(CONFIG);
    gateway.wait_ready("local");
    let mut follower = begin(&gateway, &["ctl", "events"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut heard = |words: &str| {
        let found = lines.find(|line| line.as_ref().unwrap().contains(words));
        assert!(found.is_some(), "{words}");
    };
    heard("subscribed");
    let told = gateway.run(&["ctl", "upgrade"]);
    assert!(told.status.success(), "{}", stderr(&told));
    heard("subscribed");
    assert!(gateway.run(&["ctl", "restart", "local"]).status.success());
    heard("\"ready\"");
    gateway.kill_supervisor();
    gateway.start();
    heard("subscribed");
    gateway.wait_ready("local");
    assert!(gateway.run(&["ctl", "restart", "local"]).status.success());
    heard("\"ready\"");
    follower.kill().unwrap();
    let mut told = String::new();
    follower.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    follower.wait().unwrap();
    assert_eq!(told.matches("connected again").count(), 2, "{told}");

    let mut follower = begin(&gateway, &["ctl", "events", "--timeout", "0s"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    gateway.kill_supervisor();
    let output = follower.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("none runs there"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: start one"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_restart_gets_it_from_the_program_that_takes_over() {
    let telegram = Telegram::start().await;
    telegram.add_bot("7700:secret", "test_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\n{CONFIG}",
        telegram.base_url()
    ));
    std::fs::write(gateway.path("token"), "7700:secret\n").unwrap();
    gateway.start();
    gateway.wait_ready("telegram");
    telegram.stop_listening().await;
    let waiting = begin(&gateway, &["ctl", "restart", "telegram", "--timeout", "60s"]);
    let starting = |i: &serde_json::Value| i["phase"] == "starting" && i["generation"] == 2;
    gateway.wait("telegram", "starting", |i| starting(i) && i["outside"] == "down");
    let told = gateway.run(&["ctl", "upgrade"]);
    assert!(told.status.success(), "{}", stderr(&told));
    telegram.listen_again().await;
    let told = waiting.wait_with_output().unwrap();
    assert_eq!(told.status.code(), Some(0), "{}{}", stdout(&told), stderr(&told));
    assert!(stdout(&told).starts_with("telegram: restarted, ready in "), "{}", stdout(&told));
    assert_eq!(gateway.instance("telegram")["generation"], 2, "not once more");
}

/// It could take over, said the program, and then it ended.
#[test]
fn an_upgrade_ends_at_once_where_nobody_is_left() {
    let mut gateway = Gateway::running(CONFIG);
    gateway.wait_ready("local");
    let text = format!("case $* in *upgrade-check*) exec {PROGRAM} \"$@\";; esac\nexit 3");
    let next = script(&gateway, "next", &text);
    let told = gateway.run(&["ctl", "upgrade", "--program", next.to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(69), "{}", stderr(&told));
    assert!(stderr(&told).contains("it ended without a word"), "{}", stderr(&told));
    assert_eq!(gateway.left(), Some(3));
}
