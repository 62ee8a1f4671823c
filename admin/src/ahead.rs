//! What the lists of administrators need is read after the start, so that the first one opens as fast as the others.

use crate::admin::Admin;

/// Of servers with more accounts nothing is read ahead: an account costs 300 bytes of memory.
const MAX_ACCOUNTS: usize = 20_000;
/// The most rooms that are read ahead; a room costs about 600 bytes.
const MAX_ROOMS: usize = 10_000;

/// Reads ahead, beside all else.
pub(crate) fn start_reading_ahead(admin: &Admin) {
    let admin = admin.clone();
    admin.clone().tasks().spawn("lists of administrators", async move {
        let (users, rooms) = (admin.users().clone(), admin.rooms().clone());
        let accounts = admin.tasks().compute("list of accounts", move || users.read_accounts_ahead(MAX_ACCOUNTS)).await;
        if let Ok(Err(error)) = accounts {
            tracing::warn!(%error, "the list of accounts was not read ahead");
        }
        let overviews = admin.tasks().compute("list of rooms", move || rooms.read_overviews_ahead(MAX_ROOMS)).await;
        if let Ok(Err(error)) = overviews {
            tracing::warn!(%error, "the list of rooms was not read ahead");
        }
    });
}
