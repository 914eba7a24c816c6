//! What the processes of the gateway may use, and what nobody may see of them (F69, F81).

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::gateway::{Gateway, signal, stderr, stdout};

const CONFIG: &str = "[platform.local]\n[agent.echo]\n";
const NONBLOCK: i32 = nix::fcntl::OFlag::O_NONBLOCK.bits();

/// The soft and the hard limit of a process.
fn limit(pid: u64, name: &str) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

fn pid(gateway: &Gateway, name: &str) -> u64 {
    gateway.wait_ready(name)["pid"].as_u64().unwrap()
}

/// A gateway that starts with these limits of descriptors.
fn running(soft: u32, hard: u32) -> Gateway {
    running_with(CONFIG, soft, hard)
}

fn running_with(config: &str, soft: u32, hard: u32) -> Gateway {
    let mut gateway = Gateway::new(config);
    let mut command = Command::new("sh");
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    let supervise = gateway.command();
    command.args(["-c", &script]).arg(supervise.get_program()).args(supervise.get_args());
    gateway.start_as(command);
    gateway
}

#[test]
fn descriptors_are_for_the_supervisor_and_cores_for_nobody() {
    let gateway = running(300, 2000);
    assert_eq!(limit(gateway.pid().into(), "Max open files"), ("2000".into(), "2000".into()));
    for name in ["local", "echo"] {
        let worker = pid(&gateway, name);
        assert_eq!(limit(worker, "Max open files"), ("300".into(), "2000".into()), "{name}");
        assert_eq!(limit(worker, "Max core file size"), ("0".into(), "0".into()), "{name}");
    }
    assert_eq!(limit(gateway.pid().into(), "Max core file size"), ("0".into(), "0".into()));
}

/// What a limit makes impossible is told with that limit, and no panic.
#[test]
fn limits_that_are_too_low_are_told() {
    let gateway = Gateway::new(CONFIG);
    let run = |limits: &str, args: &[&str]| {
        let mut command = Command::new("sh");
        let ours = gateway.command();
        command.args(["-c", &format!("ulimit {limits} && exec \"$0\" \"$@\"")]);
        command.arg(ours.get_program()).args(ours.get_args()).args(args);
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    for (limits, args, words) in [
        ("-n 8", &["supervise"][..], "set limits: 8 open files are allowed, and 64 are needed"),
        ("-n 8", &["ctl", "status"], "8 open files are allowed, and 16 are needed"),
    ] {
        let (code, told) = run(limits, args);
        assert_eq!(code, Some(71), "{args:?}: {told}");
        assert!(told.contains(words) && !told.contains("panicked"), "{args:?}: {told}");
    }
    let (code, told) = run("-f 16", &["supervise", "-q"]);
    assert_eq!(code, Some(74), "{told}");
    assert!(told.contains("File too large") || told.contains("ulimit -f"), "{told}");
}

/// The soft limit of the user is what children get, unless nothing could begin with it.
#[test]
fn a_soft_limit_of_descriptors_that_is_too_low_for_anything_is_raised() {
    let gateway = running(8, 2000);
    let worker = pid(&gateway, "local");
    assert_eq!(limit(worker, "Max open files"), ("64".into(), "2000".into()));
}

/// F69: whoever collects the log has stopped.
#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    let mut gateway = Gateway::new(CONFIG);
    let pipe = gateway.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let open = || OpenOptions::new().read(true).write(true).custom_flags(NONBLOCK).open(&pipe);
    let mut log = open().unwrap();
    while log.write(&[b'x'; 4096]).is_ok() {}
    while log.write(b"x").is_ok() {}
    let supervise = gateway.command();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2<>pipe"]).current_dir(gateway.path(""));
    command.arg(supervise.get_program()).arg("-v").args(supervise.get_args());
    gateway.start_as(command);
    gateway.wait_ready("echo");
    assert!(gateway.run(&["ctl", "restart"]).status.success());
    // Somebody reads again, and is told that there was more.
    let mut read = Vec::new();
    let mut told = |read: &mut Vec<u8>| {
        let _ = log.read_to_end(read);
        let text = String::from_utf8_lossy(read);
        text.contains(" lines are lost\n") && text.contains("told to end")
    };
    gateway.until("the log goes on", || {
        assert!(gateway.run(&["ctl", "restart"]).status.success());
        told(&mut read).then_some(())
    });
}

#[test]
fn native_workers_confine_themselves_and_status_tells() {
    let gateway = Gateway::running(CONFIG);
    for name in ["local", "echo"] {
        let told = gateway.wait(name, "says how it is confined", |i| i["confined"].is_string());
        let confined = told["confined"].as_str().unwrap();
        assert!(confined.starts_with("files") || confined.starts_with("nothing:"), "{confined}");
        eprintln!("{name}: {confined}");
    }
    gateway.wait("local", "tells its memory", |i| i["memory"].as_u64() > Some(100_000));
}

/// Everything works for a user without privileges, and others of that user cannot look inside.
#[test]
fn nobody_of_the_same_user_can_read_a_process_that_knows_secrets() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let mut gateway = Gateway::new(CONFIG);
    gateway.start_as_user(65_534);
    let program = gateway.path("hermes-gw");
    let pids = [u64::from(gateway.pid()), pid(&gateway, "local"), pid(&gateway, "echo")];
    for pid in pids {
        let look = |what: &str| {
            let mut command = Command::new("cat");
            command.arg(format!("/proc/{pid}/{what}")).uid(65_534).gid(65_534);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        };
        assert!(look("stat"), "what everybody may know");
        assert!(!look("environ") && !look("maps"), "{pid}");
    }
    let mut restart = Command::new(&program);
    restart.args(gateway.command().get_args()).args(["ctl", "restart"]).uid(65_534).gid(65_534);
    let output = restart.output().unwrap();
    assert!(output.status.success());
    assert!(stdout(&output).contains("echo: restarted"), "{}", stdout(&output));
    let mut kill = Command::new(&program);
    kill.args(gateway.command().get_args()).args(["ctl", "kill", "--force"]).uid(65_534);
    assert!(kill.gid(65_534).status().unwrap().success());
    gateway.left();
}

/// F68
#[test]
fn a_worker_that_grows_too_large_is_replaced_and_nothing_is_lost() {
    use std::io::Write;
    let gateway = Gateway::running(
        "[gateway]\nmemory_mb = 4\n[platform.local]\n[platform.other]\nkind = \"local\"\n\
         [agent.hermes]\nkind = \"socket\"\n",
    );
    let (before, other) = (gateway.wait_ready("local"), gateway.wait_ready("other"));
    let mut chat = gateway.command();
    chat.args(["chat", "--timeout", "5s"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut chat = chat.stderr(Stdio::null()).spawn().unwrap();
    chat.stdin.as_mut().unwrap().write_all(b"keep this\n").unwrap();
    gateway.wait("local", "has accepted it", |i| i["store"]["accepted"] == 1);
    // Lines that never end.
    let line = vec![b'x'; 200_000];
    let terminals: Vec<_> = (0..60)
        .map(|_| {
            let mut terminal =
                UnixStream::connect(gateway.state().join("chat-local.sock")).unwrap();
            terminal.write_all(&line).unwrap();
            terminal
        })
        .collect();
    let told = gateway.wait("local", "was replaced, and is ready", |i| {
        i["generation"].as_u64() > before["generation"].as_u64() && i["phase"] == "ready"
    });
    let cause = told["exits"][0]["cause"].as_str().unwrap();
    assert!(cause.starts_with("exit 0 (ok): replaced: it used "), "{cause}");
    assert!(cause.ends_with(" MiB of memory, at most 4"), "{cause}");
    assert_eq!(told["store"]["waiting"], 1, "what was accepted is kept");
    assert_eq!(gateway.instance("other")["pid"], other["pid"]);
    drop(terminals);
    let _ = chat.kill();
    let _ = chat.wait();
}

fn descriptors(pid: u64) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// F69: clients that die in the middle of a request, with few descriptors.
#[test]
fn clients_that_die_in_the_middle_cost_nothing() {
    use std::io::Write;
    let gateway = running(256, 256);
    let own: u64 = gateway.pid().into();
    pid(&gateway, "local");
    let requests: [&[u8]; 4] = [
        b"{\"id\":1,\"method\":\"sta",
        b"{\"id\":1,\"method\":\"status\"}\n",
        b"{\"id\":1,\"method\":\"events\"}\n",
        b"\x89HGW\x01\x01",
    ];
    let before = descriptors(own);
    let mut after = vec![memory(own)];
    for _ in 0..4 {
        for n in 0..10_000 {
            let mut stream = UnixStream::connect(gateway.socket()).unwrap();
            let _ = stream.write_all(requests[n % requests.len()]);
        }
        gateway.wait_ready("local");
        gateway
            .until("its descriptors are back", || (descriptors(own) <= before + 3).then_some(()));
        after.push(memory(own));
    }
    let told = after.iter().map(|bytes| bytes / 1024).collect::<Vec<_>>();
    eprintln!("KiB, before and after each: {told:?}");
    // How many of them meet is up to the machine, and what is freed is kept for as many. It is given back now
    // and then, so each may find less or more than the one before; what they had cost together would show.
    let [idle, one, two, three, four] = after[..] else { unreachable!() };
    assert!(one < idle + (4 << 20), "{told:?}");
    assert!(three.min(four) < one.max(two) + (1 << 20), "{told:?}");
}

fn memory(pid: u64) -> u64 {
    supervisor::process::limits::memory(u32::try_from(pid).unwrap()).unwrap()
}

/// More clients than there are descriptors: they wait, and nobody spins.
#[test]
fn more_clients_than_descriptors_wait_for_their_turn() {
    let gateway = running(64, 64);
    pid(&gateway, "local");
    let silent: Vec<_> = (0..60).map(|_| UnixStream::connect(gateway.socket()).unwrap()).collect();
    // They are cut after a few seconds each, and the last one is served.
    assert!(gateway.status().is_some());
    drop(silent);
    let warnings = gateway.log().matches("few open files are left").count();
    assert_eq!(warnings, 1, "told, before anything fails of it, and once");
    let complaints = gateway.log().matches("cannot accept").count();
    assert!(complaints < 100, "{complaints}");
    pid(&gateway, "local");
}

/// Many instances need many of them, too.
#[test]
fn more_instances_than_open_files_carry_are_told_before_one_of_them_cannot_start() {
    let blocks: Vec<_> = (0..10).map(|n| format!("[platform.l{n}]\nkind = \"local\"\n")).collect();
    let gateway = running_with(&(blocks.concat() + "[agent.echo]\n"), 64, 64);
    // When enough of them have connected, whichever they are.
    let told = |log: String| log.contains("few open files are left").then_some(log);
    let log = gateway.until("it is told", || told(gateway.log()));
    assert!(log.contains("LimitNOFILE="), "{log}");
    gateway.wait_ready("l9");
    let log = gateway.log();
    assert!(!log.contains("cannot make a process"), "{log}");
}

/// What a process does not hear, as a set of bits.
fn deaf_to(pid: u64) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    line.trim().to_owned()
}

#[test]
fn signals_are_blocked_in_nobody_but_the_supervisor() {
    let config = "[platform.local]\n[agent.mine]\nkind = \"exec\"\n\
        command = [\"sh\", \"-c\", \"echo $$ > pid; exec cat\"]\n";
    let gateway = Gateway::running(config);
    let worker = pid(&gateway, "local");
    assert_eq!(deaf_to(worker), "0000000000000000");
    // A shell blocks them for a moment where it starts something.
    gateway.until("the program hears", || {
        let text = std::fs::read_to_string(gateway.path("pid")).ok()?;
        let program = text.trim().parse::<u64>().ok()?;
        (deaf_to(program) == "0000000000000000").then_some(())
    });
    // A worker that is told to end by nothing else hears it.
    signal(worker, "TERM");
    let next = gateway.wait("local", "another", |i| i["phase"] == "ready" && i["generation"] == 2);
    let cause = next["exits"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("told to end"), "{cause}");
}
