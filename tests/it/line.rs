//! The straight line: from Feishu to the agent and back, with everything in between killed (F11, F12,
//! F14, F20, F23, F34, F35).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use tests::feishu::{EventHandle, Feishu, Observation, Schedule};

use crate::gateway::{Gateway, PATIENCE, root, signal, stdout};

const APP: &str = "cli_line";
const CHATS: usize = 10;
const MESSAGES: usize = 200;

fn config(feishu: &Feishu) -> String {
    format!(
        "[platform.feishu]\n\
         app_id = \"{APP}\"\n\
         app_secret_file = \"secret\"\n\
         base_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n\
         [platform.local]\n\
         [agent.hermes]\n\
         kind = \"socket\"\n\
         max_attempts = 50\n",
        feishu.base_url()
    )
}

async fn platform() -> Feishu {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    // Repeated soon, so that what was in flight at a kill comes again within the test.
    feishu.configure(|settings| settings.schedule = Schedule::with_pauses_scaled(0.02));
    feishu
}

fn gateway(feishu: &Feishu) -> Gateway {
    let mut gateway = Gateway::new(&config(feishu));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    gateway.start();
    gateway
}

/// The documented Python agent, with every event that it is offered written down.
pub(crate) struct Agent {
    child: Child,
    pub(crate) offered: mpsc::Receiver<Value>,
}

impl Agent {
    pub(crate) fn start(gateway: &Gateway) -> Self {
        let script = root().join("docs/agent.py");
        // The example as it stands; only `answer` also writes down what it is asked.
        let spy = "import sys, json, runpy\n\
                   agent = runpy.run_path(sys.argv[1])\n\
                   plain = agent['answer']\n\
                   lock = __import__('threading').Lock()\n\
                   def answer(event):\n\
                   \x20   with lock: sys.stdout.write(json.dumps(event) + chr(10)), sys.stdout.flush()\n\
                   \x20   return plain(event)\n\
                   agent['main'].__globals__['answer'] = answer\n\
                   agent['main'](sys.argv[2])\n";
        let mut child = Command::new("python3")
            .args(["-c", spy])
            .arg(script)
            .arg(gateway.state().join("agent-hermes.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let (tell, offered) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, offered }
    }

    pub(crate) fn kill(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.offered.iter().collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn push(feishu: &Feishu, from: usize, to: usize) -> Vec<EventHandle> {
    (from..to)
        .map(|n| {
            let chat = n % CHATS;
            feishu.push_text(APP, &format!("oc_{chat}"), &format!("ou_{chat}"), &format!("m{n}"))
        })
        .collect()
}

/// Every message is answered once. What was offered first for each event stands in the order of its
/// chat, which is the order in which the events were accepted; what was offered again says so; and
/// the replies stand in the same order.
async fn all_answered(feishu: &Feishu) -> BTreeMap<String, Vec<usize>> {
    feishu
        .wait_count("all replies", PATIENCE, MESSAGES, |entry| {
            matches!(entry.what, Observation::Sent(_))
        })
        .await;
    let mut replies: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for sent in feishu.sent() {
        let text = sent.text().unwrap();
        let number = text.strip_prefix("You said: m").unwrap().parse().unwrap();
        assert!(sent.uuid.is_some_and(|uuid| !uuid.is_empty() && uuid.len() <= 50));
        replies.entry(sent.receive_id).or_default().push(number);
    }
    assert_eq!(replies.len(), CHATS);
    for (chat, numbers) in &replies {
        let first: usize = chat.strip_prefix("oc_").unwrap().parse().unwrap();
        let expected: BTreeSet<usize> = (first..MESSAGES).step_by(CHATS).collect();
        let found: BTreeSet<usize> = numbers.iter().copied().collect();
        assert_eq!((found, numbers.len()), (expected, MESSAGES / CHATS), "{chat}: each once");
    }
    assert!(feishu.violations().is_empty(), "{:?}", feishu.violations());
    replies
}

fn in_order(offered: &[Value], replies: &BTreeMap<String, Vec<usize>>) {
    let mut seen = BTreeSet::new();
    let mut first_offers: BTreeMap<String, Vec<(u64, usize)>> = BTreeMap::new();
    for event in offered {
        let id: u64 = event["event_id"].as_str().unwrap().parse().unwrap();
        if seen.insert(id) {
            let number = event["text"].as_str().unwrap()[1..].parse().unwrap();
            let chat = event["chat_id"].as_str().unwrap().to_owned();
            first_offers.entry(chat).or_default().push((id, number));
        } else {
            assert!(event["attempt"].as_u64().unwrap() > 1, "repeated without saying so: {event}");
        }
    }
    assert_eq!(seen.len(), MESSAGES, "every event was offered");
    for (chat, offers) in first_offers {
        assert!(offers.is_sorted(), "{chat}: {offers:?}");
        let numbers: Vec<usize> = offers.into_iter().map(|(_, number)| number).collect();
        assert_eq!(numbers, replies[&chat], "{chat}: replies in the order of the messages");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_for_the_agent_and_every_one_is_answered_once() {
    let feishu = platform().await;
    let gateway = gateway(&feishu);
    feishu.wait_connected(APP, 1, PATIENCE).await;
    for round in 0..MESSAGES / CHATS {
        // One message of each chat at a time: the order of a chat is the order of the rounds.
        for event in push(&feishu, round * CHATS, (round + 1) * CHATS) {
            let ack = event.acked_within(PATIENCE).await;
            assert_eq!(ack.attempt, 1, "acknowledged in time, at its first push");
        }
    }
    let waiting = gateway.instance("feishu");
    assert_eq!(waiting["store"]["waiting"], MESSAGES, "{waiting}");
    // F15: how long something has been waiting is told.
    let oldest = waiting["store"]["oldest_ms"].as_i64().unwrap();
    assert!(oldest >= gateway.status().unwrap()["started_ms"].as_i64().unwrap());
    assert!(oldest <= waiting["last_inbound_ms"].as_i64().unwrap());
    let told = gateway.run(&["ctl", "status"]);
    assert!(stdout(&told).contains("waiting 200 (for "), "{}", stdout(&told));
    assert_eq!(gateway.instance("hermes")["gate"]["open"], false);
    assert!(feishu.sent().is_empty(), "nobody was there to answer");

    let agent = Agent::start(&gateway);
    let replies = all_answered(&feishu).await;
    assert!(replies.values().all(|numbers| numbers.is_sorted()), "{replies:?}");
    gateway.wait("hermes", "all settled", |i| i["gate"]["acknowledged"] == MESSAGES);
    let rests = gateway.wait("feishu", "nothing waits", |i| i["store"]["waiting"] == 0);
    assert!(rests["store"]["oldest_ms"].is_null());
    let offered = agent.kill();
    assert_eq!(offered.len(), MESSAGES, "each was offered once");
    assert!(offered.iter().all(|event| event["attempt"] == 1));
    in_order(&offered, &replies);
}

/// Kills something in the middle and lets the rest go on.
async fn killed_in_the_middle(
    kill: impl AsyncFn(&mut Gateway, &mut Option<Agent>, &mut Vec<Value>),
) {
    let feishu = platform().await;
    let mut gateway = gateway(&feishu);
    let mut agent = Some(Agent::start(&gateway));
    feishu.wait_connected(APP, 1, PATIENCE).await;
    gateway.wait("hermes", "gate open", |i| i["gate"]["open"] == true);
    let mut offered = Vec::new();
    let mut events = push(&feishu, 0, MESSAGES / 2);
    feishu
        .wait_count("some replies", PATIENCE, 20, |entry| {
            matches!(entry.what, Observation::Sent(_))
        })
        .await;
    events.extend(push(&feishu, MESSAGES / 2, MESSAGES));
    kill(&mut gateway, &mut agent, &mut offered).await;
    for event in &events {
        event.acked_within(PATIENCE).await;
    }
    let replies = all_answered(&feishu).await;
    gateway.wait("feishu", "nothing waits", |i| {
        i["store"]["waiting"] == 0 && i["store"]["replies"] == 0 && i["store"]["parked"] == 0
    });
    offered.extend(agent.take().unwrap().kill());
    in_order(&offered, &replies);
}

fn pid(gateway: &Gateway, name: &str) -> u64 {
    gateway.instance(name)["pid"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feishu_worker_is_killed_in_the_middle() {
    killed_in_the_middle(async |gateway, _, _| {
        signal(pid(gateway, "feishu"), "KILL");
        let told =
            gateway.wait("feishu", "back", |i| i["generation"] == 2 && i["connected"] == true);
        assert_eq!(told["exits"][0]["cause"], "signal 9 (KILL)", "{told}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_killed_in_the_middle() {
    killed_in_the_middle(async |gateway, agent, offered| {
        offered.extend(agent.take().unwrap().kill());
        *agent = Some(Agent::start(gateway));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_worker_is_killed_in_the_middle() {
    killed_in_the_middle(async |gateway, _, _| {
        signal(pid(gateway, "hermes"), "KILL");
        gateway.wait("hermes", "back", |i| i["generation"] == 2 && i["gate"]["open"] == true);
    })
    .await;
}

/// F64
#[tokio::test(flavor = "multi_thread")]
async fn the_supervisor_is_killed_in_the_middle() {
    killed_in_the_middle(async |gateway, _, _| {
        gateway.kill_supervisor();
        gateway.start();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_at_that_very_moment() {
    let feishu = platform().await;
    let mut gateway = gateway(&feishu);
    for round in 1..=12 {
        feishu.wait_connected(APP, 1, PATIENCE).await;
        let event = feishu.push_text(APP, "oc_0", "ou_0", "hold this");
        event.acked_within(PATIENCE).await;
        gateway.kill_supervisor();
        gateway.start();
        gateway.wait("feishu", "kept", |i| i["store"]["waiting"] == round);
    }
}
