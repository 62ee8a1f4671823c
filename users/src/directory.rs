//! Finding users by name.
//!
//! Spec: Client-Server API §"User Directory". A user finds themself, those with whom they share a room, and, if the
//! operator allows it, every account of this server.

use std::collections::BTreeSet;

use rooms::{Membership, UserNid};
use serde::{Deserialize, Serialize};
use spec::ids::UserId;
use storage::Read;

use crate::{UserError, Users, accounts::ACCOUNTS};

/// More candidates than this are not looked at: bounds the cost of one search.
const MAX_CANDIDATES: usize = 20_000;

/// A user found by a search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundUser {
    /// Who.
    pub user_id: UserId,
    /// Their display name, if this server knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Their avatar, if this server knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}

/// What a member event repeats of a profile.
#[derive(Default, Deserialize)]
struct MemberProfile {
    displayname: Option<String>,
    avatar_url: Option<String>,
}

impl Users {
    /// Users whose ID or display name contains `term`, whatever the case; those that begin with it first. At most
    /// `limit`, and whether there were more. Costs one profile read per candidate.
    pub fn search_users(&self, viewer: UserNid, term: &str, limit: usize) -> Result<(Vec<FoundUser>, bool), UserError> {
        let term = term.trim().trim_start_matches('@').to_lowercase();
        if term.is_empty() {
            return Ok((Vec::new(), false));
        }
        let mut found = Vec::new();
        for user in self.search_candidates(viewer)? {
            let user_id = self.rooms().user_id(user)?;
            let (display_name, avatar_url) = self.known_profile(viewer, user, &user_id)?;
            let id = user_id.as_str().trim_start_matches('@').to_lowercase();
            let name = display_name.as_ref().map(|name| name.to_lowercase()).unwrap_or_default();
            if !id.contains(&term) && !name.contains(&term) {
                continue;
            }
            let is_prefix = id.starts_with(&term) || name.starts_with(&term);
            found.push((!is_prefix, FoundUser { user_id, display_name, avatar_url }));
        }
        found.sort_by(|a, b| (a.0, &a.1.user_id).cmp(&(b.0, &b.1.user_id)));
        let has_more = found.len() > limit;
        found.truncate(limit);
        Ok((found.into_iter().map(|(_, user)| user).collect(), has_more))
    }

    /// Display name and avatar: those of the profile, or, of users of other servers, those in a room that the viewer is
    /// in too.
    fn known_profile(
        &self,
        viewer: UserNid,
        user: UserNid,
        user_id: &UserId,
    ) -> Result<(Option<String>, Option<String>), UserError> {
        if user_id.server_name() == self.rooms().server_name().as_str() {
            return Ok((self.display_name(user)?, self.avatar_url(user)?));
        }
        let theirs = self.rooms().user_rooms(user)?;
        for (room, row) in theirs.iter().filter(|(_, row)| row.membership == Membership::Join) {
            if self.rooms().membership(*room, viewer)?.is_some_and(|own| own.membership == Membership::Join) {
                let event = self.rooms().event_at(*room, row.seq)?;
                let content = event.content_as::<MemberProfile>().unwrap_or_default();
                return Ok((content.displayname, content.avatar_url));
            }
        }
        Ok((None, None))
    }

    fn search_candidates(&self, viewer: UserNid) -> Result<BTreeSet<UserNid>, UserError> {
        let mut candidates = self.rooms().users_sharing_rooms(viewer)?;
        if self.config().settings.search_all_local_users {
            for row in self.store().scan(&ACCOUNTS, &()).iter().take(MAX_CANDIDATES) {
                let (user, row) = row?;
                if !row.is_deactivated {
                    candidates.insert(user);
                }
            }
        }
        Ok(candidates.into_iter().take(MAX_CANDIDATES).collect())
    }
}

#[cfg(test)]
mod tests;
