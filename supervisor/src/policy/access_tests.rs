//! Every combination of rules, chats and senders; and the table in README, made from the same decision.

use protocol::event::Sender;

use super::*;

const DIRECT: [Direct; 4] = [Direct::List, Direct::Pairing, Direct::Open, Direct::Off];
const GROUPS: [Groups; 4] = [Groups::Mention, Groups::All, Groups::List, Groups::Off];
const MENTIONS: [Mention; 4] = [Mention::None, Mention::Me, Mention::Other, Mention::All];
const KINDS: [SenderKind; 4] =
    [SenderKind::User, SenderKind::Bot, SenderKind::System, SenderKind::Own];

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
        album: None,
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn grants(users: &[(&str, bool)], chats: &[(&str, bool)]) -> Grants {
    let map = |list: &[(&str, bool)]| list.iter().map(|(id, ok)| ((*id).to_owned(), *ok)).collect();
    Grants { users: map(users), chats: map(chats) }
}

/// Every rule that differs in something that could let somebody in.
fn rules() -> Vec<(Access, Grants)> {
    let mut all = Vec::new();
    let granted = [
        Grants::default(),
        grants(&[("ann", true)], &[]),
        grants(&[("ann", false)], &[]),
        grants(&[], &[("chat", true)]),
        grants(&[], &[("chat", false)]),
    ];
    for direct in DIRECT {
        for groups in GROUPS {
            for users in [set(&[]), set(&["ann"])] {
                for chats in [set(&[]), set(&["chat"])] {
                    for own in [None, Some(set(&[])), Some(set(&["bob"]))] {
                        for (bots, at_all) in [(false, false), (true, false), (false, true)] {
                            for grants in &granted {
                                let own = own.clone().map(|users| {
                                    ("chat".to_owned(), GroupRule { groups: Groups::All, users })
                                });
                                let (users, chats) = (users.clone(), chats.clone());
                                let chat = own.into_iter().collect();
                                let access =
                                    Access { direct, groups, users, chats, chat, bots, at_all };
                                all.push((access, grants.clone()));
                            }
                        }
                    }
                }
            }
        }
    }
    all
}

/// F81–F86: nothing reaches the agent unless somebody has let it in.
#[test]
fn without_a_list_a_pairing_or_open_nobody_is_heard() {
    let mut admitted = 0;
    for (access, grants) in rules() {
        for chat_type in [ChatType::Direct, ChatType::Group, ChatType::Channel] {
            for user in ["ann", "bob", ""] {
                for kind in KINDS {
                    for mention in MENTIONS {
                        let event = event(chat_type, user, kind, mention);
                        let heard = access.admit(&grants, &event, None).is_ok();
                        admitted += u32::from(heard);
                        let is_group = chat_type != ChatType::Direct;
                        let rule = access.chat.get("chat").filter(|_| is_group);
                        let invited = access.direct == Direct::Open
                            || access.users.contains(user)
                            || grants.users.get(user) == Some(&true)
                            || rule.is_some_and(|rule| rule.users.contains(user))
                            || (is_group && access.chats.contains("chat"))
                            || (is_group && grants.chats.get("chat") == Some(&true));
                        let case = || format!("{access:?} {grants:?} {event:?}");
                        assert!(!heard || invited, "{}", case());
                        assert!(!heard || kind == SenderKind::User || access.bots, "{}", case());
                        let own = kind == SenderKind::Own || kind == SenderKind::System;
                        assert!(!heard || (!user.is_empty() && !own), "{}", case());
                        let refused = grants.users.get(user) == Some(&false)
                            || grants.chats.get("chat") == Some(&false);
                        assert!(!heard || !refused, "{}", case());
                    }
                }
            }
        }
    }
    assert!(admitted > 0, "a rule that admits nobody would pass every other check");
}

/// What a person's word lets in is what it could have let in.
#[test]
fn what_a_word_could_let_in_is_known() {
    let mut let_in = 0;
    for (access, _) in rules() {
        let word = grants(&[("bob", true)], &[("chat", true)]);
        for chat_type in [ChatType::Direct, ChatType::Group] {
            for (kind, mention) in KINDS.into_iter().zip(MENTIONS) {
                let event = event(chat_type, "bob", kind, mention);
                let could = access.could_admit(&event, None);
                assert_eq!(
                    could,
                    access.admit(&word, &event, None).is_ok(),
                    "{access:?} {event:?}"
                );
                let_in += u32::from(could);
            }
        }
    }
    assert!(let_in > 0);
    let mentioned = |mention| event(ChatType::Group, "bob", SenderKind::User, mention);
    let access = Access::default();
    assert!(access.could_admit(&mentioned(Mention::Me), None));
    assert!(!access.could_admit(&mentioned(Mention::None), None), "it would stay as it is");
}

#[test]
fn what_nobody_could_read_is_kept() {
    let mut event = event(ChatType::Direct, "", SenderKind::System, Mention::None);
    let access = Access::default();
    assert_eq!(access.admit(&Grants::default(), &event, None), Err(Denial::NotAPerson));
    event.kind = InboundKind::Unreadable;
    assert_eq!(access.admit(&Grants::default(), &event, None), Ok(()));
}

#[test]
fn a_message_that_is_taken_back_by_nobody_may_have_come_in() {
    let mut event = event(ChatType::Group, "", SenderKind::System, Mention::None);
    (event.kind, event.message_id) = (InboundKind::Recall, Some("m".into()));
    let admits = |access: &Access, grants: &Grants, event: &Inbound| {
        let denial = access.admit(grants, event, None).unwrap_err();
        access.admits_with_message(denial, grants, event, None)
    };
    let (access, none) = (Access { users: set(&["ann"]), ..Access::default() }, Grants::default());
    assert!(admits(&access, &none, &event));
    let refused = grants(&[], &[("chat", false)]);
    assert!(!admits(&access, &refused, &event));
    let off = Access { groups: Groups::Off, direct: Direct::Off, ..access.clone() };
    assert!(!admits(&off, &none, &event));
    assert!(!admits(&off, &none, &Inbound { chat_type: ChatType::Direct, ..event.clone() }));
    assert!(!admits(&access, &none, &Inbound { message_id: None, ..event.clone() }));
    assert!(!admits(&access, &none, &Inbound { kind: InboundKind::Member, ..event.clone() }));
    for (user, kind, admitted) in [
        ("ann", SenderKind::User, true),
        ("eve", SenderKind::User, false),
        ("bot", SenderKind::Bot, false),
        ("own", SenderKind::Own, false),
    ] {
        event.sender = Sender { user_id: user.into(), name: None, kind };
        assert_eq!(admits(&access, &none, &event), admitted, "{user}");
    }
}

/// F86.
#[test]
fn groups_want_a_mention_unless_told_otherwise() {
    let mut access = Access { users: set(&["ann"]), ..Access::default() };
    let said = |mention| event(ChatType::Group, "ann", SenderKind::User, mention);
    let none = Grants::default();
    assert_eq!(access.admit(&none, &said(Mention::None), None), Err(Denial::NotAddressed));
    assert_eq!(access.admit(&none, &said(Mention::Other), None), Err(Denial::NotAddressed));
    assert_eq!(access.admit(&none, &said(Mention::All), None), Err(Denial::NotAddressed));
    assert_eq!(access.admit(&none, &said(Mention::Me), None), Ok(()));
    let stranger = |mention| {
        access.admit(&none, &event(ChatType::Group, "bob", SenderKind::User, mention), None)
    };
    assert_eq!(stranger(Mention::None), Err(Denial::Bystander), "he was not turned away either");
    assert_eq!(stranger(Mention::Me), Err(Denial::Stranger));
    access.at_all = true;
    assert_eq!(access.admit(&none, &said(Mention::All), None), Ok(()));
    access.groups = Groups::All;
    assert_eq!(access.admit(&none, &said(Mention::None), None), Ok(()));
    access.groups = Groups::Off;
    assert_eq!(access.admit(&none, &said(Mention::Me), None), Err(Denial::Off));
}

#[test]
fn a_group_may_have_rules_of_its_own() {
    let rule = GroupRule { groups: Groups::All, users: set(&["bob"]) };
    let access = Access {
        users: set(&["ann"]),
        chat: [("chat".to_owned(), rule)].into(),
        ..Access::default()
    };
    let said = |user| {
        access.admit(
            &Grants::default(),
            &event(ChatType::Group, user, SenderKind::User, Mention::None),
            None,
        )
    };
    assert_eq!((said("ann"), said("bob"), said("cy")), (Ok(()), Ok(()), Err(Denial::Stranger)));
    let direct = event(ChatType::Direct, "bob", SenderKind::User, Mention::None);
    assert_eq!(
        access.admit(&Grants::default(), &direct, None),
        Err(Denial::Stranger),
        "only there"
    );
}

#[test]
fn what_is_said_of_a_chat_holds_under_its_new_id() {
    let event = event(ChatType::Group, "bob", SenderKind::User, Mention::Me);
    let listed = Access { chats: set(&["old"]), ..Access::default() };
    let rule = GroupRule { groups: Groups::Mention, users: set(&["bob"]) };
    let ruled = Access { chat: [("old".to_owned(), rule)].into(), ..Access::default() };
    let grants = |decisions: &[(&str, bool)]| Grants {
        chats: decisions.iter().map(|(chat, allowed)| ((*chat).to_owned(), *allowed)).collect(),
        ..Grants::default()
    };
    let strict = Access::default();
    for (access, grants, expected) in [
        (&listed, grants(&[]), Ok(())),
        (&ruled, grants(&[]), Ok(())),
        (&strict, grants(&[("old", true)]), Ok(())),
        (&strict, grants(&[]), Err(Denial::Stranger)),
        (&listed, grants(&[("old", false)]), Err(Denial::Refused)),
        (&listed, grants(&[("old", false), ("chat", true)]), Ok(())),
        (&listed, grants(&[("old", true), ("chat", false)]), Err(Denial::Refused)),
    ] {
        assert_eq!(access.admit(&grants, &event, Some("old")), expected, "{access:?} {grants:?}");
    }
}

/// One row for each setting, one column for each message, as README shows it.
fn table() -> String {
    let direct = [
        ("`direct = \"list\"`", Direct::List),
        ("`direct = \"pairing\"`", Direct::Pairing),
        ("`direct = \"open\"`", Direct::Open),
        ("`direct = \"off\"`", Direct::Off),
    ];
    let groups = [
        ("`groups = \"mention\"`", Groups::Mention),
        ("`groups = \"all\"`", Groups::All),
        ("`groups = \"list\"`", Groups::List),
        ("`groups = \"off\"`", Groups::Off),
    ];
    let heard = |access: &Access, chat, user, mention| match access.admit(
        &Grants::default(),
        &event(chat, user, SenderKind::User, mention),
        None,
    ) {
        Ok(()) => "heard",
        Err(Denial::Unpaired) => "a code, once",
        Err(_) => "silence",
    };
    let mut lines =
        vec!["| direct chat | listed user | stranger |".to_owned(), "|---|---|---|".into()];
    for (title, direct) in direct {
        let access = Access { direct, users: set(&["ann"]), ..Access::default() };
        let cell = |user| heard(&access, ChatType::Direct, user, Mention::None);
        lines.push(format!("| {title} | {} | {} |", cell("ann"), cell("bob")));
    }
    lines.push(String::new());
    lines.push(
        "| group | listed user to the bot | listed user to nobody | stranger to the bot, listed group | \
         stranger to the bot, other group | the same with `direct = \"open\"` |"
            .into(),
    );
    lines.push("|---|---|---|---|---|---|".into());
    for (title, groups) in groups {
        let access = Access { groups, users: set(&["ann"]), ..Access::default() };
        let listed = Access { chats: set(&["chat"]), ..access.clone() };
        let open = Access { direct: Direct::Open, ..access.clone() };
        let cell = |access, user, mention| heard(access, ChatType::Group, user, mention);
        lines.push(format!(
            "| {title} | {} | {} | {} | {} | {} |",
            cell(&access, "ann", Mention::Me),
            cell(&access, "ann", Mention::None),
            cell(&listed, "bob", Mention::Me),
            cell(&access, "bob", Mention::Me),
            cell(&open, "bob", Mention::Me),
        ));
    }
    lines.join("\n")
}

#[test]
fn the_table_in_the_readme_is_what_is_decided() {
    let readme = include_str!("../../../README.md");
    assert!(readme.contains(&table()), "README lacks:\n{}", table());
}
