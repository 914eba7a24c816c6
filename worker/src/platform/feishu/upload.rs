//! Files on their way out: from the exchange directory to the platform, and the message that shows them.
//!
//! What a file is decides how it can be shown, not what an agent calls it: the platform shows pictures up
//! to 10 MB, speech in Opus and films in MP4. Everything else arrives as a file to be opened, which is
//! better than not at all.

use std::io::{self, SeekFrom};

use protocol::content::{File, FileKind};
use reqwest::multipart::{Form, Part};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::Shared;
use super::answer::Said;
use super::compose::Message;

const IMAGES: &str = "/open-apis/im/v1/images";
const FILES: &str = "/open-apis/im/v1/files";
const IMAGE_MAX: u64 = 10 << 20;
const FILE_MAX: u64 = 30 << 20;
/// Of a name that people see.
const TITLE_MAX: usize = 200;
/// Of the end of a sound file, in which its length stands.
const TAIL: u64 = 64 * 1024;

/// How the platform takes a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Way {
    /// The type of the file; `None`: a picture.
    file_type: Option<&'static str>,
    /// The type of the message.
    message: &'static str,
}

/// Uploads `file`; the message that shows it.
pub(super) async fn upload(shared: &Shared, file: &File) -> Result<Message, Said> {
    let never = |reason: String| Said::Never { code: 0, reason };
    let title = title(file);
    let opened = shared.exchange.open(&file.file).await;
    let (mut open, size) = opened.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => never("it is not in the exchange directory any more".to_owned()),
        _ => never(format!("read it from the exchange directory: {e}")),
    })?;
    match size {
        0 => return Err(never("it is empty, which the platform does not take".to_owned())),
        size if size > FILE_MAX => {
            return Err(never(format!("it has {} MB, the platform takes 30", size >> 20)));
        }
        _ => {}
    }
    let mut head = [0; 64];
    let read = read_some(&mut open, &mut head).await.map_err(|e| Said::later(e.to_string()))?;
    let way = way(file.kind, head.get(..read).unwrap_or_default(), &title, size);
    let duration = match way.file_type {
        Some("opus") => opus_ms(&mut open, size).await.ok().flatten(),
        _ => None,
    };
    let (api, path) = match way.file_type {
        None => ("image", IMAGES),
        Some(_) => ("file", FILES),
    };
    let form = async || {
        let (open, size) = shared.exchange.open(&file.file).await.map_err(|e| e.to_string())?;
        let body = reqwest::Body::wrap_stream(ReaderStream::new(open));
        let part = Part::stream_with_length(body, size).file_name(title.clone());
        let Some(file_type) = way.file_type else {
            return Ok(Form::new().text("image_type", "message").part("image", part));
        };
        let mut form = Form::new().text("file_type", file_type).text("file_name", title.clone());
        if let Some(ms) = duration {
            form = form.text("duration", ms.to_string());
        }
        Ok(form.part("file", part))
    };
    let answered = shared.api.upload(api, path, size, form).await;
    match (&answered.said, way.file_type) {
        (Said::Done, None) => {
            let key = answered.id("image_key");
            let key = key.ok_or_else(|| Said::later("the platform names no key for it"))?;
            Ok(Message::new("image", &json!({ "image_key": key })))
        }
        (Said::Done, Some(_)) => {
            let key = answered.id("file_key");
            let key = key.ok_or_else(|| Said::later("the platform names no key for it"))?;
            Ok(Message::new(way.message, &json!({ "file_key": key })))
        }
        _ => Err(answered.said),
    }
}

/// What people see.
pub(super) fn title(file: &File) -> String {
    // Names in the exchange directory begin with a number of ours.
    let own = || file.file.split_once('-').map_or(file.file.as_str(), |(_, name)| name);
    let title = file.title.as_deref().filter(|it| !it.trim().is_empty()).unwrap_or_else(own);
    let plain: String = title
        .chars()
        .map(|c| if c.is_control() || matches!(c, '/' | '\\' | '"') { '_' } else { c })
        .collect();
    let from = plain.ceil_char_boundary(plain.len().saturating_sub(TITLE_MAX));
    plain.get(from..).filter(|it| !it.is_empty()).unwrap_or("file").to_owned()
}

fn way(kind: FileKind, head: &[u8], title: &str, size: u64) -> Way {
    let extension = title.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
    let file = Way {
        file_type: Some(match extension.as_deref() {
            Some("pdf") => "pdf",
            Some("doc" | "docx") => "doc",
            Some("xls" | "xlsx") => "xls",
            Some("ppt" | "pptx") => "ppt",
            _ => "stream",
        }),
        message: "file",
    };
    match kind {
        FileKind::Image if size <= IMAGE_MAX && is_picture(head) => {
            Way { file_type: None, message: "image" }
        }
        FileKind::Voice | FileKind::Audio if is_opus(head) => {
            Way { file_type: Some("opus"), message: "audio" }
        }
        FileKind::Video if is_mp4(head) => Way { file_type: Some("mp4"), message: "media" },
        _ => file,
    }
}

fn is_picture(head: &[u8]) -> bool {
    let riff = head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP");
    let heic =
        head.get(4..8) == Some(b"ftyp") && matches!(head.get(8..12), Some(b"heic" | b"heix"));
    let beginnings: [&[u8]; 8] = [
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"GIF87a",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"\0\0\x01\0",
    ];
    riff || heic || beginnings.iter().any(|beginning| head.starts_with(beginning))
}

fn is_opus(head: &[u8]) -> bool {
    head.starts_with(b"OggS") && head.windows(8).any(|it| it == b"OpusHead")
}

fn is_mp4(head: &[u8]) -> bool {
    head.get(4..8) == Some(b"ftyp")
}

async fn read_some(file: &mut tokio::fs::File, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = into.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).await? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// How long a sound in Opus is: the last page says how many samples come before its end, at 48 kHz.
/// Without it people see no length.
async fn opus_ms(file: &mut tokio::fs::File, size: u64) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL))).await?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).await?;
    let page = tail.windows(4).rposition(|it| it == b"OggS");
    let samples = page.and_then(|at| tail.get(at + 6..at + 14)).and_then(|it| it.try_into().ok());
    Ok(samples.map(u64::from_le_bytes).filter(|it| *it < 1 << 40).map(|samples| samples / 48))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_decides_how_it_is_shown() {
        let png = b"\x89PNG\r\n";
        let opus = b"OggS\0\x02\0\0\0\0\0\0\0\0........\0\0\0\0\x01\x13OpusHead";
        let mp4 = b"\0\0\0\x20ftypisom";
        let cases: [(FileKind, &[u8], &str, u64, &str); 9] = [
            (FileKind::Image, png, "a.png", 9, "image"),
            (FileKind::Image, png, "a.png", IMAGE_MAX + 1, "file"),
            (FileKind::Image, b"<svg", "a.svg", 9, "file"),
            (FileKind::Voice, opus, "a.ogg", 9, "audio"),
            (FileKind::Audio, b"ID3", "a.mp3", 9, "file"),
            (FileKind::Video, mp4, "a.mp4", 9, "media"),
            (FileKind::Video, b"\x1aE\xdf\xa3", "a.webm", 9, "file"),
            (FileKind::File, png, "a.png", 9, "file"),
            (FileKind::File, b"", "", 9, "file"),
        ];
        for (kind, head, title, size, message) in cases {
            assert_eq!(way(kind, head, title, size).message, message, "{kind:?} {title}");
        }
        let named = |title| way(FileKind::File, b"", title, 9).file_type;
        assert_eq!(
            (named("A.PDF"), named("x.docx"), named("pdf")),
            (Some("pdf"), Some("doc"), Some("stream"))
        );
    }

    #[test]
    fn a_name_is_safe_and_keeps_its_end() {
        let name = |file: &str, shown: Option<&str>| {
            let (file, shown) = (file.to_owned(), shown.map(str::to_owned));
            title(&File { kind: FileKind::File, file, title: shown })
        };
        assert_eq!(name("0123-chart.png", None), "chart.png");
        assert_eq!(name("0123-x", Some("a/b\n\"c\".txt")), "a_b__c_.txt");
        assert_eq!(name("x", Some(" ")), "x");
        let long = name("x", Some(&format!("{}.txt", "é".repeat(300))));
        assert!(long.len() <= TITLE_MAX && long.ends_with("é.txt"));
    }

    #[tokio::test]
    async fn the_length_of_speech_is_read_from_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ogg");
        let mut bytes = vec![0; 100_000];
        bytes.extend_from_slice(b"OggS\0\x04");
        bytes.extend_from_slice(&(48_000u64 * 3).to_le_bytes());
        bytes.extend_from_slice(&[0; 50]);
        std::fs::write(&path, &bytes).unwrap();
        let mut file = tokio::fs::File::open(&path).await.unwrap();
        assert_eq!(opus_ms(&mut file, bytes.len() as u64).await.unwrap(), Some(3000));
    }
}
