//! The connection: how it comes about, ends and comes back.

use super::*;

#[tokio::test]
async fn ready_names_the_account_and_how_long_a_key_is_good() {
    let mut rig = Rig::on(Rig::sim().await);
    let ready = rig.until_ready().await;
    assert!(ready.account.starts_with(APP), "{}", ready.account);
    assert_eq!(ready.idempotent_ms, Some(3_300_000));
    rig.end().await;
}

#[tokio::test]
async fn a_reset_connection_is_replaced() {
    let mut rig = Rig::ready().await;
    for _ in 0..5 {
        rig.sim.reset_connections(APP);
        rig.until_down().await;
        rig.until_up().await;
        let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "again");
        accept(rig.heard().await);
        event.acked_within(LONG).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn a_closed_connection_is_replaced() {
    let mut rig = Rig::ready().await;
    rig.sim.close_connections(APP, 1001, "going away");
    let (reason, remedy) = rig.until_down().await;
    assert_eq!((reason.as_str(), remedy), ("the platform closed the connection (1001)", None));
    rig.until_up().await;
    rig.end().await;
}

/// F75
#[tokio::test]
async fn a_black_hole_is_left() {
    let mut rig = Rig::ready().await;
    let hole = rig.sim.fault(Scope::All, Fault::BlackHole { existing: true }, Times::Always);
    let (reason, _) = rig.until_down().await;
    assert_eq!(reason, "nothing arrives any more");
    // Neither do answers to new calls.
    let (reason, _) = rig.until_down().await;
    assert!(reason.starts_with("ask for the connection: no answer in time"), "{reason}");
    rig.sim.clear(hole);
    rig.until_up().await;
    rig.end().await;
}

#[tokio::test]
async fn silence_is_no_reason_to_leave() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.client_config = ClientConfig::quick());
    let mut rig = Rig::on(sim);
    rig.until_ready().await;
    rig.sim
        .wait_count("pings", LONG, 3, |entry| matches!(entry.what, Observation::Ping { .. }))
        .await;
    let sim = rig.end().await;
    assert_eq!(sim.count(opened), 1);
}

#[tokio::test]
async fn settings_without_sense_change_nothing() {
    let mut rig = Rig::ready().await;
    for payload in [
        r#"{"PingInterval":0}"#,
        r#"{"PingInterval":-5}"#,
        "{}",
        "null",
        "nonsense",
        r#"{"PingInterval":1e99}"#,
    ] {
        rig.sim.send_client_config(APP, payload);
    }
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "after");
    accept(rig.heard().await);
    event.acked_within(LONG).await;
    let sim = rig.end().await;
    assert!(sim.count(|entry| matches!(entry.what, Observation::Ping { .. })) < 5);
}

#[tokio::test]
async fn a_connection_without_pongs_is_never_ready_and_left() {
    let sim = Rig::sim().await;
    let mute = sim.fault(Scope::All, Fault::NoPongs, Times::Always);
    let mut rig = Rig::on(sim);
    let (reason, _) = rig.until_down().await;
    assert_eq!(reason, "the platform does not answer its own pings");
    rig.sim.clear(mute);
    rig.until_ready().await;
    rig.end().await;
}

#[tokio::test]
async fn hanging_calls_and_handshakes_are_left() {
    let sim = Rig::sim().await;
    sim.fault(Scope::All, Fault::DiscoveryHang, Times::Only(1));
    sim.fault(Scope::All, Fault::HandshakeHang, Times::Only(1));
    let mut rig = Rig::on(sim);
    let (reason, _) = rig.until_down().await;
    assert!(reason.starts_with("ask for the connection: no answer in time"), "{reason}");
    let (reason, _) = rig.until_down().await;
    let told = "open the connection: no answer in time: in the handshake with 127.0.0.1:";
    assert!(reason.starts_with(told), "{reason}");
    rig.until_ready().await;
    rig.end().await;
}

/// F45
#[tokio::test]
async fn an_outage_of_the_platform_passes() {
    let mut rig = Rig::ready().await;
    let down = Fault::DiscoveryStatus { status: 503, body: "<html>".to_owned() };
    let fault = rig.sim.fault(Scope::All, down, Times::Always);
    rig.sim.drop_connections(APP);
    rig.until_down().await;
    let (reason, remedy) = rig.until_down().await;
    assert_eq!((reason.as_str(), remedy), ("ask for the connection: HTTP 503", None));
    rig.sim.clear(fault);
    rig.until_up().await;
    rig.sim.stop_listening().await;
    rig.sim.drop_connections(Scope::All);
    rig.until_down().await;
    let (reason, _) = rig.until_down().await;
    assert!(reason.starts_with("ask for the connection: no connection"), "{reason}");
    rig.sim.listen_again().await;
    rig.until_up().await;
    rig.end().await;
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_ends_when_somebody_did() {
    let sim = Rig::sim().await;
    sim.set_secret(APP, "another");
    let mut rig = Rig::on(sim);
    let (reason, remedy) = rig.until_down().await;
    assert!(reason.contains("1000040345"), "{reason}");
    assert!(remedy.unwrap().starts_with("check app_id"));
    rig.sim.set_secret(APP, "secret");
    rig.until_ready().await;
    rig.end().await;
}

#[tokio::test]
async fn one_connection_too_many_is_a_refusal() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.connection_limit = 0);
    let mut rig = Rig::on(sim);
    let (_, remedy) = rig.until_down().await;
    assert!(remedy.unwrap().contains("stop other programs"));
    rig.end().await;
}

#[tokio::test]
async fn a_polite_end_answers_what_is_under_way_and_says_goodbye() {
    let mut rig = Rig::ready().await;
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "last");
    let submitted = rig.heard().await;
    let slow = rest(Route::Send, Trouble::Delay { ms: 500 });
    rig.sim.fault(APP, slow, Times::Only(1));
    let reply = outbound(1, |_| {});
    rig.outbound.send(reply).await.unwrap();
    rig.sim.wait_sent(LONG, |_| true).await;
    rig.stop.cancel();
    accept(submitted);
    event.acked_within(LONG).await;
    sent(rig.outcome(OutboundId(1)).await);
    let sim = rig.end().await;
    let goodbye = |entry: &Entry| match &entry.what {
        Observation::Closed { ending, .. } => Some(ending.clone()),
        _ => None,
    };
    let ending = sim.wait_for("the close", LONG, |entries| entries.iter().find_map(goodbye)).await;
    assert_eq!(ending, Ending::Close { code: Some(1000) });
}

#[tokio::test]
async fn it_ends_at_once_while_there_is_no_connection() {
    let sim = Rig::sim().await;
    sim.fault(Scope::All, Fault::DiscoveryHang, Times::Always);
    let rig = Rig::on(sim);
    rig.sim.wait_for("a call", LONG, |entries| (!entries.is_empty()).then_some(())).await;
    rig.end().await;
}

#[test]
fn no_setting_shows_its_secret() {
    let (app_id, app_secret) = (APP.to_owned(), Secret::new("hidden"));
    let settings = FeishuSettings {
        app_id,
        app_secret,
        base_url: "https://x".to_owned(),
        working: String::new(),
        webhook: None,
        catch_up_h: 24,
    };
    assert!(!format!("{:?}", Feishu::new(settings)).contains("hidden"));
}

fn through(url: &str) -> Network {
    Network { proxy: Some(Secret::new(url)), ca: String::new() }
}

/// Discovery, calls and the long connection, and nothing beside the proxy.
#[tokio::test]
async fn everything_goes_through_the_proxy() {
    for (scheme, named) in [("http", false), ("http", true), ("socks5", false), ("socks5", true)] {
        let proxy = Proxy::start(named.then_some(("ann", "p@ss"))).await;
        let at = if named { "ann:p%40ss@" } else { "" };
        let mut rig =
            Rig::over(Rig::sim().await, &through(&format!("{scheme}://{at}{}", proxy.addr())));
        rig.until_ready().await;
        let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "hello");
        accept(rig.heard().await);
        event.acked_within(LONG).await;
        sent(rig.send(outbound(1, |_| {})).await);
        let target = rig.sim.addr().to_string();
        let led = proxy.led();
        assert!(led.len() >= 2 && led.iter().all(|it| it.ends_with(&target)), "{led:?}");
        let long = if scheme == "http" { "CONNECT" } else { "SOCKS" };
        assert!(led.iter().any(|it| it.starts_with(long)), "{led:?}");
        rig.end().await;
    }
}

/// F45: a line that needs longer than the first attempts are given.
#[tokio::test]
async fn a_slow_line_is_connected_as_later_attempts_take_longer() {
    let proxy = Proxy::slow(None, HURRIED.handshake * 3 / 2).await;
    let mut rig = Rig::over(Rig::sim().await, &through(&format!("http://{}", proxy.addr())));
    let (reason, _) = rig.until_down().await;
    assert!(reason.starts_with("ask for the connection: no answer in time"), "{reason}");
    rig.until_ready().await;
    rig.end().await;
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_of_without_its_password() {
    for scheme in ["http", "socks5"] {
        let proxy = Proxy::start(Some(("ann", "right"))).await;
        let url = format!("{scheme}://ann:wrong-word@{}", proxy.addr());
        let mut rig = Rig::over(Rig::sim().await, &through(&url));
        let (reason, _) = rig.until_down().await;
        assert!(!reason.contains("wrong-word"), "{reason}");
        rig.end().await;
    }
}

/// F07: the platform splits the events of an app by chance and tells nobody.
#[tokio::test]
async fn somebody_who_takes_a_share_of_the_events_is_noticed_until_he_has_left() {
    let mut rig = Rig::ready().await;
    let other = Rig::on(rig.sim.clone());
    rig.sim.wait_connected(APP, 2, LONG).await;
    let Rig { events: mut taken, notes: mut other_notes, stop: other_stop, .. } = other;
    let rival = tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(submitted) = taken.recv() => drop(accept(submitted)),
                Some(_) = other_notes.recv() => {}
                else => break,
            }
        }
    });
    // So many that the latest page of the chat holds none that is old enough.
    let mut pushing = tokio::time::interval(Duration::from_millis(10));
    let mut limited = None;
    let search = async {
        while limited.is_none() {
            tokio::select! {
                _ = pushing.tick() => drop(rig.sim.push_text(APP, "oc_1", "ou_ann", "who hears this?")),
                Some(submitted) = rig.events.recv() => drop(accept(submitted)),
                Some(note) = rig.notes.recv() => {
                    if let Note::Outside(Outside::Limited { reason, remedy }) = note {
                        limited = Some((reason, remedy.unwrap()));
                    }
                }
            }
        }
    };
    tokio::time::timeout(LONG, search).await.expect("noticed in time");
    let (reason, remedy) = limited.unwrap();
    assert!(reason.starts_with("conflict: another program is connected as this app"), "{reason}");
    assert!(remedy.contains("an app of its own"), "{remedy}");

    other_stop.cancel();
    let over = async {
        loop {
            tokio::select! {
                _ = pushing.tick() => drop(rig.sim.push_text(APP, "oc_1", "ou_ann", "and this?")),
                Some(submitted) = rig.events.recv() => drop(accept(submitted)),
                Some(note) = rig.notes.recv() => {
                    if note == Note::Outside(Outside::Up) {
                        break;
                    }
                }
            }
        }
    };
    tokio::time::timeout(2 * LONG, over).await.expect("over in time");
    rival.abort();
    rig.end().await;
}

/// The connection lives on, but replies cannot leave: a person is told, until it is over.
#[tokio::test]
async fn what_keeps_replies_back_is_told_until_it_is_over() {
    let mut rig = Rig::ready().await;
    let mut id = 0;
    let mut reply = || {
        id += 1;
        outbound(id, |_| {})
    };
    for (route, trouble, replies, told, hint) in [
        (Route::Token, Trouble::Code { status: 200, code: 10_015 }, 1, "10015", "secret"),
        (Route::Send, Trouble::Code { status: 400, code: 99_991_663 }, 1, "99991663", "secret"),
        (Route::Send, Trouble::Html { status: 404 }, 3, "HTTP 404", "base_url"),
        (Route::Send, Trouble::Html { status: 200 }, 3, "HTTP 200", "base_url"),
        (Route::Token, Trouble::Html { status: 200 }, 3, "token", "base_url"),
    ] {
        rig.sim.fault(APP, rest(route, trouble), Times::Always);
        rig.sim.revoke_tokens(APP);
        for _ in 0..replies {
            rig.outbound.send(reply()).await.unwrap();
        }
        let (reason, remedy) = rig
            .note(|note| match note {
                Note::Outside(Outside::Limited { reason, remedy }) => Some((reason, remedy)),
                _ => None,
            })
            .await;
        assert!(reason.contains(told) && remedy.unwrap().contains(hint), "{told}: {reason}");
        rig.sim.clear_faults();
        rig.outbound.send(reply()).await.unwrap();
        rig.until_up().await;
    }
    rig.end().await;
}

/// Credentials that are refused for a moment cost a moment.
#[tokio::test]
async fn a_token_that_is_refused_once_is_asked_for_again_soon() {
    let mut rig = Rig::ready().await;
    rig.sim.revoke_tokens(APP);
    let refused = rest(Route::Token, Trouble::Code { status: 200, code: 10_015 });
    rig.sim.fault(APP, refused, Times::Only(1));
    let found = rig.send(outbound(1, |_| {})).await;
    assert!(matches!(found, Outcome::Retry { after_ms: Some(..=5000), .. }), "{found:?}");
    sent(rig.send(outbound(1, |_| {})).await);
    rig.end().await;
}
