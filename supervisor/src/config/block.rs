//! A table of the configuration, read key by key: what is left over at the end is a mistake.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// What paths in the file are relative to.
pub(super) struct Place {
    /// Where the file lies, if it lies anywhere.
    pub(super) dir: Option<PathBuf>,
    pub(super) home: Option<PathBuf>,
    /// Where systemd has put credentials.
    pub(super) credentials: Option<PathBuf>,
}

impl Place {
    /// Where programs run that are told no other directory.
    pub(super) fn for_programs(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| ".".into())
    }
}

/// A table that remembers which keys were asked for and what was wrong.
pub(super) struct Block {
    name: String,
    table: Table,
    known: Vec<&'static str>,
    problems: Vec<String>,
}

impl Block {
    pub(super) fn new(name: &str, table: Table) -> Self {
        Self { name: name.to_owned(), table, known: Vec::new(), problems: Vec::new() }
    }

    /// Whether the key is there, whatever it holds.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    fn mistyped(&mut self, key: &str, wanted: &str, found: &Value) {
        let found = found.type_str();
        self.problems.push(format!("{}{key} must be {wanted}, not {found}", self.prefix()));
    }

    pub(super) fn prefix(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!("[{}] ", self.name) }
    }

    /// How many problems there are so far.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// Something is wrong that only the caller can see.
    pub(super) fn problem(&mut self, text: &str) {
        self.problems.push(format!("{}{text}", self.prefix()));
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            other => {
                self.mistyped(key, "a text", &other);
                None
            }
        }
    }

    /// A platform's id: a text, or a number where the platform has numbers.
    pub(super) fn id(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            Value::Integer(number) => Some(number.to_string()),
            other => {
                self.mistyped(key, "a text or a number", &other);
                None
            }
        }
    }

    /// A path. `~/` is the user's home, `$CREDENTIALS_DIRECTORY/` where systemd has put credentials; a
    /// relative one is taken from the directory of the file.
    pub(super) fn path(&mut self, key: &'static str, place: &Place) -> Option<PathBuf> {
        let text = self.string(key)?;
        self.placed(key, &text, place)
    }

    /// The same of a text that was read already.
    pub(super) fn placed(&mut self, key: &str, text: &str, place: &Place) -> Option<PathBuf> {
        if text.is_empty() {
            self.problem(&format!("{key} must be a path, and is empty: leave the key out instead"));
            return None;
        }
        if let Some(name) = text.strip_prefix("$CREDENTIALS_DIRECTORY/") {
            let dir = place.credentials.as_ref();
            if dir.is_none() {
                self.problem(&format!(
                    "{key} is a credential of systemd, and CREDENTIALS_DIRECTORY is not set: the unit \
                     needs LoadCredential={name}:FILE"
                ));
            }
            return dir.map(|dir| dir.join(name));
        }
        match (text.strip_prefix("~/"), &place.home) {
            (Some(rest), Some(home)) => Some(home.join(rest)),
            (Some(_), None) => {
                self.problem(&format!("{key} starts with ~/, and HOME is no absolute path"));
                None
            }
            (None, _) if Path::new(text).is_absolute() => Some(text.into()),
            (None, _) => {
                if place.dir.is_none() {
                    self.problem(&format!(
                        "{key} must be an absolute path, since the configuration comes out of a pipe, \
                         which lies in no directory: not {text:?}"
                    ));
                }
                place.dir.as_ref().map(|dir| dir.join(text))
            }
        }
    }

    /// A list of texts. A whole number stands for its digits: ids of some platforms are numbers.
    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        match self.take(key)? {
            Value::Array(values) => {
                let mut texts = Vec::new();
                for value in values {
                    match value {
                        Value::String(text) => texts.push(text),
                        Value::Integer(number) => texts.push(number.to_string()),
                        other => self.mistyped(key, "a list of texts or whole numbers", &other),
                    }
                }
                Some(texts)
            }
            other => {
                self.mistyped(key, "a list of texts", &other);
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        match self.take(key)? {
            Value::Integer(n) => match u32::try_from(n) {
                Ok(n) if range.contains(&n) => Some(n),
                _ => {
                    self.problem(&format!("{key} must be {wanted}, not {n}"));
                    None
                }
            },
            other => {
                self.mistyped(key, &wanted, &other);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        match self.take(key)? {
            Value::Boolean(value) => Some(value),
            other => {
                self.mistyped(key, "true or false", &other);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.string(key)?;
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.problem(&format!("{key} must be one of {}, not {text:?}", words.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// A table within this one; an absent one is empty.
    pub(super) fn table(&mut self, key: &'static str) -> Self {
        let name =
            if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        match self.take(key) {
            None => Self::new(&name, Table::new()),
            Some(Value::Table(table)) => Self::new(&name, table),
            Some(other) => {
                self.mistyped(key, "a table", &other);
                Self::new(&name, Table::new())
            }
        }
    }

    /// All that is in it, each a string under a name of its own.
    pub(super) fn entries(&mut self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (name, value) in std::mem::take(&mut self.table) {
            match value {
                Value::String(text) => found.push((name, text)),
                other => self.mistyped(&name, "a string", &other),
            }
        }
        found
    }

    /// All that is in it, whatever it holds, as JSON. Dates become texts.
    pub(super) fn json(&mut self) -> serde_json::Value {
        json(Value::Table(std::mem::take(&mut self.table)))
    }

    /// The tables within a table, by name.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let outer = self.table(key);
        let mut tables = Vec::new();
        for (name, value) in outer.table {
            match value {
                Value::Table(table) => {
                    let block = Self::new(&format!("{key}.{name}"), table);
                    tables.push((name, block));
                }
                other => self.mistyped(&format!("{key}.{name}"), "a table", &other),
            }
        }
        tables
    }

    /// The tables of a list.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<Self> {
        let values = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => {
                self.mistyped(key, "a list of tables", &other);
                return Vec::new();
            }
        };
        let name =
            if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        let mut tables = Vec::new();
        for value in values {
            match value {
                Value::Table(table) => {
                    tables.push(Self::new(&format!("[{name}]"), table));
                }
                other => self.mistyped(key, "a list of tables", &other),
            }
        }
        tables
    }

    /// The problems of a table within this one, which was read to its end, become ours.
    pub(super) fn absorb(&mut self, inner: Self) {
        if let Err(problems) = inner.finish() {
            self.problems.push(problems);
        }
    }

    /// Every problem, one a line; unknown keys are problems.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let unknown: Vec<String> = self.table.keys().cloned().collect();
        for key in unknown {
            // A secret stands in a file, so that is what a name without an end means.
            let in_file = self.known.iter().find(|known| **known == format!("{key}_file"));
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, &key), known))
                .min()
                .filter(|(distance, known)| *distance <= 1 + known.len() / 3);
            let hint = match in_file.or(nearest.map(|(_, known)| known)) {
                Some(known) => format!("; did you mean {known:?}?"),
                None => format!("; the keys here are {}", self.known.join(", ")),
            };
            self.problem(&format!("{key:?} is no key{hint}"));
        }
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems.join("\n")) }
    }
}

fn json(value: Value) -> serde_json::Value {
    match value {
        Value::String(text) => text.into(),
        Value::Integer(number) => number.into(),
        Value::Float(number) => number.into(),
        Value::Boolean(value) => value.into(),
        Value::Datetime(date) => date.to_string().into(),
        Value::Array(values) => values.into_iter().map(json).collect(),
        Value::Table(table) => {
            let members = table.into_iter().map(|(name, value)| (name, json(value)));
            serde_json::Value::Object(members.collect())
        }
    }
}
