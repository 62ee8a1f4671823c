//! What is stored of policy lists.

use serde::{Deserialize, Serialize};
use storage::{Keyspace, KeyspaceInfo, Profile, stored};

/// The lists that the server follows, by room id.
pub(crate) const POLICY_LISTS: Keyspace<String, PolicyListRow> = Keyspace::new("policy_lists", Profile::Points);
/// What was done because of a rule and is undone when the rule is gone: room ids that were blocked, user ids that were
/// suspended.
pub(crate) const POLICY_DEEDS: Keyspace<String, PolicyDeedRow> = Keyspace::new("policy_deeds", Profile::Points);

/// Every keyspace of policy lists.
pub(crate) const KEYSPACES: &[KeyspaceInfo] = &[POLICY_LISTS.info(), POLICY_DEEDS.info()];

/// A list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyListRow {
    /// Who had it followed.
    pub by: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}
stored!(PolicyListRow, 1);

/// Why something was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyDeedRow {
    /// The list of the rule.
    pub list: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}
stored!(PolicyDeedRow, 1);
