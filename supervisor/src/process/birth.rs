//! Between `fork` and `exec` a child keeps its parent waiting. One that somebody stops just then, as
//! process managers and people with a wide pattern do, would keep the whole gateway waiting for ever.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::tree::Held;
use crate::identity::{self, Identity};

/// A birth takes a millisecond.
const PATIENCE: Duration = Duration::from_millis(300);

/// Makes a child, and has it go on if it is stopped before it has become what it is to be.
pub(super) fn attended<T>(make: impl FnOnce() -> T) -> T {
    let (made, waits) = channel::<()>();
    let attend = move || {
        while waits.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            for child in unborn() {
                tracing::warn!(
                    pid = child.pid(),
                    "somebody stopped a child before it was one; it goes on"
                );
                child.go_on();
            }
        }
    };
    // Without a thread it is made all the same.
    let _ = std::thread::Builder::new().name("birth".into()).spawn(attend);
    let child = make();
    drop(made);
    child
}

/// Our children that are stopped and are still this program, word by word.
fn unborn() -> impl Iterator<Item = Held> {
    let words = |who: &str| std::fs::read(format!("/proc/{who}/cmdline")).ok();
    let own = words("self");
    let is_unborn = move |child: &Identity| {
        let state = identity::name_and_state(child.pid).map(|(_, state)| state);
        state == Some('T') && own.is_some() && words(&child.pid.to_string()) == own
    };
    let children = identity::children(std::process::id()).into_iter();
    children.filter(is_unborn).filter_map(|child| Held::hold(&child))
}

#[cfg(test)]
#[expect(unsafe_code, reason = "a child that stops itself before it is one")]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use nix::sys::signal::{Signal, raise};

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
