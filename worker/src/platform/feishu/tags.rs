//! Who a reply mentions, and what of its words the platform would take for its own markup. Pure.
//!
//! In a text, a post and a card the platform takes `<at …>` for a mention, wherever the words come from, and one
//! of `all` notifies everybody in the chat. An agent may quote what somebody has written. So only the mention
//! of one person by name is passed on, written anew; every other such tag is shown as it stands. A text
//! has no other markup for agents, but the platform knows styles and links in it as well: they are shown, too.

use super::compose::Form;

/// Stands behind the `<` of what is no tag. It has no width.
const NO_TAG: char = '\u{200b}';

/// The same words, in which nobody is mentioned but by [`Person`], and which in a text show as they are.
pub(super) fn settled(words: &str, form: Form) -> String {
    let mut out = String::with_capacity(words.len() + 16);
    let mut rest = words;
    while let Some((before, behind)) = rest.split_once('<') {
        out.push_str(before);
        rest = behind;
        if let Some(Person { id, name, behind }) = Person::read(behind) {
            out.push_str(&format!("<at {}=\"{id}\">{name}</at>", attribute(form)));
            rest = behind;
        } else {
            out.push('<');
            if is_tag(behind) || (form == Form::Text && is_style(behind)) {
                out.push(NO_TAG);
            }
        }
    }
    out.push_str(rest);
    out
}

/// How a form names whom it mentions.
fn attribute(form: Form) -> &'static str {
    match form {
        Form::Text | Form::Post => "user_id",
        Form::Card => "id",
    }
}

/// A mention of one person.
struct Person<'a> {
    id: &'a str,
    name: &'a str,
    /// What follows it.
    behind: &'a str,
}

impl<'a> Person<'a> {
    /// `at user_id="ou_…">name</at>`, as texts have it or as cards do. With another tag in it, it is none: no text is
    /// searched to its end for each of its tags.
    fn read(tag: &'a str) -> Option<Self> {
        let tag = tag.strip_prefix("at ")?;
        let (head, rest) = tag.split_at_checked(tag.find(['<', '>'])?)?;
        let rest = rest.strip_prefix('>')?;
        let (attribute, value) = head.split_once('=')?;
        let id = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
        let (name, behind) = rest.split_at_checked(rest.find(['<', '\n'])?)?;
        let behind = behind.strip_prefix("</at>")?;
        let is_person = id.starts_with("ou_") || id.starts_with("on_");
        let is_one =
            matches!(attribute, "user_id" | "id") && is_person && super::encode::is_plain(id);
        is_one.then_some(Self { id, name, behind })
    }
}

/// Whether this, behind a `<`, may be read as a mention or as the end of one.
fn is_tag(behind: &str) -> bool {
    let word = behind.trim_start_matches(|c: char| c.is_whitespace() || c.is_control() || c == '/');
    let mut letters = word.chars();
    let begins =
        |letter: Option<char>, with: char| letter.is_some_and(|it| it.eq_ignore_ascii_case(&with));
    begins(letters.next(), 'a')
        && begins(letters.next(), 't')
        && letters.next().is_none_or(|c| !c.is_alphanumeric())
}

/// Whether this, behind a `<`, is a style or a link of a text, or the end of one.
fn is_style(behind: &str) -> bool {
    let Some((tag, _)) = behind.split_once('>') else { return false };
    let tag = tag.trim_matches('/').trim_end();
    let (name, more) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    let is = |word: &str| name.eq_ignore_ascii_case(word);
    is("a") || (more.is_empty() && ["b", "i", "u", "s"].into_iter().any(is))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::content::Content;
    use serde_json::Value;

    use super::super::compose::{Form, Step, card_markdown, say, steps};
    use super::*;

    /// All texts of a message, as the platform reads them.
    fn texts(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::String(text) => into.push(text.clone()),
            Value::Array(all) => all.iter().for_each(|it| texts(it, into)),
            Value::Object(all) => all.values().for_each(|it| texts(it, into)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// What a lenient reader takes for the beginning or the end of a mention.
    fn found(text: &str) -> Vec<&str> {
        let blank = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        let is_mention = |tag: &&str| {
            let word = tag.trim_start_matches(blank).to_lowercase();
            word.strip_prefix("at").is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        };
        text.split('<').skip(1).filter(is_mention).collect()
    }

    /// Every mention in a text is one of a single person.
    fn check(text: &str) {
        let tags = found(text);
        for pair in tags.chunks(2) {
            let [start, end] = pair else { panic!("{pair:?} of {text:?}") };
            let id = ["at user_id=\"", "at id=\""].iter().find_map(|it| start.strip_prefix(it));
            let id = id.and_then(|rest| rest.split_once("\">")).map(|(id, _)| id);
            assert!(id.is_some_and(|id| id.starts_with("ou_")), "{start:?} of {text:?}");
            assert!(end.starts_with("/at>"), "{end:?} of {text:?}");
        }
    }

    #[test]
    fn one_person_is_mentioned_and_everybody_is_a_word() {
        for (said, in_text, in_card) in [
            (
                "<at user_id=\"ou_1\">Ann</at>, hi",
                "<at user_id=\"ou_1\">Ann</at>, hi",
                "<at id=\"ou_1\">Ann</at>, hi",
            ),
            ("<at id=on_1></at>", "<at user_id=\"on_1\"></at>", "<at id=\"on_1\"></at>"),
        ] {
            assert_eq!(settled(said, Form::Text), in_text);
            assert_eq!(settled(said, Form::Card), in_card);
        }
        for said in [
            "<at user_id=\"all\">everybody</at>",
            "<at id=all></at>",
            "<AT  ID='all'></at>",
            "< at user_id=\"all\"/>",
            "<\tat\nid=all>",
            "<at ids=ou_1,all></at>",
            "<at user_id=\"ou_1\" user_id=\"all\"></at>",
            "<at user_id=\"ou_1\"><at user_id=\"all\"></at></at>",
            "<at",
        ] {
            let told = settled(said, Form::Text);
            check(&told);
            assert_eq!(told.replace(NO_TAG, ""), said, "the same is shown");
            assert_eq!(settled(&told, Form::Text), told);
        }
        for other in ["<atom>", "a < b", "<b>at</b>", "x@all <x>"] {
            assert_eq!(settled(other, Form::Card), other);
        }
    }

    /// A text has no markup: what looks like the platform's is shown.
    #[test]
    fn styles_in_a_text_are_words() {
        for said in [
            "<b>bold</b>",
            "Vec<B> and </b>",
            "<i>x</i><u>y</u><s>z</s>",
            "<a href=\"https://x.y\">A</a>",
            "<b/><b >",
        ] {
            let told = settled(said, Form::Text);
            let tags = said.matches('<').count();
            assert_eq!(told.matches("<\u{200b}").count(), tags, "{told:?}");
            assert_eq!(told.replace(NO_TAG, ""), said, "the same is shown");
            assert_eq!(settled(&told, Form::Text), told);
            // A post and a card have markup, and HTML is a part of it.
            assert_eq!(settled(said, Form::Post), said);
        }
        for other in ["a < b", "a<b and c>d", "<br>", "<x>", "Vec<Box<u8>>", "1 <u", "<=b>"] {
            assert_eq!(settled(other, Form::Text), other);
        }
    }

    #[test]
    fn a_card_of_an_agent_mentions_as_its_words_do() {
        let card =
            r#"{"elements":[{"tag":"markdown","content":"<at id=all></at> <at id=ou_1></at>"}]}"#;
        let content = Content { card: Some(card.to_owned()), ..Content::text("") };
        let Step::Card(sent) = steps(&content, None).unwrap().remove(0) else { panic!() };
        let sent: Value = serde_json::from_str(&sent).unwrap();
        let shown = sent["elements"][0]["content"].as_str().unwrap();
        assert_eq!(shown, "<\u{200b}at id=all><\u{200b}/at> <at id=\"ou_1\"></at>");
    }

    /// A look to the end of the card for each mention would take minutes here, while nothing else is served.
    #[test]
    fn a_card_full_of_mentions_is_read_once() {
        let card = serde_json::json!({ "elements": "<at id=ou_1>".repeat(1 << 16) });
        let content = Content { card: Some(card.to_string()), ..Content::text("") };
        let why = steps(&content, None).unwrap_err();
        assert!(why.contains("the platform takes"), "{why}");
    }

    proptest! {
           /// No text of an agent yields a tag that this program did not make itself, in any form.
           #[test]
           fn no_words_mention_anybody_else(
               words in prop::collection::vec(
                   prop::sample::select(vec![
                       "<", "at", "AT", "/", ">", " ", "\n", "\t", "\u{0}", "\u{200b}", "=", "\"", "'", "all",
                       "id", "user_id", "ids", "ou_1", "<at ", "<at id=", "<at user_id=\"", "</at>", "\">",
                       "<at id=all>", "<at user_id=\"all\">", "<at id=ou_1>", "![", "](https://x.y/", ")", "`",
                       "```\n", "**", "&lt;", "\\", "x", "é",
                   ]),
                   0..24,
               ),
           ) {
               let words = words.concat();
               for form in [Form::Text, Form::Post, Form::Card] {
                   let content: Value = serde_json::from_str(&say(&words, form, &[]).content).unwrap();
                   let mut all = Vec::new();
                   texts(&content, &mut all);
                   for text in &all {
    check(text);
    }
               }
               check(&card_markdown(&words));
               let card = serde_json::json!({ "elements": [{ "tag": "markdown", "content": words }] });
               let own = Content { card: Some(card.to_string()), ..Content::text("") };
               if let Ok(steps) = steps(&own, None) {
                   for step in steps {
                       let Step::Card(sent) = step else { continue };
                       let mut all = Vec::new();
                       texts(&serde_json::from_str(&sent).unwrap(), &mut all);
                       for text in &all {
    check(text);
    }
                   }
               }
           }
       }
}
