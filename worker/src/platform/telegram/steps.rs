//! A reply as steps, each of which is one call of the platform. Pure.
//!
//! Files of a sort that stand together become albums of two to ten; what is said about them is their caption
//! where it is short enough, and a message behind them where it is not, or where an album would have to carry
//! buttons, which it cannot. A draft that people already see becomes the first message.

use protocol::content::{Act, Content, FileKind};
use serde_json::{Value, json};

use super::buttons::{Keys, keys};
use super::encode::{CAPTION_MAX, To, cut, fits, marks, parts};
use super::markup::Marked;
use super::units::amount;

/// Files of one album.
const ALBUM_MAX: usize = 10;
/// A larger picture is sent as a file.
const PHOTO_MAX: u64 = 10 << 20;
/// What the public server takes. One of one's own takes 2000 MB.
const UPLOAD_MAX: u64 = 50 << 20;

/// The name of a file for people, and what it is known by at its end, in bytes.
const TITLE_MAX: usize = 120;
const EXTENSION_MAX: usize = 15;

/// A file to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct File {
    /// How it is to be shown.
    pub(super) kind: FileKind,
    /// Its name in the exchange directory.
    pub(super) name: String,
    /// The name that people see.
    pub(super) title: String,
}

/// A file that goes with a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Upload {
    /// The member of the call that it is.
    pub(super) field: String,
    /// Its name in the exchange directory.
    pub(super) file: String,
    /// The name that people see.
    pub(super) title: String,
}

/// One call.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Call {
    /// The method.
    pub(super) method: &'static str,
    /// Its parameters.
    pub(super) body: Value,
    /// Its files.
    pub(super) uploads: Vec<Upload>,
}

/// One step of a reply.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    /// A message of text.
    Text { part: Marked, buttons: Keys },
    /// A message of one file, or an album.
    Files { files: Vec<File>, caption: Option<Marked>, buttons: Keys },
    /// A message becomes this text; `draft`: it only shows what is being written.
    Edit { id: i64, part: Marked, buttons: Keys, draft: bool },
    /// The text below a file becomes this.
    Caption { id: i64, part: Marked, buttons: Keys },
    /// A message becomes this file.
    Media { id: i64, file: File, caption: Option<Marked>, buttons: Keys },
    /// A message is taken back; `draft`: it only showed what was being written.
    Recall { id: i64, draft: bool },
    /// A reaction to a message; empty: none any more.
    React { id: i64, emoji: String },
}

/// The steps of a reply. `sizes` are those of its files; `draft` is the message that shows how far it had
/// come. The error is for the agent.
pub(super) fn steps(
    content: &Content,
    sizes: &[u64],
    draft: Option<i64>,
) -> Result<Vec<Step>, String> {
    if content.card.is_some() {
        return Err("Telegram has no cards: send text, files or buttons".to_owned());
    }
    let (buttons, addresses) = keys(&content.buttons)?;
    let parts = parts(&content.text, &addresses);
    let files = files(content, sizes);
    let own = |id: &String| {
        id.parse::<i64>().map_err(|_| format!("{id:?} is no message of this platform"))
    };
    match &content.act {
        Act::Say => say(parts, files, buttons, draft),
        Act::Edit { message_id } => edit(own(message_id)?, parts, files, buttons),
        Act::Recall { message_id } => Ok(vec![Step::Recall { id: own(message_id)?, draft: false }]),
        Act::React { message_id, emoji } => {
            Ok(vec![Step::React { id: own(message_id)?, emoji: emoji.trim().to_owned() }])
        }
    }
}

fn say(
    parts: Vec<Marked>,
    files: Vec<File>,
    buttons: Keys,
    draft: Option<i64>,
) -> Result<Vec<Step>, String> {
    if parts.is_empty() && files.is_empty() {
        return Err("the reply is empty".to_owned());
    }
    let mut groups = groups(files);
    if let [only] = parts.as_slice()
        && fits(only, CAPTION_MAX)
        && !groups.is_empty()
        && (buttons.is_empty() || groups.last().is_some_and(|last| last.len() == 1))
    {
        let mut caption = Some(only.clone());
        let mut steps: Vec<_> =
            draft.map(|id| Step::Recall { id, draft: true }).into_iter().collect();
        let captioned =
            |files| Step::Files { files, caption: caption.take(), buttons: Keys::new() };
        steps.extend(groups.into_iter().map(captioned));
        if let Some(last) = steps.last_mut() {
            last.carry(buttons);
        }
        return Ok(steps);
    }
    if parts.is_empty() && !buttons.is_empty() && groups.last().is_some_and(|it| it.len() > 1) {
        // Somebody has to carry them.
        let alone = groups.last_mut().and_then(Vec::pop);
        groups.extend(alone.map(|file| vec![file]));
    }
    let alone = |files| Step::Files { files, caption: None, buttons: Keys::new() };
    let mut steps: Vec<_> = groups.into_iter().map(alone).collect();
    steps.extend(parts.into_iter().map(|part| Step::Text { part, buttons: Keys::new() }));
    if let Some(last) = steps.last_mut() {
        last.carry(buttons);
    }
    let Some(id) = draft else { return Ok(steps) };
    if let Some(Step::Text { part, buttons }) = steps.first_mut() {
        let (part, buttons) = (std::mem::take(part), std::mem::take(buttons));
        steps.splice(..1, [Step::Edit { id, part, buttons, draft: true }]);
    } else {
        steps.insert(0, Step::Recall { id, draft: true });
    }
    Ok(steps)
}

fn edit(id: i64, parts: Vec<Marked>, files: Vec<File>, buttons: Keys) -> Result<Vec<Step>, String> {
    let mut parts = parts.into_iter();
    let first = parts.next();
    let mut files = files.into_iter();
    let mut steps = match (files.next(), first) {
        (Some(_), _) if files.next().is_some() => {
            return Err("a message of Telegram can become one file, not several".to_owned());
        }
        (Some(_), Some(part)) if !fits(&part, CAPTION_MAX) => {
            return Err("what is said below a file has at most 1024 characters".to_owned());
        }
        (Some(file), caption) => vec![Step::Media { id, file, caption, buttons: Keys::new() }],
        (None, Some(part)) => vec![Step::Edit { id, part, buttons: Keys::new(), draft: false }],
        (None, None) => return Err("the reply is empty; to take a message back, recall it".into()),
    };
    // What does not fit any more goes on in new messages.
    steps.extend(parts.map(|part| Step::Text { part, buttons: Keys::new() }));
    if let Some(last) = steps.last_mut() {
        last.carry(buttons);
    }
    Ok(steps)
}

/// Files that are sent together.
fn groups(files: Vec<File>) -> Vec<Vec<File>> {
    let sort = |kind| match kind {
        FileKind::Image | FileKind::Video => Some(0),
        FileKind::Audio => Some(1),
        FileKind::File => Some(2),
        FileKind::Voice => None,
    };
    let mut groups: Vec<Vec<File>> = Vec::new();
    for file in files {
        let own = sort(file.kind);
        match groups.last_mut() {
            Some(group)
                if group.len() < ALBUM_MAX
                    && own.is_some()
                    && group.first().is_some_and(|first| sort(first.kind) == own) =>
            {
                group.push(file);
            }
            _ => groups.push(vec![file]),
        }
    }
    groups
}

/// Why a file of this size cannot be sent, be the server the public one or not.
pub(super) fn unsendable(size: u64, public: bool) -> Option<String> {
    if size == 0 {
        return Some("it is empty, which the platform does not take".to_owned());
    }
    (public && size > UPLOAD_MAX).then(|| {
        format!(
            "it has {}; Telegram takes 50 MB from bots, and 2000 MB only where base_url is a Bot API \
             server of your own",
            amount(size)
        )
    })
}

fn files(content: &Content, sizes: &[u64]) -> Vec<File> {
    let file = |(file, size): (&protocol::content::File, &u64)| {
        let title = title(file.title.as_deref().unwrap_or(&file.file));
        let large = file.kind == FileKind::Image && *size > PHOTO_MAX;
        let kind = if large { FileKind::File } else { file.kind };
        File { kind, name: file.file.clone(), title }
    };
    content.files.iter().zip(sizes).map(file).collect()
}

/// A name for people: without what the exchange directory puts before it, and without what no line has.
fn title(name: &str) -> String {
    let own = name.split_once('-').filter(|(head, rest)| {
        head.len() == 16 && head.bytes().all(|byte| byte.is_ascii_hexdigit()) && !rest.is_empty()
    });
    let name = own.map_or(name, |(_, rest)| rest);
    let plain: String =
        name.chars().filter(|c| !c.is_control() && !matches!(c, '/' | '\\' | '"')).collect();
    let plain = plain.trim();
    if plain.is_empty() {
        return "file".to_owned();
    }
    if plain.len() <= TITLE_MAX {
        return plain.to_owned();
    }
    // By its end it is known what a file is.
    let end = plain.rfind('.').filter(|at| {
        let end = plain.get(at + 1..).unwrap_or_default();
        end.len() <= EXTENSION_MAX && end.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let end = end.and_then(|at| plain.get(at..)).unwrap_or_default();
    format!("{}…{end}", cut(plain, TITLE_MAX - "…".len() - end.len()).trim_end())
}

impl Step {
    /// Has these buttons below it.
    pub(super) fn carry(&mut self, keys: Keys) {
        match self {
            Self::Text { buttons, .. }
            | Self::Files { buttons, .. }
            | Self::Edit { buttons, .. }
            | Self::Caption { buttons, .. }
            | Self::Media { buttons, .. } => *buttons = keys,
            Self::Recall { .. } | Self::React { .. } => {}
        }
    }

    /// How many messages it counts as. Reactions and recalls are none.
    pub(super) fn cost(&self) -> u32 {
        match self {
            Self::Files { files, .. } => u32::try_from(files.len()).unwrap_or(1).max(1),
            Self::Text { .. } | Self::Edit { .. } | Self::Caption { .. } | Self::Media { .. } => 1,
            Self::Recall { .. } | Self::React { .. } => 0,
        }
    }

    /// The message that it changes; none: it makes new ones.
    pub(super) fn changes(&self) -> Option<i64> {
        match self {
            Self::Text { .. } | Self::Files { .. } => None,
            Self::Edit { id, .. }
            | Self::Caption { id, .. }
            | Self::Media { id, .. }
            | Self::Recall { id, .. }
            | Self::React { id, .. } => Some(*id),
        }
    }

    /// The same in another chat, where its messages of before have other numbers; `None`: it would change one.
    pub(super) fn anew(self) -> Option<Self> {
        match self {
            Self::Edit { part, buttons, draft: true, .. } => Some(Self::Text { part, buttons }),
            other => other.changes().is_none().then_some(other),
        }
    }

    /// What it says about its files, without them; none: it has none, or says nothing.
    pub(super) fn without_files(&self) -> Option<Self> {
        let Self::Files { caption: Some(part), buttons, .. } = self else { return None };
        Some(Self::Text { part: part.clone(), buttons: buttons.clone() })
    }

    /// Its files alone; none: it has none.
    pub(super) fn without_words(&self) -> Option<Self> {
        let Self::Files { files, .. } = self else { return None };
        Some(Self::Files { files: files.clone(), caption: None, buttons: Keys::new() })
    }

    /// Whether the reply is no worse if it fails.
    pub(super) fn is_aside(&self) -> bool {
        matches!(self, Self::Recall { draft: true, .. })
    }

    /// What it says and shows: the same for every attempt at a reply, whether a draft of it is there or not.
    pub(super) fn says(&self) -> String {
        let (files, part): (&[File], _) = match self {
            Self::Text { part, .. } | Self::Edit { part, .. } | Self::Caption { part, .. } => {
                (&[], Some(part))
            }
            Self::Files { files, caption, .. } => (files, caption.as_ref()),
            Self::Media { file, caption, .. } => (std::slice::from_ref(file), caption.as_ref()),
            Self::Recall { .. } | Self::React { .. } => (&[], None),
        };
        let mut says: String = files.iter().map(|file| file.name.clone() + "\n").collect();
        says.push_str(part.map_or("", |part| &part.text));
        says
    }

    /// The call that performs it.
    pub(super) fn call(&self, to: To) -> Call {
        let mut uploads = Vec::new();
        let (method, mut body) = match self {
            Self::Text { part, .. } => {
                let mut body = json!({});
                words(&mut body, part, "text", "entities");
                ("sendMessage", body)
            }
            Self::Edit { id, part, .. } => {
                let mut body = json!({"message_id": id});
                words(&mut body, part, "text", "entities");
                ("editMessageText", body)
            }
            Self::Caption { id, part, .. } => {
                let mut body = json!({"message_id": id});
                words(&mut body, part, "caption", "caption_entities");
                ("editMessageCaption", body)
            }
            Self::Media { id, file, caption, .. } => {
                let media = media(file, 0, caption.as_ref(), &mut uploads);
                ("editMessageMedia", json!({"message_id": id, "media": media}))
            }
            Self::Files { files, caption, .. } => match files.as_slice() {
                [file] => {
                    let (method, field) = single(file.kind);
                    let mut body = json!({});
                    if let Some(caption) = caption {
                        words(&mut body, caption, "caption", "caption_entities");
                    }
                    uploads.push(upload(field.to_owned(), file));
                    (method, body)
                }
                album => {
                    let mut caption = caption.as_ref();
                    let media: Vec<_> = album
                        .iter()
                        .enumerate()
                        .map(|(n, file)| media(file, n, caption.take(), &mut uploads))
                        .collect();
                    ("sendMediaGroup", json!({ "media": media }))
                }
            },
            Self::Recall { id, .. } => ("deleteMessage", json!({ "message_id": id })),
            Self::React { id, emoji } => {
                let custom = !emoji.is_empty() && emoji.bytes().all(|byte| byte.is_ascii_digit());
                let reaction = match emoji.as_str() {
                    "" => json!([]),
                    id if custom => json!([{"type": "custom_emoji", "custom_emoji_id": id}]),
                    emoji => json!([{"type": "emoji", "emoji": emoji}]),
                };
                ("setMessageReaction", json!({"message_id": id, "reaction": reaction}))
            }
        };
        if let (Some(members), Some(buttons)) = (body.as_object_mut(), self.buttons()) {
            members.insert("reply_markup".to_owned(), json!({ "inline_keyboard": buttons }));
        }
        to.address(&mut body, self.changes().is_none());
        Call { method, body, uploads }
    }

    /// Those below it, if there are any.
    pub(super) fn buttons(&self) -> Option<&Keys> {
        let buttons = match self {
            Self::Text { buttons, .. }
            | Self::Files { buttons, .. }
            | Self::Edit { buttons, .. }
            | Self::Caption { buttons, .. }
            | Self::Media { buttons, .. } => buttons,
            Self::Recall { .. } | Self::React { .. } => return None,
        };
        Some(buttons).filter(|buttons| !buttons.is_empty())
    }
}

fn words(body: &mut Value, part: &Marked, text: &str, entities: &str) {
    let Some(members) = body.as_object_mut() else { return };
    members.insert(text.to_owned(), part.text.clone().into());
    if !part.spans.is_empty() {
        members.insert(entities.to_owned(), marks(part).into());
    }
}

fn single(kind: FileKind) -> (&'static str, &'static str) {
    match kind {
        FileKind::Image => ("sendPhoto", "photo"),
        FileKind::Audio => ("sendAudio", "audio"),
        FileKind::Voice => ("sendVoice", "voice"),
        FileKind::Video => ("sendVideo", "video"),
        FileKind::File => ("sendDocument", "document"),
    }
}

fn upload(field: String, file: &File) -> Upload {
    Upload { field, file: file.name.clone(), title: file.title.clone() }
}

fn media(file: &File, number: usize, caption: Option<&Marked>, uploads: &mut Vec<Upload>) -> Value {
    let kind = match file.kind {
        FileKind::Image => "photo",
        FileKind::Audio => "audio",
        FileKind::Video => "video",
        // A voice cannot be part of anything.
        FileKind::Voice | FileKind::File => "document",
    };
    let field = format!("file{number}");
    let mut media = json!({"type": kind, "media": format!("attach://{field}")});
    if let Some(caption) = caption {
        words(&mut media, caption, "caption", "caption_entities");
    }
    uploads.push(upload(field, file));
    media
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
