//! What became of every message, by what the platform and the agent saw, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::feishu::SentMessage;

/// What was seen in a round.
#[derive(Debug)]
pub(super) struct Record {
    /// The texts that the gateway acknowledged to the platform, in the order of each conversation.
    pub(super) chats: Vec<Vec<String>>,
    /// Acknowledged messages that the platform delivered again under new ids.
    pub(super) repeated: u64,
    /// Everything came to rest.
    pub(super) rested: bool,
    /// The agent's log.
    pub(super) offers: String,
    /// What arrived at the platform, in order.
    pub(super) sent: Vec<SentMessage>,
    /// Rules of the platform that were broken.
    pub(super) violations: u64,
    pub(super) kills: u32,
}

/// Counts over rounds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    pub kills: u64,
    /// Of these, at steps of a message.
    #[serde(default)]
    pub at: BTreeMap<String, u64>,
    pub rounds: u64,
    /// Messages that the gateway acknowledged.
    pub messages: u64,
    /// Of these, delivered again by the platform under new ids.
    pub repeated: u64,
    /// Offers beyond the first, each of which said so: what at-least-once costs.
    pub offered_again: u64,
    /// Acknowledged and never offered to the agent.
    pub lost: u64,
    /// Offered after its acknowledgement was durable.
    pub after_settlement: u64,
    /// One message as two events.
    pub twice: u64,
    /// Offered again without saying so.
    pub unmarked: u64,
    /// First offers out of the order of their conversation.
    pub disordered: u64,
    pub replies_lost: u64,
    /// Of which nobody knows whether they arrived, and of which that was said.
    #[serde(default)]
    pub unknown: u64,
    pub replies_doubled: u64,
    pub replies_disordered: u64,
    /// Receipts that say something else than what the platform saw.
    pub misreported: u64,
    /// Rules of the platform that were broken.
    pub violations: u64,
    /// Rounds that did not come to rest.
    pub unrested: u64,
}

impl Tally {
    /// No promise was broken.
    pub fn is_clean(&self) -> bool {
        self.faults().iter().all(|(_, count)| *count == 0)
    }

    pub(super) fn faults(&self) -> [(&'static str, u64); 11] {
        [
            ("messages lost", self.lost),
            ("delivered after settlement", self.after_settlement),
            ("one message as two events", self.twice),
            ("repeated without saying so", self.unmarked),
            ("out of order", self.disordered),
            ("replies lost", self.replies_lost),
            ("replies doubled", self.replies_doubled),
            ("replies out of order", self.replies_disordered),
            ("receipts that lie", self.misreported),
            ("rules of the platform broken", self.violations),
            ("rounds that did not come to rest", self.unrested),
        ]
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.kills += other.kills;
        for (step, kills) in other.at {
            *self.at.entry(step).or_default() += kills;
        }
        self.rounds += other.rounds;
        self.messages += other.messages;
        self.repeated += other.repeated;
        self.offered_again += other.offered_again;
        self.lost += other.lost;
        self.after_settlement += other.after_settlement;
        self.twice += other.twice;
        self.unmarked += other.unmarked;
        self.disordered += other.disordered;
        self.replies_lost += other.replies_lost;
        self.unknown += other.unknown;
        self.replies_doubled += other.replies_doubled;
        self.replies_disordered += other.replies_disordered;
        self.misreported += other.misreported;
        self.violations += other.violations;
        self.unrested += other.unrested;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, rounds, messages, repeated, offered_again, .. } = self;
        writeln!(f, "{kills} kills in {rounds} rounds, {messages} messages acknowledged,")?;
        writeln!(
            f,
            "{repeated} of them delivered again under new ids, {offered_again} offers repeated"
        )?;
        if self.unknown > 0 {
            writeln!(f, "{} replies reported as unknown", self.unknown)?;
        }
        for (name, count) in self.faults() {
            writeln!(f, "  {name:<34} {count}")?;
        }
        for (step, kills) in &self.at {
            writeln!(f, "  killed at {step:<30} {kills}")?;
        }
        Ok(())
    }
}

pub(super) fn judge(record: &Record) -> Tally {
    let mut tally = Tally {
        kills: record.kills.into(),
        rounds: 1,
        messages: record.chats.iter().map(|chat| chat.len() as u64).sum(),
        repeated: record.repeated,
        violations: record.violations,
        unrested: u64::from(!record.rested),
        ..Tally::default()
    };
    let offered = offers(&record.offers, &mut tally);
    let mut arrived: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for sent in &record.sent {
        let chat = sent.receive_id.as_str();
        arrived.entry(chat).or_default().extend(sent.text());
    }
    for (number, chat) in record.chats.iter().enumerate() {
        let offers: Vec<&String> = offered.iter().filter(|text| belongs(text, number)).collect();
        tally.lost += missing(chat, offers.iter().copied());
        tally.disordered += descents(offers.into_iter());
        let name = format!("oc_{number}");
        let replies = arrived.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        tally.replies_lost += missing(chat, replies.iter());
        let distinct: BTreeSet<&String> = replies.iter().collect();
        tally.replies_doubled += (replies.len() - distinct.len()) as u64;
        tally.replies_disordered += descents(replies.iter());
    }
    let sent: BTreeSet<String> = record.sent.iter().filter_map(SentMessage::text).collect();
    for line in record.offers.lines() {
        if let ["receipt", key, state] = line.split(' ').collect::<Vec<_>>()[..] {
            tally.misreported += u64::from((state == "sent") != sent.contains(key));
        }
    }
    tally
}

/// The texts in the order of their first offers. Counts what is wrong with the others.
pub(super) fn offers(log: &str, tally: &mut Tally) -> Vec<String> {
    let mut order = Vec::new();
    let mut events: BTreeMap<&str, &str> = BTreeMap::new();
    let mut attempts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut settled = BTreeSet::new();
    for line in log.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["offer", event, attempt, text] => {
                let attempt = attempt.parse().unwrap_or(0);
                tally.after_settlement += u64::from(settled.contains(event));
                match events.insert(text, event) {
                    None => order.push(text.to_owned()),
                    Some(former) if former != event => tally.twice += 1,
                    Some(_) => {
                        tally.offered_again += 1;
                        let before = attempts.get(event).copied().unwrap_or(0);
                        tally.unmarked += u64::from(attempt <= before);
                    }
                }
                attempts.insert(event, attempt);
            }
            ["settled", event] => {
                settled.insert(event);
            }
            _ => {}
        }
    }
    order
}

fn belongs(text: &str, chat: usize) -> bool {
    text.split_once(':').is_some_and(|(name, _)| name == chat.to_string())
}

fn missing<'a>(wanted: &[String], found: impl Iterator<Item = &'a String>) -> u64 {
    let found: BTreeSet<&String> = found.collect();
    wanted.iter().filter(|text| !found.contains(text)).count() as u64
}

/// Places where a later message stands before an earlier one. A repeated one counts at its first place.
fn descents<'a>(texts: impl Iterator<Item = &'a String>) -> u64 {
    let mut seen = BTreeSet::new();
    let mut last = 0;
    let mut wrong = 0;
    for text in texts.filter(|text| seen.insert(*text)) {
        let number: u64 = text.rsplit(':').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        wrong += u64::from(number < last);
        last = last.max(number);
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offers: &str, sent: &[&str]) -> Record {
        let sent = sent.iter().map(|text| SentMessage {
            app: "a".into(),
            message_id: "m".into(),
            receive_id_type: "chat_id".into(),
            receive_id: "oc_0".into(),
            reply_to: None,
            in_thread: false,
            msg_type: "text".into(),
            content: format!("{{\"text\":\"{text}\"}}"),
            uuid: None,
            at: std::time::Duration::ZERO,
        });
        Record {
            chats: vec![vec!["0:0".into(), "0:1".into()]],
            repeated: 0,
            rested: true,
            offers: offers.replace(", ", "\n"),
            sent: sent.collect(),
            violations: 0,
            kills: 0,
        }
    }

    fn faults(offers: &str, sent: &[&str]) -> Vec<&'static str> {
        let tally = judge(&record(offers, sent));
        let wrong = tally.faults().into_iter().filter(|(_, count)| *count > 0);
        wrong.map(|(name, _)| name).collect()
    }

    #[test]
    fn every_fault_is_seen() {
        let good = "offer 1 1 0:0, settled 1, offer 2 1 0:1, offer 2 2 0:1, receipt 0:0 sent";
        let both = &["0:0", "0:1"][..];
        assert!(faults(good, both).is_empty());
        assert_eq!(faults("offer 1 1 0:0", both), ["messages lost"]);
        let late = format!("{good}, settled 2, offer 1 2 0:0");
        assert_eq!(faults(&late, both), ["delivered after settlement"]);
        assert_eq!(faults(&format!("{good}, offer 3 1 0:1"), both), ["one message as two events"]);
        assert_eq!(faults(&format!("{good}, offer 2 2 0:1"), both), ["repeated without saying so"]);
        assert_eq!(faults("offer 2 1 0:1, offer 1 1 0:0", both), ["out of order"]);
        assert_eq!(faults(good, &["0:0"]), ["replies lost"]);
        assert_eq!(faults(good, &["0:0", "0:0", "0:1"]), ["replies doubled"]);
        assert_eq!(faults(good, &["0:1", "0:0"]), ["replies out of order"]);
        assert_eq!(faults(&format!("{good}, receipt 0:1 unknown"), both), ["receipts that lie"]);
        let more = format!("{good}, receipt 0:9 sent");
        assert_eq!(faults(&more, both), ["receipts that lie"]);
        let unrested = Record { rested: false, violations: 1, ..record(good, both) };
        assert_eq!(judge(&unrested).faults().iter().filter(|(_, n)| *n > 0).count(), 2);
    }
}
