//! Feishu as an operator sees it: what is refused, what that means, and that it passes.

use tests::feishu::{Fault, Feishu, Observation, Schedule, Times};

use crate::gateway::{Gateway, PATIENCE};

fn config(feishu: &Feishu, apps: &[&str]) -> String {
    let mut config = String::new();
    for app in apps {
        config += &format!(
            "[platform.{app}]\nkind = \"feishu\"\napp_id = \"cli_{app}\"\napp_secret_file = \"{app}.secret\"\n\
             base_url = \"{}\"\naccess = {{ direct = \"open\" }}\n",
            feishu.base_url()
        );
    }
    config + "[agent.echo]\n"
}

async fn gateway(apps: &[&str]) -> (Feishu, Gateway) {
    let feishu = Feishu::start().await;
    feishu.configure(|settings| settings.schedule = Schedule::with_pauses_scaled(0.02));
    let mut gateway = Gateway::new(&config(&feishu, apps));
    for app in apps {
        feishu.add_app(&format!("cli_{app}"), "secret", &format!("ou_{app}"));
        std::fs::write(gateway.path(&format!("{app}.secret")), "secret").unwrap();
    }
    gateway.start();
    (feishu, gateway)
}

async fn answered(feishu: &Feishu, app: &str, text: &str) {
    feishu.push_text(&format!("cli_{app}"), &format!("oc_{app}"), "ou_user", text).acked().await;
    feishu.wait_sent(PATIENCE, |sent| sent.text().is_some_and(|it| it.contains(text))).await;
}

/// Each with its reason, none at the cost of another, and each passes once its cause is gone.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do_and_pass_by_themselves() {
    let feishu = Feishu::start().await;
    let discovery = |code| Fault::DiscoveryCode { code, status: 200, data: false };
    let handshake = |status, autherrcode| Fault::HandshakeRefuse {
        status: 403,
        handshake_status: Some(status),
        autherrcode,
    };
    let cases = [
        ("unpublished", discovery(1_000_040_345), "published"),
        ("domain", discovery(1_000_040_351), "https://open.larksuite.com"),
        ("crowd", discovery(1_000_040_350), "stop other programs"),
        ("many", handshake(514, Some(1_000_040_350)), "stop other programs"),
        ("banned", handshake(403, None), "developer console"),
    ];
    let mut apps: Vec<&str> = cases.iter().map(|(app, ..)| *app).collect();
    apps.extend(["wrong", "good"]);
    let mut gateway = Gateway::new(&config(&feishu, &apps));
    for app in &apps {
        let secret = if *app == "wrong" { "another" } else { "secret" };
        feishu.add_app(&format!("cli_{app}"), secret, &format!("ou_{app}"));
        std::fs::write(gateway.path(&format!("{app}.secret")), "secret").unwrap();
    }
    let mut faults = Vec::new();
    for (app, fault, _) in &cases {
        faults.push(feishu.fault(format!("cli_{app}").as_str(), fault.clone(), Times::Always));
    }
    gateway.start();
    gateway.wait_ready("good");
    let told = |app: &str, words: &str| {
        let found = gateway.wait(app, "says what to do", |it| it["remedy"].is_string());
        assert_eq!(found["connected"], false, "{found}");
        assert!(found["remedy"].as_str().unwrap().contains(words), "{found}");
    };
    for (app, _, words) in &cases {
        told(app, words);
    }
    told("wrong", "secret");
    answered(&feishu, "good", "undisturbed").await;
    for fault in faults {
        feishu.clear(fault);
    }
    feishu.set_secret("cli_wrong", "secret");
    for app in &apps {
        let found = gateway.wait_ready(app);
        assert!(found["reason"].is_null(), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_is_named_in_the_status_and_its_grant_noticed() {
    let (feishu, gateway) = gateway(&["one", "two"]).await;
    feishu.grant("cli_one", "im:message:send_as_bot", false);
    feishu.push_text("cli_one", "oc_one", "ou_user", "hello").acked().await;
    let found = gateway.wait("one", "names the scope", |it| it["reason"].is_string());
    assert!(found["reason"].as_str().unwrap().contains("im:message:send_as_bot"), "{found}");
    assert!(found["remedy"].as_str().unwrap().contains("Permissions"), "{found}");
    assert_eq!(found["connected"], true);
    answered(&feishu, "two", "undisturbed").await;
    feishu.grant("cli_one", "im:message:send_as_bot", true);
    feishu.wait_sent(PATIENCE, |sent| sent.app == "cli_one").await;
    gateway.wait("one", "is well again", |it| it["reason"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_withdrawn_is_nobodys_trouble() {
    let (feishu, gateway) = gateway(&["one"]).await;
    for round in 0..5 {
        answered(&feishu, "one", &format!("round {round}")).await;
        feishu.revoke_tokens("cli_one");
    }
    assert!(gateway.instance("one")["reason"].is_null());
    let sent = |entry: &tests::feishu::Entry| matches!(entry.what, Observation::Sent(_));
    assert_eq!(feishu.count(sent), 5);
}

/// F24: whatever the platform says again after a reconnect, under new ids, nobody is told twice.
#[tokio::test(flavor = "multi_thread")]
async fn replays_after_reconnects_reach_nobody() {
    const MESSAGES: usize = 200;
    let (feishu, gateway) = gateway(&["one"]).await;
    gateway.wait_ready("one");
    let push = |n: usize| {
        feishu.push_text("cli_one", &format!("oc_{}", n % 10), "ou_user", &format!("m{n}"))
    };
    let pushed: Vec<_> = (0..MESSAGES).map(push).collect();
    let sent = |entry: &tests::feishu::Entry| matches!(entry.what, Observation::Sent(_));
    feishu.wait_count("every answer", PATIENCE, MESSAGES, sent).await;
    for _ in 0..5 {
        let opened =
            |entry: &tests::feishu::Entry| matches!(entry.what, Observation::Opened { .. });
        let before = feishu.count(opened);
        feishu.reset_connections("cli_one");
        feishu.wait_count("another connection", PATIENCE, before + 1, opened).await;
        for event in &pushed {
            feishu.replay(event).acked().await;
        }
    }
    // Whatever would have been said has been said before this.
    answered(&feishu, "one", "the last").await;
    assert_eq!(feishu.count(sent), MESSAGES + 1);
}
