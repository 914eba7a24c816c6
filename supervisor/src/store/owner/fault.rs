//! What may go wrong with a group, and what that means for it.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why a group did not come about.
#[derive(Debug)]
pub(super) enum Fault {
    /// The operation at this place is impossible.
    Own(usize, String),
    /// The disk is full.
    Full,
    /// The file is damaged.
    Damaged(String),
    /// This file is not the one at its path any more.
    Removed(PathBuf),
    /// Anything else.
    Fatal(String),
}

impl Fault {
    pub(super) fn of(error: &rusqlite::Error, place: Option<usize>) -> Self {
        let text = error.to_string();
        match (error.sqlite_error_code(), place) {
            (Some(ErrorCode::DiskFull), _) => Self::Full,
            (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _) => Self::Damaged(text),
            (
                None
                | Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch),
                Some(place),
            ) => Self::Own(place, text),
            _ => Self::Fatal(text),
        }
    }
}
