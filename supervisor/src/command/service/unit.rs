//! The text of a unit, and what may be written into it: decided from what is there, without touching anything.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What a unit is called, without its ending.
pub(super) const NAME: &str = "hermes-gw.service";

/// The first line of what `service install` writes.
const MARK: &str = "# Written by `hermes-gw service install`, which also renews it. Changes of yours belong \
    into a drop-in: systemctl edit hermes-gw";

/// Where a service belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// It starts with the machine, as a user of its own.
    System,
    /// It is one user's.
    User,
}

impl Scope {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
        }
    }

    /// The unit as it is shipped.
    fn shipped(self) -> &'static str {
        match self {
            Self::System => include_str!("../../../assets/hermes-gw.service"),
            Self::User => include_str!("../../../assets/hermes-gw.user.service"),
        }
    }

    /// The unit that starts `command`, and is handed these files under their names.
    pub(super) fn unit(self, command: &[String], credentials: &[PathBuf]) -> String {
        let words: Vec<String> =
            command.iter().enumerate().map(|(at, word)| quoted(word, at == 0)).collect();
        let name =
            |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let credentials = credentials.iter().filter_map(|path| {
            let text = format!("{}:{}", name(path)?, path.display());
            Some(format!("{CREDENTIAL}{}", text.replace('%', "%%")))
        });
        let start = std::iter::once(format!("{START}{}", words.join(" ")));
        self.with(&start.chain(credentials).collect::<Vec<_>>())
    }

    /// With these lines in place of that which starts the program.
    fn with(self, own: &[String]) -> String {
        let body = self.shipped().lines().skip_while(|line| line.starts_with('#'));
        let mut text = format!("{MARK}\n");
        for line in body {
            let line = if line.starts_with(START) { own.join("\n") } else { line.to_owned() };
            text.push_str(&format!("{line}\n"));
        }
        text
    }

    /// Whether `text` is what we would write but for the command that it starts, and what that is handed.
    pub(super) fn is_current(self, text: &str) -> bool {
        let own =
            text.lines().filter(|line| line.starts_with(START) || line.starts_with(CREDENTIAL));
        let own: Vec<String> = own.map(str::to_owned).collect();
        settings(text) == settings(&self.with(&own))
    }

    /// Whether `text` is ours to write over: written by us, or copied as it is shipped.
    pub(super) fn is_ours(self, text: &str) -> bool {
        text.starts_with(MARK) || self.is_current(text)
    }
}

const START: &str = "ExecStart=";
const CREDENTIAL: &str = "LoadCredential=";

/// What a unit says, without what is said to people.
fn settings(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim_end);
    lines.filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])).collect()
}

/// A word as `ExecStart=` takes it literally (`systemd.service(5)`, *Command lines*). In the program's path no variable is
/// looked for, and a dollar is one.
fn quoted(word: &str, is_program: bool) -> String {
    let mut text = String::new();
    for c in word.chars() {
        match c {
            '%' => text.push_str("%%"),
            '$' if !is_program => text.push_str("$$"),
            '"' | '\\' => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%$".contains(c);
    if text.chars().all(plain) { text } else { format!("\"{text}\"") }
}

/// The file that cannot be handed over, and why: each has its name in one directory (`systemd.exec(5)`, *Credentials*),
/// and a line of a unit ends where the line does.
pub(super) fn unfit(files: &[PathBuf]) -> Option<(&Path, &'static str)> {
    let mut names = HashSet::new();
    files.iter().find_map(|file| {
        let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let is_name = name.chars().all(|c| (' '..='~').contains(&c) && c != ':');
        let is_line = |text: &str| !text.contains(char::is_control) && text.trim_end() == text;
        let why = if !is_name || !file.to_str().is_some_and(is_line) {
            "systemd takes no such name"
        } else if !names.insert(name) {
            "another secret has a file of this name"
        } else {
            return None;
        };
        Some((file.as_path(), why))
    })
}

/// The program that a unit starts; `None` if that cannot be told.
pub(super) fn program(text: &str) -> Option<PathBuf> {
    let start = text.lines().find_map(|line| line.strip_prefix(START))?;
    let (mut word, mut chars) = (String::new(), start.chars());
    let is_quoted = start.starts_with('"');
    if is_quoted {
        chars.next();
    }
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted => break,
            ' ' if !is_quoted => break,
            '\\' | '%' => word.extend(chars.next()),
            c => word.push(c),
        }
    }
    Some(PathBuf::from(word)).filter(|path| path.is_absolute())
}

/// Why a service cannot have what is at `path`: as one of the system it is nobody's whom the machine knows.
/// `bits` are what others must be able to do with it.
pub(super) fn hidden(scope: Scope, path: &Path, bits: u32) -> Option<String> {
    for passing in ["/tmp", "/var/tmp", "/run", "/dev"] {
        if path.starts_with(passing) {
            return Some(format!("nothing stays in {passing}"));
        }
    }
    if scope == Scope::User {
        return None;
    }
    let real = path.canonicalize().ok()?;
    let may = |path: &Path, bits| {
        path.metadata().is_ok_and(|found| found.permissions().mode() & bits == bits)
    };
    if !may(&real, bits) {
        return Some(format!("others may not {} it", if bits & 1 == 1 { "run" } else { "read" }));
    }
    let shut = real.ancestors().skip(1).find(|dir| !may(dir, 0o001));
    shut.map(|dir| format!("others may not enter {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_unit_starts_what_it_is_told_word_for_word() {
        for scope in [Scope::System, Scope::User] {
            let odd = command(&["/opt/a b/50%/$x\"y\\", "supervise", "--wait", "$x 50%"]);
            let text = scope.unit(&odd, &[]);
            let start = text.lines().find(|line| line.starts_with("ExecStart")).unwrap();
            assert_eq!(start, r#"ExecStart="/opt/a b/50%%/$x\"y\\" supervise --wait "$$x 50%%""#);
            assert_eq!(program(&text), Some(PathBuf::from("/opt/a b/50%/$x\"y\\")));
            assert_eq!(text.matches("ExecStart=").count(), 1);
            assert!(text.starts_with("# Written by") && text.contains("\n\n[Unit]\n"), "{text}");
        }
    }

    /// F89.
    #[test]
    fn a_unit_says_nothing_of_the_shell_that_made_it() {
        for scope in [Scope::System, Scope::User] {
            let text = scope.unit(&command(&["/usr/bin/hermes-gw", "supervise", "--wait"]), &[]);
            assert!(!text.contains("Environment") && !text.contains("PATH"), "{text}");
        }
    }

    #[test]
    fn ours_is_what_we_wrote_and_what_is_shipped() {
        let scope = Scope::System;
        let words = command(&["/usr/bin/hermes-gw", "supervise", "--wait"]);
        let written = scope.unit(&words, &["/etc/hermes-gw/50% token".into()]);
        let credential = "\nLoadCredential=50%% token:/etc/hermes-gw/50%% token\n";
        assert!(written.contains(credential), "{written}");
        assert!(scope.is_current(&written) && scope.is_ours(&written));
        assert!(scope.is_current(scope.shipped()) && scope.is_ours(scope.shipped()));
        // One of an earlier version.
        let older = written.replace("WatchdogSec=30", "WatchdogSec=60");
        assert!(!scope.is_current(&older) && scope.is_ours(&older));
        let of_a_person = "[Service]\nExecStart=/usr/bin/hermes-gw supervise\n";
        assert!(!scope.is_current(of_a_person) && !scope.is_ours(of_a_person));
        assert!(!Scope::User.is_current(&written));
    }

    /// Under one name the service would be handed one of the two, and send it to whom the other is for.
    #[test]
    fn a_secret_has_a_name_of_its_own() {
        let unfit = |files: &[&str]| {
            let files: Vec<_> = files.iter().map(PathBuf::from).collect();
            unfit(&files).map(|(file, why)| (file.display().to_string(), why))
        };
        assert_eq!(unfit(&["/etc/a/token", "/etc/a/b token", "/etc/é/c"]), None);
        let (file, why) = unfit(&["/etc/a/token", "/etc/b/token"]).unwrap();
        assert!(file == "/etc/b/token" && why.contains("another"), "{file}: {why}");
        for odd in ["/etc/a:b", "/etc/é", "/etc/a\nExecStartPre=/bin/x", "/etc/x\n/a", "/etc/a "] {
            assert!(unfit(&[odd]).is_some(), "{odd}");
        }
    }

    #[test]
    fn what_others_cannot_reach_is_no_place_for_a_service_of_the_system() {
        let home = std::env::current_dir().unwrap();
        let dir = tempfile::tempdir_in(home).unwrap();
        let file = dir.path().join("hermes-gw");
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(dir.path(), 0o700);
        mode(&file, 0o755);
        let why = hidden(Scope::System, &file, 0o001).unwrap();
        assert!(why.contains("may not enter"), "{why}");
        mode(dir.path(), 0o711);
        mode(&file, 0o700);
        let why = hidden(Scope::System, &file, 0o001).unwrap();
        assert!(why.contains("may not run"), "{why}");
        assert_eq!(hidden(Scope::User, &file, 0o001), None);
        let passing = hidden(Scope::User, Path::new("/tmp/x/hermes-gw"), 0o001).unwrap();
        assert!(passing.contains("nothing stays in /tmp"), "{passing}");
    }
}
