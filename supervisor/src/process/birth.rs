//! Between `fork` and `exec` a child keeps its parent waiting. One that somebody stops just then, as
//! process managers and people with a wide pattern do, would keep the whole gateway waiting for ever.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::identity;

/// A birth takes a millisecond.
const PATIENCE: Duration = Duration::from_millis(300);

/// Makes a child, and has it go on if it is stopped before it has become what it is to be.
pub(super) fn attended<T>(make: impl FnOnce() -> T) -> T {
    let (made, waits) = channel::<()>();
    let attend = move || {
        while waits.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            unborn().for_each(go_on);
        }
    };
    // Without a thread it is made all the same.
    let _ = std::thread::Builder::new().name("birth".into()).spawn(attend);
    let child = make();
    drop(made);
    child
}

/// Our children that are stopped and are still this program, word by word. They keep their numbers: who
/// would collect them waits.
fn unborn() -> impl Iterator<Item = u32> {
    let words = |who: &str| std::fs::read(format!("/proc/{who}/cmdline")).ok();
    let own = words("self");
    let children = identity::children(std::process::id()).into_iter().map(|child| child.pid);
    children.filter(move |child| {
        let is_stopped = identity::name_and_state(*child).is_some_and(|(_, state)| state == 'T');
        is_stopped && own.is_some() && words(&child.to_string()) == own
    })
}

fn go_on(child: u32) {
    if let Ok(raw) = i32::try_from(child) {
        tracing::warn!(pid = child, "somebody stopped a child before it was one; it goes on");
        let _ = kill(Pid::from_raw(raw), Signal::SIGCONT);
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "a child that stops itself before it is one")]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_child_that_is_stopped_before_it_is_one_keeps_nobody_waiting() {
        let mut command = Command::new("true");
        // SAFETY: raise is a single system call.
        unsafe { command.pre_exec(|| Ok(raise(Signal::SIGSTOP)?)) };
        let mut child = attended(|| command.spawn()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
