//! Every operation. This list is the only one: the faces, the OpenAPI document and the tests come from it.

use serde_json::{Map, Value};

use crate::administrators;
use crate::entry::{Entry, Prepared};
use crate::error::AdminError;
use crate::{
    appservice, audit, call, device, federation, job, media, notice, policy, report, room, search, server, statistics,
    token, user,
};

/// Operations on one kind of thing.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// Its operations, in the order they are shown.
    pub entries: Vec<Entry>,
}

fn group(name: &'static str, about: &'static str, entries: Vec<Entry>) -> Group {
    Group { name, about, entries }
}

/// Every operation, by group.
#[must_use]
pub fn groups() -> Vec<Group> {
    vec![
        group(
            "admin",
            "Who administers the server",
            vec![
                Entry::of::<administrators::List>(),
                Entry::of::<administrators::Add>(),
                Entry::of::<administrators::Remove>(),
            ],
        ),
        group(
            "user",
            "Accounts of this server",
            vec![
                Entry::of::<user::List>(),
                Entry::of::<user::Show>(),
                Entry::of::<user::Create>(),
                Entry::of::<user::Import>(),
                Entry::of::<user::SetRole>(),
                Entry::of::<user::SetDisplayName>(),
                Entry::of::<user::SetAvatar>(),
                Entry::of::<user::ResetPassword>(),
                Entry::of::<user::Suspend>(),
                Entry::of::<user::Unsuspend>(),
                Entry::of::<user::Lock>(),
                Entry::of::<user::Unlock>(),
                Entry::of::<user::ShadowBan>(),
                Entry::of::<user::RateLimit>(),
                Entry::of::<user::Spam>(),
                Entry::of::<user::Exempt>(),
                Entry::of::<user::Validity>(),
                Entry::of::<user::Approve>(),
                Entry::of::<user::Deny>(),
                Entry::of::<user::Deactivate>(),
                Entry::of::<user::Reactivate>(),
                Entry::of::<user::LoginAs>(),
                Entry::of::<user::SignOut>(),
                Entry::of::<user::Rooms>(),
                Entry::of::<user::Redact>(),
                Entry::of::<user::Export>(),
            ],
        ),
        group(
            "device",
            "Devices of accounts",
            vec![Entry::of::<device::List>(), Entry::of::<device::Rename>(), Entry::of::<device::Delete>()],
        ),
        group(
            "token",
            "Registration tokens: invitations to make an account",
            vec![
                Entry::of::<token::List>(),
                Entry::of::<token::Show>(),
                Entry::of::<token::Create>(),
                Entry::of::<token::Update>(),
                Entry::of::<token::Delete>(),
            ],
        ),
        group(
            "media",
            "What users uploaded, and copies of media of other servers",
            vec![
                Entry::of::<media::List>(),
                Entry::of::<media::Show>(),
                Entry::of::<media::Usage>(),
                Entry::of::<media::Quota>(),
                Entry::of::<media::Quarantine>(),
                Entry::of::<media::Unquarantine>(),
                Entry::of::<media::QuarantineRoom>(),
                Entry::of::<media::QuarantineUser>(),
                Entry::of::<media::Protect>(),
                Entry::of::<media::Unprotect>(),
                Entry::of::<media::Delete>(),
                Entry::of::<media::DeleteByUser>(),
                Entry::of::<media::DeleteByRoom>(),
                Entry::of::<media::DeleteBefore>(),
                Entry::of::<media::PurgeRemote>(),
            ],
        ),
        group(
            "policy",
            "Policy lists that the server follows",
            vec![
                Entry::of::<policy::Follow>(),
                Entry::of::<policy::Unfollow>(),
                Entry::of::<policy::List>(),
                Entry::of::<policy::Show>(),
                Entry::of::<policy::Test>(),
                Entry::of::<policy::Present>(),
                Entry::of::<policy::ActAs>(),
            ],
        ),
        group(
            "report",
            "What users reported",
            vec![
                Entry::of::<report::List>(),
                Entry::of::<report::Show>(),
                Entry::of::<report::Assign>(),
                Entry::of::<report::Answer>(),
                Entry::of::<report::Delete>(),
            ],
        ),
        group(
            "room",
            "Rooms",
            vec![
                Entry::of::<room::List>(),
                Entry::of::<room::Show>(),
                Entry::of::<room::State>(),
                Entry::of::<room::Members>(),
                Entry::of::<room::Messages>(),
                Entry::of::<room::Event>(),
                Entry::of::<room::Block>(),
                Entry::of::<room::Unblock>(),
                Entry::of::<room::Blocked>(),
                Entry::of::<room::Shutdown>(),
                Entry::of::<room::Delete>(),
                Entry::of::<room::Purge>(),
                Entry::of::<room::Retention>(),
                Entry::of::<room::SetRetention>(),
                Entry::of::<room::MakeAdmin>(),
                Entry::of::<room::Join>(),
                Entry::of::<room::Kick>(),
                Entry::of::<room::Extremities>(),
                Entry::of::<room::DropExtremities>(),
            ],
        ),
        group("notice", "Messages of the server to its users", vec![Entry::of::<notice::Send>()]),
        group("call", "Calls in rooms", vec![Entry::of::<call::List>(), Entry::of::<call::History>()]),
        group(
            "federation",
            "Other servers",
            vec![
                Entry::of::<federation::Destinations>(),
                Entry::of::<federation::Show>(),
                Entry::of::<federation::Reset>(),
                Entry::of::<federation::Rooms>(),
            ],
        ),
        group(
            "appservice",
            "Application services: bridges and the like",
            vec![
                Entry::of::<appservice::List>(),
                Entry::of::<appservice::Show>(),
                Entry::of::<appservice::Add>(),
                Entry::of::<appservice::Remove>(),
            ],
        ),
        group(
            "server",
            "The server itself",
            vec![
                Entry::of::<server::Version>(),
                Entry::of::<server::Status>(),
                Entry::of::<server::Backup>(),
                Entry::of::<server::Config>(),
                Entry::of::<server::Reload>(),
            ],
        ),
        group(
            "audit",
            "What administrators did, and what concerns security",
            vec![Entry::of::<audit::operations::List>(), Entry::of::<audit::operations::Export>()],
        ),
        group(
            "job",
            "Work that takes long",
            vec![Entry::of::<job::List>(), Entry::of::<job::Show>(), Entry::of::<job::Cancel>()],
        ),
        group(
            "stats",
            "Figures: messages, users, rooms, media, calls, how long things take",
            vec![
                Entry::of::<statistics::operations::Messages>(),
                Entry::of::<statistics::operations::Users>(),
                Entry::of::<statistics::operations::Growth>(),
                Entry::of::<statistics::operations::Storage>(),
                Entry::of::<statistics::operations::Retention>(),
                Entry::of::<statistics::operations::Rooms>(),
                Entry::of::<statistics::operations::Media>(),
                Entry::of::<statistics::operations::Federation>(),
                Entry::of::<statistics::operations::Calls>(),
                Entry::of::<statistics::operations::Latency>(),
            ],
        ),
        group("search", "The index of messages", vec![Entry::of::<search::Rebuild>()]),
    ]
}

/// An operation by its name.
#[must_use]
pub fn find(group: &str, verb: &str) -> Option<Entry> {
    groups().into_iter().flat_map(|group| group.entries).find(|entry| entry.group == group && entry.verb == verb)
}

/// An operation by its name, with its arguments in JSON.
///
/// # Errors
/// `NotFound` if there is none; `Invalid` with the path of what is wrong.
pub fn prepare(group: &str, verb: &str, arguments: Map<String, Value>) -> Result<Prepared, AdminError> {
    let unknown = || AdminError::not_found(format!("there is no operation {group} {verb}"));
    find(group, verb).ok_or_else(unknown)?.read(arguments)
}

#[cfg(test)]
mod tests;
