//! One terminal: lines from it, lines to it. A terminal that breaks the rules loses its connection.

use futures_util::{SinkExt, StreamExt};
use protocol::local::{FromTerminal, LINE_MAX, ToTerminal};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

use super::Heard;
use crate::socket::Halves;

/// One connection of a terminal.
pub(super) struct Terminal {
    number: u64,
    halves: Halves,
    lines: mpsc::Receiver<ToTerminal>,
    tell: mpsc::Sender<(u64, Heard)>,
}

impl Terminal {
    pub(super) fn new(
        number: u64,
        halves: Halves,
        lines: mpsc::Receiver<ToTerminal>,
        tell: mpsc::Sender<(u64, Heard)>,
    ) -> Self {
        Self { number, halves, lines, tell }
    }

    /// Carries lines both ways until either side ends.
    pub(super) async fn run(mut self) {
        let (receive, send) = self.halves;
        let mut reader = FramedRead::new(receive, LinesCodec::new_with_max_length(LINE_MAX));
        let mut writer = FramedWrite::new(send, LinesCodec::new());
        loop {
            let answer = tokio::select! {
                line = reader.next() => match line {
                    Some(Ok(line)) => match serde_json::from_str::<FromTerminal>(&line) {
                        Ok(line) => {
                            if self.tell.send((self.number, Heard::Line(line))).await.is_err() {
                                break;
                            }
                            continue;
                        }
                        Err(e) => ToTerminal::Problem { reason: e.to_string() },
                    },
                    Some(Err(_)) | None => break,
                },
                line = self.lines.recv() => match line {
                    Some(line) => line,
                    None => break,
                },
            };
            // What has come together goes with the same write.
            let mut next = Some(answer);
            let mut fed = Ok(());
            while let (Some(line), Ok(())) = (next.take(), &fed) {
                if let Ok(text) = serde_json::to_string(&line) {
                    fed = writer.feed(text).await;
                }
                next = self.lines.try_recv().ok();
            }
            if fed.is_err() || SinkExt::<String>::flush(&mut writer).await.is_err() {
                break;
            }
        }
        let _ = self.tell.send((self.number, Heard::Gone)).await;
    }
}
