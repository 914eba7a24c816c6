//! What another user of the machine is told. Only root can become somebody else, so only root proves it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::gateway::{Gateway, PROGRAM, signal, stderr, stdout};

const CONFIG: &str = "[platform.local]\n[agent.echo]\n";
const NOBODY: u32 = 65_534;

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// The program as another user runs it, on this gateway's state. `None`: we are not root.
fn stranger(gateway: &Gateway) -> Option<Command> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    mode(&gateway.path(""), 0o755);
    // A copy, since the program itself may stand where only root can go; by a process of its own, since
    // what this one has open for writing cannot be run while another test is between fork and exec.
    let program = gateway.path("hermes-gw");
    assert!(Command::new("cp").arg(PROGRAM).arg(&program).status().unwrap().success());
    let mut command = Command::new(program);
    command.args(["--config".as_ref(), gateway.path("config.toml").as_os_str()]);
    command.args(["--state-dir".as_ref(), gateway.state().as_os_str()]);
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
    Some(command)
}

#[test]
fn who_may_not_look_is_not_told_that_nobody_is_there() {
    let gateway = Gateway::running(CONFIG);
    gateway.wait_ready("local");
    for args in [&["ctl", "kill", "--force"][..], &["ctl", "kill"], &["ctl", "status"]] {
        let Some(mut command) = stranger(&gateway) else { return };
        let output = command.args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(77), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
        let hint = "hint: run as the user who runs the supervisor, or as root";
        assert!(stderr(&output).contains(hint), "{args:?}: {}", stderr(&output));
    }
    gateway.wait_ready("local");
}

/// Somebody has opened the directory and the sockets to all.
#[test]
fn who_reaches_the_socket_of_another_user_is_told_so() {
    let gateway = Gateway::running(CONFIG);
    gateway.wait_ready("local");
    mode(&gateway.state(), 0o711);
    for name in ["gw.sock", "chat-local.sock"] {
        mode(&gateway.state().join(name), 0o666);
    }
    for args in [&["ctl", "status"][..], &["ctl", "restart"], &["ctl", "kill"], &["chat"]] {
        let Some(mut command) = stranger(&gateway) else { return };
        let said = std::fs::File::open(gateway.path("config.toml")).unwrap();
        let output = command.args(args).stdin(said).output().unwrap();
        assert_eq!(output.status.code(), Some(77), "{args:?}: {}", stderr(&output));
        let hint = "hint: run as the user who runs the supervisor, or as root";
        assert!(stderr(&output).contains(hint), "{args:?}: {}", stderr(&output));
    }
    gateway.wait_ready("local");
}

/// A service manager must not start it again and again.
#[test]
fn a_store_of_somebody_else_is_named_with_its_cause() {
    let gateway = Gateway::new(CONFIG);
    let Some(mut command) = stranger(&gateway) else { return };
    std::fs::create_dir(gateway.state()).unwrap();
    let store = gateway.state().join("store.db");
    std::fs::write(&store, "").unwrap();
    mode(&store, 0o600);
    std::os::unix::fs::chown(gateway.state(), Some(NOBODY), Some(NOBODY)).unwrap();
    mode(&gateway.state(), 0o700);
    let output = command.args(["supervise", "-q"]).output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("store.db: Permission denied"), "{told}");
    assert!(told.contains("hint: run as the owner of that path"), "{told}");
}

/// F01: what a supervisor that root once ran here left behind is in nobody's way.
#[test]
fn a_leftover_socket_of_another_user_is_no_obstacle() {
    let gateway = Gateway::new(CONFIG);
    let Some(mut command) = stranger(&gateway) else { return };
    std::fs::create_dir(gateway.state()).unwrap();
    mode(&gateway.state(), 0o700);
    std::os::unix::fs::chown(gateway.state(), Some(NOBODY), Some(NOBODY)).unwrap();
    let left = ["gw.sock", "chat-local.sock"].map(|name| gateway.state().join(name));
    for path in &left {
        drop(UnixListener::bind(path).unwrap());
    }
    let mut supervisor = command.arg("supervise").spawn().unwrap();
    gateway.wait_ready("local");
    for path in &left {
        assert_eq!(std::fs::metadata(path).unwrap().uid(), NOBODY);
    }
    signal(u64::from(supervisor.id()), "TERM");
    assert!(supervisor.wait().unwrap().success());
}
