//! Somebody removes the sockets of a gateway that lives: it is found again without a restart (F101).

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::gateway::{Gateway, PROGRAM, stderr, stdout};

const CONFIG: &str = "[platform.local]\n[agent.hermes]\nkind = \"socket\"\n";

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

fn agent_ready(gateway: &Gateway) -> serde_json::Value {
    gateway.wait("hermes", "listens", |i| i["phase"] == "ready")
}

fn answers(path: &Path) -> Option<UnixStream> {
    UnixStream::connect(path).ok()
}

#[test]
fn the_supervisor_is_found_again_when_its_socket_was_removed() {
    let gateway = Gateway::running(CONFIG);
    let worker = gateway.wait_ready("local")["pid"].clone();
    for _ in 0..2 {
        let mut events = gateway.events();
        std::fs::remove_file(gateway.socket()).unwrap();
        let told = events.wait(|event| event["event"] == "socket");
        assert_eq!(told["now"], "made anew", "{told}");
        let mode = std::fs::metadata(gateway.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let output = gateway.run(&["ctl", "status"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(gateway.instance("local")["pid"], worker, "nobody was restarted for it");
    let output = gateway.run(&["ctl", "restart", "local"]);
    assert!(stdout(&output).starts_with("local: restarted"), "{}", stderr(&output));
    let journal = std::fs::read_to_string(gateway.state().join("journal.jsonl")).unwrap();
    assert_eq!(
        journal.matches("\"made anew\"").count(),
        1,
        "twice the same is counted:\n{journal}"
    );
}

/// An empty directory is what those who clean up take first. Who has confined itself may only touch the
/// directory that was there when it began.
#[test]
fn the_exchange_directory_and_the_journal_are_made_anew() {
    let gateway = Gateway::running(CONFIG);
    gateway.wait_ready("local");
    let before = agent_ready(&gateway);
    let mut events = gateway.events();
    let (exchange, journal) =
        (gateway.state().join("exchange"), gateway.state().join("journal.jsonl"));
    std::fs::remove_file(&journal).unwrap();
    std::fs::remove_dir(&exchange).unwrap();
    let told = events.wait(|event| event["event"] == "exchange");
    assert_eq!(told["now"], "made anew", "{told}");
    assert_eq!(std::fs::metadata(&exchange).unwrap().permissions().mode() & 0o777, 0o700);
    gateway.wait("hermes", "another worker, unless it is not confined", |i| {
        let is_confined = i["confined"].as_str().is_some_and(|how| how.starts_with("files"));
        i["phase"] == "ready" && is_confined == (i["generation"] != before["generation"])
    });
    assert!(std::fs::read_to_string(&journal).unwrap().contains("\"exchange\""));
    // It still works for who reads there.
    std::fs::remove_dir(&exchange).unwrap();
    std::fs::write(&exchange, "in its place").unwrap();
    let told = events.wait(|event| event["event"] == "exchange");
    assert_eq!(told["now"], "gone", "{told}");
    std::fs::remove_file(&exchange).unwrap();
    let told = events.wait(|event| event["event"] == "exchange");
    assert_eq!(told["now"], "made anew", "{told}");
}

#[test]
fn a_socket_of_somebody_else_in_its_place_is_left_alone() {
    let mut gateway = Gateway::running(CONFIG);
    gateway.wait_ready("local");
    let mut events = gateway.events();
    let (path, beside) = (gateway.socket(), gateway.path("beside"));
    let other = UnixListener::bind(&beside).unwrap();
    let theirs = inode(&beside);
    std::fs::rename(&beside, &path).unwrap();
    let told = events.wait(|event| event["event"] == "socket");
    assert_eq!(told["now"], "gone");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("another supervisor listens there"), "{reason}");
    assert_eq!(inode(&path), theirs);
    // Nobody listens there any more: what is left over of it is in nobody's use.
    drop(other);
    let told = events.wait(|event| event["event"] == "socket");
    assert_eq!(told["now"], "made anew");
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    gateway.left();
    assert!(!path.exists());
}

#[test]
fn terminals_and_agents_find_their_sockets_again_and_lose_no_connection() {
    let gateway = Gateway::running(CONFIG);
    let workers =
        [gateway.wait_ready("local")["pid"].clone(), agent_ready(&gateway)["pid"].clone()];
    for name in ["chat-local.sock", "agent-hermes.sock"] {
        let path = gateway.state().join(name);
        let former = inode(&path);
        std::fs::remove_file(&path).unwrap();
        gateway.until("it answers again", || answers(&path));
        assert_ne!(inode(&path), former);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(workers, ["local", "hermes"].map(|name| gateway.instance(name)["pid"].clone()));
}

/// What a worker may touch is bound to the directory that was there when it began: where that is gone,
/// another worker is needed.
#[test]
fn a_directory_that_was_removed_comes_back_with_all_of_its_sockets() {
    let config = format!("[gateway]\nruntime_dir = \"{{dir}}/run\"\n{CONFIG}");
    let mut gateway = Gateway::new(&config);
    let run = gateway.path("run");
    std::fs::create_dir(gateway.state()).unwrap();
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(gateway.state(), closed).unwrap();
    symlink(run.join("gw.sock"), gateway.socket()).unwrap();
    gateway.start();
    gateway.wait_ready("local");
    agent_ready(&gateway);
    let mut events = gateway.events();
    std::fs::remove_dir_all(&run).unwrap();
    let told = events.wait(|event| event["event"] == "socket");
    assert_eq!(told["now"], "made anew", "{told}");
    assert_eq!(std::fs::metadata(&run).unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["gw.sock", "chat-local.sock", "agent-hermes.sock"] {
        gateway.until("it answers again", || answers(&run.join(name)));
    }
    gateway.wait_ready("local");
    assert!(gateway.run(&["ctl", "restart", "hermes"]).status.success());
}

#[test]
fn an_upgrade_without_the_socket_brings_it_back() {
    use std::io::Write;
    let gateway = Gateway::running(CONFIG);
    let worker = gateway.wait_ready("local")["pid"].clone();
    agent_ready(&gateway);
    let params = serde_json::json!({ "program": PROGRAM, "wait_ms": 1000 });
    let request = serde_json::json!({ "id": 1, "method": "upgrade", "params": params });
    let mut tool = UnixStream::connect(gateway.socket()).unwrap();
    // Most likely it becomes the other program before it looks.
    std::fs::remove_file(gateway.socket()).unwrap();
    tool.write_all(format!("{request}\n").as_bytes()).unwrap();
    gateway.until("it is upgraded and answers", || {
        (!gateway.status()?["upgraded"].is_null()).then_some(())
    });
    assert_eq!(gateway.wait_ready("local")["pid"], worker);
}
