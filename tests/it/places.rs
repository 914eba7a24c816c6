//! Places where a supervisor is started: containers, and file systems of all sorts (F10).

use std::process::{Command, Stdio};

use crate::gateway::{Gateway, stderr};

const CONFIG: &str = "[platform.local]\n[agent.echo]\n";

/// The processes of the namespace whose first process this is, by their name.
fn named(first: u64, name: &str) -> Vec<String> {
    let inside = Command::new("nsenter")
        .args(["--target", &first.to_string(), "--pid", "--mount", "ps", "-eo", "stat=,comm="])
        .output()
        .unwrap();
    let text = String::from_utf8(inside.stdout).unwrap();
    text.lines().filter(|line| line.ends_with(name)).map(str::to_owned).collect()
}

/// F94
#[test]
fn as_process_1_it_serves_again_and_again_and_reaps_what_it_is_given() {
    let namespace = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut possible = Command::new("unshare");
    possible.args(namespace).arg("true").stderr(Stdio::null());
    if !possible.status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no process can be number 1 here");
        return;
    }
    let mut gateway = Gateway::new(CONFIG);
    let start = |gateway: &mut Gateway| {
        let mut command = Command::new("unshare");
        let supervise = gateway.command();
        command.args(namespace).arg(supervise.get_program()).args(supervise.get_args());
        gateway.start_as(command);
        assert_eq!(gateway.status().unwrap()["pid"], 1);
    };
    // The volume keeps what a former process 1 has left.
    for _ in 0..20 {
        start(&mut gateway);
        gateway.kill_supervisor();
    }
    start(&mut gateway);
    gateway.wait_ready("local");
    let outer = gateway.pid();
    let children = format!("/proc/{outer}/task/{outer}/children");
    let first: u64 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    // What somebody else runs in the container is handed to process 1 when its parent ends.
    let run = |script: &str| {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &first.to_string(), "--pid", "--mount", "sh", "-c", script]);
        enter.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(enter.status().unwrap().success());
    };
    run("(setsid sleep 600 &)");
    for _ in 0..10 {
        run("(setsid sh -c 'exit 3' &)");
    }
    assert!(gateway.run(&["ctl", "restart", "--force"]).status.success());
    gateway.wait_ready("local");
    assert_eq!(named(first, "sleep").len(), 1, "a stranger is left alone");
    gateway.until("no zombie is left", || {
        let all = named(first, "");
        (!all.is_empty() && !all.iter().any(|line| line.starts_with('Z'))).then_some(())
    });
}

#[test]
fn without_proc_that_is_what_is_told() {
    let gateway = Gateway::new(CONFIG);
    let mut command = Command::new("unshare");
    let ours = gateway.command();
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" \"$@\""]);
    command.arg(ours.get_program()).args(ours.get_args()).args(["supervise", "-q"]);
    let output = command.output().unwrap();
    if stderr(&output).contains("unshare") || stderr(&output).contains("mount:") {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    assert_eq!(output.status.code(), Some(71), "{}", stderr(&output));
    assert!(stderr(&output).contains("/proc must be mounted"), "{}", stderr(&output));
}

/// A library that takes the place of the system's `flock`.
fn with_flock(gateway: &Gateway, body: &str) -> Command {
    let (source, library) = (gateway.path("flock.c"), gateway.path("flock.so"));
    let text = format!(
        "#include <errno.h>\nint flock(int fd, int how) {{ (void)fd; (void)how; {body} }}\n"
    );
    std::fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(cc.status().unwrap().success());
    let mut command = gateway.command();
    command.env("LD_PRELOAD", library);
    command
}

#[test]
fn a_file_system_without_locks_is_refused_with_one_message() {
    let gateway = Gateway::new(CONFIG);
    let elsewhere = "name another directory with --state-dir";
    for (body, why, hint) in [
        ("return 0;", "this file system keeps no locks: the state needs a local one", elsewhere),
        ("errno = ENOLCK; return -1;", "No locks available", elsewhere),
        // Elsewhere it would begin with an empty store.
        ("errno = EROFS; return -1;", "Read-only file system", "make that file system writable"),
        ("errno = ENOSPC; return -1;", "No space left on device", "make room on that disk"),
    ] {
        let output = with_flock(&gateway, body).args(["supervise", "-q"]).output().unwrap();
        assert_eq!(output.status.code(), Some(73), "{}", stderr(&output));
        let told = stderr(&output);
        assert!(told.contains(why) && told.contains("take the lock"), "{told}");
        assert!(told.contains(&format!("hint: {hint}")), "{told}");
        assert_eq!(told.lines().count(), 2, "{told}");
    }
}

/// What a lock says of its holder is copied along, and names the supervisor of the original.
#[test]
fn nobody_is_reached_by_a_copy_of_a_state_directory() {
    let gateway = Gateway::running(CONFIG);
    let worker = gateway.wait_ready("local")["pid"].clone();
    let copy = gateway.path("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(gateway.state().join("lock"), copy.join("lock")).unwrap();
    for words in [&["ctl", "kill"][..], &["ctl", "kill", "local"], &["ctl", "status"], &["chat"]] {
        let mut command = Command::new(crate::gateway::PROGRAM);
        command.arg("--state-dir").arg(&copy).args(words).stdin(Stdio::null());
        let output = command.output().unwrap();
        let idle = words == ["ctl", "kill"] && output.status.code() == Some(0);
        assert!(idle || output.status.code() == Some(69), "{words:?}: {}", stderr(&output));
    }
    assert_eq!(gateway.instance("local")["pid"], worker);
}

/// btrfs, and an overlay of several file systems, show another device to who looks at a file than the kernel's list
/// of locks has.
#[test]
fn the_holder_is_known_where_the_list_of_locks_names_the_file_system_otherwise() {
    let gateway = Gateway::new(CONFIG);
    let script = r#"cd "$0" && mkdir lower upper both run &&
        mount -t tmpfs none lower && mount -t tmpfs none upper && mkdir upper/files upper/work &&
        mount -t overlay -o lowerdir=lower,upperdir=upper/files,workdir=upper/work none both || exit 99
        STATE_DIRECTORY="$0/both" RUNTIME_DIRECTORY="$0/run" "$@" supervise -q & trap "kill -9 $!" EXIT
        ctl() { "$PROGRAM" --state-dir "$0/both" ctl "$@"; }
        until grep -q gw.sock both/lock && test -S run/gw.sock; do sleep 0.01; done
        ctl status && ctl kill --force"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(gateway.path(""));
    command.arg(crate::gateway::PROGRAM).arg("--config").arg(gateway.path("config.toml"));
    let output = command.env("PROGRAM", crate::gateway::PROGRAM).output().unwrap();
    if output.status.code() == Some(99) || stderr(&output).contains("unshare") {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", stderr(&output));
    assert!(told.contains("supervisor: stopped"), "{told}");
}

/// F89: nothing in a service file is of the shell, the version or the directory that it was installed from, so
/// nothing of it can be out of date.
#[test]
fn a_service_file_freezes_nothing() {
    for name in ["hermes-gw.service", "hermes-gw.user.service", "org.hermes-gw.plist"] {
        let file = crate::gateway::root().join("supervisor/assets").join(name);
        let text = std::fs::read_to_string(file).unwrap();
        for frozen in ["Environment", "PATH", "WorkingDirectory", "/home/", "/root/", "/usr/lib/"] {
            assert!(!text.contains(frozen), "{name}: {frozen}");
        }
        assert!(!text.contains(env!("CARGO_PKG_VERSION")), "{name} names a version");
        let programs = text.matches("/hermes-gw supervise").count()
            + text.matches("/hermes-gw</string>").count();
        assert_eq!(programs, text.matches("/usr/local/bin/hermes-gw").count(), "{name}");
    }
}

/// F89: an update that takes the former program away takes nothing from the gateway that runs.
#[test]
fn a_program_that_is_deleted_goes_on_and_so_do_its_workers() {
    let mut gateway = Gateway::new(CONFIG);
    let program = gateway.path("hermes-gw");
    // By a process of its own: what this one has open for writing cannot be run while another test forks.
    let copied = Command::new("cp").arg(crate::gateway::PROGRAM).arg(&program).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(&program);
    command.args(gateway.command().get_args());
    gateway.start_as(command);
    gateway.wait_ready("local");
    std::fs::remove_file(&program).unwrap();
    // Workers are the program that runs, wherever that lay.
    let restarted = gateway.run(&["ctl", "restart"]);
    assert!(restarted.status.success(), "{}", stderr(&restarted));
    let upgraded = gateway.run(&["ctl", "upgrade"]);
    assert!(upgraded.status.success(), "{}", stderr(&upgraded));
    gateway.wait_ready("local");
}

/// What launchd is given, read as it is read there.
#[test]
fn the_property_list_says_what_it_should() {
    let plist = crate::gateway::root().join("supervisor/assets/org.hermes-gw.plist");
    let read =
        "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    let output = Command::new("python3").args(["-c", read]).arg(&plist).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = plist.file_stem().unwrap().to_str().unwrap();
    assert_eq!(read["Label"], name, "launchctl finds it by this");
    let words = ["/usr/local/bin/hermes-gw", "supervise", "--wait"];
    assert_eq!(read["ProgramArguments"], serde_json::json!(words));
    assert_eq!(read["KeepAlive"], serde_json::json!({ "SuccessfulExit": false }));
    assert_eq!(read["RunAtLoad"], true);
    // Eight seconds is what a stop takes at most.
    assert!(read["ExitTimeOut"].as_u64() > Some(8 + 2), "{read}");
    assert_eq!(read["Umask"], 0o77);
    // The program takes the words that it is given.
    let help =
        Command::new(crate::gateway::PROGRAM).args(["supervise", "--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("--wait"));
}
