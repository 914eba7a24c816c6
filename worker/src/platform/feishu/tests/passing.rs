//! Refusals that pass, or that concern the place of a reply and not the reply.

use super::*;

/// The first request is still at work when its repetition comes: that is no refusal of what it says.
#[tokio::test]
async fn a_repetition_waits_for_what_is_still_being_sent() {
    let mut rig = Rig::ready().await;
    let text = "a line of words\n".repeat(6000);
    let mut reply = outbound(1, |it| it.content = Content::text(&text));
    let hold = rig.sim.fault(APP, rest(Route::Send, Trouble::Hold), Times::Only(1));
    for _ in 0..2 {
        let outcome = rig.send(reply.clone()).await;
        assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
        reply.attempt += 1;
    }
    rig.sim.clear(hold);
    rig.sim.wait_sent(LONG, |_| true).await;
    let ids = sent(rig.send(reply).await);
    let all = rig.end().await.sent();
    assert_eq!(all.iter().map(|it| it.message_id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(all.iter().filter_map(SentMessage::text).collect::<String>(), text);
}
