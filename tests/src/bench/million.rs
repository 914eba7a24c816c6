//! A million waiting events: what they cost in memory, and how long the supervisor needs to come back
//! when it is killed in front of them.

use std::io;

use super::gateway::{Gateway, memory};
use super::ingest::mib;
use super::table::Goal;
use super::terminal::Terminal;
use super::{Bench, PATIENCE, Row, Table, clock};

/// Five workers. Nobody connects to the agent's socket, so its gate is shut and events wait.
const CONFIG: &str = "[platform.local]\n[platform.a]\nkind = \"local\"\n\
    [platform.b]\nkind = \"local\"\n[platform.c]\nkind = \"local\"\n[agent.socket]\n";
const CHATS: usize = 250;
const EACH: usize = 4000;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let mut gateway = Gateway::start(&bench.ground, CONFIG)?;
    let since = clock::now();
    let mut terminal = Terminal::join(&gateway.chat_socket("local"), "0")?;
    for chat in 0..CHATS {
        terminal.switch(&chat.to_string())?;
        terminal.pour(256, EACH)?;
    }
    let filled = clock::now().duration_since(since).as_secs();
    let full = memory(gateway.pid())?;
    let waiting = gateway.waiting()?;
    table.push(
        Row::new(
            format!("memory, 5 workers, {waiting} events waiting, filled in {filled} s"),
            full.to_string(),
        )
        .goal(Goal::AtMost(10.0), mib(full.now), " MiB"),
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
    Ok(())
}
