//! Which agent hears a conversation: the first rule that fits, else the platform's own agent.
//!
//! A conversation belongs to one agent, so that its order holds: a group to the agent of its chat, a
//! direct chat to the agent of its chat or of the user at its other end.

use protocol::id::{Instance, Lane};

/// One rule. What it does not name fits everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The platform instance.
    pub platform: Option<Instance>,
    /// The platform's id of a chat.
    pub chat: Option<String>,
    /// The platform's id of a user, in direct chats.
    pub user: Option<String>,
    /// Who hears it.
    pub agent: Instance,
}

impl Route {
    /// Whether it fits a conversation; `user` is at the other end of it, if it is a direct chat.
    pub fn fits(&self, lane: &Lane, user: Option<&str>) -> bool {
        self.platform.as_ref().is_none_or(|platform| *platform == lane.instance)
            && self.chat.as_ref().is_none_or(|chat| *chat == lane.chat_id)
            && self.user.as_deref().is_none_or(|wanted| user == Some(wanted))
    }
}

/// The agent of the first rule that fits.
pub fn first<'a>(routes: &'a [Route], lane: &Lane, user: Option<&str>) -> Option<&'a Instance> {
    routes.iter().find(|route| route.fits(lane, user)).map(|route| &route.agent)
}

impl Route {
    /// Whether it fits everything that `other` fits.
    fn covers(&self, other: &Self) -> bool {
        fn wider<T: PartialEq>(own: Option<&T>, others: Option<&T>) -> bool {
            own.is_none() || own == others
        }
        wider(self.platform.as_ref(), other.platform.as_ref())
            && wider(self.chat.as_ref(), other.chat.as_ref())
            && wider(self.user.as_ref(), other.user.as_ref())
    }
}

/// The rules that never fit, by their places from 1 on, and why. `is_group`: whether the chat of a rule is
/// known to be a group.
pub fn idle(routes: &[Route], is_group: impl Fn(&Route) -> bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let before = routes.iter().take(at).position(|earlier| earlier.covers(route));
        if let Some(before) = before {
            let why =
                format!("the one at place {} comes first, and fits all that it fits", before + 1);
            found.push((at + 1, why));
        } else if let (Some(chat), Some(user)) = (&route.chat, &route.user)
            && is_group(route)
        {
            let why = format!(
                "{chat} is a group, which belongs to one agent whoever speaks in it: leave user = {user:?} out"
            );
            found.push((at + 1, why));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let name = |text: &str| Instance::new(text).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let rule = |platform: Option<&str>, chat, user, agent| Route {
            platform: platform.map(name),
            chat,
            user,
            agent: name(agent),
        };
        let routes = [
            rule(Some("tg"), text("1"), None, "a"),
            rule(None, None, text("ann"), "b"),
            rule(Some("tg"), None, None, "c"),
        ];
        let lane = |instance, chat: &str| Lane {
            instance: name(instance),
            chat_id: chat.into(),
            thread_id: None,
        };
        let to = |lane, user| first(&routes, &lane, user).map(Instance::as_str);
        assert_eq!(to(lane("tg", "1"), Some("ann")), Some("a"));
        assert_eq!(to(lane("tg", "2"), Some("ann")), Some("b"));
        assert_eq!(to(lane("fs", "2"), Some("ann")), Some("b"));
        assert_eq!(to(lane("tg", "2"), Some("bob")), Some("c"));
        assert_eq!(to(lane("tg", "2"), None), Some("c"), "a group has no other end");
        assert_eq!(to(lane("fs", "2"), None), None);
    }

    #[test]
    fn a_rule_that_never_fits_is_told() {
        let name = |text: &str| Instance::new(text).unwrap();
        let rule = |platform: Option<&str>, chat: Option<&str>, user: Option<&str>| Route {
            platform: platform.map(name),
            chat: chat.map(str::to_owned),
            user: user.map(str::to_owned),
            agent: name("a"),
        };
        let routes = [
            rule(None, Some("-1"), Some("ann")),
            rule(Some("tg"), None, Some("ann")),
            rule(Some("tg"), Some("5"), Some("ann")),
            rule(Some("fs"), None, Some("ann")),
            rule(Some("tg"), Some("-1"), None),
            rule(None, None, Some("ann")),
            rule(None, Some("-1"), Some("bob")),
        ];
        let is_group = |route: &Route| route.chat.as_ref().is_some_and(|it| it.starts_with('-'));
        let places: Vec<_> = idle(&routes, is_group).into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, [1, 3, 7], "in a group, behind a wider one, in a group");
        assert_eq!(idle(&routes, |_| false).len(), 1);
    }
}
