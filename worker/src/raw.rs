//! Events as their platforms say them, as far as the sides of the platforms and of the agents both read them.
//! Pure.

use serde_json::Value;

use crate::json::{member, text_of};

/// The ids of whoever caused an event of Feishu (`open_id`, `union_id`, `user_id`); null if nobody is named.
pub(crate) fn feishu_ids(event: &Value) -> &Value {
    let body = member(event, "event");
    let operator = member(body, "operator");
    let places = [
        member(member(body, "sender"), "sender_id"),
        member(body, "operator_id"),
        member(operator, "operator_id"),
        operator,
        member(body, "user_id"),
        body,
    ];
    let is_somebody = |ids: &&Value| {
        ["open_id", "union_id", "user_id"].iter().any(|id| !text_of(ids, id).is_empty())
    };
    places.into_iter().find(is_somebody).unwrap_or(member(body, ""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whoever_caused_an_event_is_found_wherever_it_is_named() {
        let ids = json!({"open_id": "ou_1", "union_id": "on_1"});
        for body in [
            json!({"sender": {"sender_id": ids, "sender_type": "user"}}),
            json!({"operator_id": ids}),
            json!({"operator": {"operator_name": "Ann", "operator_id": ids}}),
            json!({"operator": ids}),
            json!({"user_id": ids, "operator_type": "user"}),
            ids.clone(),
        ] {
            assert_eq!(*feishu_ids(&json!({"event": body})), ids);
        }
        for nobody in [json!({}), json!({"event": {"operator_id": {"open_id": ""}}}), json!(5)] {
            assert!(feishu_ids(&nobody).is_null());
        }
    }
}
