//! From the store to the agent and back: how fast what waits is handed out and settled, what one slow
//! conversation costs the others, and what order costs replies that meet a platform's limits.

use std::io;
use std::time::Duration;

use super::agent::Agent;
use super::feishu::{APP, Simulated};
use super::gateway::Gateway;
use super::raw::Raw;
use super::stats::{Pairs, Slice};
use super::terminal::Terminal;
use super::{Bench, Row, Table, clock, fault};
use crate::feishu::{Fault, Feishu, Observation, Route, Scope, Times, Trouble};

const CONFIG: &str = "[platform.local]\n[agent.socket]\n";
const CHATS: usize = 50;
const EACH: usize = 100;
/// Replies: ordered in twenty chats, or each in a chat of its own.
const LANES: usize = 20;
const REPLIES: usize = 100;
/// One call of about so many is refused.
const REFUSED: usize = 40;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> io::Result<()> {
    waiting(bench, table)?;
    circle(bench, table)?;
    replies(bench, table)
}

/// What waits in fifty chats: all of them quick, and one of them slow.
fn waiting(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let gateway = Gateway::start(&bench.ground, CONFIG)?;
    let mut terminal = Terminal::join(&gateway.chat_socket("local"), "0")?;
    let sample = terminal.sample()?;
    let (mut slow, mut raw) = (Pairs::default(), Pairs::default());
    for _ in 0..bench.rounds {
        fill(&mut terminal, EACH)?;
        let quick = drain(&gateway, CHATS * EACH, None)?;
        fill(&mut terminal, EACH)?;
        let with = drain(&gateway, CHATS * EACH, Some("0"))?;
        slow.push(with, quick);
        raw.push(quick, Raw::new(gateway.dir(), &sample, CHATS)?.run(bench.slice)?);
    }
    let rate = |slice: &Slice| slice.rate;
    table.push(
        Row::new(
            format!("handed out and settled, {CHATS} chats at once"),
            format!("{:.0}/s", raw.thing(rate)),
        )
        .against(format!("{:.0}/s raw, {CHATS} in a group", raw.baseline(rate)), raw.ratio(rate)),
    );
    table.push(
        Row::new(
            format!("the same while one of the {CHATS} chats waits for its answer"),
            format!("{:.0}/s", slow.thing(rate)),
        )
        .against(format!("{:.0}/s with none", slow.baseline(rate)), slow.ratio(rate)),
    );
    Ok(())
}

pub(super) fn fill(terminal: &mut Terminal, each: usize) -> io::Result<()> {
    for chat in 0..CHATS {
        terminal.switch(&chat.to_string())?;
        terminal.pour(each.min(64), each)?;
    }
    Ok(())
}

/// Has an agent take `count` events; the first one of the chat `slow` only after all of the others.
pub(super) fn drain(gateway: &Gateway, count: usize, slow: Option<&str>) -> io::Result<Slice> {
    let mut agent = Agent::join(&gateway.agent_socket("socket"), 64)?;
    let mut held = None;
    let mut next = Some(agent.next()?);
    let (since, mut times) = (clock::now(), Vec::new());
    let quick = if slow.is_some() { count / CHATS * (CHATS - 1) } else { count };
    while let Some(offer) = next {
        if slow == Some(offer.chat.as_str()) {
            held = Some(offer);
        } else {
            agent.done(&offer)?;
            times.push(clock::ms_since(since));
        }
        next = if times.len() < quick { Some(agent.next()?) } else { None };
    }
    agent.flush()?;
    let slice = Slice::of(&times, 1, clock::now().duration_since(since).as_secs_f64());
    if let Some(mut offer) = held {
        for left in (0..count / CHATS).rev() {
            agent.done(&offer)?;
            if left > 0 {
                offer = agent.next()?;
            }
        }
        agent.flush()?;
    }
    clock::until("nothing waits", Duration::from_secs(60), || {
        (gateway.waiting().ok()? == 0).then_some(())
    })?;
    Ok(slice)
}

/// Said, stored, handed out, answered, stored, sent, one after the other.
fn circle(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let gateway = Gateway::start(&bench.ground, "[platform.local]\n[agent.echo]\n")?;
    let mut terminal = Terminal::join(&gateway.chat_socket("local"), "bench")?;
    let sample = terminal.sample()?;
    let mut pairs = Pairs::default();
    for round in 0..=bench.rounds {
        let path = super::hooks::talk(&mut terminal, bench.slice)?;
        let raw = Raw::new(gateway.dir(), &sample, 1)?.run(bench.slice)?;
        // The first one warms up.
        if round > 0 {
            pairs.push(path, raw);
        }
    }
    for (name, pick) in
        [("p50", super::hooks::p50 as fn(&Slice) -> f64), ("p99", super::hooks::p99)]
    {
        table.push(
            Row::new(
                format!("said → stored → handed out → answered → stored → sent, {name}"),
                format!("{:.2} ms", pairs.thing(pick)),
            )
            .against(format!("{:.2} ms one sync", pairs.baseline(pick)), pairs.ratio(pick)),
        );
    }
    Ok(())
}

/// Refuses a message now and then, for ever.
async fn refuse_some(platform: &Feishu) {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut seen, mut sent, mut next) = (0, 0, platform.sent().len());
    loop {
        if sent >= next {
            let trouble = Trouble::Code { status: 429, code: 99_991_400 };
            let fault = Fault::Rest { route: Some(Route::Send), trouble };
            platform.fault(Scope::App(APP.into()), fault, Times::Only(1));
            next += random.usize(1..2 * REFUSED);
        }
        let entries = platform.entries_after(seen).await;
        seen += entries.len();
        sent += entries.iter().filter(|it| matches!(it.what, Observation::Sent(_))).count();
    }
}

/// Replies to a platform that refuses some: in order within twenty chats, and each in a chat of its own.
fn replies(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let feishu = Simulated::start()?;
    let config = format!("{}[agent.socket]\n", feishu.config());
    let gateway = Gateway::start(&bench.ground, &config)?;
    feishu.connected()?;
    let mut times = Vec::new();
    for lanes in [LANES, LANES * REPLIES] {
        let mut agent = Agent::join(&gateway.agent_socket("socket"), 64)?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let platform = feishu.platform().clone();
        feishu.spawn(async move {
            tokio::select! {
                () = refuse_some(&platform) => {}
                _ = stopped => {}
            }
            platform.clear_faults();
        });
        let since = clock::now();
        for n in 0..LANES * REPLIES {
            agent.send("feishu", &format!("oc_{lanes}_{}", n % lanes), &n.to_string())?;
        }
        agent.receipts(LANES * REPLIES)?;
        times.push(clock::ms_since(since) / 1e3);
        drop(stop);
    }
    if let Some(wrong) = disordered(&feishu) {
        return Err(fault(format!("replies of a chat are out of order: {wrong}")));
    }
    let [ordered, free] = times[..] else { return Ok(()) };
    table.push(
        Row::new(
            format!("{LANES} chats, {REPLIES} replies in order in each, some refused with 429"),
            format!("{ordered:.1} s"),
        )
        .against(format!("{free:.1} s, each in a chat of its own"), ordered / free),
    );
    Ok(())
}

/// A reply that stands before an earlier one of its chat.
fn disordered(feishu: &Simulated) -> Option<String> {
    let mut last = std::collections::BTreeMap::new();
    feishu.platform().sent().into_iter().find_map(|sent| {
        let number: Option<usize> = sent.text().and_then(|text| text.parse().ok());
        let before = last.insert(sent.receive_id.clone(), number);
        (number.is_none() || before.is_some_and(|before| before > number))
            .then(|| format!("{sent:?} after {before:?}"))
    })
}
