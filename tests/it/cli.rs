//! What the program says of itself.

use crate::gateway::{Gateway, stdout};

#[test]
fn help() {
    let gateway = Gateway::new("[platform.local]\n[agent.echo]\n");
    for (name, args) in [
        ("help", &["--help"][..]),
        ("help_supervise", &["supervise", "--help"]),
        ("help_try", &["try", "--help"]),
        ("help_chat", &["chat", "--help"]),
        ("help_check", &["check", "--help"]),
        ("help_ctl", &["ctl", "--help"]),
        ("help_ctl_restart", &["ctl", "restart", "--help"]),
        ("help_ctl_kill", &["ctl", "kill", "--help"]),
    ] {
        let output =
            std::process::Command::new(crate::gateway::PROGRAM).args(args).output().unwrap();
        assert!(output.status.success());
        insta::assert_snapshot!(name, stdout(&output));
    }
    let version = gateway.run(&["--version"]);
    assert_eq!(stdout(&version), format!("hermes-gw {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn status_as_text_and_as_json() {
    let gateway = Gateway::running("[platform.local]\n[agent.echo]\n");
    gateway.wait("local", "ready, with a heartbeat after that", |i| {
        i["phase"] == "ready" && i["last_progress_ms"].is_number()
    });
    gateway.wait("echo", "gate open", |i| i["gate"]["open"] == true);
    let text = stdout(&gateway.run(&["ctl", "status"]));
    let text = normal(&text.replace(gateway.state().to_str().unwrap(), "STATE"));
    insta::assert_snapshot!("status", text);

    let json = stdout(&gateway.run(&["ctl", "status", "--json"]));
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    let members = |value: &serde_json::Value| {
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    let local = &status["instances"][0];
    insta::assert_snapshot!(
        "status_members",
        format!(
            "status: {}\ninstance: {}\nstore: {}\ngate: {}",
            members(&status),
            members(local),
            members(&local["store"]),
            members(&status["instances"][1]["gate"])
        )
    );
}

#[test]
fn check_explains_the_configuration() {
    let gateway = Gateway::new(
        "[platform.local]\n[platform.feishu]\napp_id = \"cli_a\"\napp_secret_file = \"{dir}/secret\"\n[agent.echo]\n",
    );
    std::fs::write(gateway.path("secret"), "a secret").unwrap();
    let output = gateway.run(&["check"]);
    assert!(output.status.success());
    let dir = gateway.path("");
    let told = stdout(&output).replace(dir.to_str().unwrap().trim_end_matches('/'), "DIR");
    assert!(!told.contains("a secret"));
    insta::assert_snapshot!("check", told);
}

#[test]
fn a_command_line_that_is_wrong_is_told_to_programs_too() {
    let gateway = Gateway::new("[platform.local]\n[agent.echo]\n");
    let told = |args: &[&str]| {
        let output = gateway.run(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(crate::gateway::stderr(&output).contains("error: "), "{args:?}");
        stdout(&output)
    };
    for (args, why) in [
        (&["ctl", "restart", "--json", "--repalce"][..], "unexpected argument '--repalce' found"),
        (&["--json", "ctl", "parked", "show", "zz"], "invalid value 'zz' for '<ID>'"),
        (&["ctl", "stauts", "--json"], "unrecognized subcommand 'stauts'"),
    ] {
        let text = told(args);
        let told: serde_json::Value = serde_json::from_str(&text).expect(&text);
        assert_eq!((&told["schema"], &told["error"]["code"]), (&1.into(), &64.into()), "{told}");
        assert!(told["error"]["message"].as_str().unwrap().starts_with(why), "{told}");
        assert!(told["error"]["hint"].is_string(), "{told}");
    }
    assert_eq!(told(&["ctl", "restart", "--repalce"]), "");
    assert_eq!(told(&["agent-test", "--repalce", "--", "it", "--json"]), "");
}

/// Numbers that differ from run to run become `N`.
fn normal(text: &str) -> String {
    let mut out = String::new();
    let mut number = false;
    for c in text.replace(env!("CARGO_PKG_VERSION"), "VERSION").chars() {
        if c.is_ascii_digit() || (number && c == '.') {
            if !number {
                out.push('N');
            }
            number = true;
        } else {
            number = false;
            out.push(c);
        }
    }
    out
}
