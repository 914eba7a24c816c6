//! Measures the real program and prints a table: `gw-bench --help`.
//!
//! Nothing is asserted: it ends with 0 unless something could not be measured at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tests::bench::{self, Bench, Ground, MEASURES, MILLION, Row, Table, link};

const HELP: &str = "\
Measures the hermes-gw that lies beside this program, in turns with baselines.

  --rounds N        repeat every slice N times and tell medians [default: 7]
  --seconds S       length of a slice [default: 0.5]
  --dir DIR         a directory on the disk in question [default: the target folder]
  --only NAME       only this: ingest, delivery, link, memory, facts,
                    feishu, hooks, agents or million; may be repeated
  --depth N         ingest with N in flight only: 1, 8, 64 or 256
  --sync-ms MS      ingest only, on a disk of which each sync takes so much longer; wants strace
  --million         also a million waiting events, which takes minutes and 2 GB of disk
";

const DEPTHS: [usize; 4] = [1, 8, 64, 256];

struct Args {
    rounds: usize,
    slice: Duration,
    dir: Option<PathBuf>,
    only: Vec<String>,
    depth: Option<usize>,
    longer: Option<Duration>,
    million: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [role, socket] = words.as_slice()
        && [link::ECHO_LINK, link::ECHO_BARE].contains(&role.as_str())
    {
        // A benchmark that ends has hung up on its other end.
        let _ = link::other(role, Path::new(socket));
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
            Ok(false) => ExitCode::from(69),
        },
    }
}

/// Whether everything could be measured.
fn run(args: &Args) -> io::Result<bool> {
    let own = std::env::current_exe()?;
    let ground = Ground::beside(&own, args.dir.as_deref())?;
    let dir = ground.disk.path();
    let (_, kind) = bench::file_system(dir);
    if ["tmpfs", "ramfs"].contains(&kind.as_str()) {
        let why = format!("{} lies in memory ({kind}): name a disk with --dir", dir.display());
        return Err(io::Error::other(why));
    }
    let machine = bench::machine_line(dir);
    let Args { rounds, slice, depth, longer, .. } = *args;
    let bench = Bench { ground, own, rounds, slice, depth, longer };
    let wanted = |name: &str| match args.only.as_slice() {
        [] => name != MILLION.0 || args.million,
        only => only.iter().any(|one| one == name) || (name == MILLION.0 && args.million),
    };
    let mut table = Table::default();
    let mut complete = true;
    for (name, measure) in MEASURES.into_iter().chain([MILLION]).filter(|(name, _)| wanted(name)) {
        tell(&format!("measuring: {name}"));
        if let Err(e) = measure(&bench, &mut table) {
            complete = false;
            table.push(Row::new(name, format!("not measured: {e}")));
            tell(&format!("{name}: {}", bench.ground.explain(e)));
        }
    }
    say(&format!("{table}\n{machine}\n"));
    Ok(complete)
}

fn parse(words: &[String]) -> Result<Args, String> {
    let mut args = Args {
        rounds: 7,
        slice: Duration::from_millis(500),
        dir: None,
        only: Vec::new(),
        depth: None,
        longer: None,
        million: false,
    };
    let mut words = words.iter();
    while let Some(flag) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--rounds" => {
                let number = value()?.parse().ok().filter(|n| (1..=1000).contains(n));
                args.rounds = number.ok_or("--rounds wants a number from 1 to 1000")?;
            }
            "--seconds" => {
                let number = value()?.parse().ok().filter(|s| (0.01..=60.0).contains(s));
                let seconds = number.ok_or("--seconds wants a number from 0.01 to 60")?;
                args.slice = Duration::from_secs_f64(seconds);
            }
            "--dir" => args.dir = Some(PathBuf::from(value()?)),
            "--only" => {
                let name = value()?;
                if !MEASURES.iter().chain([&MILLION]).any(|(known, _)| known == name) {
                    return Err(format!("--only: nothing is called {name}; see --help"));
                }
                args.only.push(name.clone());
            }
            "--depth" => {
                let number = value()?.parse().ok().filter(|depth| DEPTHS.contains(depth));
                args.depth = Some(number.ok_or("--depth wants 1, 8, 64 or 256")?);
            }
            "--sync-ms" => {
                let number = value()?.parse().ok().filter(|ms| (0.1..=100.0).contains(ms));
                let ms: f64 = number.ok_or("--sync-ms wants a number from 0.1 to 100")?;
                args.longer = Some(Duration::from_secs_f64(ms / 1e3));
            }
            "--million" => args.million = true,
            other => return Err(format!("unknown flag {other}; see --help")),
        }
    }
    if args.longer.is_some() {
        if args.million || args.only.iter().any(|name| name != "ingest") {
            return Err("--sync-ms measures nothing but ingest".to_owned());
        }
        args.only = vec!["ingest".to_owned()];
    }
    Ok(args)
}

fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    // Whoever stops reading has stopped caring.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "gw-bench: {line}");
}

fn fail(code: u8, why: &str) -> ExitCode {
    tell(why);
    ExitCode::from(code)
}
