//! What both measurements share: events that nothing can compress, and what a disk can do at best.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use protocol::event::{ChatType, Inbound, InboundKind, Mention, Sender, SenderKind};

/// Marsaglia's xorshift*: quick, and good enough to fill events.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: i64) -> Self {
        Self(seed.cast_unsigned() | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One KiB that cannot be compressed, in one of 256 chats, with two keys as Feishu's events have.
    pub(crate) fn event(&mut self, now_ms: i64) -> Inbound {
        let mut raw = Vec::with_capacity(640);
        (0..80).for_each(|_| raw.extend_from_slice(&self.next().to_le_bytes()));
        let (a, b) = (self.next(), self.next());
        Inbound {
            kind: InboundKind::Message,
            keys: vec![format!("event:{a:016x}{b:016x}"), format!("message:om_{b:016x}{a:016x}")],
            origin_ms: now_ms,
            chat_id: format!("oc_{:032x}", a % 256),
            chat_type: ChatType::Direct,
            thread_id: None,
            message_id: Some(format!("om_{b:016x}{a:016x}")),
            reply_to: None,
            sender: Sender { user_id: "ou_1".into(), name: None, kind: SenderKind::User },
            mention: Mention::None,
            text: "x".repeat(100),
            parts: Vec::new(),
            raw,
            chat_name: None,
            quote: None,
            album: None,
        }
    }
}

/// One write and one sync for each group.
pub(crate) struct Raw {
    file: File,
    group: Vec<u8>,
}

impl Raw {
    pub(crate) fn new(path: &Path, events: usize) -> Self {
        let mut group = vec![0; 1024 * events];
        let mut random = Random::new(88_172_645_463_325_252);
        for part in group.chunks_mut(8) {
            part.copy_from_slice(&random.next().to_le_bytes());
        }
        Self { file: File::create(path).unwrap(), group }
    }

    /// Seconds spent; `times` gets the milliseconds of each group.
    pub(crate) fn run(&mut self, length: Duration, times: &mut Vec<f64>) -> f64 {
        let started = Instant::now();
        while started.elapsed() < length {
            let one = Instant::now();
            self.file.write_all(&self.group).unwrap();
            self.file.sync_data().unwrap();
            times.push(one.elapsed().as_secs_f64() * 1e3);
        }
        started.elapsed().as_secs_f64()
    }
}

pub(crate) fn quantile(times: &mut [f64], q: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let at = ((times.len() as f64 - 1.0).max(0.0) * q).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in it")]
    times.get(at as usize).copied().unwrap_or_default()
}
