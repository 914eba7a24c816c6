//! Buttons that the platform does not take beside the words above them.

use super::*;

fn rows(labels: &[&str]) -> Vec<Vec<Button>> {
    let button =
        |label: &&str| Button { label: (*label).to_owned(), press: Press::Data("d".into()) };
    labels.iter().map(|label| vec![button(label)]).collect()
}

fn asking(id: u64, text: &str, buttons: Vec<Vec<Button>>) -> Outbound {
    outbound(id, |it| it.content = Content { buttons, ..Content::text(text) })
}

fn kinds(sim: &Sim) -> Vec<String> {
    sim.sent().iter().map(|it| it.msg_type.clone()).collect()
}

#[tokio::test]
async fn words_that_their_card_does_not_take_arrive_above_the_buttons() {
    let mut rig = Rig::ready().await;
    let tables = "| a | b |\n|---|---|\n| 1 | 2 |\n\nwords\n\n".repeat(9);
    let ids = sent(rig.send(asking(1, &tables, rows(&["Yes"]))).await);
    assert_eq!(kinds(&rig.sim), ["post", "interactive"]);
    assert_eq!(ids.len(), 2);
    // The same with a file behind it, and in another attempt.
    let many: Vec<_> = (0..60).map(|n| format!("B{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let mut next = asking(2, "choose", rows(&many));
    next.content.files.push(rig.file(FileKind::File, "a.txt", b"a"));
    let trouble = rest(Route::File, Trouble::Html { status: 502 });
    rig.sim.fault(APP, trouble, Times::Only(1));
    let Outcome::Retry { .. } = rig.send(next.clone()).await else { panic!() };
    next.attempt = 2;
    let cards = sent(rig.send(next).await).len() - 1;
    assert_eq!(cards, 4);
    let expected = [vec!["interactive"; cards], vec!["file"]].concat();
    assert_eq!(kinds(&rig.sim)[2..], expected);
    let shown = words(&rig.sim)[2..2 + cards].join(" ");
    assert!(many.iter().all(|label| shown.contains(label)), "{shown}");
    rig.end().await;
}

#[tokio::test]
async fn buttons_that_are_refused_take_no_words_along() {
    let mut rig = Rig::ready().await;
    let mut asked = asking(1, "**choose**", rows(&[""]));
    asked.content.files.push(rig.file(FileKind::File, "a.txt", b"a"));
    let Outcome::Partly { message_ids, reason, .. } = rig.send(asked).await else { panic!() };
    assert_eq!((kinds(&rig.sim), message_ids.len()), (vec!["post".into(), "file".into()], 2));
    assert!(reason.contains("its buttons: 230099"), "{reason}");
    rig.end().await;
}
