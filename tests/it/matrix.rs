//! The platform of `docs/matrix.py` at a simulated homeserver. (`tests/conformance/matrix` has a real one.)

use tests::matrix::{Fault, Server, TOKEN};

use crate::gateway::{Gateway, root};

async fn gateway() -> (Server, Gateway) {
    let server = Server::start().await.unwrap();
    server.say("!home:sim", "before the bot came");
    let mut gateway = Gateway::new(&format!(
        "[platform.matrix]\nkind = \"exec\"\ncommand = [\"python3\", \"{}\"]\n\
         settings = {{ homeserver = \"{}\" }}\nsecrets = {{ token_file = \"token\" }}\n\
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
