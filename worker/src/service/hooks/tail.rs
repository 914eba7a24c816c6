//! The end of what a program prints: enough to see what went wrong, however much it is.

use tokio::io::{AsyncRead, AsyncReadExt};

/// What is kept, in bytes.
const KEPT: usize = 4096;
/// What is kept of it in one line for people, in bytes.
const SHOWN: usize = 300;

/// Reads to the end and keeps the last of it.
pub(super) async fn read<R: AsyncRead + Unpin>(mut from: R, kept: &mut Vec<u8>) {
    let mut buffer = vec![0; KEPT];
    while let Ok(len) = from.read(&mut buffer).await {
        if len == 0 {
            break;
        }
        push(kept, buffer.get(..len).unwrap_or_default());
    }
}

/// Appends, and forgets what is older.
pub(super) fn push(kept: &mut Vec<u8>, more: &[u8]) {
    kept.extend_from_slice(more);
    if kept.len() > KEPT {
        kept.drain(..kept.len() - KEPT);
    }
}

/// The last line that says something, for people.
pub(super) fn last_line(kept: &[u8]) -> String {
    let text = String::from_utf8_lossy(kept);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let line: String = line.trim().chars().filter(|c| !c.is_control()).collect();
    protocol::secret::excerpt(&line, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_leaves_its_end() {
        let mut flood = "x\n".repeat(100_000).into_bytes();
        flood.extend_from_slice(b"ValueError: \x1b[31mno\n\n");
        let mut kept = Vec::new();
        read(&flood[..], &mut kept).await;
        assert!(kept.len() <= KEPT);
        assert_eq!(last_line(&kept), "ValueError: [31mno");
        assert_eq!(last_line(b""), "");
    }
}
