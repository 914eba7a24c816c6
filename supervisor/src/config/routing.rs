//! Which agent hears which platform: the one that a platform names, or the only one, and those of its routes.

use std::collections::BTreeSet;

use protocol::id::Instance;

use super::agent::AgentKind;
use super::instance::{Body, Kind, PlatformSettings, Spec, Trouble};
use crate::policy::routes::Route;

/// Whether the chat of a route is known to be a group of a platform that it may fit.
pub(super) fn is_group(specs: &[Spec], route: &Route) -> bool {
    let Some(chat) = &route.chat else { return false };
    let may_fit = |spec: &&Spec| route.platform.as_ref().is_none_or(|name| *name == spec.name);
    specs.iter().filter(may_fit).any(|spec| match &spec.body {
        Ok(Body::Platform { settings, access, .. }) => {
            let is_telegram = matches!(settings, PlatformSettings::Telegram(_));
            access.chats.contains(chat)
                || access.chat.contains_key(chat)
                || (is_telegram && chat.starts_with('-'))
        }
        _ => false,
    })
}

/// Gives every platform its agent: the only one there is, or the one it names; and its routes.
pub(super) fn route(specs: &mut [Spec], routes: &[Route]) {
    let agents: Vec<Instance> = specs
        .iter()
        .filter(|spec| matches!(spec.kind, Kind::Agent(_)))
        .map(|spec| spec.name.clone())
        .collect();
    for spec in specs.iter_mut() {
        let title = spec.title();
        let Ok(Body::Platform { agent, manners, .. }) = &mut spec.body else { continue };
        let may_fit =
            |route: &&Route| route.platform.as_ref().is_none_or(|name| *name == spec.name);
        manners.routes = routes.iter().filter(may_fit).cloned().collect();
        // One that fits every conversation leaves nothing to say.
        let mut all = manners.routes.iter();
        let whole = all.find(|route| route.chat.is_none() && route.user.is_none());
        if agent.is_none() {
            *agent = whole.map(|route| route.agent.clone());
        }
        let trouble = match agent {
            Some(named) if agents.contains(named) => None,
            Some(named) => Some(format!("{title} agent: no [agent.{named}] is configured")),
            None => match agents.as_slice() {
                [] => None,
                [only] => {
                    *agent = Some(only.clone());
                    None
                }
                several => {
                    let names: Vec<_> = several.iter().map(Instance::as_str).collect();
                    let names = names.join(", ");
                    Some(format!("{title} agent must be set, as there are several: {names}"))
                }
            },
        };
        if let Some(reason) = trouble {
            spec.body = Err(Trouble::wrong(reason));
        }
    }
    one_of_a_kind(specs);
}

/// A Hermes Agent names accounts by their platform alone: two of one platform would be mixed up.
fn one_of_a_kind(specs: &mut [Spec]) {
    let relays: Vec<Instance> = specs
        .iter()
        .filter(|spec| spec.kind == Kind::Agent(Some(AgentKind::Relay)))
        .map(|spec| spec.name.clone())
        .collect();
    let mut taken = BTreeSet::new();
    for spec in specs.iter_mut() {
        let title = spec.title();
        let Ok(Body::Platform { agent, manners, .. }) = &spec.body else { continue };
        let routed = manners.routes.iter().map(|route| &route.agent);
        let hearing: BTreeSet<_> = routed.chain(agent).cloned().collect();
        let kind = spec.kind.told(&spec.name);
        let mut twice = hearing.into_iter().filter(|agent| relays.contains(agent));
        if let Some(agent) = twice.find(|agent| !taken.insert((agent.clone(), kind.clone()))) {
            spec.body = Err(Trouble::wrong(format!(
                "{title} agent: {agent} hears another {kind} account already, and a Hermes Agent has one of each; give this one an [agent] of its own"
            )));
        }
    }
}
