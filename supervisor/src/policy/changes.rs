//! What a new configuration changes: which instances are new, gone or different, and nothing else is
//! touched.
//!
//! An agent is different, too, when a platform that stays is heard by others than before, or routed otherwise: what
//! it still holds of it must be back in the inbox before another agent may have it. Platforms that come or
//! go do not disturb it, unless it works on something of one that goes, or tells its endpoint who is there. One that
//! nobody could hear, since its block was wrong, comes.

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
    /// Agents that go on, and hear of other platforms than before.
    pub regrouped: Vec<Instance>,
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
    /// It is an agent that is told at its start which platforms there are.
    pub knows_all: bool,
}

/// What leads from `before` to `after`.
pub fn between<T: PartialEq>(
    before: &BTreeMap<Instance, Part<'_, T>>,
    after: &BTreeMap<Instance, Part<'_, T>>,
) -> Changes {
    let was_heard =
        |name: &Instance| before.get(name).is_some_and(|part| !part.heard_by.is_empty());
    let stays = |name: &Instance| was_heard(name) && after.contains_key(name);
    let mut changes = Changes::default();
    for (name, new) in after {
        let Some(old) = before.get(name) else {
            changes.added.push(name.clone());
            continue;
        };
        let (former, now) = (speakers(before, name), speakers(after, name));
        let staying = |all: &BTreeMap<Instance, Vec<Route>>| {
            let staying = all.iter().filter(|(name, _)| stays(name));
            staying.map(|(name, routes)| (name.clone(), routes.clone())).collect::<Vec<_>>()
        };
        if old != new || staying(&former) != staying(&now) || (new.knows_all && former != now) {
            changes.changed.push(name.clone());
        } else if former != now {
            changes.regrouped.push(name.clone());
        }
    }
    changes.removed = before.keys().filter(|name| !after.contains_key(*name)).cloned().collect();
    changes
}

/// The platforms that `agent` hears, and how they are routed.
fn speakers<T>(
    parts: &BTreeMap<Instance, Part<'_, T>>,
    agent: &Instance,
) -> BTreeMap<Instance, Vec<Route>> {
    let own = parts.iter().filter(|(_, part)| part.heard_by.contains(agent));
    own.map(|(name, part)| (name.clone(), part.routes.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(list: &[(&str, u32, Option<&str>)]) -> BTreeMap<Instance, Part<'static, u32>> {
        let name = |text: &str| Instance::new(text).unwrap();
        list.iter()
            .map(|(own, spec, agent)| {
                let heard_by = agent.map(name).into_iter().collect();
                let knows_all = *own == "relay";
                (name(own), Part { spec: *spec, heard_by, routes: &[], knows_all })
            })
            .collect()
    }

    fn told(changes: &Changes) -> String {
        let list =
            |names: &[Instance]| names.iter().map(Instance::as_str).collect::<Vec<_>>().join(" ");
        let Changes { added, removed, changed, regrouped } = changes;
        let regrouped = list(regrouped);
        format!("+{} -{} ~{} ={regrouped}", list(added), list(removed), list(changed))
    }

    #[test]
    fn only_what_differs_is_touched() {
        let before = parts(&[("a", 1, Some("x")), ("b", 1, Some("x")), ("x", 1, None)]);
        assert!(between(&before, &before).is_empty());
        let after = parts(&[("a", 2, Some("x")), ("b", 1, Some("x")), ("x", 1, None)]);
        assert_eq!(told(&between(&before, &after)), "+ - ~a =");
        // A platform that comes or goes concerns its agent, which goes on.
        let after = parts(&[("b", 1, Some("x")), ("c", 1, Some("x")), ("x", 1, None)]);
        assert_eq!(told(&between(&before, &after)), "+c -a ~ =x");
        // Not one that tells its endpoint which there are.
        let known = parts(&[("a", 1, Some("relay")), ("relay", 1, None)]);
        let more = parts(&[("a", 1, Some("relay")), ("b", 1, Some("relay")), ("relay", 1, None)]);
        assert_eq!(told(&between(&known, &more)), "+b - ~relay =");
        // Nor does one that was wrong and is mended.
        let wrong = parts(&[("a", 1, Some("x")), ("b", 1, None), ("x", 1, None)]);
        let mended = parts(&[("a", 1, Some("x")), ("b", 2, Some("x")), ("x", 1, None)]);
        assert_eq!(told(&between(&wrong, &mended)), "+ - ~b =x");
        // One that moves concerns both.
        let two = parts(&[("a", 1, Some("x")), ("x", 1, None), ("y", 1, None)]);
        let moved = parts(&[("a", 1, Some("y")), ("x", 1, None), ("y", 1, None)]);
        assert_eq!(told(&between(&two, &moved)), "+ - ~a x y =");
    }
}
