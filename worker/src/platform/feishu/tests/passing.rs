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

/// In whatever form its first part arrived, the rest begins where that ended.
#[tokio::test]
async fn a_long_reply_goes_on_where_it_stopped_whether_something_showed_it_or_not() {
    let mut rig = Rig::ready().await;
    rig.sim.fault(APP, rest(Route::Card, Trouble::Hold), Times::Only(1));
    let lane = Lane {
        instance: Instance::new("feishu").unwrap(),
        chat_id: "oc_1".to_owned(),
        thread_id: None,
    };
    let (key, text) = ("hermes/k".to_owned(), "a line of words\n".repeat(6000));
    let draft =
        Draft { key: key.clone(), lane, reply_to: None, text: "a".to_owned(), message_id: None };
    rig.ask(Ask::Draft(Box::new(draft))).await;
    rig.sim.wait_count("the draft's request", LONG, 1, held).await;
    let reply = outbound(1, |it| (it.content, it.draft_key) = (Content::text(&text), key));
    rig.outbound.send(reply.clone()).await.unwrap();
    // What was sent behind it shows that it has begun.
    sent(rig.send(outbound(2, |it| it.chat_id = "oc_2".to_owned())).await);
    // Neither the draft's message arrives nor the second part.
    let throttled = || rest(Route::Send, Trouble::Code { status: 400, code: 230_020 });
    rig.sim.fault(APP, throttled(), Times::Only(1));
    rig.sim.fault(APP, rest(Route::Send, Trouble::Delay { ms: 0 }), Times::Only(1));
    rig.sim.fault(APP, throttled(), Times::Only(1));
    rig.sim.release();
    let outcome = rig.outcome(OutboundId(1)).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    let ids = sent(rig.send(Outbound { attempt: 2, ..reply }).await);
    let shown: String = ids.iter().filter_map(|id| rig.sim.shown(id)).collect();
    assert_eq!(shown.len(), text.len());
    assert_eq!(shown, text);
    rig.end().await;
}
