//! `hermes-gw doctor`: looks from the ground up at what a gateway needs, says what is wrong, and what helps.
//! It changes nothing, and tries no credentials: the workers do, and the status tells.

mod network;
mod running;

use std::os::unix::fs::MetadataExt;

use protocol::secret;
use serde::Serialize;
use supervisor::Error;
use supervisor::config::Config;
use supervisor::exit::{Code, code};
use supervisor::paths::Paths;
use supervisor::process::{room, user};

use super::{check, load, locate, print, print_json_of, runtime, service};
use crate::args::Common;

/// With less, the store refuses events before long.
const SCARCE: u64 = 64 << 20;
/// With less, somebody should look.
const LITTLE: u64 = 512 << 20;

/// What was looked at, and what was found.
#[derive(Serialize)]
struct Finding {
    about: String,
    /// `ok`, `doubt` or `wrong`.
    mark: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// What a tool that stops at it says.
    #[serde(skip)]
    code: Code,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    wrong: usize,
    doubtful: usize,
    findings: Vec<Finding>,
}

/// All findings, in the order in which they were made.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, about: &str, mark: &'static str, text: String, hint: Option<String>) {
        let text = secret::cleaned(text);
        self.0.push(Finding { about: about.to_owned(), mark, text, hint, code: Code::Unavailable });
    }

    fn ok(&mut self, about: &str, text: String) {
        self.add(about, "ok", text, None);
    }

    fn doubt(&mut self, about: &str, text: String, hint: Option<String>) {
        self.add(about, "doubt", text, hint);
    }

    fn wrong(&mut self, about: &str, text: String, hint: Option<String>, code: Code) {
        self.add(about, "wrong", text, hint);
        if let Some(last) = self.0.last_mut() {
            last.code = code;
        }
    }

    fn error(&mut self, about: &str, error: &Error) {
        self.wrong(
            about,
            error.to_string(),
            error.hint(),
            code(error.code()).unwrap_or(Code::Software),
        );
    }

    fn count(&self, mark: &str) -> usize {
        self.0.iter().filter(|finding| finding.mark == mark).count()
    }
}

pub(super) fn run(common: &Common) -> Result<(), Error> {
    let mut findings = Findings::default();
    let config = configuration(common, &mut findings);
    match locate(common) {
        Ok(paths) => {
            state(&paths, &mut findings);
            running::look(&paths, &mut findings)?;
        }
        // Said of the configuration already.
        Err(Error::Unlocated(_)) => {}
        Err(e) => findings.error("state", &e),
    }
    for found in service::found() {
        let about = format!("service ({})", found.scope);
        for doubt in &found.doubts {
            findings.doubt(&about, doubt.clone(), None);
        }
        if found.doubts.is_empty() {
            findings.ok(&about, found.state);
        }
    }
    if let Some(config) = &config {
        runtime()?.block_on(network::look(config, &mut findings));
    }
    tell(common, findings)
}

fn configuration(common: &Common, findings: &mut Findings) -> Option<Config> {
    const ABOUT: &str = "configuration";
    let config = load(common).inspect_err(|e| findings.error(ABOUT, e)).ok()?;
    for spec in &config.instances {
        if let Err(trouble) = &spec.body {
            findings.wrong(ABOUT, trouble.reason.clone(), None, trouble.code);
        }
    }
    for warning in check::warnings(&config) {
        findings.doubt(ABOUT, warning, None);
    }
    match &config.source {
        None => findings.doubt(
            ABOUT,
            "there is none; the built-in default applies, which is a try in the terminal".into(),
            Some("`hermes-gw init` writes one".into()),
        ),
        Some(path) if config.check().is_ok() => {
            findings.ok(ABOUT, format!("{}: {} instances", path.display(), config.instances.len()));
        }
        Some(_) => {}
    }
    Some(config)
}

/// The directory of the state, and the disk under it.
fn state(paths: &Paths, findings: &mut Findings) {
    const ABOUT: &str = "state";
    if let Err(e) = paths.check() {
        findings.error(ABOUT, &e);
    }
    let at = paths.state_dir.display();
    let there = paths.state_dir.ancestors().find_map(|dir| Some((dir, dir.metadata().ok()?)));
    let Some((dir, metadata)) = there else { return };
    let is_made = dir == paths.state_dir;
    let (owner, own) = (metadata.uid(), user::number());
    if is_made && owner != own {
        let hint = format!("ask as uid {owner}, or name another one (`--state-dir`)");
        findings.doubt(ABOUT, format!("{at} is another user's (uid {owner})"), Some(hint));
    }
    let free = match room::free(dir) {
        Ok(free) => free,
        Err(e) => {
            findings.wrong(
                ABOUT,
                format!("{at}: ask for the room on its disk: {e}"),
                None,
                Code::Io,
            );
            return;
        }
    };
    let text = format!("{at}, {} MiB free on its disk", free >> 20);
    if free < SCARCE {
        let hint = "make room: a full disk refuses events, which platforms repeat for a while only";
        findings.wrong(ABOUT, text, Some(hint.into()), Code::Io);
    } else if free < LITTLE {
        findings.doubt(ABOUT, text, Some("make room before it is full".into()));
    } else if is_made {
        findings.ok(ABOUT, text);
    } else {
        findings.ok(ABOUT, format!("{text}; the first start makes it"));
    }
}

fn tell(common: &Common, findings: Findings) -> Result<(), Error> {
    let (wrong, doubtful) = (findings.count("wrong"), findings.count("doubt"));
    let first = findings.0.iter().find(|finding| finding.mark == "wrong").map(|first| first.code);
    let failed = first.map(|code| Error::Unfulfilled {
        code,
        message: format!("found wrong: {wrong}"),
        hint: None,
    });
    if common.json {
        let report = Report { schema: 1, wrong, doubtful, findings: findings.0 };
        print_json_of(&report, failed.as_ref());
        return failed.map_or(Ok(()), Err);
    }
    for finding in findings.0.iter().filter(|finding| !common.quiet || finding.mark == "wrong") {
        let mark = if finding.mark == "wrong" { "WRONG" } else { finding.mark };
        let text = finding.text.replace('\n', "; ");
        print(&super::shown(format!("{mark:<6} {}: {text}", finding.about)));
        if let Some(hint) = &finding.hint {
            print(&super::shown(format!("       hint: {hint}")));
        }
    }
    if !common.quiet {
        print(&match (wrong, doubtful) {
            (0, 0) => "nothing is wrong".to_owned(),
            (0, doubtful) => format!("nothing is wrong, {doubtful} to think about"),
            (wrong, doubtful) => format!("{wrong} wrong, {doubtful} to think about"),
        });
    }
    failed.map_or(Ok(()), Err)
}
