//! Who signals whom, as the kernel was asked: everything that a test starts runs under strace.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::gateway::Gateway;

/// Calls that send signals, and those that make processes.
const CALLS: &str = "trace=kill,tkill,tgkill,pidfd_send_signal,rt_sigqueueinfo,rt_tgsigqueueinfo,\
                     clone,clone3,fork,vfork";

/// What the processes of one test have asked the kernel for.
pub(crate) struct Trace {
    dir: PathBuf,
    files: Cell<u32>,
}

/// A signal that was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) by: u32,
    pub(crate) to: u32,
    pub(crate) line: String,
}

impl Trace {
    /// `None`: nothing can be traced here.
    pub(crate) fn new(gateway: &Gateway) -> Option<Self> {
        let possible = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
        if !possible.is_ok_and(|status| status.success()) {
            eprintln!("skipped: nothing can be traced here");
            return None;
        }
        let dir = gateway.path("traces");
        std::fs::create_dir(&dir).unwrap();
        Some(Self { dir, files: Cell::new(0) })
    }

    /// The same command, traced with all that it starts; its process keeps its number.
    pub(crate) fn of(&self, command: &Command) -> Command {
        let n = self.files.replace(self.files.get() + 1);
        let mut traced = Command::new("strace");
        traced.args(["-D", "-f", "-qq", "--seccomp-bpf", "--decode-fds=pidfd"]);
        traced.args(["-e", "signal=none", "-e", CALLS, "-o"]).arg(self.dir.join(n.to_string()));
        traced.arg(command.get_program()).args(command.get_args());
        traced
    }

    pub(crate) fn start(&self, gateway: &mut Gateway) {
        let command = self.of(&gateway.command());
        gateway.start_as(command);
    }

    pub(crate) fn run(&self, gateway: &Gateway, args: &[&str]) -> Output {
        let mut command = gateway.command();
        command.args(args);
        self.of(&command).stdin(Stdio::null()).output().unwrap()
    }

    fn lines(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.dir).unwrap();
        let text = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        text.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Every signal that was sent. A question whether somebody is there is none.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.lines().into_iter().filter_map(sent).collect()
    }

    /// Every process and thread that was made.
    pub(crate) fn made(&self) -> BTreeSet<u32> {
        let makes = |line: &String| line.contains("clone") || line.contains("fork(");
        let lines = self.lines().into_iter().filter(makes);
        lines.filter_map(|line| line.rsplit_once("= ")?.1.trim().parse().ok()).collect()
    }
}

fn sent(line: String) -> Option<Sent> {
    let (by, call) = line.split_once(' ')?;
    let (name, arguments) = call.trim_start().split_once('(')?;
    let to = match name {
        "pidfd_send_signal" => arguments.split_once("<pid:")?.1.split('>').next()?,
        "kill" | "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" => {
            arguments.split(',').next()?.trim_start_matches('-')
        }
        _ => return None,
    };
    let asks = name == "kill" && arguments.split(", ").nth(1)?.starts_with('0');
    let (by, to) = (by.parse().ok()?, to.parse().unwrap_or(0));
    (!asks).then_some(Sent { by, to, line })
}

#[test]
fn signals_are_read_from_what_strace_writes() {
    let to = |line: &str| sent(line.to_owned()).map(|sent| (sent.by, sent.to));
    assert_eq!(to("12 kill(-34, SIGKILL)             = 0"), Some((12, 34)));
    assert_eq!(to("12 kill(34, 0) = 0"), None);
    assert_eq!(to("12 tgkill(34, 35, SIGABRT) = 0"), Some((12, 34)));
    assert_eq!(to("1 pidfd_send_signal(3<pid:56>, SIGSTOP, NULL, 0) = 0"), Some((1, 56)));
    assert_eq!(to("12 clone3({flags=0}, 88) = 70"), None);
}
