//! Files that people sent, fetched when an agent wants them.
//!
//! The public server hands out files of up to 20 MB, under an address that works for an hour. A server of
//! one's own that runs with `--local` names a path on its own disk instead, which is read there.

use std::path::Path;
use std::time::Duration;

use protocol::content::{Fetch, Fetched};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::Shared;
use super::answer::Said;
use super::units::amount;
use crate::exchange::{Making, Refused};
use crate::http::Stream;
use crate::json::{number_of, text_of};

/// Between two pieces of a file.
const STALL: Duration = Duration::from_secs(15);
/// A piece that is read from a disk.
const PIECE: usize = 64 * 1024;
/// Times that a file is asked for: its address may be over, or the line may break.
const TIMES: u32 = 3;

/// Why there is no file.
enum Trouble {
    /// Asking anew may help.
    Passing(String),
    /// It will not.
    Lasting(String),
}

/// Puts the bytes of a part into the exchange directory. The error is for the agent.
pub(super) async fn fetch(shared: &Shared, fetch: &Fetch) -> Result<Fetched, String> {
    let size = fetch.part.size.unwrap_or(0);
    shared.exchange.admit(size).map_err(|refused| refused.to_string())?;
    let mut last = String::new();
    for _ in 0..TIMES {
        match once(shared, fetch).await {
            Ok(fetched) => return Ok(fetched),
            Err(Trouble::Lasting(why)) => return Err(why),
            Err(Trouble::Passing(why)) => last = why,
        }
    }
    Err(format!("{last}: try again"))
}

async fn once(shared: &Shared, fetch: &Fetch) -> Result<Fetched, Trouble> {
    let part = &fetch.part;
    let file = match shared.api.ask("getFile", &json!({"file_id": part.handle})).await {
        Said::Done(file) => file,
        Said::Refused(why) if why.contains("file is too big") => {
            return Err(Trouble::Lasting(too_big(part.size)));
        }
        Said::Refused(why) => return Err(Trouble::Lasting(why)),
        Said::Limited(pause) => {
            let why = format!("Telegram wants a pause of {} s: try again", pause.as_secs());
            return Err(Trouble::Lasting(why));
        }
        Said::Away(why) | Said::Unclear(why) | Said::Credentials(why) => {
            return Err(Trouble::Passing(why));
        }
        Said::Conflict(_) | Said::Moved(_) => {
            return Err(Trouble::Passing("the platform answers something else".to_owned()));
        }
    };
    let path = text_of(&file, "file_path");
    if path.is_empty() {
        return Err(Trouble::Passing("the platform says no path of the file".to_owned()));
    }
    let known = number_of(&file, "file_size").and_then(|size| u64::try_from(size).ok());
    shared.exchange.admit(known.unwrap_or(0))?;
    let title = part.name.clone().unwrap_or_else(|| {
        path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(&part.kind).to_owned()
    });
    let mut making = shared.exchange.begin(&title).await?;
    if path.starts_with('/') {
        from_disk(shared, Path::new(path), &mut making).await?;
    } else {
        from_line(shared, path, &mut making).await?;
    }
    Ok(making.finish(mime(&part.kind, part.mime.as_deref())).await?)
}

async fn from_line(shared: &Shared, path: &str, making: &mut Making) -> Result<(), Trouble> {
    let request = shared.api.file(path).ok_or_else(|| {
        Trouble::Lasting("the platform says a path of the file that is none".to_owned())
    })?;
    let passing = |why: &str| Trouble::Passing(shared.api.redacted(why));
    let opened = timeout(STALL, Stream::open(request)).await;
    let mut stream =
        opened.map_err(|_| passing("no answer in time"))?.map_err(|e| passing(&e.why))?;
    if stream.status() != 200 {
        return Err(passing(&format!(
            "the platform answers HTTP {} for the file",
            stream.status()
        )));
    }
    loop {
        let piece =
            timeout(STALL, stream.chunk()).await.map_err(|_| passing("the line is still"))?;
        let Some(piece) = piece.map_err(|why| passing(&why))? else { return Ok(()) };
        making.write(&piece).await?;
    }
}

/// The server is ours and on this machine.
async fn from_disk(shared: &Shared, path: &Path, making: &mut Making) -> Result<(), Trouble> {
    let Some(dir) = &shared.api.settings().local_files else {
        return Err(Trouble::Lasting(format!(
            "the Bot API server keeps the file on its own disk, at {}: set local_files to the directory \
             in which it keeps files, or run it without --local",
            path.display()
        )));
    };
    let odd =
        |why: &dyn std::fmt::Display| Trouble::Lasting(format!("read {}: {why}", path.display()));
    let (dir, path) = tokio::try_join!(tokio::fs::canonicalize(dir), tokio::fs::canonicalize(path))
        .map_err(|error| odd(&error))?;
    if !path.starts_with(&dir) {
        return Err(odd(&format!("it is not in local_files ({})", dir.display())));
    }
    let mut file = tokio::fs::File::open(&path).await.map_err(|error| odd(&error))?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).await.map_err(|error| odd(&error))?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        making.write(bytes).await?;
    }
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Self::Lasting(refused.to_string())
    }
}

fn too_big(size: Option<u64>) -> String {
    let size = size.map_or_else(String::new, |size| format!(" of {}", amount(size)));
    format!(
        "the file{size} is too large: Telegram lets bots download 20 MB; a Bot API server of your own \
         (base_url), started with --local, has no such limit"
    )
}

/// Of kinds that have only one.
fn mime(kind: &str, told: Option<&str>) -> Option<String> {
    let own = match kind {
        "photo" => Some("image/jpeg"),
        "voice" => Some("audio/ogg"),
        "video_note" => Some("video/mp4"),
        _ => None,
    };
    told.or(own).map(str::to_owned)
}
