//! What the gateway adds between a model and a platform, how many turns at once cost, and what each kind of
//! agent worker weighs. Model and platform are simulated in this process, so both ends have one clock.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use super::feishu::{APP, Simulated};
use super::gateway::{Gateway, memory};
use super::ingest::mib;
use super::stats::{median, quantile};
use super::table::Goal;
use super::{Bench, Row, Table, clock, fault};
use crate::feishu::{Feishu, Observation};
use crate::openai::{Answer, Server, delta, finish};

const KINDS: [&str; 7] = ["echo", "socket", "exec", "relay", "openai", "webhook", "acp"];
const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// An answer that is whole within this time is not shown before: what the workers wait on purpose.
const ON_PURPOSE_MS: f64 = 200.0;
const TURNS: usize = 100;
const CHATS: usize = 10;
/// A slow model: 50 chats, eight turns at once, two seconds each.
const MANY: usize = 50;
const EACH: usize = 2;
const AT_ONCE: usize = 8;
const SLOW: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(120);

pub(super) fn measure(bench: &Bench, table: &mut Table) -> io::Result<()> {
    weigh(bench, table)?;
    let feishu = Simulated::start()?;
    let server = feishu.run(Server::start())??;
    added(bench, &feishu, &server, table)?;
    many(bench, &feishu, &server, table)
}

fn config(feishu: &Simulated, server: &Server, concurrency: usize) -> String {
    format!(
        "{}[agent.model]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"{}\"\nconcurrency = {concurrency}\n",
        feishu.config(),
        server.base_url()
    )
}

/// What each kind of agent worker weighs, idle.
fn weigh(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let config = "[platform.local]\nagent = \"echo\"\n[agent.echo]\n[agent.socket]\n\
         [agent.exec]\ncommand = [\"sleep\", \"600\"]\n\
         [agent.acp]\ncommand = [\"sleep\", \"600\"]\n\
         [agent.relay]\nlisten = \"127.0.0.1:0\"\nsecret_file = \"secret\"\n\
         [agent.openai]\nmodel = \"m\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
         [agent.webhook]\nurl = \"http://127.0.0.1:9/\"\nsecret_file = \"secret\"\n";
    let gateway = Gateway::start_with(&bench.ground, config, SECRET)?;
    for name in KINDS {
        let memory = memory(gateway.worker(name)?)?;
        let row = Row::new(format!("memory of an idle agent worker, {name}"), memory.to_string());
        table.push(row.goal(Goal::AtMost(10.0), mib(memory.now), " MiB"));
    }
    Ok(())
}

/// From a model's words to the platform's ear.
fn added(bench: &Bench, feishu: &Simulated, server: &Server, table: &mut Table) -> io::Result<()> {
    let gateway = Gateway::start(&bench.ground, &config(feishu, server, CHATS))?;
    feishu.connected()?;
    until_open(&gateway)?;
    let slow = || {
        let parts = ["one ", "two ", "three ", "four"].map(delta).into_iter();
        Answer::Slow(Duration::from_millis(150), parts.chain([finish("stop")]).collect())
    };
    for (what, answers, purpose) in [
        (
            "a model's first word → the platform's call, beyond the 200 ms kept on purpose",
            true,
            ON_PURPOSE_MS,
        ),
        ("a model's last word → the platform's call", false, 0.0),
    ] {
        let mut times = Vec::new();
        for _ in 0..TURNS / CHATS {
            if answers {
                server.script((0..CHATS).map(|_| slow()));
            }
            let seen = feishu.platform().journal().len();
            server.forget_words();
            say(feishu, CHATS, "hello")?;
            settled(&gateway)?;
            let calls = calls(feishu.platform(), seen, answers);
            let words = server.words();
            // Both clocks at one moment.
            let (now, passed) = (clock::now(), clock::ms(feishu.platform().now()));
            let words = words.iter().map(|(first, last)| if answers { *first } else { *last });
            let mut words: Vec<f64> =
                words.map(|at| passed - clock::ms(now.saturating_duration_since(at))).collect();
            words.sort_by(f64::total_cmp);
            // Each chat has one turn, and all began together: the n-th word has the n-th call.
            times.extend(calls.iter().zip(&words).map(|(call, word)| call - word - purpose));
        }
        if times.is_empty() {
            return Err(fault("the platform was not called"));
        }
        let (p50, p99) = (median(&times), quantile(&times, 0.99));
        let figure = format!("p50 {p50:.1} ms, p99 {p99:.1} ms, {} turns", times.len());
        table.push(Row::new(what, figure));
    }
    Ok(())
}

/// When the platform was called for each turn, in milliseconds: with its first draft, or with its reply.
fn calls(feishu: &Feishu, seen: usize, drafts: bool) -> Vec<f64> {
    let is = |what: &Observation| match what {
        Observation::Card { act: "create", .. } => drafts,
        Observation::Sent(_) => !drafts,
        _ => false,
    };
    let journal = feishu.journal();
    let calls = journal.iter().skip(seen).filter(|entry| is(&entry.what));
    let mut calls: Vec<f64> = calls.map(|entry| clock::ms(entry.at)).collect();
    calls.sort_by(f64::total_cmp);
    calls
}

/// Many chats and a slow model that takes few turns at once.
fn many(bench: &Bench, feishu: &Simulated, server: &Server, table: &mut Table) -> io::Result<()> {
    let gateway = Gateway::start(&bench.ground, &config(feishu, server, AT_ONCE))?;
    feishu.connected()?;
    until_open(&gateway)?;
    server.pace(SLOW);
    server.forget_words();
    let (worker, supervisor) = (gateway.worker("model")?, gateway.pid());
    let before = (memory(worker)?, memory(supervisor)?);
    let since = clock::now();
    for round in 0..EACH {
        say(feishu, MANY, &format!("m{round}"))?;
    }
    settled(&gateway)?;
    let took = clock::ms_since(since) / 1000.0;
    server.pace(Duration::ZERO);
    let after = (memory(worker)?, memory(supervisor)?);
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let least = (MANY * EACH) as f64 * SLOW.as_secs_f64() / AT_ONCE as f64;
    table.push(
        Row::new(
            format!("{MANY} chats × {EACH} messages, turns of 2 s, {AT_ONCE} at once"),
            format!("{took:.1} s, {} turns at once at most", server.most_turns()),
        )
        .against(format!("{least:.1} s: the model alone"), took / least),
    );
    for (what, before, after) in [("worker", before.0, after.0), ("supervisor", before.1, after.1)]
    {
        table.push(Row::new(
            format!("its {what}'s memory, before and after"),
            format!("{} KiB, {} KiB, {} at most", before.now, after.now, after.peak),
        ));
    }
    Ok(())
}

fn until_open(gateway: &Gateway) -> io::Result<()> {
    clock::until("the model's gate opens", LONG, || {
        let instances = gateway.instances().ok()?;
        let open = |one: &serde_json::Value| one.pointer("/gate/open") == Some(&true.into());
        instances.iter().any(open).then_some(())
    })
}

/// Everything is answered, and every answer is sent.
fn settled(gateway: &Gateway) -> io::Result<()> {
    clock::until("everything is answered", LONG, || {
        let instances = gateway.instances().ok()?;
        let left = |name: &str| {
            let of = |one: &serde_json::Value| one.pointer(&format!("/store/{name}"))?.as_u64();
            instances.iter().filter_map(of).sum::<u64>()
        };
        (left("waiting") + left("replies") == 0).then_some(())
    })
}

/// One message in each of so many chats, acknowledged.
fn say(feishu: &Simulated, chats: usize, text: &str) -> io::Result<()> {
    let (tell, told) = mpsc::channel();
    let (platform, text) = (feishu.platform().clone(), text.to_owned());
    feishu.spawn(async move {
        let pushed: Vec<_> = (0..chats)
            .map(|n| platform.push_text(APP, &format!("oc_{n}"), &format!("ou_{n}"), &text))
            .collect();
        for event in pushed {
            event.acked_within(LONG).await;
        }
        let _ = tell.send(());
    });
    told.recv().map_err(|_| fault("the simulated Feishu is gone"))
}
