//! Calls about the set itself, and how far they are: journals and the hand-back.

use std::time::Duration;

use crate::creation::call::CallId;
use crate::creation::journal::Journal;

/// A journal and how far it is.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) journal: Journal,
    pub(super) is_written: bool,
    /// Whether it may be there.
    pub(super) is_tried: bool,
    pub(super) calling: Option<CallId>,
    pub(super) not_before: Duration,
    pub(super) failures: u32,
    /// Until when a write without a clear answer may still be carried out.
    pub(super) doubtful_until: Duration,
}

impl Written {
    pub(super) fn new(journal: Journal, is_written: bool) -> Self {
        Self {
            journal,
            is_written,
            is_tried: is_written,
            calling: None,
            not_before: Duration::ZERO,
            failures: 0,
            doubtful_until: Duration::ZERO,
        }
    }
}

/// A call about the set itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pending {
    pub(super) calling: Option<CallId>,
    pub(super) not_before: Duration,
    pub(super) failures: u32,
    /// Whether it may have been done.
    pub(super) is_tried: bool,
}
