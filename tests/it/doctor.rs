//! `hermes-gw doctor`: what is wrong here, and what helps.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Output;

use serde_json::Value;

use crate::gateway::{Gateway, stderr, stdout};

fn findings(output: &Output) -> Vec<(String, String, String)> {
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let all = told["findings"].as_array().unwrap().iter();
    all.map(|one| (text(one, "about"), text(one, "mark"), text(one, "text"))).collect()
}

fn found<'a>(findings: &'a [(String, String, String)], about: &str, mark: &str) -> Option<&'a str> {
    let is_it = |one: &&(String, String, String)| one.0 == about && one.1 == mark;
    findings.iter().find(is_it).map(|one| one.2.as_str())
}

/// A server that tells a time.
fn server(date: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            // All of the request's head.
            let _ = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
            let answer =
                format!("HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{at}")
}

#[test]
fn a_gateway_in_order_is_told_to_be() {
    let gateway = Gateway::running("[platform.local]\n[agent.echo]\n");
    gateway.wait_ready("local");
    gateway.wait_ready("echo");
    let told = gateway.run(&["doctor"]);
    assert!(told.status.success(), "{}{}", stdout(&told), stderr(&told));
    let said = stdout(&told);
    assert!(said.contains("ok     gateway: serving, version "), "{said}");
    assert!(said.contains("ok     local: platform local, ready"), "{said}");
    assert!(said.contains("ok     state: ") && said.contains("MiB free"), "{said}");
    assert!(!said.contains("WRONG"), "{said}");
    let quiet = gateway.run(&["doctor", "-q"]);
    assert_eq!((stdout(&quiet), quiet.status.code()), (String::new(), Some(0)));
}

#[test]
fn what_nobody_has_started_yet_is_not_wrong() {
    let gateway = Gateway::new("[platform.local]\n[agent.echo]\n");
    let told = gateway.run(&["doctor", "--json"]);
    assert_eq!(told.status.code(), Some(0), "{}", stdout(&told));
    let findings = findings(&told);
    let none = found(&findings, "gateway", "doubt").unwrap();
    assert!(none.contains("none has run there yet"), "{none}");
    assert!(found(&findings, "state", "ok").unwrap().contains("the first start makes it"));
    assert!(!gateway.state().exists(), "it changes nothing");
}

#[test]
fn what_is_wrong_is_named_from_the_ground_up() {
    let past = server("Sun, 06 Nov 1994 08:49:37 GMT");
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "[platform.local]\nagnet = \"echo\"\n\
         [platform.telegram]\ntoken_file = \"{{dir}}/token\"\nbase_url = \"http://{closed}\"\n\
         [agent.openai]\nbase_url = \"{past}/v1?key=not-for-everybody\"\nmodel = \"m\"\n"
    );
    let gateway = Gateway::new(&config);
    std::fs::write(gateway.path("token"), "123456:not-to-be-shown-AAAAAAAAAAAAAAAAAA").unwrap();
    let told = gateway.run(&["doctor", "--json"]);
    let said = stdout(&told) + &stderr(&told);
    assert_eq!(told.status.code(), Some(78), "the first finding's: {said}");
    let findings = findings(&told);
    let block = found(&findings, "configuration", "wrong").unwrap();
    assert!(
        block.contains("[platform.local]") && block.contains("agnet") && block.contains("agent"),
        "{block}"
    );
    let away = found(&findings, &closed.to_string(), "wrong").unwrap();
    assert!(away.contains("refused"), "{away}");
    assert!(found(&findings, past.trim_start_matches("http://"), "ok").is_some(), "{said}");
    let clock = found(&findings, "clock", "wrong").unwrap();
    assert!(clock.contains("ahead of"), "{clock}");
    for secret in ["not-to-be-shown", "not-for-everybody"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn what_keeps_a_running_one_from_its_work_is_wrong() {
    let gateway = Gateway::running("[platform.local]\nagnet = \"echo\"\n[agent.socket]\n");
    gateway.wait("local", "held", |it| it["phase"] == "held");
    gateway.wait("socket", "down", |it| it["outside"] == "down");
    gateway.run(&["ctl", "kill", "socket"]);
    let told = gateway.run(&["doctor"]);
    let said = stdout(&told);
    assert_eq!(told.status.code(), Some(78), "{said}");
    assert!(said.contains("WRONG  local: held: "), "{said}");
    assert!(said.contains("doubt  socket: somebody told it to stay down"), "{said}");
    assert!(said.contains("`hermes-gw ctl start socket`"), "{said}");
}

#[test]
fn without_a_configuration_that_can_be_read_it_says_so() {
    let gateway = Gateway::new("[platform.local\n");
    let told = gateway.run(&["doctor"]);
    assert_eq!(told.status.code(), Some(78), "{}", stdout(&told));
    assert!(stdout(&told).contains("WRONG  configuration: "), "{}", stdout(&told));
}
