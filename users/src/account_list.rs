//! The accounts of this server as administrators list them: filtered, ordered, in pages.
//!
//! A page of ten thousand accounts, filtered and ordered by anything, is found in memory: the first listing reads every
//! account, and from then on those are read again that a commit named (ADR 0002 tells why nothing can be missed). An
//! account costs about 300 bytes, and nothing before somebody lists or they are read ahead.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rooms::{TOPIC_ACCOUNTS, TOPIC_USER, UserNid};
use storage::{Committed, Read};

use crate::{
    Account, AccountKind, Role, UserError, Users,
    accounts::{ACCOUNTS, account_view},
    roles::role_of,
};

/// The most accounts of a page.
pub(crate) const MAX_PAGE: usize = 10_000;

/// An account as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSummary {
    /// The account.
    pub account: Account,
    /// Its role.
    pub role: Role,
    /// See [`crate::AccountFacts::is_shadow_banned`].
    pub is_shadow_banned: bool,
    /// See [`crate::AccountFacts::awaits_approval`].
    pub awaits_approval: bool,
    /// See [`crate::AccountFacts::is_erased`].
    pub is_erased: bool,
    /// See [`crate::AccountFacts::user_type`].
    pub user_type: Option<String>,
    /// Its display name.
    pub display_name: Option<String>,
    /// Its avatar.
    pub avatar_url: Option<String>,
    /// When a device that it still has was last used, in milliseconds since 1970; up to five minutes behind.
    pub last_seen_ms: Option<u64>,
}

/// What a list is ordered by. Accounts that are equal in it are ordered by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccountOrder {
    /// The user ID.
    #[default]
    Name,
    /// The display name; accounts without one first.
    DisplayName,
    /// Whether it has an avatar, and which.
    AvatarUrl,
    /// When it was made.
    Created,
    /// When it was last used; never first.
    LastSeen,
    /// Its type; accounts without one first.
    UserType,
    /// Guests last.
    Guest,
    /// Administrators last.
    Admin,
    /// Deactivated ones last.
    Deactivated,
    /// Shadow-banned ones last.
    ShadowBanned,
    /// Locked ones last.
    Locked,
    /// Suspended ones last.
    Suspended,
}

/// Which accounts are wanted; `None` asks for either.
#[derive(Clone, Debug, Default)]
pub struct AccountQuery {
    /// In the localpart or the display name, whatever the case.
    pub name: Option<String>,
    /// In the user ID, whatever the case. Takes the place of `name`.
    pub user_id: Option<String>,
    /// With this role.
    pub role: Option<Role>,
    /// Guests of the specification.
    pub guests: Option<bool>,
    /// Administrators.
    pub admins: Option<bool>,
    /// Deactivated.
    pub deactivated: Option<bool>,
    /// Locked.
    pub locked: Option<bool>,
    /// Suspended.
    pub suspended: Option<bool>,
    /// Shadow-banned.
    pub shadow_banned: Option<bool>,
    /// Approved, or never in need of it.
    pub approved: Option<bool>,
    /// Not of these types; `None` stands for accounts without one.
    pub not_user_types: Vec<Option<String>>,
    /// The order.
    pub order: AccountOrder,
    /// The other way round.
    pub reverse: bool,
    /// How many to pass over.
    pub from: usize,
    /// How many to give at most; more than 10,000 are never given.
    pub limit: usize,
}

/// A page of accounts.
#[derive(Clone, Debug)]
pub struct AccountPage {
    /// The accounts.
    pub accounts: Vec<Arc<AccountSummary>>,
    /// How many match in all.
    pub total: usize,
    /// Where the next page begins, if there is one.
    pub next: Option<usize>,
}

/// All accounts in memory, once they were listed.
#[derive(Default)]
pub(crate) struct AccountColumn {
    entries: Mutex<Option<BTreeMap<UserNid, Arc<AccountSummary>>>>,
    /// Whom commits have named since they were last read. Not before the first listing.
    changed: Mutex<Option<HashSet<UserNid>>>,
}

impl AccountColumn {
    /// Called for each group of commits, before they become visible.
    pub(crate) fn observe(&self, group: &[Committed]) {
        let mut changed = self.changed.lock();
        let Some(changed) = changed.as_mut() else { return };
        for topic in group.iter().flat_map(|committed| &committed.topics) {
            if matches!(topic.kind(), TOPIC_ACCOUNTS | TOPIC_USER) {
                changed.insert(UserNid(topic.id()));
            }
        }
    }
}

impl Users {
    /// A page of the accounts of this server, without the users that are the server itself. The first call reads them all,
    /// later ones only those that changed.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn find_accounts(&self, query: &AccountQuery) -> Result<AccountPage, UserError> {
        let mut entries = self.inner.account_column.entries.lock();
        let column = self.bring_up_to_date(&mut entries)?;
        let wanted = Wanted::new(query);
        let is_somebody = |entry: &AccountSummary| !self.is_server_user(&entry.account.user_id);
        let matching = column.values().filter(|entry| wanted.matches(entry) && is_somebody(entry));
        let mut found: Vec<&Arc<AccountSummary>> = matching.collect();
        found.sort_unstable_by(|a, b| {
            let order = compare(query.order, a, b).then_with(|| a.account.user_id.cmp(&b.account.user_id));
            if query.reverse { order.reverse() } else { order }
        });
        let total = found.len();
        let accounts: Vec<_> = found.into_iter().skip(query.from).take(query.limit.min(MAX_PAGE)).cloned().collect();
        let end = query.from.saturating_add(accounts.len());
        let next = (!accounts.is_empty() && end < total).then_some(end);
        Ok(AccountPage { accounts, total, next })
    }

    /// Reads all accounts, so that the first list need not; does nothing if there are more than `most`. Takes about
    /// 15 µs an account.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn read_accounts_ahead(&self, most: usize) -> Result<(), UserError> {
        if self.store().scan(&ACCOUNTS, &()).keys().take(most.saturating_add(1)).count() <= most {
            self.bring_up_to_date(&mut self.inner.account_column.entries.lock())?;
        }
        Ok(())
    }

    /// One account as lists show it.
    pub fn account_summary(&self, user: UserNid) -> Result<Option<AccountSummary>, UserError> {
        let Some(row) = self.store().get(&ACCOUNTS, &user)? else { return Ok(None) };
        let facts = self.facts(user)?;
        let last_seen_ms = self.devices(user)?.iter().filter_map(|device| device.last_seen_ms).max();
        Ok(Some(AccountSummary {
            role: role_of(&row, &facts),
            is_shadow_banned: facts.is_shadow_banned,
            awaits_approval: facts.awaits_approval,
            is_erased: facts.is_erased,
            user_type: facts.user_type,
            display_name: self.display_name(user)?,
            avatar_url: self.avatar_url(user)?,
            last_seen_ms,
            account: account_view(user, self.rooms().user_id(user)?, &row),
        }))
    }

    fn bring_up_to_date<'a>(
        &self,
        entries: &'a mut Option<BTreeMap<UserNid, Arc<AccountSummary>>>,
    ) -> Result<&'a BTreeMap<UserNid, Arc<AccountSummary>>, UserError> {
        // Taken before the rows are read: what changes from here on is read again next time.
        let changed = self.inner.account_column.changed.lock().replace(HashSet::new());
        // After a failure everything is read again.
        let mut column = match (entries.take(), changed) {
            (Some(mut column), Some(changed)) => {
                for user in changed {
                    match self.account_summary(user)? {
                        Some(entry) => _ = column.insert(user, Arc::new(entry)),
                        None => _ = column.remove(&user),
                    }
                }
                column
            }
            _ => BTreeMap::new(),
        };
        if column.is_empty() {
            for user in self.store().scan(&ACCOUNTS, &()).keys() {
                let user = user?;
                if let Some(entry) = self.account_summary(user)? {
                    column.insert(user, Arc::new(entry));
                }
            }
        }
        Ok(entries.insert(column))
    }
}

/// A query with its texts in lower case.
struct Wanted<'a> {
    query: &'a AccountQuery,
    name: Option<String>,
    user_id: Option<String>,
}

impl<'a> Wanted<'a> {
    fn new(query: &'a AccountQuery) -> Wanted<'a> {
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
        Wanted { query, name: lower(&query.name), user_id: lower(&query.user_id) }
    }

    fn matches(&self, entry: &AccountSummary) -> bool {
        let account = &entry.account;
        let flag = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        flag(self.query.guests, account.kind == AccountKind::Guest)
            && flag(self.query.admins, account.is_admin)
            && flag(self.query.deactivated, account.is_deactivated)
            && flag(self.query.locked, account.is_locked)
            && flag(self.query.suspended, account.is_suspended)
            && flag(self.query.shadow_banned, entry.is_shadow_banned)
            && flag(self.query.approved, !entry.awaits_approval)
            && self.query.role.is_none_or(|role| role == entry.role)
            && !self.query.not_user_types.contains(&entry.user_type)
            && self.has_name(entry)
    }

    fn has_name(&self, entry: &AccountSummary) -> bool {
        // User IDs made here are in lower case; those of the past may not be.
        let has = |text: &str, part: &str| text.contains(part) || text.to_lowercase().contains(part);
        match (&self.user_id, &self.name) {
            (Some(part), _) => has(entry.account.user_id.as_str(), part),
            (None, Some(part)) => {
                has(entry.account.user_id.localpart(), part)
                    || entry.display_name.as_deref().is_some_and(|name| has(name, part))
            }
            (None, None) => true,
        }
    }
}

fn compare(order: AccountOrder, a: &AccountSummary, b: &AccountSummary) -> Ordering {
    match order {
        AccountOrder::Name => Ordering::Equal,
        AccountOrder::DisplayName => a.display_name.cmp(&b.display_name),
        AccountOrder::AvatarUrl => a.avatar_url.cmp(&b.avatar_url),
        AccountOrder::Created => a.account.created_ms.cmp(&b.account.created_ms),
        AccountOrder::LastSeen => a.last_seen_ms.cmp(&b.last_seen_ms),
        AccountOrder::UserType => a.user_type.cmp(&b.user_type),
        AccountOrder::Guest => (a.account.kind == AccountKind::Guest).cmp(&(b.account.kind == AccountKind::Guest)),
        AccountOrder::Admin => a.account.is_admin.cmp(&b.account.is_admin),
        AccountOrder::Deactivated => a.account.is_deactivated.cmp(&b.account.is_deactivated),
        AccountOrder::ShadowBanned => a.is_shadow_banned.cmp(&b.is_shadow_banned),
        AccountOrder::Locked => a.account.is_locked.cmp(&b.account.is_locked),
        AccountOrder::Suspended => a.account.is_suspended.cmp(&b.account.is_suspended),
    }
}

#[cfg(test)]
mod tests;
