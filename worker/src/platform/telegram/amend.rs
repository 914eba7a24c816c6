//! What becomes of a step that the platform refuses: amended where the words can be saved that way. Pure.

use protocol::content::FileKind;

use super::buttons::{Keys, without_addresses};
use super::encode::{CAPTION_MAX, TEXT_MAX, fits};
use super::steps::Step;

/// What becomes of a refusal.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Amended {
    /// What was wanted is so already.
    Done,
    /// This may be taken.
    Try(Step),
    /// It stays refused.
    No,
}

impl Step {
    /// What can be done about a refusal.
    pub(super) fn amend(&self, refusal: &str) -> Amended {
        let says = |words: &[&str]| words.iter().any(|word| refusal.contains(word));
        match self {
            Self::Edit { .. } | Self::Caption { .. } | Self::Media { .. }
                if says(&["message is not modified"]) =>
            {
                return Amended::Done;
            }
            Self::Edit { part, buttons, draft: true, .. }
                if says(&["to edit not found", "can't be edited", "MESSAGE_ID_INVALID"]) =>
            {
                return Amended::Try(Self::Text { part: part.clone(), buttons: buttons.clone() });
            }
            Self::Edit { id, part, buttons, .. }
                if says(&["no text in the message to edit"]) && fits(part, CAPTION_MAX) =>
            {
                let (id, part, buttons) = (*id, part.clone(), buttons.clone());
                return Amended::Try(Self::Caption { id, part, buttons });
            }
            Self::Recall { .. } if says(&["to delete not found"]) => return Amended::Done,
            Self::Files { files, caption, buttons }
                if says(&["PHOTO_", "IMAGE_PROCESS_FAILED", "VOICE_MESSAGES_FORBIDDEN"])
                    && files.iter().any(|file| file.kind != FileKind::File) =>
            {
                let mut files = files.clone();
                for file in &mut files {
                    file.kind = FileKind::File;
                }
                let (caption, buttons) = (caption.clone(), buttons.clone());
                return Amended::Try(Self::Files { files, caption, buttons });
            }
            _ => {}
        }
        if is_about_buttons(refusal) {
            return self.with_addresses_written().map_or(Amended::No, Amended::Try);
        }
        let about_styles =
            ["entit", "url"].iter().any(|word| refusal.to_lowercase().contains(word));
        match self.without_styles() {
            Some(step) if about_styles => Amended::Try(step),
            _ => Amended::No,
        }
    }

    /// What arrives of it though this refusal stays: no buttons, or no files. `None`: nothing does.
    pub(super) fn saved(&self, refusal: &str) -> Option<Self> {
        if !is_about_buttons(refusal) {
            return self.without_files();
        }
        let mut step = self.clone();
        step.carry(Keys::new());
        self.buttons().map(|_| step)
    }

    /// The addresses of its buttons among its words; `None`: there are none, or there is no room.
    fn with_addresses_written(&self) -> Option<Self> {
        let (buttons, addresses) = without_addresses(self.buttons()?);
        let mut step = self.clone();
        let (part, most) = match &mut step {
            Self::Text { part, .. } | Self::Edit { part, .. } => (part, TEXT_MAX),
            Self::Caption { part, .. } => (part, CAPTION_MAX),
            Self::Files { caption, .. } | Self::Media { caption, .. } => {
                (caption.get_or_insert_default(), CAPTION_MAX)
            }
            Self::Recall { .. } | Self::React { .. } => return None,
        };
        part.text.push_str(&addresses);
        let fits = fits(part, most);
        step.carry(buttons);
        (fits && !addresses.is_empty()).then_some(step)
    }

    /// The words alone; `None`: there are no styles.
    fn without_styles(&self) -> Option<Self> {
        let mut step = self.clone();
        let part = match &mut step {
            Self::Text { part, .. } | Self::Edit { part, .. } | Self::Caption { part, .. } => part,
            Self::Files { caption, .. } | Self::Media { caption, .. } => caption.as_mut()?,
            Self::Recall { .. } | Self::React { .. } => return None,
        };
        if part.spans.is_empty() {
            return None;
        }
        part.spans.clear();
        Some(step)
    }
}

fn is_about_buttons(refusal: &str) -> bool {
    ["BUTTON", "button", "REPLY_MARKUP", "reply markup"].iter().any(|word| refusal.contains(word))
}
