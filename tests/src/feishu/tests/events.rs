//! Events over the long connection: what acknowledges them, when they come again, in which frames.

use super::*;

#[tokio::test]
async fn an_event_is_acknowledged_by_its_echo() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
    let frame = client.next().await;
    let payload: Value = serde_json::from_slice(frame.payload.as_deref().unwrap()).unwrap();
    assert_eq!(payload["header"]["app_id"], APP);
    assert_eq!(payload["event"]["message"]["content"], r#"{"text":"hello"}"#);
    client.answer(frame, 200).await;
    let ack = event.acked_within(SOON).await;
    assert_eq!((ack.attempt, ack.biz_rt), (1, Some(1)));
    assert_eq!(rules(&feishu), []);
}

type Spoil = fn(&mut Frame);

#[tokio::test]
async fn a_wrong_echo_acknowledges_nothing() {
    let feishu = platform().await;
    feishu.configure(|settings| {
        settings.schedule = Schedule { answer_within: SOON, pauses: vec![] };
    });
    let mut client = Client::connect(&feishu).await;
    let spoilers: [(Spoil, Rule); 6] = [
        (|frame| frame.method = 0, Rule::Frame),
        (|frame| frame.seq_id += 1, Rule::SeqId),
        (|frame| frame.service += 1, Rule::Service),
        (|frame| drop(frame.headers.pop()), Rule::Headers),
        (|frame| frame.headers.swap(0, 1), Rule::Headers),
        (|frame| frame.headers[1].value.push('0'), Rule::Unknown),
    ];
    for (spoil, rule) in spoilers {
        let before = feishu.violations().len();
        let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
        let mut frame = client.next().await;
        spoil(&mut frame);
        client.answer(frame, 200).await;
        let broken = |entry: &Entry| matches!(entry.what, Observation::Violation(_));
        feishu.wait_count("a violation", SOON, before + 1, broken).await;
        assert_eq!(rules(&feishu)[before..], [rule]);
        assert!(!event.is_acked());
    }
}

#[tokio::test]
async fn an_imprecise_log_id_is_noted_and_counts() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
    let mut frame = client.next().await;
    frame.log_id -= 1;
    client.answer(frame.clone(), 200).await;
    event.acked_within(SOON).await;
    client.answer(frame, 200).await;
    feishu
        .wait_for("a second answer", SOON, |_| rules(&feishu).contains(&Rule::Twice).then_some(()))
        .await;
}

#[tokio::test]
async fn an_unanswered_event_comes_again_by_the_schedule() {
    let feishu = platform().await;
    feishu.configure(|settings| settings.schedule = Schedule::scaled(0.0001));
    let mut client = Client::connect(&feishu).await;
    let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
    event.ended().await;
    assert_eq!(event.pushes(), 5);
    let mut ids = BTreeSet::new();
    for _ in 0..5 {
        let frame = client.next().await;
        let payload: Value = serde_json::from_slice(frame.payload.as_deref().unwrap()).unwrap();
        assert_eq!(payload["header"]["event_id"], event.event_id());
        ids.insert(frame.header("message_id").unwrap().to_owned());
    }
    assert_eq!(ids.len(), 5, "each push has a delivery id of its own");
    let pushed =
        |entry: &Entry| matches!(entry.what, Observation::Pushed { .. }).then_some(entry.at);
    let at: Vec<_> = feishu.journal().iter().filter_map(pushed).collect();
    let factor = |pair: &[Duration]| (pair[1].as_secs_f64() - pair[0].as_secs_f64()) / 0.0001;
    for (pair, least) in at.windows(2).zip([18.0, 303.0, 3603.0, 21_603.0]) {
        assert!(factor(pair) >= least, "{at:?}");
    }
}

#[tokio::test]
async fn a_failure_comes_again_and_a_late_answer_does_not_count() {
    let feishu = platform().await;
    let limit = Duration::from_millis(20);
    let pauses = vec![Duration::from_millis(1), Duration::from_millis(1), SOON];
    feishu.configure(|settings| {
        settings.schedule = Schedule { answer_within: limit, pauses };
    });
    let mut client = Client::connect(&feishu).await;
    let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
    let failed = client.next().await;
    client.answer(failed, 500).await;
    let late = client.next().await;
    let last = client.next().await;
    let silent = |count| move |entry: &Entry| matches!(entry.what, Observation::Unanswered { attempt, .. } if attempt == count);
    client.answer(late, 200).await;
    let is_late = |entry: &Entry| matches!(entry.what, Observation::Answered { late: true, .. });
    feishu.wait_count("a late answer", SOON, 1, is_late).await;
    assert!(!event.is_acked());
    feishu.configure(|settings| settings.late_answers_count = true);
    feishu.wait_count("the end of the third limit", SOON, 1, silent(3)).await;
    client.answer(last, 200).await;
    assert_eq!(event.acked_within(SOON).await.attempt, 3);
}

#[tokio::test]
async fn events_wait_for_a_connection() {
    let feishu = platform().await;
    feishu.configure(|settings| settings.push_on_connect = true);
    let event = feishu.push_event(APP, chat_entered("oc_1", "ou_1"));
    let missed = |entry: &Entry| matches!(entry.what, Observation::Missed { .. });
    feishu.wait_count("a missed push", SOON, 1, missed).await;
    let mut client = Client::connect(&feishu).await;
    let frame = client.next().await;
    client.answer(frame, 200).await;
    assert_eq!(event.acked_within(SOON).await.attempt, 2);
    assert_eq!(event.pushes(), 1);
}

#[tokio::test]
async fn each_event_goes_to_one_connection_by_chance() {
    let feishu = platform().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(&feishu).await);
    }
    feishu.wait_connected(APP, 4, SOON).await;
    let events: Vec<_> = (0..400).map(|_| feishu.push_text(APP, "oc_1", "ou_1", "hello")).collect();
    for event in &events {
        event.pushed_within(1, SOON).await;
    }
    let mut counts = BTreeMap::new();
    for entry in feishu.journal() {
        if let Observation::Pushed { connection, .. } = entry.what {
            *counts.entry(connection).or_insert(0) += 1;
        }
    }
    assert_eq!(counts.values().sum::<u32>(), 400);
    // 100 each with a deviation of 9: below 50 means that it is not chance.
    assert!(counts.len() == 4 && counts.values().all(|count| *count > 50), "{counts:?}");
}

#[tokio::test]
async fn the_limit_of_connections_refuses_with_a_code() {
    let feishu = platform().await;
    feishu.configure(|settings| settings.connection_limit = 1);
    let _first = Client::connect(&feishu).await;
    let refused = Client::try_connect(&feishu).await.err();
    let Some(tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!(response.headers()["Handshake-Status"], "514");
    assert_eq!(response.headers()["Handshake-Autherrcode"], "1000040350");
}

#[tokio::test]
async fn parts_come_in_the_order_told() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    let message = Message::direct("oc_1", "ou_1").text("你好").build();
    let push = Push { repeat_last: true, ..Push::chunked(message.to_string().len(), 3) };
    let event = feishu.push_event_as(APP, message, push);
    let mut frames = Vec::new();
    for _ in 0..4 {
        frames.push(client.next().await);
    }
    let seq = |frame: &Frame| frame.header("seq").unwrap().to_owned();
    assert_eq!(frames.iter().map(seq).collect::<Vec<_>>(), ["2", "1", "0", "0"]);
    let parts = [&frames[2], &frames[1], &frames[0]];
    let whole: Vec<u8> = parts.iter().flat_map(|part| part.payload.clone().unwrap()).collect();
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["event"]["message"]["content"], r#"{"text":"你好"}"#);
    client.answer(frames.swap_remove(2), 200).await;
    event.acked_within(SOON).await;
    assert_eq!(rules(&feishu), []);
}

#[tokio::test]
async fn frames_without_required_fields_are_refused() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    client.stream.send(WsMessage::Binary(Bytes::from_static(&[32, 1]))).await.unwrap();
    client.stream.send(WsMessage::text("hello")).await.unwrap();
    let broken = |entry: &Entry| matches!(entry.what, Observation::Violation(_));
    feishu.wait_count("two violations", SOON, 2, broken).await;
    assert_eq!(rules(&feishu), [Rule::Frame, Rule::Frame]);
}

#[tokio::test]
async fn a_ping_gets_the_configuration() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    let service = 33_554_678;
    let ping = Frame { service, ..Frame::default() }.with("type", "ping").encode();
    client.stream.send(WsMessage::Binary(ping.into())).await.unwrap();
    let answer = client.next().await;
    assert_eq!(answer.header("type"), Some("pong"));
    let config: Value = serde_json::from_slice(answer.payload.as_deref().unwrap()).unwrap();
    assert_eq!(config["PingInterval"], 120);
    assert_eq!(rules(&feishu), []);
}
