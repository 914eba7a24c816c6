//! Trouble that is made on purpose: ends of connections, black holes, silence.

use super::*;

#[tokio::test]
async fn connections_end_in_every_way() {
    let feishu = platform().await;
    let mut reset = Client::connect(&feishu).await;
    feishu.wait_connected(APP, 1, SOON).await;
    feishu.reset_connections(APP);
    let error = reset.stream.next().await.unwrap().unwrap_err();
    assert!(
        matches!(&error, tungstenite::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionReset),
        "{error:?}"
    );

    let mut closed = Client::connect(&feishu).await;
    feishu.wait_connected(APP, 1, SOON).await;
    feishu.close_connections(APP, 1001, "away");
    let message = closed.stream.next().await.unwrap().unwrap();
    assert!(
        matches!(&message, WsMessage::Close(Some(frame)) if u16::from(frame.code) == 1001),
        "{message:?}"
    );
    drop(closed);

    let mut polite = Client::connect(&feishu).await;
    polite.stream.close(None).await.unwrap();
    let rude = Client::connect(&feishu).await;
    drop(rude);
    let ending = |entry: &Entry| match &entry.what {
        Observation::Closed { ending, .. } => Some(ending.clone()),
        _ => None,
    };
    let endings = feishu
        .wait_for("four endings", SOON, |entries| {
            let endings: Vec<_> = entries.iter().filter_map(ending).collect();
            (endings.len() == 4).then_some(endings)
        })
        .await;
    for expected in [Ending::Ours, Ending::Close { code: None }, Ending::Dropped { reset: false }] {
        assert!(endings.contains(&expected), "{endings:?}");
    }
}

#[tokio::test]
async fn a_black_hole_swallows_and_gives_back() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    feishu.wait_connected(APP, 1, SOON).await;
    let hole = feishu.fault(Scope::All, Fault::BlackHole { existing: true }, Times::Always);
    let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
    event.pushed_within(1, SOON).await;
    let short = Duration::from_millis(50);
    assert!(tokio::time::timeout(short, client.next()).await.is_err());
    assert!(tokio::time::timeout(short, discover(&feishu)).await.is_err());
    feishu.clear(hole);
    let frame = client.next().await;
    client.answer(Frame { method: DATA, ..frame }, 200).await;
    event.acked_within(SOON).await;
    assert_eq!(discover(&feishu).await["code"], 0);
}

#[tokio::test]
async fn new_connections_can_be_reset() {
    let feishu = platform().await;
    feishu.fault(Scope::All, Fault::ResetNew, Times::Only(1));
    assert!(call(&feishu, "GET", "/", "", &json!({})).await.is_err());
    assert_eq!(discover(&feishu).await["code"], 0);
}

#[tokio::test]
async fn refusals_and_silence_are_as_told() {
    let feishu = platform().await;
    let code = Fault::DiscoveryCode { code: 1, status: 200, data: false };
    feishu.fault(APP, code, Times::Only(1));
    assert_eq!(discover(&feishu).await, json!({"code": 1, "msg": "refused by a test"}));
    let refuse =
        Fault::HandshakeRefuse { status: 403, handshake_status: Some(403), autherrcode: None };
    feishu.fault(APP, refuse, Times::Only(1));
    assert!(Client::try_connect(&feishu).await.is_err());
    let hang = feishu.fault(APP, Fault::HandshakeHang, Times::Always);
    let short = Duration::from_millis(50);
    assert!(tokio::time::timeout(short, Client::try_connect(&feishu)).await.is_err());
    feishu.clear(hang);
    let mut client = Client::connect(&feishu).await;
    feishu.send_text_frame(APP, "hello");
    feishu.send_bytes(APP, b"garbage");
    feishu.send_client_config(APP, r#"{"PingInterval":0}"#);
    assert_eq!(client.stream.next().await.unwrap().unwrap(), WsMessage::text("hello"));
    assert_eq!(client.stream.next().await.unwrap().unwrap(), WsMessage::binary(&b"garbage"[..]));
    assert_eq!(client.next().await.payload.as_deref(), Some(br#"{"PingInterval":0}"#.as_slice()));
}

#[tokio::test]
async fn a_platform_that_does_not_listen_refuses() {
    let feishu = platform().await;
    feishu.stop_listening().await;
    assert!(TcpStream::connect(feishu.addr()).await.is_err());
    feishu.listen_again().await;
    assert_eq!(discover(&feishu).await["code"], 0);
}
