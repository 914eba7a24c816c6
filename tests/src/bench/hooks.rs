//! What handlers of hooks cost a message: from what is said to the agent's answer, with handlers that hang
//! and with handlers that are quick, in turns with a gateway that has none.

use std::io;
use std::time::Duration;

use super::gateway::Gateway;
use super::stats::{Pairs, Slice};
use super::terminal::Terminal;
use super::{Bench, Row, Table, clock};

const PLAIN: &str = "[platform.local]\n[agent.echo]\n";
/// Each is told everything there is.
const KINDS: [(&str, &str); 2] =
    [("that hang", "\"sleep\", \"600\""), ("that are quick", "\"true\"")];

pub(super) fn measure(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let plain = Gateway::start(&bench.ground, PLAIN)?;
    let mut without = Terminal::join(&plain.chat_socket("local"), "bench")?;
    for (what, command) in KINDS {
        let hooks =
            format!("[hooks]\n[[hooks.command]]\nevents = [\"*\"]\ncommand = [{command}]\n");
        let hooked = Gateway::start(&bench.ground, &format!("{PLAIN}{hooks}"))?;
        let mut with = Terminal::join(&hooked.chat_socket("local"), "bench")?;
        let mut pairs = Pairs::default();
        for round in 0..=bench.rounds {
            let pair = (talk(&mut with, bench.slice)?, talk(&mut without, bench.slice)?);
            // The first one warms up.
            if round > 0 {
                pairs.push(pair.0, pair.1);
            }
        }
        for (name, pick) in [("p50", p50 as fn(&Slice) -> f64), ("p99", p99)] {
            table.push(
                Row::new(
                    format!("said → answered, {name}, with handlers {what}"),
                    format!("{:.2} ms", pairs.thing(pick)),
                )
                .against(format!("{:.2} ms without", pairs.baseline(pick)), pairs.ratio(pick)),
            );
        }
    }
    Ok(())
}

pub(super) fn p50(slice: &Slice) -> f64 {
    slice.p50
}

pub(super) fn p99(slice: &Slice) -> f64 {
    slice.p99
}

/// One conversation, one thing at a time.
pub(super) fn talk(terminal: &mut Terminal, length: Duration) -> io::Result<Slice> {
    let (since, mut times) = (clock::now(), Vec::new());
    loop {
        let one = clock::now();
        terminal.talk()?;
        times.push(clock::ms_since(one));
        let passed = clock::now().duration_since(since);
        if passed >= length {
            return Ok(Slice::of(&times, 1, passed.as_secs_f64()));
        }
    }
}
