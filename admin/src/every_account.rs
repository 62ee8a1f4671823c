//! Looking at every account, a page at a time.

use users::{Account, Users};

use crate::error::AdminError;

/// How many accounts are read at a time.
const PAGE: usize = 500;

/// Shows `visit` every account of this server, in order of their numbers.
///
/// # Errors
/// Storage errors, and those of `visit`, which end it.
pub(crate) fn visit_accounts(
    users: &Users,
    visit: &mut dyn FnMut(&Account) -> Result<(), AdminError>,
) -> Result<(), AdminError> {
    let mut after = None;
    loop {
        let accounts = users.list_accounts(after, PAGE)?;
        let Some(last) = accounts.last() else { return Ok(()) };
        after = Some(last.user);
        accounts.iter().try_for_each(&mut *visit)?;
    }
}
