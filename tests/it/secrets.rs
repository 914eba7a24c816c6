//! Each secret has a mark of its own, everything goes wrong at the most talkative level, and the marks are
//! nowhere (F81). A token that may only look can do no more.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use serde_json::{Value, json};
use tests::feishu::Feishu;
use tests::telegram::Telegram;

use crate::gateway::{Gateway, PATIENCE, signal, stderr, stdout};

const APP: &str = "cli_secrets";
/// Every one contains this.
const MARK: &str = "m4rk3d";
const FEISHU: &str = "m4rk3d-feishu-app-secret";
const TELEGRAM: &str = "7701:m4rk3d-telegram_bot-token";
const MODEL: &str = "m4rk3d/model key+with=signs";
const WEBHOOK: &str = "whsec_bTRyazNkLXdlYmhvb2stc2VjcmV0LW9mLW91cnM=";
const VERIFICATION: &str = "m4rk3d-verification-token";
const VARIABLE: &str = "m4rk3d-in-the-environment";

/// A server that answers everything with an error which repeats what it was asked, head and body.
fn parrot() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
                let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    heard.extend_from_slice(&buffer[..n]);
                    if heard.windows(4).any(|w| w == b"\r\n\r\n") && n < buffer.len() {
                        break;
                    }
                }
                let said = String::from_utf8_lossy(&heard).into_owned();
                let body = json!({ "ok": false, "code": 99, "msg": said, "description": said,
                    "error_code": 400, "error": { "message": said } })
                .to_string();
                let _ = write!(
                    stream,
                    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            });
        }
    });
    address
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn everything(gateway: &Gateway, feishu: &Feishu, telegram: &Telegram, hook: u16) -> String {
    let parrot = parrot();
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (name, secret) in [
        ("feishu", FEISHU),
        ("telegram", TELEGRAM),
        ("model", MODEL),
        ("webhook", WEBHOOK),
        ("wrong", "m4rk3d-but-not-the-right-one"),
        ("verification", VERIFICATION),
        ("relay", "m4rk3d-secret-of-a-hermes-that-dials-in"),
    ] {
        std::fs::write(gateway.path(&format!("{name}-secret")), format!("{secret}\n")).unwrap();
    }
    std::fs::write(
        gateway.path("agent.py"),
        "import os, sys\nprint('my key is', os.environ['GW_TEST_KEY'], file=sys.stderr)\nsys.exit(3)\n",
    )
    .unwrap();
    let feishus = [
        ("feishu", feishu.base_url(), "feishu-secret"),
        ("wrong", feishu.base_url(), "wrong-secret"),
        ("parrot", format!("http://{parrot}"), "feishu-secret"),
        ("nowhere", format!("http://{nowhere}"), "feishu-secret"),
    ];
    let telegrams = [
        ("telegram", telegram.base_url(), "telegram-secret"),
        ("tparrot", format!("http://{parrot}"), "telegram-secret"),
        ("tnowhere", format!("http://ann:{MARK}-password@{nowhere}"), "telegram-secret"),
    ];
    let mut config = String::from("[gateway]\nlog = \"trace\"\n");
    for (n, (name, url, file)) in feishus.into_iter().enumerate() {
        let app = if name == "feishu" { APP.to_owned() } else { format!("{APP}{n}") };
        config += &format!(
            "[platform.{name}]\nkind = \"feishu\"\napp_id = \"{app}\"\napp_secret_file = \"{file}\"\n\
             base_url = \"{url}\"\nagent = \"model\"\naccess = {{ direct = \"open\" }}\n"
        );
    }
    for (name, url, file) in telegrams {
        config += &format!(
            "[platform.{name}]\nkind = \"telegram\"\ntoken_file = \"{file}\"\nbase_url = \"{url}\"\n\
             agent = \"webhook\"\naccess = {{ direct = \"open\" }}\n"
        );
    }
    config += &format!(
        "[platform.hooked]\nkind = \"feishu\"\napp_id = \"cli_hooked\"\napp_secret_file = \"feishu-secret\"\n\
         base_url = \"{}\"\nagent = \"model\"\naccess = {{ direct = \"open\" }}\n\
         webhook = {{ listen = \"127.0.0.1:{hook}\", verification_token_file = \"verification-secret\" }}\n\
         [agent.hermes]\nkind = \"relay\"\nlisten = \"127.0.0.1:{}\"\nsecret_file = \"relay-secret\"\n",
        feishu.base_url(),
        free_port()
    );
    config += &format!(
        "[agent.model]\nkind = \"openai\"\nbase_url = \"http://{parrot}/v1\"\nmodel = \"m\"\n\
         key_file = \"model-secret\"\n\
         [agent.webhook]\nkind = \"webhook\"\nurl = \"http://{parrot}/{MARK}\"\nsecret_file = \"webhook-secret\"\n\
         [agent.mine]\nkind = \"exec\"\ncommand = [\"python3\", \"agent.py\"]\nvariables = [\"GW_TEST_KEY\"]\n\
         [hooks]\n[[hooks.command]]\nevents = [\"*\"]\n\
         command = [\"sh\", \"-c\", \"cat feishu-secret >&2; exit 1\"]\n"
    );
    config.replace(&format!("/{MARK}\"\nsecret_file"), "/hook\"\nsecret_file")
}

/// The supervisor and all that it has started.
fn family(gateway: &Gateway) -> Vec<u64> {
    let mut all = vec![u64::from(gateway.pid())];
    let status = gateway.status().unwrap();
    let pids = status["instances"].as_array().unwrap().iter();
    all.extend(pids.filter_map(|i| i["pid"].as_u64()));
    all
}

fn files(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
}

fn holds(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_anywhere_whatever_goes_wrong() {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, FEISHU, "ou_bot");
    let telegram = Telegram::start().await;
    telegram.add_bot(TELEGRAM, "test_bot");
    let mut gateway = Gateway::new("");
    let hook = free_port();
    let config = everything(&gateway, &feishu, &telegram, hook);
    std::fs::write(gateway.path("config.toml"), config).unwrap();
    let mut command = gateway.command();
    command.env("GW_TEST_KEY", VARIABLE).env("RUST_BACKTRACE", "1");
    gateway.start_as(command);

    feishu.wait_connected(APP, 1, PATIENCE).await;
    feishu.push_text(APP, "oc_1", "ou_ann", "to a model that repeats what it hears").acked().await;
    telegram.push_text(TELEGRAM, 1000, "to a webhook that repeats what it hears");
    // An event that proves itself by a secret of ours, and one that does not.
    feishu.add_app("cli_hooked", FEISHU, "ou_hooked");
    gateway.until("the webhook listens", || TcpStream::connect(("127.0.0.1", hook)).ok());
    for (token, status) in [(VERIFICATION, "200"), ("m4rk3d-and-guessed", "401")] {
        let event = json!({
            "schema": "2.0",
            "header": { "event_id": "e-1", "event_type": "im.message.receive_v1", "token": token,
                "app_id": "cli_hooked", "create_time": "1700000000000", "tenant_key": "t" },
            "event": { "sender": { "sender_id": { "open_id": "ou_ann" }, "sender_type": "user" },
                "message": { "message_id": "om_1", "chat_id": "oc_hooked", "chat_type": "p2p",
                    "message_type": "text", "content": "{\"text\":\"hello\"}",
                    "create_time": "1700000000000" } },
        })
        .to_string();
        let answer = gateway.until("the webhook answers", || {
            let mut stream = TcpStream::connect(("127.0.0.1", hook)).ok()?;
            let head = format!(
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                event.len()
            );
            stream.write_all((head + &event).as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.starts_with(&format!("HTTP/1.1 {status}")).then_some(answer)
        });
        assert!(!answer.contains(MARK), "{answer}");
    }
    // The sources of trouble have all had their say.
    gateway.wait("hooks", "a failure", |i| i["hooks"]["failed"].as_u64() > Some(0));
    for name in ["wrong", "nowhere", "parrot", "tnowhere", "tparrot"] {
        gateway.wait(name, "trouble", |i| i["connected"] != true && i["reason"].is_string());
    }
    gateway.wait("mine", "dead", |i| i["exits"].as_array().is_some_and(|it| !it.is_empty()));
    gateway.until("the program's words", || gateway.log().contains("my key is").then_some(()));
    gateway.until("the model's words", || gateway.log().contains("model").then_some(()));
    // A death under way.
    let mut events = gateway.events();
    signal(gateway.instance("telegram")["pid"].as_u64().unwrap(), "ABRT");
    events.wait(|event| event["instance"] == "telegram" && event["now"] == "ready");

    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    for args in [
        &["ctl", "status"][..],
        &["ctl", "status", "--json"],
        &["ctl", "parked", "list", "--json"],
        &["ctl", "access", "list"],
        &["check"],
        &["hooks", "test", "agent:start"],
        &["ctl", "restart", "nowhere", "--timeout", "1s"],
        &["supervise"],
    ] {
        let output = gateway.command().env("GW_TEST_KEY", VARIABLE).args(args).output().unwrap();
        seen.push((args.join(" "), [output.stdout, output.stderr].concat()));
    }
    for pid in family(&gateway) {
        let read = |what| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        seen.push((format!("command line of {pid}"), read("cmdline")));
        if pid != u64::from(gateway.pid()) {
            seen.push((format!("environment of {pid}"), read("environ")));
        }
        let limits = String::from_utf8(read("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        assert!(core.is_none_or(|line| line.contains(" 0 ")), "{core:?}");
    }
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    gateway.left();
    seen.push(("log".into(), gateway.log().into_bytes()));
    files(&gateway.state(), &mut seen);
    assert!(
        seen.len() > 20 && seen.iter().any(|(name, _)| name.ends_with("store.db")),
        "{}",
        seen.len()
    );
    let marks = [MARK, "bTRyazNk", "m4rk3d%2F", "key+with"];
    for (name, bytes) in &seen {
        for mark in marks {
            if let Some(at) = bytes.windows(mark.len()).position(|w| w == mark.as_bytes()) {
                let around = &bytes[at.saturating_sub(200)..bytes.len().min(at + 60)];
                panic!("{mark} is in {name}: {}", String::from_utf8_lossy(around));
            }
        }
    }
    assert!(holds(gateway.log().as_bytes(), b"my key is ***"), "{}", gateway.log());
}

#[test]
fn a_secret_in_the_configuration_itself_is_not_repeated() {
    let gateway = Gateway::new("");
    for config in [
        format!("[platform.feishu]\napp_id = \"a\"\napp_secret = \"{FEISHU}\"\n"),
        format!("[platform.telegram]\ntoken = \"{TELEGRAM}\"\n"),
        format!("[platform.telegram]\ntoken_file = \"{TELEGRAM}\n"),
        format!(
            "[agent.model]\nkind = \"openai\"\nbase_url = \"ftp://ann:{FEISHU}@host/v1\"\nmodel = \"m\"\n"
        ),
    ] {
        std::fs::write(gateway.path("config.toml"), &config).unwrap();
        let output = gateway.run(&["check"]);
        let said = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(!said.contains(MARK), "{config}\n{said}");
    }
}

#[test]
fn a_credential_of_systemd_is_found_by_its_name() {
    let config =
        "[platform.telegram]\ntoken_file = \"$CREDENTIALS_DIRECTORY/telegram\"\n[agent.echo]\n";
    let gateway = Gateway::new(config);
    let missing = gateway.run(&["check"]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(stderr(&missing).contains("LoadCredential=telegram:"), "{}", stderr(&missing));
    std::fs::write(gateway.path("telegram"), format!("{TELEGRAM}\n")).unwrap();
    let found = gateway
        .command()
        .env("CREDENTIALS_DIRECTORY", gateway.path(""))
        .args(["check"])
        .output()
        .unwrap();
    assert!(found.status.success(), "{}", stderr(&found));
}

#[test]
fn a_token_for_dashboards_may_look_and_no_more() {
    let mut gateway = Gateway::running("[platform.local]\n[agent.echo]\n");
    let before = gateway.wait_ready("local")["pid"].clone();
    let token = stdout(&gateway.run(&["ctl", "token"])).trim().to_owned();
    let ask = |gateway: &Gateway, method: &str, token: &str| -> Value {
        let line = json!({ "id": 1, "method": method, "token": token });
        gateway.ask(&line.to_string()).unwrap()
    };
    for method in ["status", "events", "parked.list"] {
        assert!(ask(&gateway, method, &token)["error"].is_null(), "{method}");
    }
    for method in ["restart", "kill", "start", "stop", "reload", "access.list", "token"] {
        let refused = ask(&gateway, method, &token);
        assert_eq!(refused["error"]["code"], 77, "{method}: {refused}");
    }
    let guessed = ask(&gateway, "status", "0123456789abcdef0123456789abcdef");
    assert_eq!(guessed["error"]["code"], 77, "{guessed}");
    assert_eq!(gateway.instance("local")["pid"], before);
    // It is the same as long as the store is.
    gateway.kill_supervisor();
    gateway.start();
    assert!(ask(&gateway, "status", &token)["error"].is_null());
}

/// Another user of this machine, if we may be one.
fn as_somebody_else(program: &Path, args: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(program);
    command.args(args).uid(65_534).gid(65_534).env_clear().env("HOME", "/");
    command.current_dir("/").output().unwrap()
}

#[test]
fn another_user_of_this_machine_gets_nowhere() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can try to be somebody else");
        return;
    }
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut gateway = Gateway::new("[platform.local]\n[agent.socket]\n");
    open(&gateway.path(""), 0o755);
    let program = gateway.path("hermes-gw");
    std::fs::copy(crate::gateway::PROGRAM, &program).unwrap();
    open(&program, 0o755);
    // Whoever starts us has a careless mask.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "umask 000; exec \"$0\" \"$@\""]).arg(crate::gateway::PROGRAM);
    command.arg("--config").arg(gateway.path("config.toml"));
    command.arg("--state-dir").arg(gateway.state());
    gateway.start_as(command);
    gateway.wait_ready("local");
    let mut found = Vec::new();
    files(&gateway.state(), &mut found);
    assert!(found.len() >= 4, "{found:?}");
    for (file, _) in &found {
        let read = as_somebody_else(Path::new("/bin/cat"), &[file]);
        assert!(!read.status.success() && read.stdout.is_empty(), "{file}");
    }
    for dir in [gateway.state(), gateway.state().join("exchange")] {
        let list = as_somebody_else(Path::new("/bin/ls"), &[dir.to_str().unwrap()]);
        assert!(!list.status.success() && list.stdout.is_empty(), "{}", dir.display());
    }
    let state = gateway.state();
    let ask =
        || as_somebody_else(&program, &["ctl", "status", "--state-dir", state.to_str().unwrap()]);
    assert_ne!(ask().status.code(), Some(0));
    // Somebody has opened the way; whoever comes is still looked at.
    open(&state, 0o711);
    open(&gateway.socket(), 0o666);
    let turned_away = ask();
    assert_eq!(turned_away.status.code(), Some(77), "{}", stderr(&turned_away));
    gateway.until("it is told", || {
        gateway.log().contains("turned away a connection of another user").then_some(())
    });
    assert!(gateway.status().is_some());
}
