//! What becomes of a step that the platform refuses: amended where the words can be saved that way. Pure.

use protocol::content::FileKind;

use super::encode::{CAPTION_MAX, fits};
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
        let about_styles = !says(&["BUTTON", "button"])
            && ["entit", "url"].iter().any(|word| refusal.to_lowercase().contains(word));
        match self.without_styles() {
            Some(step) if about_styles => Amended::Try(step),
            _ => Amended::No,
        }
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
