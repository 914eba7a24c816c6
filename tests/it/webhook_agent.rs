//! A URL as the agent: what is posted, and what an answer means (F20). The official library judges the
//! signatures in `tests/conformance`.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;

use protocol::id::{Instance, Lane};
use protocol::worker::FromWorker;
use protocol::{content, frame};
use serde_json::{Value, json};

use crate::gateway::{Gateway, PATIENCE, stderr, stdout};
use crate::terminal::Terminal;

pub(crate) const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

pub(crate) struct Posted {
    headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Posted {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).unwrap()
    }
}

/// Answers one post after the other as its script says, then with 204.
pub(crate) fn receiver(script: &[&str]) -> (String, mpsc::Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?token=hidden", listener.local_addr().unwrap());
    let (tell, posted) = mpsc::channel();
    let mut script: VecDeque<_> = script.iter().map(|&answer| answer.to_owned()).collect();
    // Ends when the test no longer listens, or with its process.
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let answer = script.pop_front().unwrap_or("204 No Content\r\n\r\n".to_owned());
            if tell.send(serve(stream, &answer)).is_err() {
                return;
            }
        }
    });
    (url, posted)
}

fn serve(stream: TcpStream, answer: &str) -> Posted {
    let mut stream = BufReader::new(stream);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.trim().split_once(": ") {
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse();
    let mut body = vec![0; length.unwrap()];
    stream.read_exact(&mut body).unwrap();
    // It may be too long for whoever reads it.
    let _ = write!(stream.get_mut(), "HTTP/1.1 {answer}");
    Posted { headers, body: serde_json::from_slice(&body).unwrap() }
}

fn gateway(url: &str) -> Gateway {
    let mut gateway = Gateway::new(&format!(
        "[platform.local]\n[agent.flow]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret_file = \"key\"\n"
    ));
    std::fs::write(gateway.path("key"), SECRET).unwrap();
    gateway.start();
    gateway
}

#[test]
fn an_event_is_posted_and_the_answer_replies() {
    let (url, posted) = receiver(&["200 OK\r\ncontent-length: 15\r\n\r\n{\"text\":\"pong\"}"]);
    let gateway = gateway(&url);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("t1", "ping");
    assert_eq!(terminal.shown(), "pong");
    let first = posted.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.body["type"], "message.received");
    assert_eq!(first.body["data"]["text"], "ping");
    assert!(first.body["timestamp"].as_str().unwrap().ends_with('Z'));
    assert!(first.header("webhook-id").starts_with("msg_"));
    assert!(first.header("webhook-signature").starts_with("v1,"));
    terminal.typed("t2", "no answer");
    let second = posted.recv_timeout(PATIENCE).unwrap();
    assert_ne!(second.header("webhook-id"), first.header("webhook-id"));
    gateway.wait("flow", "settled", |i| i["gate"]["acknowledged"] == 2);
    assert!(!gateway.status().unwrap().to_string().contains("hidden"), "a URL can be a secret");
}

fn whole(body: &str) -> String {
    format!("200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn an_answer_that_is_no_reply_is_told_and_its_event_is_taken() {
    let long = "x".repeat(900_000);
    let more = "x".repeat(5_000_000);
    let script = [
        whole(&format!("{{\"text\":\"{long}\"}}")),
        whole("{\"text\":\"pong"),
        whole("ok"),
        whole(&format!("{{\"text\":\"{more}\"}}")),
    ];
    let (url, posted) = receiver(&script.each_ref().map(String::as_str));
    let gateway = gateway(&url);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("t1", "long");
    assert_eq!(terminal.shown().len(), long.len());
    terminal.typed("t2", "broken");
    gateway.wait("flow", "told", |i| {
        i["outside"] == "limited" && i["reason"].as_str().is_some_and(|it| it.contains("JSON"))
    });
    terminal.typed("t3", "a word");
    gateway.wait("flow", "right again", |i| i["outside"] == "up");
    terminal.typed("t4", "too long");
    gateway.wait("local", "set aside", |i| i["store"]["parked"] == 1);
    assert_eq!(gateway.instance("flow")["gate"]["acknowledged"], 3);
    assert_eq!(posted.try_iter().count(), 4, "each once");
}

/// What cannot be read may have been a reply.
#[test]
fn an_answer_that_is_packed_or_no_text_is_told() {
    let packed = "200 OK\r\ncontent-encoding: br\r\ncontent-length: 4\r\n\r\nword";
    let empty = "200 OK\r\ncontent-encoding: br\r\ncontent-length: 0\r\n\r\n";
    let (url, posted) = receiver(&[packed, empty, &whole("\0\u{1}\u{2}")]);
    let gateway = gateway(&url);
    let mut terminal = Terminal::join(&gateway);
    let told = |why: &str| {
        gateway.wait("flow", why, |i| {
            i["outside"] == "limited" && i["reason"].as_str().is_some_and(|it| it.contains(why))
        });
    };
    terminal.typed("t1", "packed");
    told("it sends br where nothing packed was asked for");
    assert_eq!(posted.recv_timeout(PATIENCE).unwrap().header("accept-encoding"), "identity");
    terminal.typed("t2", "nothing");
    gateway.wait("flow", "right again", |i| i["outside"] == "up");
    terminal.typed("t3", "bytes");
    told("it is no text");
    gateway.wait("flow", "taken", |i| i["gate"]["acknowledged"] == 3);
    assert_eq!(gateway.log().matches("taken, but the answer is no reply").count(), 2);
}

#[test]
fn a_failure_is_tried_again_under_the_same_id() {
    let (url, posted) = receiver(&["500 X\r\ncontent-length: 0\r\n\r\n"]);
    let gateway = gateway(&url);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("t1", "ping");
    let first = posted.recv_timeout(PATIENCE).unwrap();
    let second = posted.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_ne!(first.header("webhook-timestamp"), second.header("webhook-timestamp"));
    assert_eq!(second.body["data"]["attempt"], 2);
    gateway.wait("flow", "settled", |i| i["gate"]["acknowledged"] == 1);
}

/// What waits for its next attempt is told of, and is stopped like what runs.
#[test]
fn what_waits_for_another_attempt_is_no_secret_and_can_be_stopped() {
    let later = "503 Later\r\nretry-after: 600\r\ncontent-length: 0\r\n\r\n";
    let (url, posted) = receiver(&[later]);
    let gateway = gateway(&url);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("t1", "ping");
    posted.recv_timeout(PATIENCE).unwrap();
    let told = gateway.wait("flow", "told", |i| i["outside"] == "limited");
    assert!(told["reason"].as_str().unwrap().contains("503"), "{told}");
    terminal.typed("t2", "/status");
    let status = terminal.shown();
    assert!(status.contains("another attempt here in") && status.contains("503"), "{status}");
    terminal.typed("t3", "/stop");
    assert_eq!(terminal.shown(), "Stopped. What waited for another attempt is set aside.");
    gateway.wait("local", "set aside", |i| i["store"]["parked"] == 1 && i["store"]["waiting"] == 0);
    terminal.typed("t4", "/stop");
    assert_eq!(terminal.shown(), "Nothing to stop here.");
    terminal.typed("t5", "pong");
    assert_eq!(posted.recv_timeout(PATIENCE).unwrap().body["data"]["text"], "pong");
    gateway.wait("flow", "well again", |i| i["outside"] == "up" && i["reason"].is_null());
}

/// F17: nothing that ends the supervisor, or takes its place, makes the next attempt earlier.
#[test]
fn a_stated_pause_outlives_the_supervisor_and_a_reload() {
    let later = "503 Later\r\nretry-after: 600\r\ncontent-length: 0\r\n\r\n";
    let (url, posted) = receiver(&[later]);
    let mut gateway = gateway(&url);
    Terminal::join(&gateway).typed("t1", "ping");
    assert_eq!(posted.recv_timeout(PATIENCE).unwrap().body["data"]["text"], "ping");
    gateway.wait("flow", "told", |i| i["outside"] == "limited");
    let events: [fn(&mut Gateway); 3] = [
        |gateway| {
            gateway.kill_supervisor();
            gateway.start();
        },
        |gateway| {
            let config = std::fs::read_to_string(gateway.path("config.toml")).unwrap();
            std::fs::write(gateway.path("config.toml"), config + "lease_s = 400\n").unwrap();
            let reload = gateway.run(&["ctl", "reload"]);
            assert!(stdout(&reload).contains("flow"), "{reload:?}");
        },
        |gateway| assert!(gateway.run(&["ctl", "upgrade"]).status.success()),
    ];
    for (number, happens) in events.into_iter().enumerate() {
        happens(&mut gateway);
        gateway.wait("flow", "open", |i| i["gate"]["open"] == true);
        let mut terminal = Terminal::join(&gateway);
        // Whoever asks before it has looked at what waits is told that it waits, and no more.
        let mut asked = 0;
        gateway.until(&format!("{number}: the pause is told"), || {
            asked += 1;
            terminal.typed(&format!("s{number}.{asked}"), "/status");
            terminal.shown().contains("another attempt here in").then_some(())
        });
        // Whoever need not wait is heard, and nobody else.
        let other = format!("o{number}");
        Terminal::join_as(&gateway, "other", "bob").typed(&other, &other);
        let next = posted.recv_timeout(PATIENCE).unwrap();
        assert_eq!(next.body["data"]["text"], other);
    }
}

#[test]
fn a_receiver_that_is_gone_gets_no_more_and_nothing_is_lost() {
    let (url, posted) = receiver(&["410 Gone\r\ncontent-length: 0\r\n\r\n"]);
    let gateway = gateway(&url);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("t1", "ping");
    posted.recv_timeout(PATIENCE).unwrap();
    gateway.wait("flow", "shut", |i| i["gate"]["open"] == false && i["connected"] == false);
    assert!(gateway.run(&["ctl", "restart", "flow"]).status.success());
    assert_eq!(posted.recv_timeout(PATIENCE).unwrap().body["data"]["attempt"], 2);
    gateway.wait("flow", "settled", |i| i["gate"]["acknowledged"] == 1);
}

#[test]
fn certificates_of_the_gateway_are_those_of_its_agents() {
    let mut gateway = Gateway::new(
        "[gateway]\nca_file = \"ca\"\n[platform.local]\nagent = \"flow\"\n\
         [agent.flow]\nkind = \"webhook\"\nurl = \"https://localhost:1/\"\nsecret_file = \"key\"\n\
         [agent.model]\nkind = \"openai\"\nbase_url = \"https://localhost:1/v1\"\nmodel = \"m\"\n",
    );
    std::fs::write(gateway.path("key"), SECRET).unwrap();
    std::fs::write(gateway.path("ca"), "-----BEGIN CERTIFICATE-----\ntorn").unwrap();
    gateway.start();
    for name in ["flow", "model"] {
        let held = gateway.wait(name, "held", |i| i["phase"] == "held");
        assert!(held["reason"].as_str().unwrap().contains("ca_file"), "{held}");
    }
    std::fs::write(gateway.path("ca"), "-----BEGIN CERTIFICATE-----\nother").unwrap();
    let reload = stdout(&gateway.run(&["ctl", "reload"]));
    assert!(reload.contains("flow") && reload.contains("model"), "{reload}");
}

#[test]
fn a_secret_that_is_none_holds_the_instance() {
    let gateway = Gateway::new(
        "[platform.local]\n[agent.flow]\nkind = \"webhook\"\nurl = \"http://h/\"\nsecret_file = \"key\"\n",
    );
    std::fs::write(gateway.path("key"), "no secret").unwrap();
    let mut gateway = gateway;
    gateway.start();
    let held = gateway.wait("flow", "held", |i| i["phase"] == "held");
    assert!(held["reason"].as_str().unwrap().contains("whsec_"), "{held}");
}

/// Posts to the gateway as its receiver does; the status and the answer.
fn post(gateway: &Gateway, port: u16, body: &Value) -> (u64, Value) {
    const POST: &str = "import base64, hashlib, hmac, json, sys, time, urllib.request as web\n\
        key = base64.b64decode(sys.argv[2].removeprefix('whsec_'))\n\
        body, now = open(sys.argv[3], 'rb').read(), str(int(time.time()))\n\
        sign = base64.b64encode(hmac.digest(key, b'id.' + now.encode() + b'.' + body, 'sha256')).decode()\n\
        head = {'webhook-id': 'id', 'webhook-timestamp': now, 'webhook-signature': 'v1,' + sign}\n\
        try: answer = web.urlopen(web.Request(sys.argv[1], body, head))\n\
        except web.HTTPError as e: answer = e\n\
        print(json.dumps([answer.status, json.loads(answer.read())]))\n";
    let file = gateway.path("body");
    std::fs::write(&file, body.to_string()).unwrap();
    let url = format!("http://127.0.0.1:{port}/messages");
    let post = Command::new("python3").args(["-c", POST, &url, SECRET]).arg(file).output().unwrap();
    let told = stdout(&post);
    serde_json::from_str(&told).unwrap_or_else(|e| panic!("{e}: {told}{}", stderr(&post)))
}

/// What no frame can carry to a platform is refused, and ends neither the worker of who says it nor the platform's.
#[test]
fn what_is_too_large_for_a_frame_ends_nobody() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (url, posted) = receiver(&[]);
    let mut gateway = Gateway::new(&format!(
        "[platform.local]\n[agent.flow]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret_file = \"key\"\n\
         listen = \"127.0.0.1:{port}\"\n"
    ));
    std::fs::write(gateway.path("key"), SECRET).unwrap();
    gateway.start();
    let mut terminal = Terminal::join(&gateway);
    gateway.wait("flow", "gate open", |i| i["gate"]["open"] == true);
    let draft = |text: String| json!({ "type": "message.draft", "data": { "key": "k", "instance": "local", "chat_id": "home", "text": text } });
    let part = json!({ "kind": "file", "handle": "x".repeat(2 * frame::MAX) });
    let fetch = json!({ "type": "file.fetch", "data": { "instance": "local", "message_id": "m", "part": part } });
    // The first of them just fits into a frame before it is led on.
    let bare = content::Draft {
        key: "k".into(),
        lane: Lane {
            instance: Instance::new("local").unwrap(),
            chat_id: "home".into(),
            thread_id: None,
        },
        reply_to: None,
        text: "x".repeat(frame::MAX / 2),
        message_id: None,
    };
    let around = frame::size(&FromWorker::Draft(Box::new(bare))).unwrap() - frame::MAX / 2;
    for body in [draft("x".repeat(frame::MAX - around)), draft("x".repeat(2 * frame::MAX)), fetch] {
        let (status, told) = post(&gateway, port, &body);
        assert!([404, 413, 422].contains(&status), "{status} {told}");
        assert!(told["error"].as_str().unwrap().contains("bytes, at most"), "{told}");
        terminal.typed(&body.to_string().len().to_string(), "hello");
        posted.recv_timeout(PATIENCE).unwrap();
        for name in ["local", "flow"] {
            assert_eq!(gateway.instance(name)["generation"], 1, "{}", gateway.log());
        }
    }
}

/// F70
#[test]
fn messages_of_strangers_are_counted_in_the_log() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut gateway = Gateway::new(&format!(
        "[platform.local]\n[agent.flow]\nkind = \"webhook\"\nurl = \"http://h/\"\nsecret_file = \"key\"\n\
         listen = \"{port}\"\n"
    ));
    std::fs::write(gateway.path("key"), SECRET).unwrap();
    gateway.start();
    gateway.wait_ready("flow");
    let knock = |signed: &str| {
        let mut stream = TcpStream::connect(port).unwrap();
        let head =
            "POST /messages HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 0\r\n";
        write!(stream, "{head}webhook-id: m\r\nwebhook-signature: v1,AAAA\r\n{signed}\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    };
    gateway.until("it listens", || TcpStream::connect(port).ok());
    for _ in 0..20 {
        knock("webhook-timestamp: x\r\n");
        knock("webhook-timestamp: 1\r\n");
    }
    let log = gateway.log();
    let said = |why: &str| log.lines().filter(|line| line.contains(why)).count();
    assert_eq!((said("bad webhook-timestamp"), said("too old or ahead")), (5, 5), "{log}");
    assert!(log.contains("times=16"), "{log}");
}
