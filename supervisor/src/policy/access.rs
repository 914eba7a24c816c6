//! Who may speak to the agent: decided before anything is stored, the same for every platform.
//!
//! Default deny: without a list or an explicit `open`, no sender reaches the agent. What is denied is
//! acknowledged to the platform (nobody waits for it) and counted, never stored.

use std::collections::BTreeSet;

use protocol::event::{ChatType, Inbound, InboundKind, Mention, SenderKind};

/// Who may speak in a direct chat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direct {
    /// Those on the list of users.
    #[default]
    List,
    /// Everybody.
    Open,
    /// Nobody.
    Off,
}

/// When a message in a group is for the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Groups {
    /// When it mentions the bot.
    #[default]
    Mention,
    /// Always.
    All,
    /// Never.
    Off,
}

/// The access rules of one platform instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Direct chats.
    pub direct: Direct,
    /// Groups.
    pub groups: Groups,
    /// Users who may speak, by the platform's id, in direct chats and in groups.
    pub users: BTreeSet<String>,
    /// Groups in which everybody may speak, by the platform's id.
    pub chats: BTreeSet<String>,
}

/// Why an event is denied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Denial {
    /// Its sender is not on the list.
    Stranger,
    /// This kind of chat is switched off.
    Off,
    /// A group message that does not mention the bot.
    NotAddressed,
    /// It comes from another program, or from nobody the platform names.
    NotAPerson,
}

impl Access {
    /// Decides about `event`; `Ok` lets it in.
    ///
    /// A group is open to its members if it is listed, or if `direct` is open to everybody; otherwise
    /// only listed users are heard in it.
    ///
    /// What nobody could read has no sender to judge. It is kept for a person, and no agent hears it.
    pub fn admit(&self, event: &Inbound) -> Result<(), Denial> {
        if event.kind == InboundKind::Unreadable {
            return Ok(());
        }
        if event.sender.kind != SenderKind::User || event.sender.user_id.is_empty() {
            return Err(Denial::NotAPerson);
        }
        let listed = self.users.contains(&event.sender.user_id);
        if event.chat_type == ChatType::Direct {
            return match self.direct {
                Direct::Open => Ok(()),
                Direct::List if listed => Ok(()),
                Direct::List => Err(Denial::Stranger),
                Direct::Off => Err(Denial::Off),
            };
        }
        if self.groups == Groups::Off {
            return Err(Denial::Off);
        }
        let known = listed || self.chats.contains(&event.chat_id) || self.direct == Direct::Open;
        if !known {
            return Err(Denial::Stranger);
        }
        match (self.groups, event.mention) {
            (Groups::All, _) | (_, Mention::Me) => Ok(()),
            _ => Err(Denial::NotAddressed),
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::event::Sender;

    use super::*;

    fn event(chat_type: ChatType, user: &str, kind: SenderKind, mention: Mention) -> Inbound {
        Inbound {
            kind: InboundKind::Message,
            keys: vec!["message:1".into()],
            origin_ms: 0,
            chat_id: "chat".into(),
            chat_type,
            thread_id: None,
            message_id: None,
            reply_to: None,
            sender: Sender { user_id: user.into(), name: None, kind },
            mention,
            text: String::new(),
            parts: Vec::new(),
            raw: Vec::new(),
            chat_name: None,
            quote: None,
        }
    }

    #[test]
    fn without_a_list_or_open_nobody_is_heard() {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let mut admitted = 0;
        for direct in [Direct::List, Direct::Open, Direct::Off] {
            for groups in [Groups::Mention, Groups::All, Groups::Off] {
                for users in [set(&[]), set(&["ann"])] {
                    for chats in [set(&[]), set(&["chat"])] {
                        let access = Access { direct, groups, users: users.clone(), chats };
                        for chat_type in [ChatType::Direct, ChatType::Group, ChatType::Channel] {
                            for user in ["ann", "bob", ""] {
                                for kind in [SenderKind::User, SenderKind::Bot, SenderKind::System]
                                {
                                    for mention in
                                        [Mention::None, Mention::Me, Mention::Other, Mention::All]
                                    {
                                        let event = event(chat_type, user, kind, mention);
                                        let heard = access.admit(&event).is_ok();
                                        admitted += u32::from(heard);
                                        let invited = direct == Direct::Open
                                            || access.users.contains(user)
                                            || (chat_type != ChatType::Direct
                                                && !access.chats.is_empty());
                                        assert!(!heard || invited, "{access:?} {event:?}");
                                        assert!(!heard || kind == SenderKind::User);
                                        assert!(!heard || !user.is_empty());
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        assert!(admitted > 0, "a rule that admits nobody would pass every other check");
    }

    #[test]
    fn what_nobody_could_read_is_kept() {
        let mut event = event(ChatType::Direct, "", SenderKind::System, Mention::None);
        assert_eq!(Access::default().admit(&event), Err(Denial::NotAPerson));
        event.kind = InboundKind::Unreadable;
        assert_eq!(Access::default().admit(&event), Ok(()));
    }

    #[test]
    fn groups_want_a_mention_unless_told_otherwise() {
        let mut access = Access { users: BTreeSet::from(["ann".to_owned()]), ..Access::default() };
        let said = |mention| event(ChatType::Group, "ann", SenderKind::User, mention);
        assert_eq!(access.admit(&said(Mention::None)), Err(Denial::NotAddressed));
        assert_eq!(access.admit(&said(Mention::All)), Err(Denial::NotAddressed));
        assert_eq!(access.admit(&said(Mention::Me)), Ok(()));
        access.groups = Groups::All;
        assert_eq!(access.admit(&said(Mention::None)), Ok(()));
        access.groups = Groups::Off;
        assert_eq!(access.admit(&said(Mention::Me)), Err(Denial::Off));
    }
}
