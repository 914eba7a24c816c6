//! The load: conversations in which people write one message after the other.
//!
//! A message of a conversation is pushed when the one before it was acknowledged, so that the order in
//! which the agent must see them is known. Now and then the platform delivers an acknowledged message
//! again under a new delivery id.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::feishu::{End, Feishu};

/// The longest pause between two messages of a conversation.
const PAUSE_MS: u64 = 20;
/// One message of so many is delivered again.
const AGAIN: u32 = 20;

pub(super) struct Load {
    feishu: Feishu,
    seed: u64,
    /// Conversation n is with the n-th of them, from the start again after the last.
    apps: Vec<String>,
    ended: AtomicBool,
    repeated: AtomicU64,
    /// The texts of each conversation that were acknowledged, in order.
    chats: Mutex<Vec<Vec<String>>>,
}

impl Load {
    pub(super) fn new(feishu: Feishu, seed: u64, apps: &[&str]) -> Self {
        let apps = apps.iter().map(|app| (*app).to_owned()).collect();
        let (ended, repeated) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { feishu, seed, apps, ended, repeated, chats: Mutex::default() }
    }

    pub(super) fn start(self: &Arc<Self>, runtime: &Handle, chats: usize) -> Vec<JoinHandle<()>> {
        self.chats().resize(chats, Vec::new());
        (0..chats).map(|chat| runtime.spawn(self.clone().converse(chat))).collect()
    }

    /// Each conversation ends with its message under way acknowledged.
    pub(super) fn stop(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn pushed(&self) -> Vec<Vec<String>> {
        self.chats().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.chats().iter().map(Vec::len).sum()
    }

    pub(super) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    async fn converse(self: Arc<Self>, chat: usize) {
        let mut random = fastrand::Rng::with_seed(self.seed ^ (chat as u64) << 32);
        let mut next = 0;
        let Some(app) = self.apps.get(chat % self.apps.len().max(1)) else { return };
        while !self.ended.load(Ordering::Relaxed) {
            let text = format!("{chat}:{next}");
            next += 1;
            let (to, from) = (format!("oc_{chat}"), format!("ou_{chat}"));
            let event = self.feishu.push_text(app, &to, &from, &text);
            if event.ended().await == End::GivenUp {
                // The platform's patience is over; nobody promised anything.
                continue;
            }
            if let Some(texts) = self.chats().get_mut(chat) {
                texts.push(text);
            }
            if random.u32(..AGAIN) == 0 {
                self.repeated.fetch_add(1, Ordering::Relaxed);
                self.feishu.replay(&event).ended().await;
            }
            tokio::time::sleep(Duration::from_millis(random.u64(..PAUSE_MS))).await;
        }
    }

    fn chats(&self) -> std::sync::MutexGuard<'_, Vec<Vec<String>>> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
