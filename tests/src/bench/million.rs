//! A million waiting events: what they cost in memory, and how long the supervisor needs to come back
//! when it is killed in front of them.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::agent::Agent;
use super::gateway::{Gateway, memory};
use super::ingest::mib;
use super::stats::float;
use super::table::Goal;
use super::terminal::Terminal;
use super::{AT_REST, Bench, PATIENCE, Row, Table, clock};

/// Five workers. Nobody connects to the agent's socket, so its gate is shut and events wait.
const CONFIG: &str = "[platform.local]\n[platform.a]\nkind = \"local\"\n\
    [platform.b]\nkind = \"local\"\n[platform.c]\nkind = \"local\"\n[agent.socket]\n";
const CHATS: usize = 250;
const EACH: usize = 4000;
/// A few events, for the cost of one.
const FEW: usize = 10_000;
/// How long the disk may take to be given back.
const GIVEN_BACK: Duration = Duration::from_mins(1);
/// Of each event, for a day: by these a repetition is known.
const KEY: usize = 16;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let mut gateway = Gateway::start(&bench.ground, CONFIG)?;
    let since = clock::now();
    let mut terminal = Terminal::join(&gateway.chat_socket("local"), "0")?;
    terminal.pour(256, FEW)?;
    let few = terminal.pour(256, FEW)?;
    for chat in 1..CHATS {
        terminal.switch(&chat.to_string())?;
        terminal.pour(256, EACH)?;
    }
    terminal.switch("last")?;
    let many = terminal.pour(256, FEW)?;
    let filled = clock::now().duration_since(since).as_secs();
    let full = memory(gateway.pid())?;
    let waiting = gateway.waiting()?;
    table.push(Row::new(
        format!("memory, 5 workers, {waiting} events just stored in {filled} s"),
        full.to_string(),
    ));
    clock::pause(AT_REST);
    let rests = memory(gateway.pid())?;
    table.push(
        Row::new("memory, 5 workers, all of them waiting, at rest", rests.to_string()).goal(
            Goal::AtMost(10.0),
            mib(rests.now),
            " MiB",
        ),
    );
    table.push(
        Row::new("an event more, a million waiting", format!("{:.1} µs", 1e6 / many.rate))
            .against(format!("{:.1} µs with 10 000", 1e6 / few.rate), few.rate / many.rate),
    );
    drop(terminal);
    let since = clock::now();
    gateway.start_again()?;
    // `status` is answered by the store: who answers has opened it.
    clock::until("the supervisor answers", PATIENCE, || gateway.status().map(drop))?;
    let answers = clock::ms_since(since);
    table.push(
        Row::new("killed → started again, status answered", format!("{answers:.1} ms")).goal(
            Goal::AtMost(100.0),
            answers,
            " ms",
        ),
    );
    let mut terminal = Terminal::join(&gateway.chat_socket("local"), "0")?;
    terminal.pour(1, 1)?;
    let accepts = clock::ms_since(since);
    table.push(Row::new("killed → started again, event accepted", format!("{accepts:.1} ms")));
    let again = memory(gateway.pid())?;
    table.push(Row::new("memory after the new start", again.to_string()).goal(
        Goal::AtMost(10.0),
        mib(again.now),
        " MiB",
    ));
    drop(terminal);
    drain(&gateway, waiting + 1, table)
}

/// An agent comes and takes everything; the disk is given back.
fn drain(gateway: &Gateway, waiting: u64, table: &mut Table) -> io::Result<()> {
    let waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
    let mut agent = Agent::join(&gateway.agent_socket("socket"), 64)?;
    let mut took = |count: usize| -> io::Result<f64> {
        let since = clock::now();
        for _ in 0..count {
            let offer = agent.next()?;
            agent.done(&offer)?;
        }
        Ok(1e3 * clock::ms_since(since) / float(count))
    };
    let first = took(FEW)?;
    let since = clock::now();
    took(waiting.saturating_sub(2 * FEW))?;
    let between = clock::now().duration_since(since).as_secs();
    let last = took(FEW)?;
    agent.flush()?;
    table.push(
        Row::new("an event handed out and settled, a million waiting", format!("{first:.1} µs"))
            .against(format!("{last:.1} µs: the last 10 000"), first / last),
    );
    clock::pause(GIVEN_BACK);
    let left = bytes(&gateway.dir().join("state"))?;
    let keys = mib(u64::try_from(waiting * KEY / 1024).unwrap_or(0));
    let left = mib(left / 1024);
    table.push(
        Row::new(
            format!("drained in {between} s; what is on the disk a minute later"),
            format!("{left:.1} MiB"),
        )
        .against(format!("{keys:.1} MiB: the keys of a day, 16 bytes each"), left / keys)
        .goal(Goal::AtMost(1.0), left - keys, " MiB more"),
    );
    Ok(())
}

/// What lies in a directory.
fn bytes(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let metadata = entry?.metadata()?;
        sum += if metadata.is_file() { metadata.blocks() * 512 } else { 0 };
    }
    Ok(sum)
}
