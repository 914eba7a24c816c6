//! Lets the real program live through what takes long: `gw-endurance --help`.

use std::io::{self, Write};
use std::process::ExitCode;

use tests::bench::Ground;
use tests::endurance::{Options, SCENES};

const HELP: &str = "\
Lets the hermes-gw that lies beside this program live through what takes long, and prints figures. Ends with
0 unless something happened that must not.

  gw-endurance SCENE [--seconds S] [--times N]

  silence      nobody says anything for S seconds, each of which has the pings of half a minute; then the line
               dies without a word
  sleep        everything is stopped for S seconds and goes on, twice
  closing      S seconds at a server that accepts and closes at once
  reconnects   twenty accounts connect anew, N times in all, with 256 descriptors

  --seconds S  [default: 60]
  --times N    [default: 200]
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() || words.iter().any(|word| word == "--help" || word == "-h") {
        let _ = io::stdout().lock().write_all(HELP.as_bytes());
        return ExitCode::SUCCESS;
    }
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            let _ = writeln!(io::stderr().lock(), "gw-endurance: {e}");
            ExitCode::from(69)
        }
    }
}

fn run(words: &[String]) -> io::Result<bool> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let mut options = Options { seconds: 60, times: 200 };
    let mut words = words.iter();
    let name = words.next().map(String::as_str).unwrap_or_default();
    while let Some(flag) = words.next() {
        let number = words.next().and_then(|value| value.parse().ok());
        let number = number.ok_or_else(|| wrong(format!("{flag} wants a number")))?;
        match flag.as_str() {
            "--seconds" => options.seconds = number,
            "--times" => options.times = number,
            other => return Err(wrong(format!("unknown flag {other}; see --help"))),
        }
    }
    let scene = SCENES.iter().find(|(known, _)| *known == name);
    let (_, scene) =
        scene.ok_or_else(|| wrong(format!("no scene is called {name:?}; see --help")))?;
    let ground = Ground::beside(&std::env::current_exe()?, None)?;
    scene(&ground, options).map_err(|e| ground.explain(e))
}
