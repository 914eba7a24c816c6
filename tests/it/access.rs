//! Who may speak, and how a stranger comes to be known (F81–F86).

use serde_json::Value;
use tests::feishu::{Feishu, SentMessage};

use crate::gateway::{Gateway, PATIENCE, stderr, stdout};
use crate::socket_agent::Lines;

const APP: &str = "cli_door";

async fn gateway(access: &str) -> (Feishu, Gateway) {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\n\
         base_url = \"{}\"\naccess = {{ {access} }}\n[agent.echo]\n",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    (feishu, gateway)
}

/// The next message in `chat` that says something with `words`.
async fn said(feishu: &Feishu, chat: &str, words: &str) -> String {
    let fits = |sent: &SentMessage| {
        sent.receive_id == chat && sent.text().is_some_and(|text| text.contains(words))
    };
    feishu.wait_sent(PATIENCE, fits).await.text().unwrap()
}

fn to(feishu: &Feishu, chat: &str) -> usize {
    feishu.sent().iter().filter(|sent| sent.receive_id == chat).count()
}

fn list(gateway: &Gateway) -> Value {
    let told = gateway.run(&["ctl", "access", "list", "--json"]);
    assert!(told.status.success(), "{}", stderr(&told));
    serde_json::from_str::<Value>(&stdout(&told)).unwrap()["instances"][0].clone()
}

fn decide(gateway: &Gateway, words: &[&str]) -> String {
    let told = gateway.run(&[&["ctl", "access"], words].concat());
    assert!(told.status.success(), "{}", stderr(&told));
    stdout(&told)
}

/// What `user` says in a direct chat, acknowledged by the gateway.
async fn says(feishu: &Feishu, chat: &str, user: &str, text: &str) {
    feishu.push_text(APP, chat, user, text).acked().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_one_code_and_is_heard_once_a_person_has_approved_it() {
    let (feishu, mut gateway) = gateway("direct = \"pairing\"").await;
    says(&feishu, "oc_ann", "ou_ann", "hello?").await;
    let told = said(&feishu, "oc_ann", "ctl access approve").await;
    for _ in 0..3 {
        says(&feishu, "oc_ann", "ou_ann", "anybody there?").await;
    }
    let codes = list(&gateway)["codes"].clone();
    assert_eq!(codes.as_array().map(Vec::len), Some(1), "one live code: {codes}");
    let code = codes[0]["code"].as_str().unwrap().to_owned();
    assert!(told.contains(&code) && told.contains("ou_ann"), "{told}");

    // The code is known to the next supervisor as well.
    gateway.kill_supervisor();
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    says(&feishu, "oc_ann", "ou_ann", "and now?").await;
    let wrong = gateway.run(&["ctl", "access", "approve", "22222222"]);
    assert_eq!(wrong.status.code(), Some(64), "{}", stderr(&wrong));
    assert!(stderr(&wrong).contains("ctl access list"), "{}", stderr(&wrong));
    let approved = decide(&gateway, &["approve", &code.to_lowercase()]);
    assert_eq!(approved, "feishu user ou_ann: allowed\n");
    said(&feishu, "oc_ann", "You are let in").await;
    assert_eq!(to(&feishu, "oc_ann"), 2, "one code and one welcome");

    says(&feishu, "oc_ann", "ou_ann", "at last").await;
    said(&feishu, "oc_ann", "at last").await;
    let again = gateway.run(&["ctl", "access", "approve", &code]);
    assert_eq!(again.status.code(), Some(64), "a code holds once");

    // A decision outlives the supervisor, and can be taken back.
    gateway.kill_supervisor();
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    says(&feishu, "oc_ann", "ou_ann", "still here").await;
    said(&feishu, "oc_ann", "still here").await;
    assert_eq!(decide(&gateway, &["deny", "feishu", "ou_ann"]), "feishu user ou_ann: denied\n");
    says(&feishu, "oc_ann", "ou_ann", "shut out").await;
    assert_eq!(list(&gateway)["codes"].as_array().map(Vec::len), Some(0), "no code for the denied");
    assert_eq!(decide(&gateway, &["revoke", "feishu", "ou_ann"]), "feishu user ou_ann: revoked\n");
    let mistyped = decide(&gateway, &["revoke", "feishu", "ou_anna"]);
    assert!(mistyped.contains("ou_anna: nobody had decided"), "{mistyped}");
    says(&feishu, "oc_ann", "ou_ann", "a stranger again").await;
    said(&feishu, "oc_ann", list(&gateway)["codes"][0]["code"].as_str().unwrap()).await;
    assert!(!feishu.sent().iter().any(|sent| sent.text().as_deref() == Some("shut out")));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_list_exists_a_stranger_gets_silence_until_somebody_lets_him_in() {
    let (feishu, gateway) = gateway("users = [\"ou_ann\"]").await;
    says(&feishu, "oc_bob", "ou_bob", "psst").await;
    says(&feishu, "oc_ann", "ou_ann", "hello").await;
    said(&feishu, "oc_ann", "hello").await;
    assert_eq!(to(&feishu, "oc_bob"), 0);
    gateway.wait("feishu", "denied", |i| i["store"]["denied"] == 1);
    decide(&gateway, &["allow", "feishu", "ou_bob"]);
    says(&feishu, "oc_bob", "ou_bob", "now me").await;
    said(&feishu, "oc_bob", "now me").await;

    let mistyped = gateway.run(&["ctl", "access", "allow", "feishuu", "ou_x"]);
    assert_eq!(mistyped.status.code(), Some(64), "{}", stderr(&mistyped));
    for (words, what) in [
        (&["allow", "feishu", "ann"][..], "\"ann\" is no user there; their ids look like ou_…"),
        (&["deny", "feishu", "oc_bob"], "\"oc_bob\" is no user there"),
        (&["allow", "feishu", "--chat", "ou_bob"], "\"ou_bob\" is no group there"),
    ] {
        let nobody = gateway.run(&[&["ctl", "access"], words].concat());
        assert_eq!(nobody.status.code(), Some(64), "{words:?}");
        assert!(stderr(&nobody).contains(what), "{}", stderr(&nobody));
    }
    let decided = list(&gateway)["decided"].clone();
    assert_eq!(decided.as_array().map(Vec::len), Some(1), "ou_bob alone: {decided}");
    let agent = gateway.run(&["ctl", "access", "allow", "echo", "ou_x"]);
    assert!(stderr(&agent).contains("no platform"), "{}", stderr(&agent));
    let missing = gateway.ask(r#"{"id":1,"method":"access.allow","params":{"instance":"feishu"}}"#);
    assert_eq!(missing.unwrap()["error"]["code"], 64);
}

/// A decision belongs to the name, whatever its block was when the supervisor started.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_holds_for_a_block_that_was_mended_by_a_reload() {
    let (feishu, mut gateway) = gateway("direct = \"open\"").await;
    decide(&gateway, &["deny", "feishu", "ou_eve"]);
    let secret = std::fs::read(gateway.path("secret")).unwrap();
    std::fs::remove_file(gateway.path("secret")).unwrap();
    gateway.kill_supervisor();
    gateway.start();
    gateway.wait("feishu", "held", |i| i["phase"] == "held");
    std::fs::write(gateway.path("secret"), secret).unwrap();
    assert!(gateway.run(&["ctl", "reload"]).status.success());
    feishu.wait_connected(APP, 1, PATIENCE).await;
    says(&feishu, "oc_eve", "ou_eve", "shut out").await;
    // Told twice, perhaps: its history is read as well.
    let told = gateway
        .wait("feishu", "judged", |i| i["store"]["denied"] != 0 || i["store"]["accepted"] != 0);
    assert_eq!(told["store"]["accepted"], 0, "{told}");
    assert_eq!(list(&gateway)["decided"][0]["user"], "ou_eve", "{}", list(&gateway));
}

/// A decision of a person holds at once, also for what waits.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_denied_person_said_before_is_set_aside() {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\nbase_url = \"{}\"\n\
         access = {{ users = [\"ou_ann\", \"ou_bob\"] }}\n[agent.mine]\nkind = \"socket\"\n",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    says(&feishu, "oc_ann", "ou_ann", "first").await;
    says(&feishu, "oc_bob", "ou_bob", "second").await;
    decide(&gateway, &["deny", "feishu", "ou_ann"]);
    let mut agent = Lines::ready(&gateway);
    let event = agent.event();
    assert_eq!(event["params"]["text"], "second");
    agent.acknowledge(&event);
    gateway.wait("feishu", "set aside", |i| i["store"]["parked"] == 1);
    let parked = stdout(&gateway.run(&["ctl", "parked", "list"]));
    assert!(parked.contains("its sender or its chat was denied since"), "{parked}");
    // Who replays it means it.
    let is_id = |word: &&str| word.strip_prefix('e').is_some_and(|id| id.parse::<u64>().is_ok());
    let id = parked.split_whitespace().find(is_id).unwrap();
    assert!(gateway.run(&["ctl", "parked", "replay", id]).status.success());
    assert_eq!(agent.event()["params"]["text"], "first");
}
