//! Push rules: the model, the server-default rules, a user's edits and their evaluation.
//!
//! Invariants:
//! - The default rules live in one constant table; a user stores only [`PushEdits`], so a default rule that
//!   changes reaches every user who did not edit it.
//! - Conditions are kept as the client sent them. A condition this server cannot read never matches.
//! - Evaluation runs once per event and member, so it works on a [`CompiledRuleset`] and allocates nothing
//!   beyond what [`EventForPush`] caches once per event. The compiled defaults name no user: every user
//!   without edits shares one value.
//!
//! Client-Server API §Push Rules; MSC3930 for the poll rules.

mod compiled;
mod defaults;
mod edits;
mod event;
pub mod glob;
mod rule;

pub use compiled::{CompiledRuleset, Outcome, Recipient, RoomContext};
pub use edits::{EditError, MAX_EDITS_BYTES, NewRule, Placement, PushEdits};
pub use event::{EventForPush, EventParts};
pub use rule::{Action, Condition, Rule, RuleKind, Ruleset};

pub use defaults::default_ruleset;

#[cfg(test)]
mod tests;
