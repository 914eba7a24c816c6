//! Peers of the supervisor's socket that are broken, oversized, silent or strangers cost only their own
//! link.

use std::fs::DirEntry;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tests::feishu::{Entry, Fault, Feishu, Observation, Route, Times, Trouble};

use crate::gateway::{Gateway, PATIENCE, signal};

const CONFIG: &str = "[platform.local]\n[agent.echo]\n";

fn dial(gateway: &Gateway) -> UnixStream {
    let stream = UnixStream::connect(gateway.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What comes back until the other side closes.
fn rest(mut stream: UnixStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn hello(instance: &str, nonce: [u8; 16]) -> Vec<u8> {
    let hello = protocol::hello::Hello {
        instance: protocol::id::Instance::new(instance).unwrap(),
        generation: protocol::id::Generation(1),
        nonce: protocol::id::Nonce(nonce),
        pid: std::process::id(),
    };
    let mut bytes =
        protocol::hello::Preamble::ours(protocol::hello::BuildId([0; 16])).to_bytes().to_vec();
    let mut frame = bytes::BytesMut::new();
    protocol::frame::encode(&hello, &mut frame).unwrap();
    bytes.extend_from_slice(&frame);
    bytes
}

#[test]
fn bad_peers_are_cut_and_nobody_else_notices() {
    let gateway = Gateway::running(CONFIG);
    let before = ["local", "echo"].map(|name| gateway.wait_ready(name)["pid"].clone());

    let silent: Vec<UnixStream> = (0..20).map(|_| dial(&gateway)).collect();

    let mut garbage = dial(&gateway);
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    garbage.shutdown(std::net::Shutdown::Write).unwrap();
    let told = String::from_utf8(rest(garbage)).unwrap();
    assert!(told.contains("\"error\":{\"code\":76"), "{told}");

    let mut endless = dial(&gateway);
    let block = vec![b'{'; 64 * 1024];
    // Refused on the way: the rest cannot be written.
    while endless.write_all(&block).is_ok() {}

    let mut other_version = dial(&gateway);
    other_version.write_all(b"\x89HGW\x01\xff\x7f\x000123456789abcdef").unwrap();
    let preamble = rest(other_version);
    assert!(preamble.starts_with(b"\x89HGW\x01"), "it learns our version, and no more");
    assert_eq!(preamble.len(), protocol::hello::PREAMBLE_LEN);

    for instance in ["local", "nobody"] {
        let mut stranger = dial(&gateway);
        stranger.write_all(&hello(instance, [7; 16])).unwrap();
        assert_eq!(rest(stranger).len(), protocol::hello::PREAMBLE_LEN, "no configuration");
    }

    let mut oversized = dial(&gateway);
    let mut bytes = hello("local", [7; 16])[..protocol::hello::PREAMBLE_LEN].to_vec();
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    oversized.write_all(&bytes).unwrap();
    assert_eq!(rest(oversized).len(), protocol::hello::PREAMBLE_LEN);

    let after = ["local", "echo"].map(|name| gateway.wait_ready(name)["pid"].clone());
    assert_eq!(before, after);
    drop(silent);
}

#[test]
fn a_script_can_ask_several_things_over_one_connection() {
    let gateway = Gateway::running(CONFIG);
    let mut stream = dial(&gateway);
    stream
        .write_all(
            b"{\"id\":\"a\",\"method\":\"status\"}\n\n{\"id\":2,\"method\":\"dance\"}\nnonsense\n\
              {\"id\":3,\"method\":\"restart\",\"params\":{\"instances\":[\"lokal\"]}}\n",
        )
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let told = String::from_utf8(rest(stream)).unwrap();
    let mut lines: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["id"].to_string());
    assert_eq!(lines.len(), 4, "{told}");
    assert_eq!(lines[0]["result"]["schema"], 1, "\"a\"");
    assert_eq!(lines[1]["error"]["code"], 64, "dance");
    assert_eq!(lines[2]["error"]["hint"], "did you mean \"local\"? configured: local, echo");
    assert_eq!(lines[3]["error"]["code"], 76, "nonsense");
}

#[test]
fn a_tool_that_hangs_up_cancels_nothing() {
    let gateway = Gateway::running(CONFIG);
    let before = gateway.wait_ready("local")["generation"].as_u64().unwrap();
    let mut events = gateway.events();
    let mut stream = dial(&gateway);
    let line = b"{\"id\":1,\"method\":\"restart\",\"params\":{\"instances\":[\"local\"],\"wait_ms\":9999}}\n";
    stream.write_all(line).unwrap();
    drop(stream);
    events.wait(|event| {
        event["instance"] == "local" && event["now"] == "ready" && event["generation"] == before + 1
    });
}

/// F83: the directory keeps other users out already; this opens it, so that only the check of the peer is
/// left. Only root can be somebody else.
#[test]
fn another_user_is_turned_away() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let gateway = Gateway::running(CONFIG);
    for path in [gateway.path(""), gateway.state(), gateway.socket()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                  s.sendall(b'{\"id\":1,\"method\":\"status\"}\\n'); print(len(s.recv(10)))";
    let ask = |uid: u32| {
        let mut command = std::process::Command::new("python3");
        command.args(["-c", script]).arg(gateway.socket()).uid(uid);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(ask(0).trim(), "10", "its own user is answered");
    assert_ne!(ask(65_534).trim(), "10");
    gateway.until("it is said", || {
        gateway.log().contains("turned away a connection of another user").then_some(())
    });
}

#[test]
fn listeners_that_hang_up_leave_room_for_others() {
    let gateway = Gateway::running(CONFIG);
    for _ in 0..1_100 {
        drop(gateway.events());
    }
    gateway.wait_ready("local");
}

/// The sockets of a process, kept open beside it. Only root may.
fn sockets_of(pid: u64) -> Vec<OwnedFd> {
    let process = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let process = pidfd_open(process, PidfdFlags::empty()).unwrap();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(Result::unwrap);
    let is_socket = |entry: &DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|it| it.to_string_lossy().starts_with("socket:"))
    };
    let number = |entry: DirEntry| entry.file_name().to_str().unwrap().parse().unwrap();
    let numbers = open.filter(is_socket).map(number);
    numbers.map(|it| pidfd_getfd(&process, it, PidfdGetfdFlags::empty()).unwrap()).collect()
}

/// The end of a link may come long after that of its worker, and after the next worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_outlives_its_worker_holds_no_reply_up() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can keep a link of another process open");
        return;
    }
    let feishu = Feishu::start().await;
    feishu.add_app("cli_one", "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.one]\nkind = \"feishu\"\napp_id = \"cli_one\"\napp_secret_file = \"secret\"\n\
         base_url = \"{}\"\naccess = {{ direct = \"open\" }}\n[agent.echo]\n",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret").unwrap();
    gateway.start();
    let worker = gateway.wait_ready("one")["pid"].as_u64().unwrap();
    for route in [Route::Send, Route::Reply] {
        let hangs = Fault::Rest { route: Some(route), trouble: Trouble::Hang };
        feishu.fault("cli_one", hangs, Times::Always);
    }
    feishu.push_text("cli_one", "oc_1", "ou_ann", "hello").acked_within(PATIENCE).await;
    let hangs = |entry: &Entry| {
        let Observation::Call { route, status, .. } = &entry.what else { return false };
        ["send", "reply"].contains(route) && status.is_none()
    };
    feishu.wait_count("the reply is on its way", PATIENCE, 1, hangs).await;
    let link = sockets_of(worker);
    assert!(!link.is_empty());
    feishu.clear_faults();
    signal(worker, "KILL");
    gateway.wait("one", "another worker", |i| {
        i["connected"] == true && i["pid"].as_u64().is_some_and(|pid| pid != worker)
    });
    let reply = feishu.wait_sent(PATIENCE, |_| true).await;
    assert_eq!(reply.receive_id, "oc_1");
    drop(link);
    feishu.push_text("cli_one", "oc_1", "ou_ann", "again").acked_within(PATIENCE).await;
    feishu.wait_sent(PATIENCE, |sent| sent.text().is_some_and(|it| it.contains("again"))).await;
}
