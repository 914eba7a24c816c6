//! The bytes behind a part of a message: from the platform into the exchange directory, as asked for.

use std::time::Duration;

use protocol::content::{Fetch, Fetched};
use tokio::time::timeout;

use super::Shared;
use super::encode;

/// Between two pieces.
const STALL: Duration = Duration::from_secs(20);

/// Fetches what `wish` names; the error is for people.
pub(super) async fn fetch(shared: &Shared, wish: &Fetch) -> Result<Fetched, String> {
    let part = &wish.part;
    let kind = match part.kind.as_str() {
        "image" => "image",
        "sticker" => return Err("the platform hands out no stickers".to_owned()),
        "folder" => return Err("the platform hands out no folders".to_owned()),
        _ => "file",
    };
    let message = wish.message_id.as_deref().unwrap_or_default();
    let path = encode::resource(message, &part.handle, kind)
        .ok_or("the message or the part has no id of this platform")?;
    let stream = shared.api.download("resource", &path).await;
    let mut stream =
        stream.map_err(|said| format!("fetch it from the platform: {}", said.why()))?;
    let size = stream.header("content-length").and_then(|it| it.parse::<u64>().ok());
    let mime = stream.header("content-type").map(|it| it.split(';').next().unwrap_or(it).trim());
    let mime = mime.filter(|it| !it.is_empty() && it.len() <= 100).map(str::to_owned);
    if let Some(size) = size {
        shared.exchange.admit(size).map_err(|e| e.to_string())?;
    }
    let title = part.name.clone().unwrap_or_else(|| named(&part.kind, mime.as_deref()));
    let mut making = shared.exchange.begin(&title).await.map_err(|e| e.to_string())?;
    let mut read = 0;
    loop {
        let more = timeout(STALL, stream.chunk()).await;
        let more = more.map_err(|_| "fetch it from the platform: it stopped coming".to_owned())?;
        let Some(bytes) = more.map_err(|why| format!("fetch it from the platform: {why}"))? else {
            break;
        };
        read += bytes.len() as u64;
        making.write(&bytes).await.map_err(|e| e.to_string())?;
    }
    if size.is_some_and(|size| size != read) {
        return Err("fetch it from the platform: it ended too early".to_owned());
    }
    making.finish(mime).await.map_err(|e| e.to_string())
}

fn named(kind: &str, mime: Option<&str>) -> String {
    let end = match mime {
        Some("image/png") => ".png",
        Some("image/jpeg") => ".jpg",
        Some("image/gif") => ".gif",
        Some("image/webp") => ".webp",
        Some("audio/ogg" | "audio/opus") => ".ogg",
        Some("video/mp4") => ".mp4",
        _ => match kind {
            "audio" => ".ogg",
            "video" => ".mp4",
            _ => "",
        },
    };
    format!("{kind}{end}")
}
