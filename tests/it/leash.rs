//! A worker and its supervisor, when one of them is not what it should be.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use bytes::BytesMut;
use protocol::hello::{BuildId, Hello, PREAMBLE_LEN, Preamble};
use protocol::worker::{Adapter, Configure, Exchange, FromWorker, Network, ToWorker};

use crate::gateway::{PATIENCE, PROGRAM, stderr};

/// A worker whose supervisor is this test.
struct Orphan {
    _dir: tempfile::TempDir,
    child: Option<Child>,
    link: UnixStream,
    received: BytesMut,
}

impl Orphan {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("gw.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut child = spawn();
        let leash = serde_json::json!({
            "socket": socket, "instance": "echo", "generation": 1, "nonce": "0".repeat(32),
        });
        child.stdin.as_mut().unwrap().write_all(format!("{leash}\n").as_bytes()).unwrap();
        let (link, _) = listener.accept().unwrap();
        link.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut orphan = Self { _dir: dir, child: Some(child), link, received: BytesMut::new() };
        let mut preamble = [0; PREAMBLE_LEN];
        orphan.link.read_exact(&mut preamble).unwrap();
        Preamble::check(&preamble).unwrap();
        let hello: Hello = orphan.hear();
        assert_eq!((hello.instance.as_str(), hello.generation.0), ("echo", 1));
        assert_eq!(hello.pid, orphan.child.as_ref().unwrap().id());
        orphan
    }

    fn say(&mut self, bytes: &[u8]) {
        self.link.write_all(bytes).unwrap();
    }

    fn preamble(&mut self) {
        self.say(&Preamble::ours(BuildId([0; 16])).to_bytes());
    }

    fn configure(&mut self) {
        self.preamble();
        let configure = Configure {
            adapter: Adapter::Echo,
            cursor: None,
            window: 4,
            window_bytes: 1024,
            heartbeat_ms: 10,
            grace_ms: 1000,
            log: "error".into(),
            exchange: Exchange { dir: "/x".into(), max_bytes: 0 },
            network: Network::default(),
        };
        let mut frame = BytesMut::new();
        protocol::frame::encode(&ToWorker::Configure(Box::new(configure)), &mut frame).unwrap();
        self.say(&frame);
    }

    fn hear<T: serde::de::DeserializeOwned>(&mut self) -> T {
        loop {
            if let Some(frame) = protocol::frame::decode(&mut self.received).unwrap() {
                return frame;
            }
            let mut chunk = [0; 4096];
            let n = self.link.read(&mut chunk).unwrap();
            assert!(n > 0, "the worker left");
            self.received.extend_from_slice(&chunk[..n]);
        }
    }

    /// Its exit code and what it said last.
    fn end(mut self) -> (i32, String) {
        let mut child = self.child.take().unwrap();
        // Kept: its end would be the end of the leash.
        let stdin = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        (output.status.code().unwrap(), stderr(&output))
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn() -> Child {
    Command::new(PROGRAM)
        .args(["worker", "echo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_worker_without_a_supervisor_is_a_mistake() {
    let mut child = spawn();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("`hermes-gw supervise` starts workers"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_damaged_frame_ends_the_worker_with_76_and_a_hint() {
    let mut orphan = Orphan::new();
    orphan.configure();
    let _: FromWorker = orphan.hear();
    orphan.say(&[3, 0, 0, 0, 0xff, 0xff, 0xff]);
    let (code, told) = orphan.end();
    assert_eq!(code, 76, "{told}");
    assert!(told.contains("talk to the supervisor: decode frame"), "{told}");
    assert!(told.contains("\nhint: "), "{told}");
}

#[test]
fn another_version_and_an_oversized_frame_end_it_too() {
    let mut orphan = Orphan::new();
    let mut other = Preamble::ours(BuildId([0; 16]));
    other.version += 1;
    orphan.say(&other.to_bytes());
    let (code, told) = orphan.end();
    assert_eq!(code, 76, "{told}");
    assert!(told.contains("the other side speaks protocol version"), "{told}");

    let mut orphan = Orphan::new();
    orphan.configure();
    orphan.say(&u32::MAX.to_le_bytes());
    let (code, told) = orphan.end();
    assert_eq!(code, 76, "{told}");
    assert!(told.contains("at most 1048576 are allowed"), "{told}");
}

#[test]
fn the_end_of_the_leash_is_the_end_of_the_worker() {
    let mut orphan = Orphan::new();
    orphan.configure();
    let _: FromWorker = orphan.hear();
    drop(orphan.child.as_mut().unwrap().stdin.take());
    loop {
        if let FromWorker::Bye { reason } = orphan.hear() {
            assert_eq!(reason, "told to end");
            break;
        }
    }
    assert_eq!(orphan.end().0, 0);

    // Also while nobody has configured it, and nobody answers.
    let mut orphan = Orphan::new();
    drop(orphan.child.as_mut().unwrap().stdin.take());
    assert_eq!(orphan.end().0, 69);
}
