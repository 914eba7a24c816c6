//! How long a start, a restart, a refusal and a forced end take. Each round is a gateway of its own,
//! because the second death of a worker is answered with a pause.

use std::io;
use std::process::Stdio;

use rustix::process::Signal;

use super::gateway::{Gateway, is_alive, signal};
use super::stats::{median, quantile};
use super::table::Goal;
use super::terminal::Terminal;
use super::{Bench, Row, Table, clock, fault};

const CONFIG: &str = "[platform.local]\n[agent.echo]\n";
/// What a supervisor says that finds another one.
const TEMPORARY: i32 = 75;

#[derive(Default)]
struct Facts {
    answered: Vec<f64>,
    respawned: Vec<f64>,
    ready: Vec<f64>,
    refused: Vec<f64>,
    killed: Vec<f64>,
}

pub(super) fn measure(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let mut facts = Facts::default();
    for _ in 0..bench.rounds {
        facts.round(bench)?;
    }
    let mut row = |what: &str, times: &[f64], goal: Option<f64>| {
        let worst = quantile(times, 1.0);
        let figure = format!("{:.1} ms, worst {worst:.1} ms", median(times));
        let row = Row::new(what, figure);
        table.push(match goal {
            Some(goal) => row.goal(Goal::AtMost(goal), worst, " ms"),
            None => row,
        });
    };
    row("start → first message answered by echo", &facts.answered, Some(1000.0));
    row("worker killed → its successor exists", &facts.respawned, Some(100.0));
    row("worker killed → its successor is ready", &facts.ready, None);
    row("second supervisor refused", &facts.refused, Some(50.0));
    row("ctl kill --force of a stopped supervisor, 2 workers", &facts.killed, Some(200.0));
    Ok(())
}

impl Facts {
    fn round(&mut self, bench: &Bench) -> io::Result<()> {
        let since = clock::now();
        let gateway = Gateway::spawn(&bench.ground, CONFIG)?;
        let mut terminal = Terminal::join(&gateway.chat_socket("local"), "bench")?;
        terminal.talk()?;
        self.answered.push(clock::ms_since(since));

        let (mut events, former) = (gateway.events()?, gateway.worker("local")?);
        let since = clock::now();
        signal(former, Signal::KILL)?;
        events.wait(|event| {
            let new = event["pid"].as_u64().is_some_and(|pid| pid != u64::from(former));
            event["instance"] == "local" && new
        })?;
        self.respawned.push(clock::ms_since(since));
        events.wait(|event| event["instance"] == "local" && event["now"] == "ready")?;
        self.ready.push(clock::ms_since(since));

        let since = clock::now();
        let code = run(&gateway, &["supervise"])?;
        self.refused.push(clock::ms_since(since));
        if code != Some(TEMPORARY) {
            return Err(fault(format!("a second supervisor ended with {code:?}")));
        }

        let mut all = vec![gateway.pid()];
        for name in ["local", "echo"] {
            all.push(gateway.worker(name)?);
        }
        signal(gateway.pid(), Signal::STOP)?;
        let since = clock::now();
        let code = run(&gateway, &["ctl", "kill", "--force"])?;
        self.killed.push(clock::ms_since(since));
        let left = all.iter().filter(|pid| is_alive(**pid)).count();
        if code != Some(0) || left > 0 {
            return Err(fault(format!("kill --force ended with {code:?} and left {left}")));
        }
        Ok(())
    }
}

fn run(gateway: &Gateway, args: &[&str]) -> io::Result<Option<i32>> {
    let mut command = gateway.command();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.status()?.code())
}
