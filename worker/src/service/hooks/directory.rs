//! A Hermes hook directory: `HOOK.yaml` with `name` and `events`, and `handler.py` beside it.

use std::path::{Path, PathBuf};

use yaml_rust2::{Yaml, YamlLoader};

/// A directory that can be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory {
    /// What the hook calls itself.
    pub name: String,
    /// Of what it wants to know.
    pub events: Vec<String>,
    /// Its `handler.py`.
    pub handler: PathBuf,
}

impl Directory {
    /// Every directory in `dir` with a `HOOK.yaml`, by name; an error has the name and says what is wrong.
    pub fn find(dir: &Path) -> Vec<Result<Self, (String, String)>> {
        let mut found = Vec::new();
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) => {
                return vec![Err((dir.display().to_string(), format!("read the directory: {e}")))];
            }
        };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let manifest = path.join("HOOK.yaml");
            if !manifest.is_file() {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let handler = path.join("handler.py");
            let read =
                std::fs::read_to_string(&manifest).map_err(|e| format!("read HOOK.yaml: {e}"));
            let read = read.and_then(|text| Self::read(&text, &name, handler));
            found.push(read.map_err(|why| (name, why)));
        }
        found
    }

    fn read(text: &str, name: &str, handler: PathBuf) -> Result<Self, String> {
        if !handler.is_file() {
            return Err("there is no handler.py beside its HOOK.yaml".into());
        }
        let documents =
            YamlLoader::load_from_str(text).map_err(|e| format!("read HOOK.yaml: {e}"))?;
        let yaml = documents.first().unwrap_or(&Yaml::BadValue);
        let events = match &yaml["events"] {
            Yaml::Array(events) => events
                .iter()
                .map(|event| event.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .ok_or("HOOK.yaml: events must be a list of texts")?,
            Yaml::String(event) => vec![event.clone()],
            _ => Vec::new(),
        };
        if events.is_empty() {
            return Err("HOOK.yaml: events must name what the hook wants to know of".into());
        }
        let name = yaml["name"].as_str().unwrap_or(name).to_owned();
        Ok(Self { name, events, handler })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_found_and_mistakes_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, manifest: &str, handler: bool| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("HOOK.yaml"), manifest).unwrap();
            if handler {
                std::fs::write(path.join("handler.py"), "").unwrap();
            }
        };
        make("a", "name: \"cards\" # why\nevents: [agent:start, 'agent:end']\n", true);
        make("b", "description: x\nevents:\n  - command:*\n", true);
        make("c", "events: [agent:start]\n", false);
        make("d", "events: {", true);
        make("e", "name: e\n", true);
        std::fs::create_dir(dir.path().join("no-hook")).unwrap();
        let found = Directory::find(dir.path());
        let names: Vec<_> = found
            .iter()
            .map(|found| match found {
                Ok(directory) => format!("{} {}", directory.name, directory.events.join(",")),
                Err((name, _)) => format!("{name}!"),
            })
            .collect();
        assert_eq!(names, ["cards agent:start,agent:end", "b command:*", "c!", "d!", "e!"]);
        assert!(Directory::find(Path::new("/no/such"))[0].is_err());
    }
}
