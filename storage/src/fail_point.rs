//! Hooks with which tests stop the committer at each step, as a crash would.

use std::sync::Arc;

/// A step of the commit of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailStep {
    /// The group is checked and numbered; nothing is written.
    BeforeWrite,
    /// The group is written; nobody knows.
    AfterWrite,
    /// The position is visible and observers were told; the committers were not.
    AfterPublish,
}

impl FailStep {
    /// Every step, in order.
    pub const ALL: [FailStep; 3] = [FailStep::BeforeWrite, FailStep::AfterWrite, FailStep::AfterPublish];
}

/// What shall happen at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailAction {
    /// Go on.
    Continue,
    /// The committer ends at once, without answering anybody.
    Crash,
    /// At [`FailStep::BeforeWrite`]: the write reports an error. Elsewhere: go on.
    FailWrite,
}

/// Decides what happens at each step; called on the committer thread, once per step and group.
#[derive(Clone)]
pub struct FailPoints(Arc<dyn Fn(FailStep) -> FailAction + Send + Sync>);

impl FailPoints {
    /// Calls `decide` at every step.
    pub fn new(decide: impl Fn(FailStep) -> FailAction + Send + Sync + 'static) -> Self {
        FailPoints(Arc::new(decide))
    }

    pub(crate) fn decide(&self, step: FailStep) -> FailAction {
        (self.0)(step)
    }
}

impl std::fmt::Debug for FailPoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FailPoints")
    }
}
