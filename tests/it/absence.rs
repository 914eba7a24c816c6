//! What was said while the gateway was away is judged like anything that is heard (F18, F32).

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tests::feishu::{Entry, Feishu, Message, Observation, Schedule, SentMessage};
use tokio::sync::watch;

use crate::gateway::{Gateway, PATIENCE, signal, stderr, stdout};
use crate::socket_agent::Lines;

const APP: &str = "cli_away";
const HOUR_MS: u128 = 3_600_000;
/// The platform's limit.
const IN_TIME: Duration = Duration::from_secs(3);

fn config(feishu: &Feishu, access: &str) -> String {
    format!(
        "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\nbase_url = \"{}\"\n\
         access = {{ {access} }}\n[platform.feishu.inbox]\nlate_after_s = 3600\n\
         [platform.feishu.inbox.chats.oc_strict]\nlate = \"keep\"\nlate_after_s = 60\n\
         [agent.mine]\nkind = \"socket\"\nconcurrency = 1\n",
        feishu.base_url()
    )
}

/// What the gateway remembers: it heard nothing for so long.
fn passes(span: Duration, gateway: &Gateway) {
    let script = "import json, sqlite3, sys\n\
                  db = sqlite3.connect(sys.argv[1])\n\
                  (body,), = db.execute('SELECT body FROM cursor')\n\
                  told = json.loads(body)\n\
                  told['heard_ms'] -= int(sys.argv[2])\n\
                  db.execute('UPDATE cursor SET body = ?', (json.dumps(told).encode(),))\n\
                  db.commit()\n";
    let mut python = Command::new("python3");
    let python = python.args(["-c", script]).arg(gateway.state().join("store.db"));
    let python = python.arg(span.as_millis().to_string());
    let done = python.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
}

fn now_ms() -> u128 {
    let fresh = Message::direct("oc_none", "ou_none").text("").build();
    fresh["event"]["message"]["create_time"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_caught_up_is_judged_by_who_said_it_and_when() {
    const MANY: u128 = 30;
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    // Told once, and never again.
    feishu.configure(|settings| settings.schedule.pauses = Vec::new());
    let mut gateway = Gateway::new(&config(
        &feishu,
        "direct = \"open\", groups = \"all\", chats = [\"oc_team\"]",
    ));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    let ann = |chat: &str| Message::direct(chat, "ou_ann");
    let bob = || Message::direct("oc_bob", "ou_bob");
    let team = |user: &str| Message::group("oc_team", user);
    for message in [ann("oc_ann"), ann("oc_strict"), bob(), team("ou_ann")] {
        feishu.push_message(APP, message.text("before")).acked_within(PATIENCE).await;
    }
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    gateway.left();

    // Bob is a stranger by now.
    let strict = config(&feishu, "direct = \"pairing\", users = [\"ou_ann\"], groups = \"all\"");
    std::fs::write(gateway.path("config.toml"), strict).unwrap();
    passes(Duration::from_hours(3), &gateway);
    let now = now_ms();
    feishu.push_message(APP, ann("oc_ann").text("two hours old").created_ms(now - 2 * HOUR_MS));
    feishu.push_message(APP, ann("oc_ann").text("new").created_ms(now));
    feishu.push_message(APP, ann("oc_strict").text("stale").created_ms(now - 2 * HOUR_MS));
    for n in 0..MANY {
        feishu.push_message(APP, bob().text("psst").created_ms(now - HOUR_MS + n));
    }
    feishu.push_message(APP, team("ou_eve").text("and me").created_ms(now - HOUR_MS));
    feishu.push_message(APP, team("ou_ann").text("to all").created_ms(now));
    gateway.start();

    let mut agent = Lines::ready(&gateway);
    let mut heard: Vec<(String, Option<i64>)> = Vec::new();
    while heard.len() < 3 {
        let event = agent.event();
        let text = event["params"]["text"].as_str().unwrap().to_owned();
        agent.acknowledge(&event);
        if text != "before" {
            heard.push((text, event["params"]["late_by_ms"].as_i64()));
        }
    }
    heard.sort();
    let texts: Vec<_> = heard.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["new", "to all", "two hours old"]);
    assert_eq!((heard[0].1, heard[1].1), (None, None));
    assert!(heard[2].1 >= Some(7_200_000), "by the platform's own time: {heard:?}");
    gateway.wait("feishu", "every stranger is denied", |i| {
        // What Bob said before is in the history as well.
        i["store"]["denied"] == json!(MANY + 2) && i["store"]["parked"] == 1
    });
    let parked = stdout(&gateway.run(&["ctl", "parked", "list"]));
    assert!(parked.contains("oc_strict") && parked.contains("too late: said 2 h ago"), "{parked}");

    let to_bob = |sent: &SentMessage| sent.receive_id == "oc_bob";
    let told = feishu.wait_sent(PATIENCE, to_bob).await.text().unwrap();
    let list = stdout(&gateway.run(&["ctl", "access", "list", "--json"]));
    let list: Value = serde_json::from_str(&list).unwrap();
    let codes = list["instances"][0]["codes"].as_array().unwrap();
    assert_eq!(codes.len(), 1, "one for all that he said: {codes:?}");
    assert!(told.contains(codes[0]["code"].as_str().unwrap()), "{told}");
    assert_eq!(feishu.sent().into_iter().filter(to_bob).count(), 1);
}

/// However often the worker or the supervisor is killed while people speak: neither believes that nobody listened for
/// long, so of each chat in which somebody speaks the history is asked for once after each gap, and what a living
/// connection brings is answered in time.
#[tokio::test(flavor = "multi_thread")]
async fn kills_in_a_flow_are_no_absence() {
    const CHATS: usize = 20;
    const A_LIFE: usize = 80;
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    let pauses = vec![Duration::from_millis(300); 100];
    feishu.configure(|settings| settings.schedule = Schedule { pauses, ..Schedule::default() });
    let config = config(&feishu, "direct = \"open\"");
    let (config, _) = config.split_once("[agent.mine]").unwrap();
    let mut gateway = Gateway::new(&format!("{config}[agent.echo]\n"));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    for chat in 0..CHATS {
        let event = feishu.push_text(APP, &format!("oc_{chat}"), "ou_ann", "before");
        event.acked_within(PATIENCE).await;
    }
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    gateway.left();
    // This is no absence yet; it would be if the lives that follow were not remembered.
    passes(Duration::from_secs(10), &gateway);
    gateway.start();

    let (end, ended) = watch::channel(false);
    let speaking = tokio::spawn({
        let feishu = feishu.clone();
        async move {
            let mut pushed = Vec::new();
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            while !*ended.borrow() {
                pace.tick().await;
                let chat = format!("oc_{}", pushed.len() % CHATS);
                pushed.push(feishu.push_text(APP, &chat, "ou_ann", "hello"));
            }
            pushed
        }
    });
    for life in 0..5 {
        let answered = |connection: u64| {
            move |entry: &&Entry| match &entry.what {
                Observation::Answered { connection: by, .. } => *by == connection,
                _ => false,
            }
        };
        let lives = |entries: &[Entry]| {
            let [connection] = *feishu.connections(APP) else { return None };
            (entries.iter().filter(answered(connection)).count() >= A_LIFE).then_some(())
        };
        feishu.wait_for("a life", PATIENCE, lives).await;
        match life {
            0 | 2 => signal(gateway.instance("feishu")["pid"].as_u64().unwrap(), "KILL"),
            1 | 3 => {
                gateway.kill_supervisor();
                gateway.start();
            }
            _ => end.send(true).unwrap(),
        }
    }
    let pushed = speaking.await.unwrap();
    for event in &pushed {
        event.acked_within(PATIENCE).await;
    }
    let sent = |entry: &Entry| matches!(entry.what, Observation::Sent(_));
    feishu.wait_count("every answer", PATIENCE, CHATS + pushed.len(), sent).await;

    let (mut over, mut by, mut gaps) = (HashMap::new(), HashMap::new(), 0);
    for entry in feishu.journal() {
        match entry.what {
            Observation::Opened { .. } => gaps += 1,
            Observation::Closed { connection, .. } => drop(over.insert(connection, entry.at)),
            Observation::Pushed { connection, event_id, attempt, .. } => {
                by.insert((event_id, attempt), (connection, entry.at));
            }
            _ => {}
        }
    }
    let mut asked = 0;
    for entry in feishu.journal() {
        match entry.what {
            Observation::Unanswered { event_id, attempt } => {
                let (connection, at) = by[&(event_id, attempt)];
                let lived_on = over.get(&connection).is_none_or(|end| *end > at + IN_TIME);
                assert!(!lived_on, "pushed at {at:?}, and not answered");
            }
            Observation::Call { route: "history", .. } => asked += 1,
            _ => {}
        }
    }
    assert!(asked <= CHATS * (gaps - 1), "{asked} histories after {gaps} connections");
}

/// What a stranger said before somebody let him in stays unheard, also where the platform tells of it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_denied_once_is_not_caught_up_when_its_sender_is_let_in() {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    let mut gateway = Gateway::new(&config(&feishu, "direct = \"list\""));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    let said = async |text: &str| {
        let message = Message::direct("oc_bob", "ou_bob").text(text);
        feishu.push_message(APP, message).acked_within(PATIENCE).await;
    };
    said("too early").await;
    assert!(gateway.run(&["ctl", "access", "allow", "feishu", "ou_bob"]).status.success());
    said("welcome").await;
    let mut agent = Lines::ready(&gateway);
    let event = agent.event();
    assert_eq!(event["params"]["text"], "welcome");
    agent.acknowledge(&event);
    gateway.wait("feishu", "it is settled", |i| i["store"]["waiting"] == 0);
    gateway.kill_supervisor();
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    said("still here").await;
    let mut agent = Lines::ready(&gateway);
    let event = agent.event();
    assert_eq!(event["params"]["text"], "still here");
    let read = |entry: &Entry| matches!(entry.what, Observation::Call { route: "history", .. });
    assert!(feishu.journal().iter().any(read), "the history was read");
}
