//! One state directory, one supervisor; how it is started, replaced, stopped and killed (F01, F02, F03,
//! F09, F62, F65, F66, F78, F82).

use std::io::{BufRead, BufReader, Read};
use std::mem::MaybeUninit;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::process::Stdio;

use rustix::fs::inotify;

use crate::gateway::{Gateway, is_alive, signal, stderr, stdout};
use crate::socket_agent::Lines;
use crate::terminal::Terminal;

const CONFIG: &str = "[platform.local]\n[agent.echo]\n";
const TWO: &str = "[platform.local]\n[platform.other]\nkind = \"local\"\n[agent.echo]\n";

fn pid(gateway: &Gateway, name: &str) -> u64 {
    gateway.wait_ready(name)["pid"].as_u64().unwrap()
}

#[test]
fn a_second_supervisor_is_refused_and_told_by_whom() {
    let gateway = Gateway::running(CONFIG);
    let inode = std::fs::metadata(gateway.socket()).unwrap().ino();
    let second = gateway.run(&["supervise"]);
    assert_eq!(second.status.code(), Some(75));
    let told = stderr(&second);
    assert!(told.contains(&format!("pid {}", gateway.pid())), "{told}");
    assert!(told.contains("started 20") && told.contains("version 0.1.0"), "{told}");
    // Without the configuration, another one would be served in its place.
    let config = gateway.path("config.toml");
    let (config, state) = (config.display(), gateway.state());
    let hint = format!(
        "hint: `hermes-gw supervise --replace --config {config} --state-dir {}`",
        state.display()
    );
    assert!(told.contains(&hint), "{told}");
    assert_eq!(std::fs::metadata(gateway.socket()).unwrap().ino(), inode, "its socket stays");
    gateway.wait_ready("local");
}

#[test]
fn the_socket_of_another_state_directory_is_not_displaced() {
    let gateway = Gateway::running(&format!("[gateway]\nruntime_dir = \"{{dir}}/s\"\n{CONFIG}"));
    let other = gateway.path("other");
    let socket = gateway.socket();
    let inode = std::fs::metadata(&socket).unwrap().ino();
    let config = gateway.path("config.toml");
    let second = std::process::Command::new(crate::gateway::PROGRAM)
        .args(["supervise", "--config", config.to_str().unwrap()])
        .args(["--state-dir", other.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(73), "{}", stderr(&second));
    assert!(stderr(&second).contains("name another runtime_dir"), "{}", stderr(&second));
    assert_eq!(std::fs::metadata(&socket).unwrap().ino(), inode);
}

#[test]
fn a_stopped_supervisor_is_not_displaced() {
    let gateway = Gateway::running(CONFIG);
    signal(gateway.pid().into(), "STOP");
    let second = gateway.run(&["supervise"]);
    assert_eq!(second.status.code(), Some(75));
    signal(gateway.pid().into(), "CONT");
    gateway.wait_ready("local");
}

/// F74: it is starting, mends its store, or leaves. Whoever is told that none runs starts another, or believes it ended.
#[test]
fn who_holds_the_lock_and_does_not_listen_is_not_called_away() {
    let gateway = Gateway::new(CONFIG);
    let path = gateway.state().join("lock");
    std::fs::create_dir(gateway.state()).unwrap();
    let lock = std::fs::File::create(&path).unwrap();
    lock.lock().unwrap();
    for words in [&["ctl", "status"][..], &["ctl", "restart"], &["ctl", "kill", "--no-wait"]] {
        let output = gateway.run(words);
        assert_eq!(output.status.code(), Some(69), "{words:?}: {}", stdout(&output));
        let told = stderr(&output);
        assert!(told.contains("it runs and does not listen"), "{words:?}: {told}");
        assert!(told.contains("hint: try again a little later"), "{words:?}: {told}");
    }
    let mut command = gateway.command();
    let kill = command.args(["ctl", "kill"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(lock);
    assert_eq!(stdout(&kill.wait_with_output().unwrap()), "supervisor: already down\n");
}

/// Runs a command while somebody has the lock, who says this of himself: whether it opens the lock oftener than so.
fn looks_again(holder: &str, args: &[&str], often: u32) -> bool {
    let gateway = Gateway::new(CONFIG);
    std::fs::DirBuilder::new().mode(0o700).create(gateway.state()).unwrap();
    let path = gateway.state().join("lock");
    std::fs::write(&path, holder).unwrap();
    let lock = std::fs::File::open(&path).unwrap();
    lock.lock().unwrap();
    let notes = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    // Two of a kind in a row would be told as one.
    let both = inotify::WatchFlags::OPEN | inotify::WatchFlags::CLOSE;
    inotify::add_watch(&notes, &path, both).unwrap();
    let mut command = gateway.command();
    let mut start = command.args(args).arg("-q").stdin(Stdio::null()).spawn().unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut opened = inotify::Reader::new(&notes, &mut buffer);
    let mut times = 0;
    gateway.until("it looks again, or gives up", || {
        while let Ok(note) = opened.next() {
            times += u32::from(note.events().contains(inotify::ReadFlags::OPEN));
        }
        (times > often || start.try_wait().unwrap().is_some()).then_some(())
    });
    start.kill().unwrap();
    start.wait().unwrap();
    times > often
}

/// F03: as a tool does that looks whether anybody serves.
#[test]
fn who_has_the_lock_for_a_moment_and_says_nothing_of_himself_is_no_reason_to_give_up() {
    // Once to lock it, once to read who has it.
    assert!(looks_again("", &["supervise"], 2));
}

/// As long as somebody has the lock, a terminal may be there soon.
#[test]
fn chat_waits_for_one_that_does_not_listen_yet() {
    assert!(looks_again("", &["chat"], 3));
}

/// F03: who is just starting, or leaves already, cannot be asked to leave.
#[test]
fn replace_waits_for_one_that_does_not_listen() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let mut other = std::process::Command::new("sleep");
    let mut other = other.arg("60").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stat = read(&format!("/proc/{}/stat", other.id()));
    let start: u64 = stat.rsplit(')').next().unwrap().split(' ').nth(20).unwrap().parse().unwrap();
    let holder = serde_json::json!({
        "pid": other.id(), "start": start, "boot": read("/proc/sys/kernel/random/boot_id").trim(),
        "version": "1", "started_ms": 0, "manager": "none", "socket": "/nowhere/gw.sock",
    });
    // Once more to ask him, and once before to see that it is none of his own.
    let looks = looks_again(&holder.to_string(), &["supervise", "--replace"], 4);
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(looks);
}

#[test]
fn replace_asks_the_holder_to_leave_and_takes_its_place() {
    let mut gateway = Gateway::running(CONFIG);
    let (former, worker) = (u64::from(gateway.pid()), pid(&gateway, "local"));
    let mut successor = gateway
        .command()
        .args(["supervise", "--replace", "-q"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(gateway.left(), Some(0), "it left by itself, politely");
    gateway.until("the successor serves", || {
        (gateway.status()?["pid"] == successor.id()).then_some(())
    });
    assert!(!is_alive(former) && !is_alive(worker));
    signal(successor.id().into(), "TERM");
    assert_eq!(successor.wait().unwrap().code(), Some(0));
}

#[test]
fn replace_that_comes_too_late_says_who_was_quicker() {
    let mut gateway = Gateway::running(CONFIG);
    let mut command = gateway.command();
    command.args(["supervise", "--replace"]).stdin(Stdio::null()).stderr(Stdio::piped());
    signal(gateway.pid().into(), "STOP");
    let mut late = command.spawn().unwrap();
    let mut log = BufReader::new(late.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("asked the one that runs to leave") {
        assert!(log.read_line(&mut told).unwrap() > 0, "{told}");
    }
    signal(late.id().into(), "STOP");
    gateway.kill_supervisor();
    gateway.start();
    signal(late.id().into(), "CONT");
    log.read_to_string(&mut told).unwrap();
    assert_eq!(late.wait().unwrap().code(), Some(75), "{told}");
    assert!(
        told.contains(&format!("another supervisor was quicker: pid {}", gateway.pid())),
        "{told}"
    );
    assert!(!told.contains("supervise --replace"), "{told}");
}

#[test]
fn replace_that_waits_for_one_that_hangs_says_what_helps() {
    let mut gateway = Gateway::running(CONFIG);
    signal(gateway.pid().into(), "STOP");
    let mut command = gateway.command();
    command.args(["supervise", "--replace"]).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut successor = command.spawn().unwrap();
    let mut log = BufReader::new(successor.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("--force") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it left without a word");
    }
    assert!(line.contains("WARN"), "{line}");
    signal(gateway.pid().into(), "CONT");
    assert_eq!(gateway.left(), Some(0));
    signal(successor.id().into(), "TERM");
    drop(log);
    assert_eq!(successor.wait().unwrap().code(), Some(0));
}

#[test]
fn replace_with_force_ends_one_that_hangs() {
    let mut gateway = Gateway::running(CONFIG);
    let worker = pid(&gateway, "local");
    signal(gateway.pid().into(), "STOP");
    let mut command = gateway.command();
    command.args(["supervise", "--replace", "--force", "-q"]);
    let mut successor = command.stdin(Stdio::null()).spawn().unwrap();
    assert_eq!(gateway.left(), None, "by a signal");
    gateway.until("the successor serves", || {
        (gateway.status()?["pid"] == successor.id()).then_some(())
    });
    assert!(!is_alive(worker));
    signal(successor.id().into(), "TERM");
    assert_eq!(successor.wait().unwrap().code(), Some(0));
}

#[test]
fn whatever_was_left_behind_a_start_succeeds() {
    let mut gateway = Gateway::running(CONFIG);
    let mut sleeper = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    for left in ["", "{", "815\n", &format!("{{\"pid\":{},\"start\":1}}", sleeper.id())] {
        gateway.kill_supervisor();
        std::fs::write(gateway.state().join("lock"), left).unwrap();
        gateway.start();
        gateway.wait_ready("local");
    }
    assert!(sleeper.try_wait().unwrap().is_none(), "a stranger is never signalled");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn term_drains_and_leaves_nothing() {
    for by in ["TERM", "INT"] {
        let mut gateway = Gateway::running(CONFIG);
        let workers = ["local", "echo"].map(|name| pid(&gateway, name));
        signal(gateway.pid().into(), by);
        assert_eq!(gateway.left(), Some(0));
        assert!(workers.iter().all(|worker| !is_alive(*worker)));
        assert!(!gateway.socket().exists());
    }
}

#[test]
fn a_second_signal_does_not_wait_for_what_is_under_way() {
    for (by, code) in [("TERM", 0), ("INT", 130)] {
        let config = "[platform.local]\n[agent.mine]\nkind = \"socket\"\n";
        let mut gateway = Gateway::running(config);
        let mut agent = Lines::ready(&gateway);
        let mut terminal = Terminal::join(&gateway);
        let worker = pid(&gateway, "local");
        let mut events = gateway.events();
        terminal.typed("1", "work");
        agent.event();
        signal(gateway.pid().into(), by);
        events.wait(|event| event["event"] == "supervisor" && event["now"] == "stopping");
        signal(gateway.pid().into(), by);
        assert_eq!(gateway.left(), Some(code));
        assert!(!is_alive(worker));
        assert!(gateway.log().contains("now=\"forced\""), "{}", gateway.log());
    }
}

#[test]
fn restart_gives_a_new_worker_and_tells_so() {
    let gateway = Gateway::running(TWO);
    for args in [vec!["ctl", "restart", "local"], vec!["ctl", "restart", "local", "--force"]] {
        let (before, sibling) = (pid(&gateway, "local"), pid(&gateway, "other"));
        let output = gateway.run(&args);
        let after = pid(&gateway, "local");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_ne!(before, after);
        assert!(!is_alive(before));
        let told = stdout(&output);
        assert!(told.starts_with("local: restarted, ready in "), "{told}");
        assert!(told.ends_with(&format!("(pid {after})\n")), "{told}");
        assert_eq!(pid(&gateway, "other"), sibling);
    }
}

#[test]
fn restart_with_force_helps_a_worker_that_is_stopped() {
    let gateway = Gateway::running(TWO);
    let before = pid(&gateway, "local");
    signal(before, "STOP");
    let output = gateway.run(&["ctl", "restart", "local", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!is_alive(before));
    // Without force a stopped worker hears TERM and CONT, and leaves as politely as any other.
    let before = pid(&gateway, "local");
    signal(before, "STOP");
    let output = gateway.run(&["ctl", "restart", "local"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!is_alive(before));
}

#[test]
fn kill_keeps_an_instance_down_until_it_is_started() {
    let gateway = Gateway::running(TWO);
    for force in [false, true] {
        let before = pid(&gateway, "local");
        let mut args = vec!["ctl", "kill", "local"];
        args.extend(force.then_some("--force"));
        let output = gateway.run(&args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).starts_with("local: killed in "), "{}", stdout(&output));
        assert!(!is_alive(before));
        let told = gateway.instance("local");
        assert_eq!((&told["phase"], &told["wanted"]), (&"down".into(), &"down".into()));
        assert_eq!(stdout(&gateway.run(&args)), "local: already down\n");
        let output = gateway.run(&["ctl", "start", "local"]);
        assert!(stdout(&output).starts_with("local: started, ready in "), "{}", stdout(&output));
    }
    let output = gateway.run(&["ctl", "restart", "other", "--no-wait"]);
    assert!(stdout(&output).starts_with("other: requested"), "{}", stdout(&output));
}

/// A name that nothing has keeps nobody else from what was asked for.
#[test]
fn every_name_is_tried_and_the_first_failure_tells() {
    let gateway = Gateway::running(TWO);
    for (verb, done) in [("restart", "restarted"), ("kill", "killed"), ("start", "started")] {
        pid(&gateway, "other");
        let output = gateway.run(&["ctl", verb, "local", "lokal", "nope"]);
        assert_eq!(output.status.code(), Some(64), "{verb}: {}", stderr(&output));
        let told = stdout(&output);
        let lines: Vec<_> = told.lines().collect();
        assert!(lines[0].starts_with(&format!("local: {done}")), "{told}");
        let unknown = "lokal: unknown: no instance is called \"lokal\"";
        let hint = "hint: did you mean \"local\"? configured: local, other, echo";
        assert_eq!(lines[1..3], [unknown, hint], "{told}");
        assert!(lines[3].starts_with("nope: unknown"), "{told}");
    }
    let output = gateway.run(&["ctl", "restart", "nope", "local", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&told["error"]["code"], &told["results"][0]["code"]), (&64.into(), &64.into()));
    assert_eq!(told["results"][1]["result"], "restarted", "{told}");
}

#[test]
fn kill_without_a_name_stops_the_supervisor() {
    let mut gateway = Gateway::running(CONFIG);
    let worker = pid(&gateway, "local");
    let output = gateway.run(&["ctl", "kill"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("supervisor: stopped in "), "{}", stdout(&output));
    assert_eq!(gateway.left(), Some(0));
    assert!(!is_alive(worker));
    assert_eq!(stdout(&gateway.run(&["ctl", "kill"])), "supervisor: already down\n");
}

#[test]
fn kill_with_force_ends_a_supervisor_that_is_stopped_with_all_its_children() {
    let mut gateway = Gateway::running(CONFIG);
    let workers = ["local", "echo"].map(|name| pid(&gateway, name));
    for worker in workers {
        signal(worker, "STOP");
    }
    signal(gateway.pid().into(), "STOP");
    let output = gateway.run(&["ctl", "kill", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(gateway.left(), None, "by a signal");
    assert!(workers.iter().all(|worker| !is_alive(*worker)));
    assert!(!gateway.socket().exists());
    gateway.start();
    gateway.wait_ready("local");
}

#[test]
fn status_without_a_supervisor_is_69_with_a_hint() {
    let gateway = Gateway::new(CONFIG);
    let output = gateway.run(&["ctl", "status"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(
        stderr(&output).contains("\nhint: start one with `hermes-gw supervise`"),
        "{}",
        stderr(&output)
    );
}

/// F74: asked from the live process, and where there is none, told from what the kernel says.
#[test]
fn status_tells_stopped_crashed_and_hung_apart() {
    let told = |gateway: &Gateway| {
        let output = gateway.run(&["ctl", "status", "--json"]);
        assert_eq!(output.status.code(), Some(69));
        let told: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        (told["state"].as_str().unwrap().to_owned(), told)
    };
    let mut gateway = Gateway::new(CONFIG);
    assert_eq!(told(&gateway).0, "stopped", "never started");
    gateway.start();
    let pid = gateway.pid();
    gateway.kill_supervisor();
    let (state, all) = told(&gateway);
    assert_eq!((state.as_str(), &all["pid"]), ("crashed", &pid.into()));
    gateway.start();
    signal(gateway.pid().into(), "STOP");
    assert_eq!(told(&gateway).0, "unreachable");
    assert!(gateway.run(&["ctl", "kill", "--force"]).status.success());
    gateway.left();
    let (state, all) = told(&gateway);
    let why = all["reason"].as_str().unwrap();
    assert!(state == "stopped" && why.contains("killed with --force by pid"), "{all}");
    gateway.start();
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    gateway.left();
    let (state, all) = told(&gateway);
    assert_eq!(state, "stopped");
    assert!(all["left_ms"].as_i64() > all["started_ms"].as_i64(), "{all}");
}

/// The one who looks later sees neither the terminal nor the log of a start that was refused.
#[test]
fn status_tells_why_the_last_start_was_refused() {
    let told = |gateway: &Gateway| stderr(&gateway.run(&["ctl", "status"]));
    let mut gateway = Gateway::running(CONFIG);
    let good = std::fs::read_to_string(gateway.path("config.toml")).unwrap();
    let break_it = || std::fs::write(gateway.path("config.toml"), "[platfrom.feishu]\n").unwrap();
    // One that runs is asked itself.
    break_it();
    let holder = std::fs::read(gateway.state().join("lock")).unwrap();
    assert_eq!(gateway.run(&["supervise"]).status.code(), Some(78));
    assert_eq!(std::fs::read(gateway.state().join("lock")).unwrap(), holder);
    assert!(gateway.run(&["ctl", "status"]).status.success());
    gateway.kill_supervisor();
    assert_eq!(gateway.run(&["supervise"]).status.code(), Some(78));
    let refused = told(&gateway);
    assert!(refused.contains("it left at ") && refused.contains("platfrom"), "{refused}");
    // A good start is the last word then.
    std::fs::write(gateway.path("config.toml"), &good).unwrap();
    gateway.start();
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    gateway.left();
    assert!(!told(&gateway).contains("platfrom"), "{}", told(&gateway));
    // Also the very first start leaves a word.
    let first = Gateway::new("[platfrom.feishu]\n");
    assert_eq!(first.run(&["supervise"]).status.code(), Some(78));
    assert!(told(&first).contains("platfrom"), "{}", told(&first));
}

#[test]
fn everything_is_its_owners_alone_from_birth() {
    let mut gateway = Gateway::new(CONFIG);
    // The widest mask there is, for the supervisor that the gateway starts.
    let former = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    gateway.start();
    nix::sys::stat::umask(former);
    gateway.wait_ready("local");
    let mode = |path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(gateway.state()), 0o700);
    let mut sockets = 0;
    for entry in std::fs::read_dir(gateway.state()).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        sockets += u32::from(kind.is_socket());
        let ours = if kind.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(path.clone()), ours, "{}", path.display());
    }
    assert_eq!(sockets, 2);
}
