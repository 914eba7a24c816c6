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
    assert_eq!(told.status.code(), Some(78));
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
