//! How a stranger comes to be known: the bot tells a short-lived code, once, and a person who may command
//! the gateway lets in whoever names it.
//!
//! | a stranger writes, and | |
//! |---|---|
//! | has no code, or one whose time is over | gets a new one, if few others are live |
//! | has a live code | silence |
//!
//! Times are Unix milliseconds, as codes outlive the process. A code that holds longer than it may was made
//! by a clock that ran ahead, and holds no more.

use std::collections::BTreeMap;

/// How long a code holds.
pub const HOLDS_MS: i64 = 3_600_000;
/// Live codes of one instance: a crowd of strangers gets silence.
const LIVE: usize = 50;
/// No character that looks like another.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// Characters of a code: 40 bits, and an hour to guess them in over the gateway's own socket.
pub const CODE_LEN: usize = 8;

/// A live code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Code {
    /// The code itself.
    pub code: String,
    /// The chat in which it was told.
    pub chat_id: String,
    /// The end of its time.
    pub until_ms: i64,
}

/// The codes of one platform instance, by user.
#[derive(Clone, Debug, Default)]
pub struct Pairing {
    codes: BTreeMap<String, Code>,
}

impl Pairing {
    /// Those that a former process told.
    pub fn new(codes: impl IntoIterator<Item = (String, Code)>) -> Self {
        Self { codes: codes.into_iter().collect() }
    }

    /// A stranger writes. What to tell, if anything.
    pub fn knock(
        &mut self,
        user: &str,
        chat_id: &str,
        random: [u8; CODE_LEN],
        now_ms: i64,
    ) -> Option<&Code> {
        self.codes.retain(|_, code| code.is_live(now_ms));
        if self.codes.contains_key(user) || self.codes.len() >= LIVE {
            return None;
        }
        let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).copied().map(char::from);
        let letters = random.iter().filter_map(letter);
        let code = Code {
            code: letters.collect(),
            chat_id: chat_id.to_owned(),
            until_ms: now_ms + HOLDS_MS,
        };
        Some(self.codes.entry(user.to_owned()).or_insert(code))
    }

    /// Who has the code that a person typed, and where it was told.
    pub fn find(&self, typed: &str, now_ms: i64) -> Option<(&str, &Code)> {
        let typed = plain(typed);
        self.live(now_ms).find(|(_, code)| code.code == typed)
    }

    /// Every live code.
    pub fn live(&self, now_ms: i64) -> impl Iterator<Item = (&str, &Code)> {
        let live = self.codes.iter().filter(move |(_, code)| code.is_live(now_ms));
        live.map(|(user, code)| (user.as_str(), code))
    }

    /// A person has decided about a user.
    pub fn decided(&mut self, user: &str) {
        self.codes.remove(user);
    }
}

impl Code {
    fn is_live(&self, now_ms: i64) -> bool {
        (now_ms..=now_ms + HOLDS_MS).contains(&self.until_ms)
    }
}

/// A code as people type it: small letters, hyphens and spaces are no mistake.
pub fn plain(typed: &str) -> String {
    let letters = typed.chars().filter(|c| !c.is_whitespace() && *c != '-');
    letters.flat_map(char::to_uppercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn a_stranger_is_told_one_code_and_then_nothing_until_it_is_over() {
        let mut pairing = Pairing::default();
        let first = pairing.knock("ann", "c1", [7; CODE_LEN], NOW).unwrap().clone();
        assert_eq!(first.code.len(), CODE_LEN);
        assert_eq!(pairing.knock("ann", "c1", [8; CODE_LEN], NOW + 1), None);
        assert!(pairing.knock("bob", "c2", [9; CODE_LEN], NOW + 1).is_some(), "everybody has one");
        let typed = first.code.to_lowercase();
        let typed = format!(" {}-{} ", &typed[..4], &typed[4..]);
        assert_eq!(pairing.find(&typed, NOW + 2), Some(("ann", &first)));
        assert_eq!(pairing.find("22222222", NOW + 2), None);
        let over = NOW + HOLDS_MS + 1;
        assert_eq!(pairing.find(&first.code, over), None);
        assert!(pairing.knock("ann", "c1", [8; CODE_LEN], over).is_some());
        assert_eq!(pairing.find(&first.code, over), None, "one live code for each");
    }

    #[test]
    fn whoever_was_decided_about_has_no_code() {
        let mut pairing = Pairing::default();
        let code = pairing.knock("ann", "c1", [7; CODE_LEN], NOW).unwrap().code.clone();
        pairing.decided("ann");
        assert_eq!(pairing.find(&code, NOW), None);
    }

    #[test]
    fn a_crowd_gets_silence_and_a_clock_that_ran_ahead_no_advantage() {
        let mut pairing = Pairing::default();
        let told = (0..1000_u16)
            .filter(|n| pairing.knock(&n.to_string(), "c", [3; CODE_LEN], NOW).is_some())
            .count();
        assert_eq!(told, LIVE);
        assert!(pairing.knock("late", "c", [4; CODE_LEN], NOW + HOLDS_MS + 1).is_some());
        let ahead = Code { code: "AAAAAAAA".into(), chat_id: "c".into(), until_ms: NOW * 2 };
        let pairing = Pairing::new([("ann".to_owned(), ahead)]);
        assert_eq!(pairing.find("AAAAAAAA", NOW), None);
    }
}
