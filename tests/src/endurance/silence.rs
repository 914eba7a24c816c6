//! Users say nothing for long, and nothing is restarted; then the line dies without a word, and is left.

use std::io;
use std::time::Duration;

use super::{APP, Options, PATIENCE, SCALE, one_account, prove, say, workers};
use crate::bench::{Ground, clock};
use crate::feishu::Observation;

pub(super) fn run(ground: &Ground, options: Options) -> io::Result<bool> {
    let (platform, gateway) = one_account(ground)?;
    let (before, connections) = (workers(&gateway)?, platform.feishu.connections(APP));
    clock::pause(Duration::from_secs(options.seconds));
    let pings = platform.feishu.count(|entry| matches!(entry.what, Observation::Ping { .. }));
    let calm = workers(&gateway)? == before && platform.feishu.connections(APP) == connections;
    say(&format!(
        "{} s of silence, {pings} pings, as many as in {} min: {}",
        options.seconds,
        options.seconds * SCALE / 60,
        if calm { "no worker and no connection is another" } else { "SOMETHING WAS RESTARTED" },
    ));
    // The line swallows everything from now on, and tells nobody.
    let since = clock::now();
    platform.feishu.hold_connections(crate::feishu::Scope::All);
    clock::until("the dead line is left", PATIENCE, || {
        let open = platform.feishu.connections(APP);
        open.iter().any(|one| !connections.contains(one)).then_some(())
    })?;
    let left = clock::ms_since(since) / 1e3;
    prove(&platform, APP)?;
    let same = workers(&gateway)? == before;
    say(&format!(
        "a line that died without a word: connected anew after {left:.1} s, {}",
        if same { "by the same worker" } else { "BY ANOTHER WORKER" }
    ));
    Ok(calm && same)
}
