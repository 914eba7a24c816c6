//! Resident memory of the supervisor and of each kind of worker, with nothing to do.
//!
//! The simulated Feishu speaks without TLS, so what TLS takes is not in the figure of its worker.

use std::io;

use super::feishu::Simulated;
use super::gateway::{Gateway, memory};
use super::ingest::mib;
use super::table::Goal;
use super::{AT_REST, Bench, Row, Table, clock};

const WORKERS: [&str; 4] = ["local", "feishu", "echo", "socket"];

pub(super) fn measure(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let feishu = Simulated::start()?;
    let config = format!(
        "[platform.local]\nagent = \"echo\"\n{}agent = \"echo\"\n[agent.echo]\n[agent.socket]\n",
        feishu.config()
    );
    let gateway = Gateway::start(&bench.ground, &config)?;
    feishu.connected()?;
    let mut row = |what: String, pid| {
        let memory = memory(pid)?;
        let figure = memory.to_string();
        table.push(Row::new(what, figure).goal(Goal::AtMost(10.0), mib(memory.now), " MiB"));
        io::Result::Ok(())
    };
    let supervisor = format!("memory of the supervisor, {} workers", WORKERS.len());
    row(format!("{supervisor}, just started"), gateway.pid())?;
    clock::pause(AT_REST);
    row(format!("{supervisor}, at rest"), gateway.pid())?;
    for name in WORKERS {
        row(format!("memory of an idle worker, {name}"), gateway.worker(name)?)?;
    }
    Ok(())
}
