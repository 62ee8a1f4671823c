//! What is stored of policy lists.

use rooms::{RoomNid, UserNid};
use serde::{Deserialize, Serialize};
use storage::{Keyspace, KeyspaceInfo, Profile, stored};

/// The lists that the server follows, by room id.
pub(crate) const POLICY_LISTS: Keyspace<String, PolicyListRow> = Keyspace::new("policy_lists", Profile::Points);
/// What was done because of a rule, by [`super::deeds::Deed::key`].
pub(crate) const POLICY_DEEDS: Keyspace<String, PolicyDeedRow> = Keyspace::new("policy_deeds", Profile::Points);
/// List → the user of this server who bans for it.
pub(crate) const POLICY_MODERATORS: Keyspace<String, String> = Keyspace::new("policy_moderators", Profile::Points);
/// Who was banned from which room because of a rule.
pub(crate) const POLICY_BANS: Keyspace<(UserNid, RoomNid), PolicyBanRow> =
    Keyspace::new("policy_bans", Profile::Points);
/// Users of other servers whom a rule names, and who are in rooms of this server all the same.
pub(crate) const POLICY_FOUND: Keyspace<UserNid, PolicyDeedRow> = Keyspace::new("policy_found", Profile::Points);
/// The rules by which all users were looked at last: their hash.
pub(crate) const POLICY_SWEPT: Keyspace<(), u64> = Keyspace::new("policy_swept", Profile::Points);

/// Every keyspace of policy lists.
pub(crate) const KEYSPACES: &[KeyspaceInfo] = &[
    POLICY_LISTS.info(),
    POLICY_DEEDS.info(),
    POLICY_MODERATORS.info(),
    POLICY_BANS.info(),
    POLICY_FOUND.info(),
    POLICY_SWEPT.info(),
];

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

/// Why, and by whom, somebody was banned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyBanRow {
    /// The list of the rule.
    pub list: String,
    /// The user of this server who did it.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}
stored!(PolicyBanRow, 1);
