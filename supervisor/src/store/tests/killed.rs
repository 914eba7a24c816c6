//! Killed while committing.
