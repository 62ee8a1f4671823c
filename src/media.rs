//! What media need of accounts and rooms: roles for limits of storage, and pictures that stay when old media go.

use std::collections::HashSet;

use admin::{AdminError, pictures_in_use};
use media::{Media, UploaderRole, UploaderRoles};
use rooms::Rooms;
use spec::ids::UserId;
use users::{Role, Users};

/// The roles of accounts, as far as storage is concerned.
pub(crate) struct AccountRoles(pub(crate) Users);

impl UploaderRoles for AccountRoles {
    fn role(&self, user_id: &UserId) -> Option<UploaderRole> {
        let find = || {
            let account = self.0.account_by_id(user_id)?;
            account.map_or(Ok(None), |account| self.0.role(account.user))
        };
        let role = find().inspect_err(|error| tracing::warn!(%error, "the role of an uploader could not be read"));
        Some(match role.ok()?? {
            Role::Administrator => UploaderRole::Administrator,
            Role::Moderator => UploaderRole::Moderator,
            Role::Member => UploaderRole::Member,
            Role::Guest => UploaderRole::Guest,
        })
    }
}

/// Deletes media that are older than the configuration allows, if it says so, and returns how many.
pub(crate) async fn expire_media(media: &Media, rooms: &Rooms, users: &Users) -> Result<u64, AdminError> {
    let pictures = match media.config().local_media_lifetime {
        Some(_) => pictures_in_use(rooms, users)?,
        None => HashSet::new(),
    };
    Ok(media.expire(&|mxc| pictures.contains(mxc)).await?)
}
