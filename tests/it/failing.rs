//! Every command that fails tells programs why: one object with `error`.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::gateway::{Gateway, PROGRAM, stdout};

/// What a command that fails tells programs.
fn error(gateway: &Gateway, code: i32, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.push("--json");
    let output = gateway.run(&args);
    let text = stdout(&output);
    let told: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
    let error = &told["error"];
    assert_eq!((&told["schema"], &error["code"]), (&1.into(), &code.into()), "{args:?}: {told}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{args:?}: {told}");
    assert!(error["hint"].as_str().is_some_and(|text| !text.is_empty()), "{args:?}: {told}");
    told
}

/// The commands that the help of `args` lists.
fn listed(args: &[&str]) -> Vec<String> {
    let help = std::process::Command::new(PROGRAM).args(args).arg("--help").output().unwrap();
    let help = stdout(&help);
    let (_, rest) = help.split_once("Commands:\n").unwrap();
    let lines = rest.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| !line.starts_with("   ")).map(str::trim);
    let names = names.map(|line| line.split(' ').next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn without_a_supervisor_every_command_tells_programs_so() {
    let gateway = Gateway::new("[platform.local]\n[agent.echo]\n");
    let commands: &[&[&str]] = &[
        &["status"],
        &["start"],
        &["restart", "local"],
        &["kill", "local"],
        &["upgrade"],
        &["reload"],
        &["events"],
        &["token"],
        &["backup", "copy.db"],
        &["parked", "list"],
        &["inbox"],
        &["outbox"],
        &["parked", "show", "e1"],
        &["parked", "replay", "e1"],
        &["parked", "drop", "--all"],
        &["access", "list"],
        &["access", "approve", "CODE"],
        &["access", "allow", "local", "ann"],
        &["access", "deny", "local", "ann"],
        &["access", "revoke", "local", "ann"],
        &["telegram", "delete-webhook", "telegram"],
        &["telegram", "drop-pending", "telegram"],
    ];
    let mut seen: Vec<Vec<&str>> = Vec::new();
    for command in commands {
        let args: Vec<_> = ["ctl"].iter().chain(*command).copied().collect();
        let told = error(&gateway, 69, &args);
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.contains("none"), "{args:?}: {told}");
        seen.push(args);
    }
    assert_eq!(error(&gateway, 69, &["ctl", "status"])["state"], "stopped");
    // None is left out.
    let groups = ["parked", "access", "telegram"];
    let mut all: Vec<Vec<String>> = Vec::new();
    for name in listed(&["ctl"]) {
        if groups.contains(&name.as_str()) {
            all.extend(listed(&["ctl", &name]).into_iter().map(|sub| vec![name.clone(), sub]));
        } else {
            all.push(vec![name]);
        }
    }
    for path in all {
        let is_seen = seen.iter().any(|args| {
            args[1..].starts_with(&path.iter().map(String::as_str).collect::<Vec<_>>())
        });
        assert!(is_seen, "{path:?} is not tried");
    }
}

#[test]
fn what_a_supervisor_refuses_or_cannot_do_is_told_to_programs() {
    let config = "[platform.local]\n[agent.mine]\nkind = \"exec\"\ncommand = [\"/nowhere\"]\n";
    let gateway = Gateway::running(config);
    gateway.wait("mine", "held", |i| i["phase"] == "held");
    let told = error(&gateway, 78, &["ctl", "restart", "mine"]);
    assert_eq!(told["results"][0]["result"], "held", "{told}");
    for (code, args) in [
        (64, &["ctl", "start", "nobody"][..]),
        (64, &["ctl", "restart", "nobody"]),
        (64, &["ctl", "kill", "nobody"]),
        (66, &["ctl", "upgrade", "--program", "/nowhere"]),
        (73, &["ctl", "backup", "/nowhere/copy.db"]),
        (64, &["ctl", "parked", "show", "e99"]),
        (64, &["ctl", "parked", "replay", "e99"]),
        (64, &["ctl", "parked", "drop", "e99"]),
        (64, &["ctl", "access", "approve", "NOCODE"]),
        (64, &["ctl", "access", "allow", "nobody", "ann"]),
        (64, &["ctl", "access", "deny", "nobody", "ann"]),
        (64, &["ctl", "access", "revoke", "nobody", "ann"]),
        (64, &["ctl", "telegram", "delete-webhook", "nobody"]),
        (64, &["ctl", "telegram", "drop-pending", "local"]),
        (75, &["supervise"]),
        (64, &["chat", "--instance", "nobody"]),
        (64, &["try", "--instance", "nobody"]),
    ] {
        error(&gateway, code, args);
    }
    let told = error(&gateway, 64, &["ctl", "parked", "replay", "e98"]);
    assert_eq!(told["results"][0]["result"], "unknown", "{told}");
    std::fs::write(gateway.path("config.toml"), "[platform").unwrap();
    error(&gateway, 78, &["ctl", "reload"]);
    error(&gateway, 78, &["check"]);
}

#[test]
fn what_is_wrong_with_configuration_and_hooks_is_told_to_programs() {
    let config = "[platform.local]\n[agent.echo]\nx = 1\n[[hooks.command]]\nevents = [\"*\"]\ncommand = [\"false\"]\n";
    let gateway = Gateway::new(config);
    let told = error(&gateway, 78, &["check"]);
    assert!(told["instances"].is_array(), "{told}");
    let told = error(&gateway, 69, &["hooks", "test", "agent:start"]);
    assert_eq!(told["results"][0]["result"], "failed", "{told}");
    std::fs::create_dir_all(gateway.path("hooks/broken")).unwrap();
    std::fs::write(gateway.path("hooks/broken/HOOK.yaml"), "name: broken\nevents: [x]\n").unwrap();
    std::fs::write(gateway.path("config.toml"), "[hooks]\ndir = \"hooks\"\n").unwrap();
    let told = error(&gateway, 78, &["hooks", "list"]);
    assert!(told["hooks"][0]["problem"].is_string(), "{told}");
    // A handler that cannot run.
    let handler = gateway.path("handler").display().to_string();
    std::fs::write(&handler, "#!/no/such/python\n").unwrap();
    let config = format!("[[hooks.command]]\nevents = [\"*\"]\ncommand = [\"{handler}\"]\n");
    std::fs::write(gateway.path("config.toml"), config).unwrap();
    for (mode, why) in [(0o600, "is not executable"), (0o700, "wants \"/no/such/python\"")] {
        std::fs::set_permissions(&handler, std::fs::Permissions::from_mode(mode)).unwrap();
        let told = error(&gateway, 78, &["hooks", "list"]);
        assert!(told["error"]["message"].as_str().unwrap().contains(why), "{told}");
        let checked = stdout(&gateway.run(&["check"]));
        assert!(checked.contains("will not run") && checked.contains(why), "{checked}");
    }
}
