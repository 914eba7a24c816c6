//! What an answer has besides words: files that came with it, and files in the exchange directory that it links
//! to. What cannot be carried is named in its text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::content::{File, FileKind};
use protocol::event::Reply;

use super::turn::Turn;
use crate::exchange::{Exchange, Refused};
use crate::urls;

/// The reply with all of that.
pub(super) async fn whole(mut reply: Reply, turn: Turn, exchange: &Exchange) -> Reply {
    let content = &mut reply.content;
    linked(&mut content.text, &mut content.files, exchange);
    for (mime, data) in turn.files {
        let (sort, end) = mime.split_once('/').unwrap_or(("file", "bin"));
        let kind = match sort {
            "image" => FileKind::Image,
            "audio" => FileKind::Audio,
            "video" => FileKind::Video,
            _ => FileKind::File,
        };
        match put(&data, &format!("{sort}.{end}"), exchange).await {
            Ok(file) => content.files.push(File { kind, file, title: None }),
            Err(why) => content.text.push_str(&format!("\n[{sort}: {why}]")),
        }
    }
    for (uri, name) in turn.links {
        match own_file(&uri, exchange) {
            Some(file) => {
                content.files.push(File { kind: FileKind::File, file, title: Some(name) });
            }
            None => content.text.push_str(&format!("\n{name}: {uri}")),
        }
    }
    reply
}

async fn put(data: &str, title: &str, exchange: &Exchange) -> Result<String, String> {
    let bytes = STANDARD.decode(data).map_err(|_| "its bytes are not whole".to_owned())?;
    let made = async {
        let mut making = exchange.begin(title).await?;
        making.write(&bytes).await?;
        making.finish(None).await
    };
    made.await.map(|made| made.file).map_err(|why: Refused| why.to_string())
}

/// Takes the files out of the text that its links name. Of each link the words stay.
fn linked(text: &mut String, files: &mut Vec<File>, exchange: &Exchange) {
    for link in urls::links(text).into_iter().rev() {
        if let Some(file) = own_file(&link.to, exchange) {
            text.replace_range(link.range, &link.words);
            files.insert(0, File { kind: FileKind::File, file, title: None });
        }
    }
}

/// The name of a file in the exchange directory that an agent links to, if it can be sent.
fn own_file(uri: &str, exchange: &Exchange) -> Option<String> {
    let path = url::Url::parse(uri).ok()?.to_file_path().ok()?;
    let inside = path.parent() == Some(exchange.dir());
    let name = path.file_name()?.to_str()?.to_owned();
    let there = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
    (inside && exchange.admit(there.len()).is_ok()).then_some(name)
}

#[cfg(test)]
mod tests {
    use protocol::content::Content;
    use protocol::id::{Instance, Lane};

    use super::*;

    #[tokio::test]
    async fn what_comes_besides_words_is_a_file_or_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let max_bytes = 9;
        let exchange =
            Exchange::from(protocol::worker::Exchange { dir: dir.path().to_owned(), max_bytes });
        std::fs::write(dir.path().join("a report.pdf"), "1").unwrap();
        std::fs::write(dir.path().join("large.pdf"), "1234567890").unwrap();
        let uri = |name: &str| url::Url::from_file_path(dir.path().join(name)).unwrap().to_string();
        let (report, large) = (uri("a report.pdf"), uri("large.pdf"));
        let text = format!(
            "[the report]({report}), `[x]({report})`, [no]({large}), [web](https://e.org), [up](file:///etc/passwd)"
        );
        let instance = Instance::new("local").unwrap();
        let lane = Lane { instance, chat_id: "c".into(), thread_id: None };
        let content = Content::text(text);
        let reply = Reply { key: "k".into(), lane, reply_to: None, content };
        let mut turn = Turn::default();
        turn.files = [("audio/wav", "MTIz"), ("image/png", "?"), ("text/csv", "MTIz")]
            .map(|(mime, data)| (mime.to_owned(), data.to_owned()))
            .into();
        turn.links = vec![(report.clone(), "R".into()), (large.clone(), "L".into())];
        let content = whole(reply, turn, &exchange).await.content;
        assert_eq!(
            content.text,
            format!(
                "the report, `[x]({report})`, [no]({large}), [web](https://e.org), [up](file:///etc/passwd)\n\
                 [image: its bytes are not whole]\nL: {large}"
            )
        );
        let kinds: Vec<_> = content.files.iter().map(|file| file.kind).collect();
        assert_eq!(kinds, [FileKind::File, FileKind::Audio, FileKind::File, FileKind::File]);
        assert_eq!(content.files[0].file, "a report.pdf");
        assert!(content.files[1].file.ends_with("-audio.wav"));
    }
}
