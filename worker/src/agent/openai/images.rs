//! Pictures of an event as data URLs, for models that read them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::content::Fetch;
use protocol::event::Delivery;
use tokio::io::AsyncReadExt;

use crate::agent::Files;
use crate::exchange::{Exchange, picture_kind};

/// The largest picture, in bytes, and how many of one event are sent.
const IMAGE_MAX: u64 = 5 * 1024 * 1024;
const IMAGES: usize = 4;

/// The pictures of an event, and how many are left out: what is none, is too large, cannot be brought or is
/// one too many.
pub(super) async fn bring(
    delivery: &Delivery,
    files: &Files,
    exchange: &Exchange,
) -> (Vec<String>, usize) {
    let (mut found, mut of) = (Vec::new(), 0);
    for part in &delivery.event.parts {
        let named = part.mime.as_deref().is_some_and(|mime| mime.starts_with("image/"));
        let is_picture = named || matches!(part.kind.as_str(), "image" | "photo");
        of += usize::from(is_picture);
        if !is_picture || found.len() >= IMAGES {
            continue;
        }
        let fetch = Fetch {
            instance: delivery.lane.instance.clone(),
            message_id: delivery.event.message_id.clone(),
            part: part.clone(),
        };
        match files.fetch(fetch).await {
            Ok(file) if file.size <= IMAGE_MAX => {
                found.extend(data_url(&file.file, exchange).await);
            }
            Ok(file) => tracing::info!(size = file.size, "a picture is too large for the model"),
            Err(why) => tracing::warn!(why, "a picture could not be brought"),
        }
    }
    let left_out = of - found.len();
    (found, left_out)
}

async fn data_url(name: &str, exchange: &Exchange) -> Option<String> {
    let (mut file, _) = exchange.open(name).await.ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).await.ok()?;
    let mime = picture_kind(&bytes)?;
    Some(format!("data:{mime};base64,{}", STANDARD.encode(bytes)))
}
