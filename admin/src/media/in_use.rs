//! Which media are pictures of users and rooms, and so stay when unused media are deleted.

use std::collections::HashSet;

use ::media::Mxc;
use rooms::Rooms;
use serde::Deserialize;
use storage::StreamPos;
use users::Users;

use crate::error::AdminError;
use crate::every_account::visit_accounts;

#[derive(Deserialize)]
struct Avatar {
    url: Option<String>,
}

/// The pictures of this server's users and of the rooms it knows, and those of the configuration. Reads every account and
/// every room once.
///
/// # Errors
/// Storage errors only.
pub fn pictures_in_use(rooms: &Rooms, users: &Users) -> Result<HashSet<Mxc>, AdminError> {
    let mut found = HashSet::new();
    let mut keep = |url: Option<&str>| found.extend(url.and_then(|url| Mxc::parse(url).ok()));
    let notices = &users.config().server_notices;
    keep(notices.avatar_url.as_deref());
    keep(notices.room_avatar_url.as_deref());
    visit_accounts(users, &mut |account| {
        keep(users.avatar_url(account.user)?.as_deref());
        Ok(())
    })?;
    for room in rooms.rooms_grown_after(StreamPos(0))? {
        let state = rooms.head(room)?.state();
        if let Some(event) = rooms.state_event(room, state, "m.room.avatar", "")? {
            keep(event.content_as::<Avatar>().and_then(|avatar| avatar.url).as_deref());
        }
    }
    Ok(found)
}
