//! Thousands of new connections, with few descriptors: nothing is left of the former ones.

use std::io;
use std::time::Duration;

use super::{Options, PATIENCE, block, descriptors, processes, quick, say, workers};
use crate::bench::gateway::{Gateway, memory};
use crate::bench::{Ground, clock};
use crate::feishu::Scope;
use crate::torture::Platform;

/// Accounts that connect at once.
const APPS: u64 = 20;
/// A line lives so long: longer, and its end would be no trouble at all.
const LIFE: Duration = Duration::from_millis(3100);

pub(super) fn run(ground: &Ground, options: Options) -> io::Result<bool> {
    let apps: Vec<String> = (0..APPS).map(|n| format!("cli_{n}")).collect();
    let names: Vec<&str> = apps.iter().map(String::as_str).collect();
    let platform = Platform::start(&names)?;
    quick(&platform.feishu);
    let url = platform.feishu.base_url();
    let blocks: String =
        apps.iter().enumerate().map(|(n, app)| block(&format!("p{n}"), app, &url)).collect();
    let config = blocks + "[agent.echo]\n";
    let mut gateway = Gateway::start(ground, &config)?;
    let limited = ["sh", "-c", "ulimit -n 256 && exec \"$0\" \"$@\""].map(str::to_owned);
    gateway.start_again_under(&limited)?;
    let connected = |former: &[Vec<u64>]| {
        clock::until("all are connected anew", PATIENCE, || {
            let open: Vec<_> = names.iter().map(|app| platform.feishu.connections(app)).collect();
            let is_new = |(open, former): (&Vec<u64>, &Vec<u64>)| {
                open.iter().any(|one| !former.contains(one))
            };
            open.iter().zip(former).all(is_new).then_some(open)
        })
    };
    let mut open = connected(&vec![Vec::new(); names.len()])?;
    // What is made once is made by then.
    for _ in 0..2 {
        clock::pause(LIFE);
        platform.feishu.reset_connections(Scope::All);
        open = connected(&open)?;
    }
    let (before, first) = (workers(&gateway)?, measure(&gateway)?);
    let (mut made, mut slowest) = (0, Duration::ZERO);
    while made < options.times {
        clock::pause(LIFE);
        let since = clock::now();
        platform.feishu.reset_connections(Scope::All);
        open = connected(&open)?;
        slowest = slowest.max(clock::now().duration_since(since));
        made += APPS;
    }
    let (same, last) = (workers(&gateway)? == before, measure(&gateway)?);
    say(&format!("{made} connections made anew, the slowest after {:.2} s", slowest.as_secs_f64()));
    say(&format!(
        "with at most 256 descriptors a process; most of a worker: {} -> {}",
        first.0, last.0
    ));
    say(&format!("of the supervisor: {} -> {}", first.1, last.1));
    say(&format!(
        "memory of their own: workers {} -> {} KiB each, supervisor {} -> {} KiB",
        first.2, last.2, first.3, last.3
    ));
    say(if same { "no worker is another" } else { "WORKERS WERE REPLACED" });
    Ok(same && last.0 <= first.0 + 2 && last.1 <= first.1 + 2)
}

/// Descriptors of the worker with the most and of the supervisor, then memory of a worker and of it, in KiB.
fn measure(gateway: &Gateway) -> io::Result<(usize, usize, u64, u64)> {
    let own = gateway.pid();
    let (mut most, mut sum, mut count) = (0, 0, 0);
    for pid in processes(gateway)?.into_iter().filter(|pid| *pid != own) {
        most = most.max(descriptors(pid)?);
        sum += memory(pid)?.own;
        count += 1;
    }
    Ok((most, descriptors(own)?, sum / count.max(1), memory(own)?.own))
}
