//! Everything stands still for long and goes on: nothing is restarted, and every line is proven anew soon.

use std::io;
use std::time::Duration;

use rustix::process::Signal;

use super::{APP, Options, PATIENCE, SCALE, one_account, processes, prove, say, workers};
use crate::bench::gateway::signal;
use crate::bench::{Ground, clock};
use crate::feishu::{Observation, Scope};

pub(super) fn run(ground: &Ground, options: Options) -> io::Result<bool> {
    let (platform, gateway) = one_account(ground)?;
    let (before, all) = (workers(&gateway)?, processes(&gateway)?);
    // Once the lines are still good afterwards, once they have died meanwhile.
    for dies in [false, true] {
        for pid in &all {
            signal(*pid, Signal::STOP)?;
        }
        if dies {
            platform.feishu.hold_connections(Scope::All);
        }
        clock::pause(Duration::from_secs(options.seconds));
        let (former, since) = (platform.feishu.connections(APP), clock::now());
        let pings =
            || platform.feishu.count(|entry| matches!(entry.what, Observation::Ping { .. }));
        let heard = pings();
        for pid in &all {
            signal(*pid, Signal::CONT)?;
        }
        clock::until("the line is proven anew", PATIENCE, || {
            let open = platform.feishu.connections(APP);
            let anew = open.iter().any(|one| !former.contains(one));
            (anew || (!dies && pings() > heard)).then_some(())
        })?;
        let proven = clock::ms_since(since) / 1e3;
        prove(&platform, APP)?;
        say(&format!(
            "everything stopped for {} s, which is {} min of pings, {}: proven anew after {proven:.1} s",
            options.seconds,
            options.seconds * SCALE / 60,
            if dies { "and lines dead since" } else { "and lines still good" },
        ));
    }
    // Whoever were to be replaced for it would be by now.
    clock::pause(Duration::from_secs(20));
    let same = workers(&gateway)? == before;
    say(if same { "no worker is another" } else { "WORKERS WERE REPLACED" });
    Ok(same)
}
