//! What a worker says for people goes to its supervisor without secrets: from there it reaches logs, the
//! journal, the store, agents and hooks. What users and agents have said is not for us to change.

use std::borrow::Cow;

use protocol::event::Outcome;
use protocol::secret::{cleaned, without_known};
use protocol::worker::{FromWorker, Outside};

use crate::fit;

/// What people are told is no longer, in bytes, however much an agent or a platform says.
const TOLD_MAX: usize = 2048;

/// `frame` without secrets in what it says for people.
pub(crate) fn scrub(mut frame: FromWorker) -> FromWorker {
    let clean = |text: &mut String| {
        *text = cleaned(std::mem::take(text));
        fit::cut(text, TOLD_MAX);
    };
    match &mut frame {
        FromWorker::Ready(ready) => clean(&mut ready.account),
        FromWorker::Outside(
            Outside::Down { reason, remedy } | Outside::Limited { reason, remedy },
        ) => {
            clean(reason);
            remedy.iter_mut().for_each(clean);
        }
        FromWorker::Outside(Outside::Conflict { reason, remedy }) => {
            clean(reason);
            clean(remedy);
        }
        FromWorker::Outcome {
            outcome:
                Outcome::Failed { reason }
                | Outcome::Unknown { reason }
                | Outcome::Partly { reason, .. }
                | Outcome::Retry { reason, after_ms: _ },
            ..
        }
        | FromWorker::Nack { reason, .. }
        | FromWorker::SetAside { reason, .. }
        | FromWorker::Fetched { result: Err(reason), .. }
        | FromWorker::Ordered { result: Ok(reason) | Err(reason), .. }
        | FromWorker::Bye { reason } => clean(reason),
        FromWorker::HookDone { failures, .. } => {
            for failure in failures {
                clean(&mut failure.reason);
            }
        }
        _ => {}
    }
    frame
}

/// A platform's own JSON without our secrets: some platforms prove themselves by a token within it.
pub(crate) fn scrub_raw(raw: Vec<u8>) -> Vec<u8> {
    match without_known(&String::from_utf8_lossy(&raw)) {
        Cow::Owned(cleaned) => cleaned.into_bytes(),
        Cow::Borrowed(_) => raw,
    }
}

#[cfg(test)]
mod tests {
    use protocol::content::Content;
    use protocol::event::Reply;
    use protocol::id::{EventId, Instance, Lane, Seq};
    use protocol::secret::Secret;

    use super::*;

    #[test]
    fn a_platforms_own_json_comes_without_our_secrets_and_else_as_it_is() {
        let secret = Secret::new("verifies-the-platform");
        let raw = format!("{{\"header\":{{\"token\":\"{}\"}}}}", secret.expose());
        assert_eq!(scrub_raw(raw.into_bytes()), br#"{"header":{"token":"***"}}"#);
        let broken = [secret.expose().as_bytes(), b"\xff"].concat();
        assert_eq!(scrub_raw(broken), "***\u{fffd}".as_bytes());
        let strange = b"{\"text\":\"token=abcdefgh1234 sk-abcdefghijklmnop0123\"}".to_vec();
        assert_eq!(scrub_raw(strange.clone()), strange, "what users say is theirs");
        assert_eq!(scrub_raw(vec![0xff, 0]), [0xff, 0]);
    }

    #[test]
    fn reasons_are_cleaned_and_what_was_said_is_not() {
        let secret = Secret::new("seen-by-nobody-1");
        let reason = || format!("the server said {}", secret.expose());
        for frame in [
            FromWorker::Bye { reason: reason() },
            FromWorker::Outside(Outside::Down { reason: reason(), remedy: Some(reason()) }),
            FromWorker::Outside(Outside::Limited { reason: reason(), remedy: Some(reason()) }),
            FromWorker::Outside(Outside::Conflict { reason: reason(), remedy: reason() }),
            FromWorker::Ordered { ticket: 1, result: Ok(reason()) },
            FromWorker::Ordered { ticket: 1, result: Err(reason()) },
            FromWorker::Nack { event_id: EventId(1), reason: reason(), after_ms: None },
            FromWorker::Fetched { ticket: 1, result: Err(reason()) },
        ] {
            let scrubbed = format!("{:?}", scrub(frame));
            assert!(scrubbed.contains("the server said ***"), "{scrubbed}");
            assert!(!scrubbed.contains("nobody"), "{scrubbed}");
        }
        let lane =
            Lane { instance: Instance::new("a").unwrap(), chat_id: "c".into(), thread_id: None };
        let content = Content::text(reason());
        let reply = Reply { key: "k".into(), lane, reply_to: None, content };
        let said = FromWorker::Reply { seq: Seq(1), reply: Box::new(reply), note: None };
        assert_eq!(scrub(said.clone()), said);
    }
}
