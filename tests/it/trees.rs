//! What a worker has started dies with it on every path, and what cannot be killed troubles only its
//! own instance (F47, F63, F67).
//!
//! The workers here are the real ones; a preloaded library gives those of platform `local` a family: a
//! child that ignores TERM, a grandchild in a session of its own, and one that has also left its
//! parents. Those of platform `other` hear no TERM any more, or nothing of what the supervisor says, or
//! hang, their event loop with them, once a signal says so. Only root can preload it, in a mount
//! namespace of the test's own.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::gateway::{Gateway, is_alive, signal, stderr};

const CONFIG: &str = "[platform.local]\n[platform.other]\nkind = \"local\"\n[agent.echo]\n";

const FAMILY: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
static void live(int worker, const char *what) {
    char path[512];
    snprintf(path, sizeof path, "%s/%d.%s.%d", getenv("HOME"), worker, what, getpid());
    close(open(path, O_CREAT | O_WRONLY, 0600));
    for (;;) pause();
}
static void hang(int number) {
    (void)number;
    for (;;) pause();
}
static void ignore_term(int number) {
    (void)number;
    signal(SIGTERM, SIG_IGN);
}
static volatile sig_atomic_t deaf;
static void ignore_words(int number) {
    (void)number;
    deaf = 1;
}
/* The supervisor speaks over the one connection whose other end has a name. */
ssize_t recv(int fd, void *to, size_t size, int flags) {
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;
    if (deaf && !getpeername(fd, (struct sockaddr *)&peer, &length)
        && length > sizeof peer.sun_family) {
        errno = EAGAIN;
        return -1;
    }
    return recvfrom(fd, to, size, flags, NULL, NULL);
}
static void obey(int number) {
    (void)number;
    if (system("sh \"$HOME/command\"")) return;
}
__attribute__((constructor)) static void begin(int argc, char **argv) {
    if (argc < 3 || strcmp(argv[1], "worker")) return;
    if (!strcmp(argv[2], "other")) {
        signal(SIGHUP, ignore_words);
        signal(SIGUSR2, ignore_term);
        signal(SIGUSR1, hang);
    }
    if (strcmp(argv[2], "local")) return;
    int worker = getpid();
    if (fork()) return;
    signal(SIGTERM, SIG_IGN);
    signal(SIGUSR2, obey);
    if (!fork()) { setsid(); live(worker, "session"); }
    if (!fork()) { setsid(); if (!fork()) live(worker, "orphan"); _exit(0); }
    live(worker, "child");
}
"#;

/// The library, built once; `None`: not possible here.
fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can give a worker a family");
            return None;
        }
        let dir = tempfile::tempdir().unwrap().keep();
        let (source, library) = (dir.join("family.c"), dir.join("family.so"));
        std::fs::write(&source, FAMILY).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        assert!(cc.status().unwrap().success());
        let namespace = Command::new("unshare").args(["-m", "true"]).status();
        if !namespace.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no mount namespace can be made here");
            return None;
        }
        Some(library)
    });
    built.as_deref()
}

/// A gateway whose `local` worker has a family. `before`: what a shell does before the supervisor.
fn running(before: &str) -> Option<Gateway> {
    let library = library()?;
    let mut gateway = Gateway::new(CONFIG);
    let etc = gateway.path("etc");
    let script = format!(
        "cp -a /etc {etc} && echo {library} > {etc}/ld.so.preload && mount --bind {etc} /etc \
         && {{ {before}\n}} && exec \"$0\" \"$@\"",
        etc = etc.display(),
        library = library.display(),
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]);
    let supervise = gateway.command();
    command.arg(supervise.get_program()).args(supervise.get_args());
    command.env("HOME", gateway.path(""));
    gateway.start_as(command);
    Some(gateway)
}

/// The worker of `local` and its family, all alive.
fn family(gateway: &Gateway) -> (u64, Vec<u64>) {
    gateway.until("the worker has its family", || {
        let worker = gateway.instance("local")["pid"].as_u64()?;
        let members: Vec<u64> = std::fs::read_dir(gateway.path(""))
            .unwrap()
            .filter_map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let rest = name.strip_prefix(&format!("{worker}."))?.to_owned();
                rest.rsplit_once('.')?.1.parse().ok()
            })
            .collect();
        (members.len() == 3 && members.iter().all(|pid| is_alive(*pid)))
            .then_some((worker, members))
    })
}

/// Nothing of them is there any more, not even as a zombie.
fn all_gone(gateway: &Gateway, (worker, members): &(u64, Vec<u64>)) {
    gateway.until("all are gone", || {
        let mut all = members.iter().chain([worker]);
        all.all(|pid| !Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
}

#[test]
fn a_workers_family_ends_with_it_on_every_path() {
    let Some(gateway) = running(":") else { return };
    let sibling = gateway.wait_ready("other")["pid"].clone();
    let paths: [&dyn Fn(u64); 5] = [
        &|_| assert!(gateway.run(&["ctl", "restart", "local"]).status.success()),
        &|_| assert!(gateway.run(&["ctl", "restart", "local", "--force"]).status.success()),
        &|worker| signal(worker, "KILL"),
        &|worker| signal(worker, "ABRT"),
        &|_| assert!(gateway.run(&["ctl", "kill", "local", "--force"]).status.success()),
    ];
    for end in paths {
        let former = family(&gateway);
        let before = gateway.instance("local")["generation"].as_u64().unwrap();
        end(former.0);
        // The next generation is there, or nothing is wanted: then everything of the former is gone.
        gateway.wait("local", "came back or stays down", |i| {
            i["phase"] == "down" || (i["phase"] == "ready" && i["generation"] != before)
        });
        let alive: Vec<_> = former.1.iter().filter(|pid| is_alive(**pid)).collect();
        assert!(alive.is_empty(), "{alive:?} outlived their worker");
        all_gone(&gateway, &former);
    }
    assert_eq!(gateway.instance("other")["pid"], sibling);
}

#[test]
fn a_workers_family_ends_with_the_supervisor_however_that_ends() {
    let ends: [&dyn Fn(&mut Gateway); 4] = [
        &|gateway| {
            signal(gateway.pid().into(), "TERM");
            assert_eq!(gateway.left(), Some(0));
        },
        &|gateway| gateway.kill_supervisor(),
        &|gateway| {
            // The worker, too, is stopped, and its supervisor does not get to wake it.
            let worker = gateway.instance("local")["pid"].as_u64().unwrap();
            signal(worker, "STOP");
            gateway.kill_supervisor();
        },
        &|gateway| {
            signal(gateway.pid().into(), "STOP");
            let output = gateway.run(&["ctl", "kill", "--force"]);
            assert!(output.status.success(), "{}", stderr(&output));
            gateway.left();
        },
    ];
    for end in ends {
        let Some(mut gateway) = running(":") else { return };
        let former = family(&gateway);
        end(&mut gateway);
        all_gone(&gateway, &former);
    }
}

#[test]
fn a_child_that_is_not_ours_is_left_alone() {
    // The child of a shell that became the supervisor by exec.
    let Some(gateway) = running("sleep 600 & echo $! > \"$HOME/strange\"") else { return };
    let stranger: u64 =
        std::fs::read_to_string(gateway.path("strange")).unwrap().trim().parse().unwrap();
    let former = family(&gateway);
    assert!(gateway.run(&["ctl", "restart", "local", "--force"]).status.success());
    all_gone(&gateway, &former);
    assert!(is_alive(stranger));
    let output = gateway.run(&["ctl", "kill", "--force"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(is_alive(stranger));
    signal(stranger, "KILL");
}

/// Told to end by a word over the link and by TERM, a worker may hear one, both late, or neither.
#[test]
fn a_worker_that_does_not_hear_is_replaced_in_time() {
    let Some(gateway) = running(":") else { return };
    let (obeyed, killed) = ("exit 0 (ok): told to end", "signal 9 (KILL)");
    let kinds = [
        ("ignores the word", "HUP", obeyed, obeyed),
        ("ignores TERM", "USR2", obeyed, obeyed),
        ("hangs and ignores both", "USR1", killed, killed),
        ("is stopped", "STOP", obeyed, killed),
    ];
    for (kind, by, politely, by_force) in kinds {
        // By force, one that still hears something may have left before it is killed, or have said that it leaves.
        for (force, causes) in [(false, [politely; 2]), (true, [killed, by_force])] {
            let before = gateway.wait_ready("other");
            signal(before["pid"].as_u64().unwrap(), by);
            let mut args = vec!["ctl", "restart", "other", "--json"];
            args.extend(force.then_some("--force"));
            let output = gateway.run(&args);
            assert_eq!(output.status.code(), Some(0), "{kind}: {}", stderr(&output));
            let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            eprintln!("{kind}, force {force}: ready after {} ms", told["results"][0]["took_ms"]);
            let after = gateway.wait_ready("other");
            let cause = after["exits"][0]["cause"].as_str().unwrap();
            let is = |known: &&str| cause.split(": ").next() == known.split(": ").next();
            assert!(causes.iter().any(is), "{kind}, force {force}: {cause}");
            assert_eq!(after["generation"], before["generation"].as_u64().unwrap() + 1);
        }
    }
}

/// A tool that a worker's family runs would end with what it ends: it refuses, or is not needed.
#[test]
fn what_comes_from_within_is_done_by_the_supervisor_or_not_at_all() {
    let Some(gateway) = running(":") else { return };
    let orphan = |members: &[u64], worker: u64| {
        let is = |pid: &u64| gateway.path(&format!("{worker}.orphan.{pid}")).exists();
        *members.iter().find(|pid| is(pid)).unwrap()
    };
    let tell = |args: &str| {
        let (worker, members) = family(&gateway);
        let (told, code) = (gateway.path("told"), gateway.path("code"));
        let _ = std::fs::remove_file(&code);
        let ours = gateway.command();
        let words: Vec<_> = ours.get_args().map(|word| word.to_str().unwrap()).collect();
        let command = format!(
            "{} {} {args} > {told} 2>&1\necho $? > {code}.new\nmv {code}.new {code}\n",
            crate::gateway::PROGRAM,
            words.join(" "),
            told = told.display(),
            code = code.display(),
        );
        std::fs::write(gateway.path("command"), command).unwrap();
        // One that has left its parents long ago.
        signal(orphan(&members, worker), "USR2");
    };
    let obey = |args: &str| {
        tell(args);
        gateway.until("it has been told", || {
            let code = std::fs::read_to_string(gateway.path("code")).ok()?.trim().to_owned();
            Some((code, std::fs::read_to_string(gateway.path("told")).unwrap()))
        })
    };
    let (code, told) = obey("ctl kill --force");
    assert!(code == "75" && told.contains("would end with it"), "{code} {told}");
    let (code, told) = obey("supervise --replace");
    assert!(code == "64" && told.contains("would end with the old one"), "{code} {told}");
    let before = gateway.instance("local")["generation"].as_u64();
    // Its asker ends with the worker, perhaps before it has read the answer.
    tell("ctl restart local");
    gateway.wait("local", "is another", |i| {
        i["phase"] == "ready" && i["generation"].as_u64() > before
    });
    let (code, told) = obey("ctl kill");
    assert!(code == "75" && told.contains("one in 60 s is enough"), "{code} {told}");
}

/// A process that the kernel does not let go: frozen by a control group of version 1, it is in state D
/// and no signal reaches it.
#[test]
fn what_cannot_be_killed_blocks_only_its_own_instance() {
    struct Freezer(std::path::PathBuf);
    impl Freezer {
        fn set(&self, state: &str) {
            std::fs::write(self.0.join("freezer.state"), state).unwrap();
        }
    }
    impl Drop for Freezer {
        fn drop(&mut self) {
            self.set("THAWED");
            while std::fs::remove_dir(&self.0).is_err() && !std::thread::panicking() {}
        }
    }
    let dir = format!("/sys/fs/cgroup/freezer/hermes-gw-test-{}", std::process::id());
    if std::fs::create_dir(&dir).is_err() {
        eprintln!("skipped: no freezer of version 1 here");
        return;
    }
    let gateway = Gateway::running(CONFIG);
    let freezer = Freezer(dir.into());
    let (worker, sibling) =
        (gateway.wait_ready("local")["pid"].clone(), gateway.wait_ready("other"));
    std::fs::write(freezer.0.join("cgroup.procs"), worker.to_string()).unwrap();
    freezer.set("FROZEN");
    let output = gateway.run(&["ctl", "restart", "local", "--force", "--timeout", "100ms"]);
    assert_eq!(output.status.code(), Some(75));
    let stuck = gateway.wait("local", "is said to be stuck", |i| i["reason"].is_string());
    let reason = stuck["reason"].as_str().unwrap();
    assert!(
        reason.starts_with(&format!("killed, and still there: process {worker} (")),
        "{reason}"
    );
    assert!(reason.ends_with("state D)"), "{reason}");
    assert_eq!((&stuck["phase"], &stuck["generation"]), (&"stopping".into(), &1.into()));
    assert_eq!(gateway.instance("other")["pid"], sibling["pid"]);
    assert!(gateway.run(&["ctl", "restart", "other"]).status.success(), "others obey");
    freezer.set("THAWED");
    let back = gateway.wait_ready("local");
    assert_eq!((&back["generation"], &back["reason"]), (&2.into(), &serde_json::Value::Null));
}
