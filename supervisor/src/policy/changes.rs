//! What a new configuration changes: which instances are new, gone or different, and nothing else is
//! touched.
//!
//! An agent is different, too, when other platforms than before speak to it, or are routed otherwise: what
//! it still holds of them must be back in the inbox before another agent may have it.

use std::collections::BTreeMap;

use protocol::id::Instance;

use super::routes::Route;

/// What became of each instance that is touched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// They were not there before.
    pub added: Vec<Instance>,
    /// They are not there any more.
    pub removed: Vec<Instance>,
    /// They are started anew.
    pub changed: Vec<Instance>,
}

impl Changes {
    /// Nothing is different.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Every instance that is touched.
    pub fn names(&self) -> impl Iterator<Item = &Instance> {
        self.added.iter().chain(&self.removed).chain(&self.changed)
    }
}

/// One instance: what it is, and who hears it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part<'a, T> {
    /// Everything that is configured for it.
    pub spec: T,
    /// The agents that hear it, if it is a platform.
    pub heard_by: Vec<Instance>,
    /// Which of them hears what.
    pub routes: &'a [Route],
}

/// What leads from `before` to `after`.
pub fn between<T: PartialEq>(
    before: &BTreeMap<Instance, Part<'_, T>>,
    after: &BTreeMap<Instance, Part<'_, T>>,
) -> Changes {
    let speakers = |parts: &BTreeMap<Instance, Part<'_, T>>, agent: &Instance| {
        let own = parts.iter().filter(|(_, part)| part.heard_by.contains(agent));
        let own = own.map(|(name, part)| (name.clone(), part.routes.to_vec()));
        own.collect::<Vec<(Instance, Vec<Route>)>>()
    };
    let mut changes = Changes::default();
    for (name, new) in after {
        match before.get(name) {
            None => changes.added.push(name.clone()),
            Some(old) if old != new || speakers(before, name) != speakers(after, name) => {
                changes.changed.push(name.clone());
            }
            Some(_) => {}
        }
    }
    changes.removed = before.keys().filter(|name| !after.contains_key(*name)).cloned().collect();
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(list: &[(&str, u32, Option<&str>)]) -> BTreeMap<Instance, Part<'static, u32>> {
        let name = |text: &str| Instance::new(text).unwrap();
        list.iter()
            .map(|(own, spec, agent)| {
                let heard_by = agent.map(name).into_iter().collect();
                (name(own), Part { spec: *spec, heard_by, routes: &[] })
            })
            .collect()
    }

    fn told(changes: &Changes) -> String {
        let list =
            |names: &[Instance]| names.iter().map(Instance::as_str).collect::<Vec<_>>().join(" ");
        let Changes { added, removed, changed } = changes;
        format!("+{} -{} ~{}", list(added), list(removed), list(changed))
    }

    #[test]
    fn only_what_differs_is_touched() {
        let before = parts(&[("a", 1, Some("x")), ("b", 1, Some("x")), ("x", 1, None)]);
        assert!(between(&before, &before).is_empty());
        let after = parts(&[("a", 2, Some("x")), ("b", 1, Some("x")), ("x", 1, None)]);
        assert_eq!(told(&between(&before, &after)), "+ - ~a");
        // A platform that comes or goes concerns its agent.
        let after = parts(&[("b", 1, Some("x")), ("c", 1, Some("x")), ("x", 1, None)]);
        assert_eq!(told(&between(&before, &after)), "+c -a ~x");
        // One that moves concerns both.
        let two = parts(&[("a", 1, Some("x")), ("x", 1, None), ("y", 1, None)]);
        let moved = parts(&[("a", 1, Some("y")), ("x", 1, None), ("y", 1, None)]);
        assert_eq!(told(&between(&two, &moved)), "+ - ~a x y");
    }
}
