//! What a person is asked, and what is taken for an answer.

use std::io;
use std::path::PathBuf;

use protocol::secret::Secret;

use super::wanted::{
    Access, Agent, Feishu, Telegram, Wanted, ids, is_number, is_open_id, is_token,
};

/// Who answers.
pub(super) trait Person {
    /// Says something.
    fn tell(&mut self, text: &str);
    /// Asks; a line without its end. An end of input is an error.
    fn ask(&mut self, question: &str, is_secret: bool) -> io::Result<String>;
}

/// Asks until the answer is one.
fn until<T>(
    person: &mut dyn Person,
    question: &str,
    is_secret: bool,
    read: impl Fn(&str) -> Result<T, String>,
) -> io::Result<T> {
    loop {
        let answer = person.ask(question, is_secret)?;
        match read(answer.trim()) {
            Ok(good) => return Ok(good),
            Err(why) => person.tell(&why),
        }
    }
}

/// An answer that is not empty.
fn some(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("this is needed; Ctrl-C ends it all".into()) } else { Ok(text.into()) }
}

pub(super) fn ask(person: &mut dyn Person, home: PathBuf, relay: Secret) -> io::Result<Wanted> {
    let known = ["telegram", "feishu", "lark", "none"];
    let platforms = until(
        person,
        "Platforms, of telegram, feishu, lark or none (the terminal alone)",
        false,
        |text| {
            let (good, other) = ids(&text.to_lowercase(), |word| known.contains(&word));
            match (good.is_empty(), other.first()) {
                (false, None)
                    if good.contains(&"feishu".into()) && good.contains(&"lark".into()) =>
                {
                    Err("feishu or lark: which of the two is the app's?".into())
                }
                (false, None) => Ok(good),
                (_, Some(other)) => Err(format!("{other} is none of them; several: with commas")),
                (true, None) => Err("name one; several: with commas".into()),
            }
        },
    )?;
    let has = |name: &str| platforms.iter().any(|platform| platform == name);
    let telegram = if has("telegram") {
        let token = until(person, "Telegram: the token from @BotFather", true, |text| {
            if is_token(text) {
                Ok(Secret::new(text))
            } else {
                Err("a token looks like 123456789:ABC…".into())
            }
        })?;
        let access =
            access(person, "Telegram: numbers of the users who may speak", is_number, "a number")?;
        Some(Telegram { token, proxy: None, access })
    } else {
        None
    };
    let feishu = if has("feishu") || has("lark") {
        let app_id = until(person, "App ID (cli_…)", false, |text| {
            if text.starts_with("cli_") {
                Ok(text.to_owned())
            } else {
                Err("it begins with cli_".into())
            }
        })?;
        let secret = until(person, "App Secret", true, some)?;
        let access =
            access(person, "open_ids of the users who may speak", is_open_id, "an open_id (ou_…)")?;
        Some(Feishu { app_id, secret: Secret::new(&secret), is_lark: has("lark"), access })
    } else {
        None
    };
    let agent = agent(person, home, relay)?;
    Ok(Wanted { telegram, feishu, agent, hooks: None })
}

fn access(
    person: &mut dyn Person,
    question: &str,
    is_id: fn(&str) -> bool,
    what: &str,
) -> io::Result<Access> {
    let question = format!("{question} (none: strangers get a code for `ctl access approve`)");
    let users = until(person, &question, false, |text| match ids(text, is_id) {
        (good, other) if other.is_empty() => Ok(good),
        (_, other) => Err(format!("{} is not {what}", other.join(", "))),
    })?;
    Ok(Access { users, ..Access::default() })
}

fn agent(person: &mut dyn Person, home: PathBuf, relay: Secret) -> io::Result<Agent> {
    let known = ["hermes", "openai", "acp", "echo"];
    let question =
        "Agent, one of hermes, openai (a model server), acp (a program) or echo [hermes]";
    let kind = until(person, question, false, |text| match text.to_lowercase().as_str() {
        "" => Ok("hermes".to_owned()),
        word if known.contains(&word) => Ok(word.to_owned()),
        other => Err(format!("{other} is none of them")),
    })?;
    Ok(match kind.as_str() {
        "hermes" => Agent::Hermes { home, secret: relay },
        "openai" => {
            let base_url = until(person, "Address of the server, with /v1", false, |text| {
                let is_url = text.starts_with("http://") || text.starts_with("https://");
                if is_url {
                    Ok(text.to_owned())
                } else {
                    Err("it begins with http:// or https://".into())
                }
            })?;
            let model = until(person, "Model", false, some)?;
            let key = person.ask("Key (none: empty)", true)?;
            let key = Some(key.trim()).filter(|key| !key.is_empty()).map(Secret::new);
            Agent::OpenAi { base_url, model, key }
        }
        "acp" => {
            let command = until(person, "Command, for example: hermes-acp", false, some)?;
            Agent::Acp { command: command.split_whitespace().map(str::to_owned).collect() }
        }
        _ => Agent::Echo,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Answers in their order; what was told and what was asked as a secret.
    struct Script(VecDeque<&'static str>, Vec<String>, Vec<String>);

    impl Person for Script {
        fn tell(&mut self, text: &str) {
            self.1.push(text.into());
        }

        fn ask(&mut self, question: &str, is_secret: bool) -> io::Result<String> {
            if is_secret {
                self.2.push(question.into());
            }
            let answer = self.0.pop_front();
            answer.map(str::to_owned).ok_or_else(|| io::Error::other("the input has ended"))
        }
    }

    fn asked(answers: &[&'static str]) -> (io::Result<Wanted>, Vec<String>, Vec<String>) {
        let mut script = Script(answers.iter().copied().collect(), Vec::new(), Vec::new());
        let wanted =
            ask(&mut script, "/home/ann/.hermes".into(), Secret::new("relay-secret-of-a-test"));
        (wanted, script.1, script.2)
    }

    #[test]
    fn a_person_is_asked_until_the_answer_is_one() {
        let (wanted, told, hidden) = asked(&[
            "whatsapp",
            "lark, telegram",
            "my bot",
            "123456789:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "@ann",
            "42, 43",
            "app",
            "cli_a1",
            "",
            "the-app-secret",
            "",
            "claude",
            "",
        ]);
        let wanted = wanted.unwrap();
        let expected = "# Every key, with its default: the example configuration of hermes-gw.

[platform.telegram]
token_file = \"telegram-token\"

[platform.telegram.access]
direct = \"list\"
users = [42, 43]

[platform.feishu]
app_id = \"cli_a1\"
app_secret_file = \"feishu-secret\"
base_url = \"https://open.larksuite.com\"

[platform.feishu.access]
direct = \"pairing\"

[agent.hermes]
kind = \"relay\"
listen = \"127.0.0.1:8765\"
secret_file = \"relay-secret\"
home = \"/home/ann/.hermes\"
";
        assert_eq!(wanted.config(), expected);
        assert_eq!(told.len(), 6, "{told:?}");
        assert_eq!(hidden.len(), 4, "the token and the secret, each twice: {hidden:?}");
        let files: Vec<_> =
            wanted.secrets().into_iter().map(|file| (file.name, file.text)).collect();
        let hermes = "GATEWAY_RELAY_URL=http://127.0.0.1:8765\nGATEWAY_RELAY_ID=hermes\n\
            GATEWAY_RELAY_SECRET=relay-secret-of-a-test\nGATEWAY_RELAY_PLATFORMS=feishu,telegram\n\
            GATEWAY_RELAY_BOT_IDS={\"feishu\":{\"botId\":\"cli_a1\"},\"telegram\":{\"botId\":\"123456789\"}}\n";
        let expected = [
            ("telegram-token", "123456789:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"),
            ("feishu-secret", "the-app-secret\n"),
            ("relay-secret", "relay-secret-of-a-test\n"),
            ("hermes.env", hermes),
        ];
        assert_eq!(files, expected.map(|(name, text)| (name, text.to_owned())));
    }

    #[test]
    fn every_agent_can_be_chosen() {
        let tables = [
            (&["none", "echo"][..], "[agent.echo]"),
            (&["none", "acp", "hermes-acp --quiet"][..], "command = [\"hermes-acp\", \"--quiet\"]"),
            (
                &["none", "openai", "http://127.0.0.1:11434/v1", "llama \"3\"", ""][..],
                "model = 'llama \"3\"'",
            ),
        ];
        for (answers, line) in tables {
            let config = asked(answers).0.unwrap().config();
            assert!(config.contains(line) && config.contains("[platform.local]"), "{config}");
        }
    }

    #[test]
    fn an_end_of_the_input_ends_it() {
        assert!(asked(&["telegram"]).0.is_err());
    }
}
