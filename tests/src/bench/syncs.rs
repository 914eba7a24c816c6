//! Syncs for each group commit, as strace sees them: the supervisor itself is not asked.
//!
//! A commit is seen in SQLite's log: the 24 bytes before a page end a transaction if the second number
//! in them is not zero. Being traced slows the supervisor, so groups may be larger than usual; the
//! ratio does not depend on that.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::gateway::{Gateway, signal};
use super::stats::float;
use super::table::Goal;
use super::terminal::Terminal;
use super::{Bench, Row, fault};

/// What strace writes.
const TRACE: &str = "trace";

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counted {
    syncs: usize,
    commits: usize,
}

/// Counts during one slice. Also tells how many events a group had, if that could be seen.
pub(super) fn look(
    bench: &Bench,
    gateway: &Gateway,
    terminal: &mut Terminal,
    depth: usize,
) -> (Row, Option<usize>) {
    let what = format!("syncs for each commit, {depth} in flight");
    if bench.longer.is_some() {
        // One tracer is there already, and sees the syncs only. They are one for each commit, or hardly more.
        return match count_syncs(bench, gateway, terminal, depth) {
            Ok(group) => (Row::new(what, "not measured on a slower disk"), Some(group)),
            Err(e) => (Row::new(what, format!("n/a: {e}")), None),
        };
    }
    match count(bench, gateway, terminal, depth) {
        Ok((Counted { syncs, commits }, events)) if commits > 0 => {
            let each = float(syncs) / float(commits);
            let group = float(events) / float(commits);
            let figure = format!("{each:.2}, {group:.1} events a commit, under strace");
            let row = Row::new(what, figure).goal(Goal::AtMost(1.2), each, "");
            (row, Some(events.div_ceil(commits)))
        }
        Ok(_) => (Row::new(what, "n/a: strace saw no commit"), None),
        Err(e) => (Row::new(what, format!("n/a: {e}")), None),
    }
}

fn count(
    bench: &Bench,
    gateway: &Gateway,
    terminal: &mut Terminal,
    depth: usize,
) -> io::Result<(Counted, usize)> {
    let mut tracer = Tracer::attach(gateway)?;
    let events = terminal.run(depth, bench.slice)?.count;
    Ok((tracer.detach()?, events))
}

/// How many events there are for each sync of a supervisor that was started by [`longer`].
fn count_syncs(
    bench: &Bench,
    gateway: &Gateway,
    terminal: &mut Terminal,
    depth: usize,
) -> io::Result<usize> {
    let syncs = || -> io::Result<usize> {
        let mut counted = Counted::default();
        for line in BufReader::new(File::open(gateway.dir().join(TRACE))?).lines() {
            counted.add(&line?);
        }
        Ok(counted.syncs)
    };
    let before = syncs()?;
    let events = terminal.run(depth, bench.slice)?.count;
    Ok(events.div_ceil((syncs()? - before).max(1)))
}

/// What comes before the command of a supervisor of which each sync is to take `longer`. Nothing else of it is
/// stopped, and it stays the child of whoever starts it.
pub(super) fn longer(gateway: &Gateway, longer: Duration) -> Vec<String> {
    let delay = format!("inject=fdatasync,fsync:delay_enter={}", longer.as_micros());
    let trace = gateway.dir().join(TRACE).display().to_string();
    let words = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", "trace=fdatasync,fsync", "-e"];
    words.into_iter().map(str::to_owned).chain([delay, "-o".to_owned(), trace]).collect()
}

struct Tracer {
    strace: Child,
    trace: std::path::PathBuf,
}

impl Tracer {
    fn attach(gateway: &Gateway) -> io::Result<Self> {
        let trace = gateway.dir().join(TRACE);
        let mut strace = Command::new("strace")
            .args(["-f", "-xx", "-s", "8", "-e", "trace=pwrite64,fdatasync,fsync", "-o"])
            .arg(&trace)
            .args(["-p", &gateway.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|_| fault("strace is not installed"))?;
        let said = strace.stderr.take().map(BufReader::new);
        let tracer = Self { strace, trace };
        let mut line = String::new();
        if let Some(mut said) = said {
            said.read_line(&mut line)?;
        }
        if line.contains("attached") {
            Ok(tracer)
        } else {
            Err(fault(format!("strace may not: {}", line.trim())))
        }
    }

    fn detach(&mut self) -> io::Result<Counted> {
        signal(self.strace.id(), Signal::INT)?;
        self.strace.wait()?;
        let mut counted = Counted::default();
        for line in BufReader::new(File::open(&self.trace)?).lines() {
            counted.add(&line?);
        }
        Ok(counted)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
        let _ = fs::remove_file(&self.trace);
    }
}

impl Counted {
    fn add(&mut self, line: &str) {
        if line.contains(" fdatasync(") || line.contains(" fsync(") {
            self.syncs += 1;
        } else if line.contains(" pwrite64(") && ends_transaction(line) {
            self.commits += 1;
        }
    }
}

/// `1 pwrite64(7, "\x00\x00\x00\x05\x00\x00\x00\x2a"..., 24, 4152) = 24`
fn ends_transaction(line: &str) -> bool {
    let mut parts = line.split('"');
    let (Some(bytes), Some(rest)) = (parts.nth(1), parts.next()) else { return false };
    let size = bytes.split("\\x").skip(5);
    rest.starts_with("..., 24, ") && size.into_iter().any(|byte| byte != "00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_and_syncs_are_told_from_the_rest() {
        let mut counted = Counted::default();
        for line in [
            r#"9 pwrite64(7, "\x00\x00\x00\x05\x00\x00\x00\x00"..., 24, 4152) = 24"#,
            r#"9 pwrite64(7, "\x0d\x00\x00\x05\x00\x00\x00\x01"..., 4096, 4176) = 4096"#,
            r#"9 pwrite64(7, "\x00\x00\x00\x05\x00\x00\x00\x2a"..., 24, 8272 <unfinished ...>"#,
            r#"9 pwrite64(7, "\x37\x7f\x06\x82\x00\x2d\xe2\x18"..., 32, 0) = 32"#,
            "9 fdatasync(7 <unfinished ...>",
            "9 <... fdatasync resumed>) = 0",
            "9 fsync(5) = 0",
        ] {
            counted.add(line);
        }
        assert_eq!(counted, Counted { syncs: 2, commits: 1 });
    }
}
