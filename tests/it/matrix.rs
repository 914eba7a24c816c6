//! The platform of `docs/matrix.py` at a simulated homeserver. (`tests/conformance/matrix` has a real one.)

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use serde_json::json;
use tests::matrix::{FAR, Fault, Server, TOKEN};

use crate::gateway::{Gateway, root, signal};

async fn gateway() -> (Server, Gateway) {
    let server = Server::start().await.unwrap();
    server.say("!home:sim", "before the bot came");
    // Who has the same token waits for the others.
    let mut gateway = Gateway::new(&format!(
        "[platform.matrix]\nkind = \"exec\"\ncommand = [\"python3\", \"{}\"]\n\
         account = \"{1}\"\nsettings = {{ homeserver = \"{1}\" }}\nsecrets = {{ token_file = \"token\" }}\n\
         access = {{ direct = \"open\" }}\n[agent.echo]\n",
        root().join("docs/matrix.py").display(),
        server.base_url()
    ));
    std::fs::write(gateway.path("token"), TOKEN).unwrap();
    gateway.start();
    let ready = gateway.wait_ready("matrix");
    assert_eq!(ready["account"], "@bot:sim");
    (server, gateway)
}

fn until_said(gateway: &Gateway, server: &Server, room: &str, texts: &[String]) {
    gateway
        .until("everything is answered", || (server.said(room).len() >= texts.len()).then_some(()));
    gateway.wait("matrix", "settled", |i| i["store"]["waiting"] == 0 && i["store"]["replies"] == 0);
    assert_eq!(server.said(room), texts);
}

/// More than one /sync brings; and what was said before the bot came is not for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_nobody_hears_is_fetched_in_order() {
    let (server, mut gateway) = gateway().await;
    server.say("!home:sim", "0");
    until_said(&gateway, &server, "!home:sim", &["0".to_owned()]);
    gateway.kill_supervisor();
    for n in 1..=250 {
        server.say("!home:sim", &n.to_string());
    }
    gateway.start();
    let all: Vec<_> = (0..=250).map(|n| n.to_string()).collect();
    until_said(&gateway, &server, "!home:sim", &all);
}

/// Python aborts where a thread still reads its input at the end.
#[test]
fn told_to_end_it_ends_although_its_input_is_open() {
    let mut program = Command::new("python3")
        .arg(root().join("docs/matrix.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("initialize"));
    let told = json!({ "cursor": null, "exchange": "/", "secrets": { "token": "x" },
        "settings": { "homeserver": "http://127.0.0.1:1" } });
    let mut input = program.stdin.take().unwrap();
    writeln!(input, "{}", json!({ "id": 1, "result": told })).unwrap();
    assert!(lines.next().unwrap().unwrap().contains("down"));
    signal(program.id().into(), "TERM");
    assert!(program.wait().unwrap().success());
}

/// It would be met again after every start.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_understands_stops_nothing() {
    let (server, gateway) = gateway().await;
    let worker = gateway.instance("matrix")["pid"].clone();
    let said = |content| server.put("!home:sim", "m.room.message", &content);
    said(json!({ "msgtype": "m.text", "body": 5 }));
    said(json!({ "msgtype": "m.text", "body": "x", "m.relates_to": "x", "m.mentions": [] }));
    said(json!({ "msgtype": "m.image", "body": "x", "url": 7, "info": { "size": "big" } }));
    server.put("!home:sim", "m.reaction", &json!({ "m.relates_to": { "event_id": {}, "key": 1 } }));
    server.say("!home:sim", "hello");
    until_said(&gateway, &server, "!home:sim", &["hello".to_owned()]);
    assert_eq!(gateway.instance("matrix")["pid"], worker);
    assert!(gateway.log().contains("is left out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_answer_is_lost_is_known_again_and_a_pause_is_kept() {
    let (server, gateway) = gateway().await;
    server.faults(&[Fault::Lost, Fault::Down, Fault::Limited(300), Fault::Lost]);
    server.say("!home:sim", "once");
    until_said(&gateway, &server, "!home:sim", &["once".to_owned()]);
    let asked = server.asked();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(asked.iter().all(|name| *name == asked[0]), "{asked:?}");
    assert_eq!(gateway.instance("matrix")["store"]["sent"], 1);
}

/// Where it was is of no use then, and there is nothing that a person could do.
#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_that_has_forgotten_where_the_bot_was_is_heard_from_then_on() {
    let (server, gateway) = gateway().await;
    server.forget();
    gateway.until("it begins anew", || server.is_known().then_some(()));
    server.say("!home:sim", "after");
    until_said(&gateway, &server, "!home:sim", &["after".to_owned()]);
    assert!(gateway.log().contains("has forgotten where we were"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_another_account_was_is_forgotten() {
    let (server, mut gateway) = gateway().await;
    server.say("!home:sim", "0");
    until_said(&gateway, &server, "!home:sim", &["0".to_owned()]);
    gateway.kill_supervisor();
    server.say("!home:sim", "before this one came");
    server.rename("@other:sim");
    gateway.start();
    assert_eq!(gateway.wait_ready("matrix")["account"], "@other:sim");
    server.say("!home:sim", "1");
    until_said(&gateway, &server, "!home:sim", &["0".to_owned(), "1".to_owned()]);
}

/// Anybody may invite, also into a room whose homeserver does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_keeps_nobody_waiting_and_is_tried_again() {
    let (server, gateway) = gateway().await;
    server.invite("!busy:sim");
    server.invite(FAR);
    server.say("!home:sim", "hello");
    until_said(&gateway, &server, "!home:sim", &["hello".to_owned()]);
    let joins = gateway.until("both are accepted", || {
        let joins = server.joins();
        (joins.iter().filter(|(_, is_joined)| *is_joined).count() == 2).then_some(joins)
    });
    assert_eq!(joins.iter().filter(|(room, _)| room == FAR).count(), 1, "{joins:?}");
    assert_eq!(joins.len(), 3, "{joins:?}");
}

/// Whoever sends a file names it.
#[test]
fn a_file_is_fetched_from_nowhere_but_the_media() {
    let script = "import sys; sys.path.insert(0, sys.argv[1]); import matrix\n\
        print(matrix.media('mxc://example.org:8448/aB_c-1'))\n\
        for other in ('mxc://x/../../../../v3/joined_rooms', 'mxc://../x', 'mxc://x/y?z', 'http://x/y', 'mxc://x/..'):\n\
        \x20   try: print(matrix.media(other))\n\
        \x20   except matrix.Failed: pass\n";
    let told = Command::new("python3")
        .args(["-B", "-c", script])
        .arg(root().join("docs"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    let path = "/_matrix/client/v1/media/download/example.org%3A8448/aB_c-1\n";
    assert_eq!(said, path, "{}", String::from_utf8_lossy(&told.stderr));
}
