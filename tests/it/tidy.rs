//! The house rules that a compiler does not know.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::gateway::root;

struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["protocol", "worker", "supervisor", "tests"] {
        walk(&root().join(folder), &mut found);
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

fn walk(dir: &Path, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                walk(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push(Source { path, text });
        }
    }
}

impl Source {
    /// Its lines without comments, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate();
        numbered
            .map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
            .filter(|(_, line)| !line.trim().is_empty())
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("tests")
    }
}

/// Whether `line` says `name`, and not as the tail of a longer path or word.
fn says(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
    })
}

/// Every place where `names` is said although `allowed` says no.
fn misplaced(names: &str, allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !allowed(&source.path) && !source.is_test()) {
        for (number, line) in source.code() {
            if says(line, names) {
                wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    wrong
}

#[test]
fn the_policies_are_pure() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("supervisor/src/policy"))
    {
        let mut is_test = source.path.ends_with("/sim.rs");
        for (number, line) in source.code() {
            let line = line.trim();
            if source.path.ends_with("_tests.rs") {
                break;
            }
            // At the end of each file. A test may ask what time it is, to count from there.
            is_test |= line == "#[cfg(test)]";
            let import = line.strip_prefix("use ").or_else(|| line.strip_prefix("pub use "));
            let foreign = import.is_some_and(|name| {
                ![
                    "std::collections",
                    "std::hash",
                    "std::time",
                    "protocol::id",
                    "protocol::event",
                    "protocol::content",
                    "protocol::hook",
                    "super",
                    "self",
                ]
                .iter()
                .any(|known| name.starts_with(known))
                    && !name.starts_with("proptest")
                    && !name.starts_with("crate::policy")
            });
            let impure = ["tokio::", "tracing::", "std::fs", "std::net", "Instant::now", "async "]
                .iter()
                .any(|word| line.contains(word));
            if foreign || impure || (!is_test && line.contains("clock::")) {
                wrong.push(format!("{}:{number}: {line}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_library_has_its_place() {
    type Rule = (&'static str, fn(&str) -> bool);
    let rules: [Rule; 10] = [
        ("clap::", |path| {
            ["supervisor/src/args.rs", "supervisor/src/command/manual.rs"].contains(&path)
        }),
        ("interprocess::", |path| {
            ["supervisor/src/socket.rs", "worker/src/socket.rs"].contains(&path)
        }),
        ("rusqlite", |path| {
            path.starts_with("supervisor/src/store/")
                || path == "supervisor/examples/store-bench/engine.rs"
        }),
        ("nix::", |path| {
            path.starts_with("supervisor/src/process/")
                || [
                    "supervisor/src/lock.rs",
                    "supervisor/src/config/file.rs",
                    "supervisor/src/credential.rs",
                    "supervisor/src/socket.rs",
                    "supervisor/src/upgrade.rs",
                ]
                .contains(&path)
        }),
        ("rustix::", |path| {
            path.starts_with("supervisor/src/process/")
                || [
                    "supervisor/src/clock.rs",
                    "supervisor/src/store/space.rs",
                    "supervisor/src/upgrade.rs",
                    "worker/src/confine.rs",
                    "worker/src/exchange.rs",
                    "worker/src/family.rs",
                    "worker/src/service/hooks/program.rs",
                    "worker/src/stderr.rs",
                ]
                .contains(&path)
        }),
        ("reqwest", |path| path.starts_with("worker/")),
        ("pulldown_cmark", |path| {
            [
                "worker/src/text/markup.rs",
                "worker/src/urls.rs",
                "worker/src/meant.rs",
                "worker/src/platform/feishu/markdown.rs",
                "worker/src/platform/telegram/labels.rs",
                "worker/src/platform/telegram/markup.rs",
                "worker/src/platform/telegram/tables.rs",
            ]
            .contains(&path)
        }),
        ("tungstenite", |path| path.starts_with("worker/")),
        ("unsafe {", |path| {
            [
                "supervisor/src/process/birth.rs",
                "supervisor/src/process/memory.rs",
                "supervisor/src/process/signals.rs",
                "supervisor/src/process/spawn.rs",
                "supervisor/src/upgrade.rs",
            ]
            .contains(&path)
        }),
        ("supervisor::", |path| path.starts_with("supervisor/")),
    ];
    let wrong: Vec<_> =
        rules.into_iter().flat_map(|(name, allowed)| misplaced(name, allowed)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_program_knows_the_worker() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("supervisor/src")) {
        // Trying a hook or an agent runs what its worker would run, and ends it as that would; looking for
        // what is wrong goes to a server the way that a worker goes.
        let may = [
            "supervisor/src/command.rs",
            "supervisor/src/command/agent_test.rs",
            "supervisor/src/command/doctor/network.rs",
            "supervisor/src/command/hooks.rs",
            "supervisor/src/error.rs",
        ];
        if may.contains(&source.path.as_str()) {
            continue;
        }
        for (number, line) in source.code() {
            // The protocol has a module of the same name.
            if line.replace("protocol::worker", "").contains("worker::") {
                wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mechanisms_do_not_know_one_another() {
    let mechanisms = [
        "process",
        "store",
        "socket",
        "lock",
        "link",
        "config",
        "journal",
        "notify",
        "credential",
        "starts",
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        let own = mechanisms.iter().find(|name| {
            source.path == format!("supervisor/src/{name}.rs")
                || source.path.starts_with(&format!("supervisor/src/{name}/"))
        });
        let Some(own) = own else { continue };
        for (number, line) in source.code() {
            for other in mechanisms.iter().filter(|other| *other != own) {
                // A link is made of a connection of the socket.
                let made_of = *own == "link" && *other == "socket";
                if line.contains(&format!("crate::{other}")) && !made_of {
                    wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
                }
            }
            if line.contains("crate::run") {
                wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn adapters_know_neither_each_other_nor_the_link() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(place) = ["worker/src/platform/", "worker/src/agent/"]
            .iter()
            .find_map(|folder| source.path.strip_prefix(folder))
        else {
            continue;
        };
        let own = place.split(['/', '.']).next().unwrap();
        for (number, line) in source.code() {
            let link = ["protocol::link", "protocol::frame", "protocol::hello", "crate::pump"]
                .iter()
                .any(|name| says(line, name));
            let sibling = [
                "feishu", "local", "telegram", "echo", "socket", "exec", "relay", "openai",
                "webhook",
            ]
            .iter()
            .any(|other| {
                *other != own
                    && (line.contains(&format!("platform::{other}"))
                        || line.contains(&format!("agent::{other}")))
            });
            if link || sibling {
                wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_over() {
    // Put together, so that this file does not find itself.
    let words =
        [["FIX", "ME"], ["XX", "X"], ["todo", "!("], ["dbg", "!("], ["unimple", "mented!("]];
    let mut wrong = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") && !source.text.starts_with("#![") {
            wrong.push(format!("{}: does not say what it is for", source.path));
        }
        for (number, line) in source.text.lines().enumerate() {
            if words.iter().any(|parts| line.contains(&parts.concat())) {
                wrong.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_key_of_the_configuration_is_in_the_reference_file() {
    let reference = std::fs::read_to_string(root().join("supervisor/assets/config.toml")).unwrap();
    let mut keys = BTreeSet::new();
    for source in sources().iter().filter(|source| source.path.starts_with("supervisor/src/config"))
    {
        if source.is_test() {
            continue;
        }
        let joined: String = source.code().map(|(_, line)| line.trim()).collect();
        for call in [
            "string(\"",
            "path(\"",
            "number(\"",
            "choice(\"",
            "strings(\"",
            "table(\"",
            "block, \"",
        ] {
            for rest in joined.split(call).skip(1) {
                keys.insert(rest.split('"').next().unwrap().to_owned());
            }
        }
    }
    assert!(keys.len() > 12, "{keys:?}");
    let missing: Vec<_> = keys.iter().filter(|key| !reference.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "not in the reference file: {missing:?}");
}

#[test]
fn every_exit_code_is_in_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for code in supervisor::exit::ALL {
        let row = format!("| {} | {} |", code.number(), code.word());
        assert!(readme.contains(&row), "README lacks the row {row:?}");
    }
}

#[test]
fn the_failure_table_and_the_tests_name_each_other() {
    let table = std::fs::read_to_string(root().join("docs/failures.md")).unwrap();
    let mut everything: String = sources().into_iter().map(|source| source.text).collect();
    let systemd = std::fs::read_to_string(root().join("tests/systemd/check.py")).unwrap();
    everything.push_str(&systemd.replace("\ndef ", "\nfn "));
    let mut known = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| F")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        known.insert(cells[1].to_owned());
        assert!(cells[3].contains('#') || cells[3].contains("http"), "{row}: no public thread");
        let tests: Vec<_> = cells[4].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}: no test");
        for test in tests {
            let name = test.rsplit("::").next().unwrap();
            assert!(everything.contains(&format!("fn {name}(")), "{row}: there is no test {test}");
        }
    }
    assert!(known.len() > 10);
    let mut cited = BTreeSet::new();
    for word in everything.split(|c: char| !c.is_ascii_alphanumeric()) {
        let digits = word.strip_prefix('F').unwrap_or_default();
        if (2..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
            cited.insert(word.to_owned());
        }
    }
    let unknown: Vec<_> = cited.difference(&known).collect();
    assert!(unknown.is_empty(), "cited, and not in docs/failures.md: {unknown:?}");
}
