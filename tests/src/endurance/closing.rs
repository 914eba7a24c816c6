//! A server that accepts and closes at once: attempts keep their schedule, the machine stays cool, and the log
//! tells it once.

use std::fs;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{APP, Options, block, say, used};
use crate::bench::gateway::Gateway;
use crate::bench::{Ground, clock, fault};

/// The longest pause after an outage.
const PAUSE: Duration = Duration::from_millis(3500);
/// Who could not say what he wants comes a second time at once.
const AT_ONCE: Duration = Duration::from_millis(300);
/// Attempts until that pause is reached.
const FIRST: usize = 6;
/// How long a connection that is closed may still say what it wants.
const WORDS: Duration = Duration::from_millis(200);

/// What somebody who came to the door wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// To connect: these attempts keep the schedule.
    Connect,
    /// To know who the bot is: asked at a rhythm of its own, each minute in the end.
    Name,
    /// He saw the door close before he said it: to connect, most likely.
    Unsaid,
}

type Visits = Arc<Mutex<Vec<(Instant, Wish)>>>;

pub(super) fn run(ground: &Ground, options: Options) -> io::Result<bool> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let visits = Visits::default();
    let seen = visits.clone();
    std::thread::Builder::new().name("door".into()).spawn(move || {
        for connection in listener.incoming().flatten() {
            let at = clock::now();
            let wish = close(connection);
            seen.lock().unwrap_or_else(PoisonError::into_inner).push((at, wish));
        }
    })?;
    let attempts = || {
        let mut seen = visits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.dedup_by(|later, former| {
            let one = former.1 == Wish::Unsaid && later.0.duration_since(former.0) < AT_ONCE;
            if one {
                former.1 = later.1;
            }
            one
        });
        seen.retain(|(_, wish)| *wish != Wish::Name);
        seen
    };
    let config = block("feishu", APP, &url) + "[platform.local]\n[agent.echo]\n";
    let gateway = Gateway::spawn(ground, &config)?;
    let worker =
        clock::until("the worker is there", super::PATIENCE, || gateway.worker("feishu").ok())?;
    clock::until("the door is closed", super::PATIENCE, || {
        (attempts().len() >= FIRST).then_some(())
    })?;
    let (since, before) = (clock::now(), (used(worker)?, used(gateway.pid())?));
    clock::pause(Duration::from_secs(options.seconds));
    let took = clock::now().duration_since(since);
    let spent =
        (used(worker)?.saturating_sub(before.0), used(gateway.pid())?.saturating_sub(before.1));
    let mut seen = attempts();
    seen.retain(|(at, _)| *at >= since);
    let gaps = seen.windows(2).filter_map(|pair| match pair {
        [(a, Wish::Connect), (b, Wish::Connect)] => Some(b.duration_since(*a)),
        _ => None,
    });
    let (least, most) = (gaps.clone().min(), gaps.max());
    let (Some(least), Some(most)) = (least, most) else {
        return Err(fault("nobody comes to the door"));
    };
    let share = |spent: Duration| 100.0 * spent.as_secs_f64() / took.as_secs_f64();
    let log = fs::read_to_string(gateway.dir().join("log"))?;
    let about = |line: &&str| line.contains("instance=feishu") || line.contains("platform=feishu");
    let lines: Vec<_> = log.lines().filter(about).collect();
    say(&format!(
        "{:.0} s: {} attempts to connect, an hour has {} of them; pauses from {:.2} to {:.2} s",
        took.as_secs_f64(),
        seen.len(),
        3600 * seen.len() as u64 / took.as_secs().max(1),
        least.as_secs_f64(),
        most.as_secs_f64()
    ));
    say(&format!("processor: worker {:.2} %, supervisor {:.2} %", share(spent.0), share(spent.1)));
    say(&format!("the log has {} lines about it:", lines.len()));
    for line in &lines {
        say(&format!("  {line}"));
    }
    let same = gateway.worker("feishu")? == worker;
    say(if same { "the worker is the same" } else { "THE WORKER IS ANOTHER" });
    let told = lines.iter().filter(|line| line.contains("outer connection down")).count();
    // Chance makes each pause as short as half of the longest one.
    let most_attempts = took.as_millis() / (PAUSE / 2).as_millis() + 2;
    Ok(same && (seen.len() as u128) <= most_attempts && told == 1)
}

/// Ends a connection at once, and hears what it wanted nevertheless.
fn close(mut connection: TcpStream) -> Wish {
    let mut words = [0; 64];
    let closed = connection.shutdown(Shutdown::Write);
    let heard = closed
        .and_then(|()| connection.set_read_timeout(Some(WORDS)))
        .and_then(|()| connection.read(&mut words));
    let words = heard.ok().and_then(|length| words.get(..length)).unwrap_or_default();
    if words.starts_with(b"POST /callback/ws/endpoint ") {
        Wish::Connect
    } else if words.is_empty() {
        Wish::Unsaid
    } else {
        Wish::Name
    }
}
