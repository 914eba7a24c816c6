//! A program that is started for each occasion, with the occasion as one JSON object on its standard
//! input. It and everything that it has started end with its time, and its process group with it.

use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join;
use protocol::hook::HookEvent;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::tail;
use crate::family;

/// In the environment of a handler and of what it starts: which handler that was.
const MARK: &str = "HERMES_GW_HOOK";
/// How long what it has said last may take to be read, in milliseconds a matter of nothing.
const LAST_WORDS: Duration = Duration::from_millis(200);
static STARTED: AtomicU64 = AtomicU64::new(0);

/// What to start.
#[derive(Debug)]
pub(super) struct Program {
    command: Vec<String>,
    dir: PathBuf,
    limit: Duration,
}

/// A child that leaves nobody of its group behind. The group is ended before its leader is reaped: until
/// then its number cannot be a stranger's.
pub(super) struct Group {
    pub(super) child: Child,
    mark: String,
}

impl Group {
    /// Starts `command` as the leader of a group of its own.
    pub(super) fn start(mut command: Command) -> Result<Self, String> {
        command.process_group(0).kill_on_drop(true);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}.{number}.{}", std::process::id(), crate::clock::unix_ms());
        command.env(MARK, &mark);
        let child = command.spawn().map_err(|e| format!("start it: {e}"))?;
        Ok(Self { child, mark: format!("{MARK}={mark}") })
    }

    /// Waits for the leader's end, and ends the others.
    async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(leader) = self.leader() {
            // Looks without reaping.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let look = move || waitid(WaitId::Pid(leader), options);
            tokio::task::spawn_blocking(look).await.map_err(std::io::Error::other)??;
        }
        self.kill();
        self.child.wait().await
    }

    /// Its number, as long as it is not reaped.
    fn leader(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    /// Ends it and everything that it has started, also what has left its group.
    pub(super) async fn end(&self) {
        if let Some(leader) = self.child.id() {
            let mark = self.mark.clone();
            // It reads the whole of `/proc`.
            let end = move || family::end_of(leader, Some(&mark));
            let _ = tokio::task::spawn_blocking(end).await;
        }
        self.kill();
    }

    fn kill(&self) {
        if let Some(leader) = self.leader() {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Program {
    pub(super) fn new(command: Vec<String>, dir: PathBuf, limit: Duration) -> Self {
        Self { command, dir, limit }
    }

    /// Why it cannot be started.
    pub(super) fn problem(&self) -> Option<String> {
        family::missing(&self.command, &self.dir)
    }

    /// Tells it, and waits until it is done.
    pub(super) async fn tell(&self, event: &HookEvent) -> Result<(), String> {
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command.args(words).current_dir(&self.dir);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut group = Group::start(command).map_err(|why| self.problem().unwrap_or(why))?;
        let line = serde_json::to_vec(event).unwrap_or_default();
        let (input, errors) = (group.child.stdin.take(), group.child.stderr.take());
        let mut said = Vec::new();
        let write = async {
            if let Some(mut input) = input {
                // It need not read what it does not care for.
                let _ = input.write_all(&line).await;
            }
        };
        let read = async {
            if let Some(errors) = errors {
                tail::read(errors, &mut said).await;
            }
        };
        let ended = async {
            let mut talk = pin!(join(write, read));
            tokio::select! {
                status = group.ended() => {
                    // Its end is its end, also if something that has broken away holds its pipes.
                    let _ = tokio::time::timeout(LAST_WORDS, talk).await;
                    status
                }
                _ = &mut talk => group.ended().await,
            }
        };
        let ended = tokio::time::timeout(self.limit, ended).await;
        match ended {
            Err(_) => {
                group.end().await;
                Err(format!("it took more than {} s and was killed", self.limit.as_secs()))
            }
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(match tail::last_line(&said) {
                line if line.is_empty() => status.to_string(),
                line => format!("{status}: {line}"),
            }),
            Ok(Err(e)) => Err(format!("wait for it: {e}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Program {
        Program::new(vec!["sh".into(), "-c".into(), script.into()], "/".into(), limit)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_program_hears_the_occasion_and_tells_by_its_end_how_it_went() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heard");
        let mut event = HookEvent::new("agent:start", 1);
        event.chat_id = Some("oc_1".into());
        let told = shell(&format!("cat > {}", file.display()), LONG).tell(&event).await;
        assert_eq!(told, Ok(()));
        let heard: HookEvent = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(heard, event);
        let failed = shell("echo first >&2; echo why >&2; exit 3", LONG).tell(&event).await;
        assert!(
            failed.as_ref().is_err_and(|why| why.contains('3') && why.ends_with("why")),
            "{failed:?}"
        );
        assert_eq!(shell("exec <&-", LONG).tell(&event).await, Ok(()), "it need not listen");
        let none = Program::new(vec!["/no/such".into()], "/".into(), LONG).tell(&event).await;
        assert_eq!(none, Err("there is no program \"/no/such\"".to_owned()));
    }

    #[tokio::test]
    async fn one_that_hangs_floods_or_forks_ends_with_everything_it_started() {
        let event = HookEvent::new("agent:start", 1);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        // One stays, one breaks away, one breaks away from somebody who ends.
        let script = format!(
            "sleep 600 & echo $! >> {0}; setsid sh -c 'echo $$ >> {0}; sleep 600' & \
             (setsid sh -c 'echo $$ >> {0}; exec sleep 600' &) ; echo $$ >> {0}; wait",
            file.display()
        );
        let killed = shell(&script, Duration::from_secs(2)).tell(&event).await;
        assert!(killed.is_err_and(|why| why.contains("killed")));
        let pids = std::fs::read_to_string(&file).unwrap();
        assert_eq!(pids.lines().count(), 4);
        for pid in pids.lines() {
            let pid: u32 = pid.parse().unwrap();
            // Dead, or not yet reaped by whoever adopted it.
            let gone = || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            };
            while !gone() {
                tokio::task::yield_now().await;
            }
        }
        // Its end is its end, although something of it holds standard error.
        let left = shell("sleep 600 & exit 0", LONG).tell(&event).await;
        assert_eq!(left, Ok(()));
        let gone = shell("(setsid sleep 70 &); echo why >&2; exit 3", LONG).tell(&event).await;
        assert!(gone.is_err_and(|why| why.ends_with("why")), "it has broken away");
        let flood =
            shell("head -c 3000000 /dev/zero >&2; echo flood; exit 0", LONG).tell(&event).await;
        assert_eq!(flood, Ok(()));
    }
}
