//! Kills the real program at random and tells what became of every message: `gw-torture --help`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tests::bench::Ground;
use tests::torture::trouble::Trouble;
use tests::torture::{Absence, Again, Round, Tally, When, agent, queue};

const HELP: &str = "\
Kills the hermes-gw that lies beside this program, again and again and under load, and judges from
outside: no message lost, none delivered after its acknowledgement, order kept, no reply lost or
doubled. Ends with 0 if that is so, with 1 if not.

  --platform NAME   feishu: everything is killed, alone and in pairs, under load; telegram: the supervisor or
                    the worker, once within each batch of 200 updates [default: feishu]
  --at WHEN         with feishu: time: at random times; call: the supervisor and its workers at their n-th system call
                    of some sort (needs strace); step: each at every named step of a message in turn, from the platform's
                    frame to the agent's receipt (needs a build without optimisation) [default: time]
  --absence MIN     kills nothing: 5000 messages come in MIN minutes without an agent; then it comes
  --again CRASHES   500 messages are delivered again after each of so many crashes
  --trouble S       instead of all that: for S seconds a worker is killed, stopped, or made to spin, block or leak
                    every second, beside others that must not notice (needs root and cc)
  --kills N         in all [default: 100]
  --seed S          what is random follows from it [default: 1]
  --chats N         conversations at once [default: 10]
  --dir DIR         a directory on the disk in question [default: the target folder]
  --tally FILE      add to the tally in this file after each round, and go on where it ends
";

/// Kills in a round, each of which has a new state.
const ROUND: u32 = 100;

#[derive(Clone, Copy)]
enum Platform {
    Feishu,
    Telegram,
}

/// Batches of updates on one state.
const BATCHES: u32 = 10;

struct Args {
    platform: Platform,
    kills: u32,
    seed: u64,
    chats: usize,
    when: When,
    absence: Option<u64>,
    again: Option<u32>,
    trouble: Option<u64>,
    dir: Option<PathBuf>,
    tally: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [role, socket, log, every] = words.as_slice()
        && role == agent::ROLE
    {
        let every = every.parse().unwrap_or(1);
        let _ = agent::run(Path::new(socket), Path::new(log), every);
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "--help" || word == "-h") {
        say(HELP);
        return ExitCode::SUCCESS;
    }
    match parse(&words) {
        Err(why) => fail(64, &why),
        Ok(args) => match run(&args) {
            Err(e) => fail(69, &e.to_string()),
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
        },
    }
}

/// Whether every promise was kept.
fn run(args: &Args) -> io::Result<bool> {
    let own = std::env::current_exe()?;
    let ground = Ground::beside(&own, args.dir.as_deref())?;
    torture(args, &ground, &own).map_err(|e| ground.explain(e))
}

fn torture(args: &Args, ground: &Ground, own: &Path) -> io::Result<bool> {
    if let Some(minutes) = args.absence {
        return absence(minutes, ground, own);
    }
    if let Some(crashes) = args.again {
        return again(crashes, ground, own);
    }
    if let Some(seconds) = args.trouble {
        let report = Trouble { seed: args.seed, seconds, chats: args.chats }.run(ground, own)?;
        say(&report.to_string());
        return Ok(report.is_clean());
    }
    let mut tally = match args.tally.as_deref().map(std::fs::read) {
        Some(Ok(bytes)) => serde_json::from_slice(&bytes)?,
        Some(Err(e)) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Some(Err(_)) | None => Tally::default(),
    };
    while tally.kills < args.kills.into() {
        let left = u64::from(args.kills) - tally.kills;
        let left = u32::try_from(left).unwrap_or(ROUND);
        let seed = args.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(tally.rounds);
        let result = match args.platform {
            Platform::Feishu => {
                let when = match args.when {
                    When::Step(_) => When::Step(usize::try_from(tally.kills).unwrap_or(0)),
                    when => when,
                };
                let round = Round { seed, kills: left.min(ROUND), chats: args.chats, when };
                round.run(ground, own)?
            }
            Platform::Telegram => {
                queue::Round { seed, runs: left.min(BATCHES) }.run(ground, own)?
            }
        };
        if !result.is_clean() {
            let kept = std::env::temp_dir().join(format!("gw-torture-{}", std::process::id()));
            tell(&format!("round {}: broken; see {}\n{result}", tally.rounds, kept.display()));
        }
        tally += result;
        if let Some(file) = &args.tally {
            std::fs::write(file, serde_json::to_vec_pretty(&tally)?)?;
        }
        tell(&format!("{} of {} kills, {} messages", tally.kills, args.kills, tally.messages));
    }
    say(&tally.to_string());
    Ok(tally.is_clean())
}

fn absence(minutes: u64, ground: &Ground, own: &Path) -> io::Result<bool> {
    let absence = Absence { lasts: Duration::from_secs(60 * minutes), messages: 5000 };
    let told = absence.run(ground, own)?;
    for (waiting, kib) in &told.memory {
        say(&format!("{waiting} wait: {kib} KiB are the supervisor's own\n"));
    }
    say(&format!(
        "the agent has caught up {:.1} s after its return\n{}",
        told.caught_up_s, told.tally
    ));
    Ok(told.tally.is_clean())
}

fn again(crashes: u32, ground: &Ground, own: &Path) -> io::Result<bool> {
    let (tally, together, alone) = Again { crashes, messages: 500 }.run(ground, own)?;
    say(&format!(
        "a repetition costs {together:.2} ms, 500 at once, and is acknowledged after {alone:.2} ms, alone\n{tally}"
    ));
    Ok(tally.is_clean())
}

fn parse(words: &[String]) -> Result<Args, String> {
    let platform = Platform::Feishu;
    let mut args = Args {
        platform,
        kills: 100,
        seed: 1,
        chats: 10,
        when: When::Time,
        absence: None,
        again: None,
        trouble: None,
        dir: None,
        tally: None,
    };
    let mut words = words.iter();
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{flag} wants a number"));
        match flag.as_str() {
            "--platform" => {
                args.platform = match value.as_str() {
                    "feishu" => Platform::Feishu,
                    "telegram" => Platform::Telegram,
                    other => return Err(format!("--platform: feishu or telegram, not {other:?}")),
                };
            }
            "--at" => {
                args.when = match value.as_str() {
                    "time" => When::Time,
                    "call" => When::Call,
                    "step" if cfg!(debug_assertions) => When::Step(0),
                    "step" => {
                        let why = "--at step: builds with optimisation have no steps to die at: use a debug build";
                        return Err(why.into());
                    }
                    other => return Err(format!("--at: time, call or step, not {other:?}")),
                };
            }
            "--kills" => {
                args.kills = u32::try_from(number()?).map_err(|_| "--kills: too many")?;
            }
            "--absence" => args.absence = Some(number()?),
            "--again" => args.again = Some(u32::try_from(number()?).unwrap_or(1)),
            "--trouble" => args.trouble = Some(number()?),
            "--seed" => args.seed = number()?,
            "--chats" => {
                let chats = number()?;
                args.chats = usize::try_from(chats.clamp(1, 1000)).unwrap_or(1);
            }
            "--dir" => args.dir = Some(PathBuf::from(value)),
            "--tally" => args.tally = Some(PathBuf::from(value)),
            other => return Err(format!("unknown flag {other}; see --help")),
        }
    }
    Ok(args)
}

fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    // Whoever stops reading has stopped caring.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "gw-torture: {line}");
}

fn fail(code: u8, why: &str) -> ExitCode {
    tell(why);
    ExitCode::from(code)
}
