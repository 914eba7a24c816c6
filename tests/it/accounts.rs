//! One account, one connection on this host (F06).

use tests::feishu::{Feishu, Observation};

use crate::gateway::{Gateway, PATIENCE};

fn gateway(feishu: &Feishu, instances: &[&str]) -> Gateway {
    let block = |name: &&str| {
        format!(
            "[platform.{name}]\nkind = \"feishu\"\napp_id = \"cli_shared\"\n\
             app_secret_file = \"secret\"\nbase_url = \"{}\"\n\
             access = {{ direct = \"open\" }}\n",
            feishu.base_url()
        )
    };
    let blocks = instances.iter().map(block).collect::<Vec<_>>().concat();
    let mut gateway = Gateway::new(&format!("{blocks}[platform.local]\n[agent.echo]\n"));
    std::fs::write(gateway.path("secret"), "secret").unwrap();
    gateway.start();
    gateway
}

fn refused(gateway: &Gateway, name: &str, by: &Gateway) {
    let held = gateway.wait(name, "held", |i| i["phase"] == "held");
    let reason = held["reason"].as_str().unwrap();
    let state = by.state();
    let expected = format!("credential in use by pid {} ({}, ", by.pid(), state.display());
    assert!(reason.starts_with(&expected), "{reason}");
    assert!(held["remedy"].as_str().unwrap().contains("as soon as that one has left"), "{held}");
    assert!(held["next_start_ms"].is_null(), "nobody knows when: {held}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_with_the_same_app_waits_and_its_other_instances_serve() {
    let feishu = Feishu::start().await;
    feishu.add_app("cli_shared", "secret", "ou_bot");
    let mut first = gateway(&feishu, &["feishu"]);
    first.wait_ready("feishu");
    let connection = feishu.connections("cli_shared");
    assert_eq!(connection.len(), 1);

    let second = gateway(&feishu, &["feishu"]);
    refused(&second, "feishu", &first);
    second.wait_ready("local");
    let generation = second.instance("feishu")["generation"].clone();
    // A restart keeps the account, also while there is no worker.
    assert!(first.run(&["ctl", "restart", "feishu"]).status.success());
    first.wait_ready("feishu");
    let told = second.run(&["ctl", "restart", "feishu"]);
    assert_eq!(told.status.code(), Some(75), "the lock of the account is somebody else's");
    refused(&second, "feishu", &first);
    feishu.wait_connections("cli_shared", 1, PATIENCE).await;

    // However it ends, the other takes over once its worker has closed the connection.
    first.kill_supervisor();
    let ready = second.wait_ready("feishu");
    assert!(ready["generation"].as_u64() <= generation.as_u64().map(|n| n + 2), "{ready}");
    feishu
        .wait_count("connections closed", PATIENCE, 2, |entry| {
            matches!(entry.what, Observation::Closed { .. })
        })
        .await;
    feishu.wait_connections("cli_shared", 1, PATIENCE).await;
    first.start();
    refused(&first, "feishu", &second);

    // Who is told to stay down leaves the account to others.
    assert!(second.run(&["ctl", "kill", "feishu"]).status.success());
    first.wait_ready("feishu");
}

/// Another holder of the lock than a worker, in the place of the one that a killed supervisor has left.
fn hold_lock_of(gateway: &Gateway) -> Vec<std::fs::File> {
    let uid = nix::unistd::geteuid();
    let dirs = ["/run/lock", "/tmp"].map(|place| format!("{place}/hermes-gw-{uid}"));
    let files = dirs.iter().flat_map(std::fs::read_dir).flatten().flatten();
    let state = format!("\"{}\"", gateway.state().display());
    let says = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let own = files.map(|file| file.path()).filter(|path| says(path).contains(&state));
    let held: Vec<_> = own
        .map(|path| {
            let file = std::fs::File::open(path).unwrap();
            file.lock().unwrap();
            file
        })
        .collect();
    assert!(!held.is_empty());
    held
}

/// A worker whose supervisor was killed leaves within two seconds, and its account is no matter for a person.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_a_former_worker_gives_up_is_waited_for_in_silence() {
    let feishu = Feishu::start().await;
    feishu.add_app("cli_shared", "secret", "ou_bot");
    let mut gateway = gateway(&feishu, &["feishu"]);
    gateway.wait_ready("feishu");
    gateway.kill_supervisor();
    let held = hold_lock_of(&gateway);
    gateway.start();
    let waits = gateway.wait("feishu", "waits", |i| i["phase"] != "starting");
    assert_eq!(waits["phase"], "backoff", "{waits}");
    assert!(waits["reason"].as_str().unwrap().contains("whose supervisor has ended"), "{waits}");
    gateway.wait_ready("local");
    drop(held);
    gateway.wait_ready("feishu");
    assert!(!gateway.log().contains("a person must act"), "{}", gateway.log());

    // One that does not leave is told of, by the number of its supervisor, and looked for again.
    let former = gateway.pid();
    gateway.kill_supervisor();
    let held = hold_lock_of(&gateway);
    gateway.start();
    let state = gateway.wait("feishu", "held", |i| i["phase"] == "held");
    let reason = state["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("credential in use by pid {former} (")), "{reason}");
    drop(held);
    gateway.wait_ready("feishu");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_app_twice_in_one_configuration_connects_once() {
    let feishu = Feishu::start().await;
    feishu.add_app("cli_shared", "secret", "ou_bot");
    let gateway = gateway(&feishu, &["one", "two"]);
    gateway.wait_ready("one");
    refused(&gateway, "two", &gateway);
    assert_eq!(feishu.connections("cli_shared").len(), 1);
    assert_eq!(gateway.status().unwrap()["state"], "degraded");
}
