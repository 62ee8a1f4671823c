//! Accounts of this server: creating, looking up, changing the password, locking, deactivating.
//!
//! Spec: Client-Server API §"Account registration and management", §"Account locking", §"Account suspension".

use rooms::{RoomNid, TOPIC_ADMINS, UserNid};
use serde::{Deserialize, Serialize};
use spec::ids::UserId;
use storage::{Batch, CommitError, Keyspace, Profile, Read, Topic, stored};

use crate::{
    AccountFacts, UserError, Users,
    facts::ACCOUNT_FACTS,
    password::{MAX_PASSWORD_BYTES, PasswordHash},
    registration::take_registration_token,
    topics::account_topic,
};

/// One row per account; deactivated accounts keep theirs, so that their user ID is never given out again.
pub(crate) const ACCOUNTS: Keyspace<UserNid, AccountRow> = Keyspace::new("accounts", Profile::Points);
/// Present once an administrator exists: decides the race for the first account.
pub(crate) const FIRST_ADMIN: Keyspace<(), UserNid> = Keyspace::new("first_admin", Profile::Points);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountRow {
    pub(crate) kind: AccountKind,
    pub(crate) created_ms: u64,
    pub(crate) password: Option<PasswordHash>,
    pub(crate) is_admin: bool,
    pub(crate) is_locked: bool,
    pub(crate) is_suspended: bool,
    pub(crate) is_deactivated: bool,
}
stored!(AccountRow, 1);

/// What an account is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountKind {
    /// A person or a bot with a password.
    User,
    /// A visitor without a password (Client-Server API §"Guest access").
    Guest,
    /// Owned by an application service.
    Appservice,
}

/// Whether a new account administers the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminRights {
    /// Yes if it is the first account of the server.
    IfFirst,
    /// Yes.
    Granted,
    /// No, even if it is the first.
    Denied,
}

/// An account as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub user: UserNid,
    /// Its ID.
    pub user_id: UserId,
    /// What it is for.
    pub kind: AccountKind,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: u64,
    /// May use the administration API.
    pub is_admin: bool,
    /// Locked: may only log out.
    pub is_locked: bool,
    /// Suspended: may read, but not write.
    pub is_suspended: bool,
    /// Gone for good.
    pub is_deactivated: bool,
    /// Can log in with a password.
    pub has_password: bool,
}

/// What is needed to create an account.
#[derive(Clone, Copy, Debug)]
pub struct NewAccount<'a> {
    /// Localpart of the user ID.
    pub localpart: &'a str,
    /// Password in clear; `None` for guests and application services.
    pub password: Option<&'a str>,
    /// What it is for.
    pub kind: AccountKind,
    /// Whether it administers the server.
    pub admin: AdminRights,
    /// The registration token to use up in the same commit.
    pub registration_token: Option<&'a str>,
}

/// What an account begins with, besides its row.
#[derive(Default)]
struct Beginning {
    facts: AccountFacts,
    /// Somebody registered it for themself.
    is_newcomer: bool,
}

/// A change of an account's flags; `None` leaves a flag as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountFlags {
    /// See [`Account::is_admin`].
    pub admin: Option<bool>,
    /// See [`Account::is_locked`].
    pub locked: Option<bool>,
    /// See [`Account::is_suspended`].
    pub suspended: Option<bool>,
}

impl Users {
    /// Turns what a client calls a "user" (localpart or full ID) into a user ID of this server.
    ///
    /// # Errors
    /// `InvalidUsername` when it is not a user ID, `Forbidden` when it belongs to another server.
    pub fn parse_local_user(&self, name: &str) -> Result<UserId, UserError> {
        let server = self.rooms().server_name();
        if !name.starts_with('@') {
            return UserId::new(name, server).map_err(|_| UserError::InvalidUsername("not a localpart"));
        }
        let user_id = UserId::parse(name).map_err(|_| UserError::InvalidUsername("not a user ID"))?;
        if user_id.server_name() != server.as_str() {
            return Err(UserError::Forbidden("this user belongs to another server"));
        }
        Ok(user_id)
    }

    /// Whether a new account of somebody who is no application service may have this localpart.
    ///
    /// # Errors
    /// `InvalidUsername`, `UserInUse`, `Exclusive`.
    pub fn check_available(&self, localpart: &str) -> Result<UserId, UserError> {
        let user_id = self.check_unused(localpart)?;
        self.check_user_is_free(&user_id)?;
        Ok(user_id)
    }

    fn check_unused(&self, localpart: &str) -> Result<UserId, UserError> {
        if !UserId::is_valid_new_localpart(localpart) {
            return Err(UserError::InvalidUsername("use a-z, 0-9 and . _ = - / + only"));
        }
        let user_id = UserId::new(localpart, self.rooms().server_name())
            .map_err(|_| UserError::InvalidUsername("the user ID would be too long"))?;
        if self.account_by_id(&user_id)?.is_some() {
            return Err(UserError::UserInUse);
        }
        Ok(user_id)
    }

    /// Whether a password is acceptable for this server.
    ///
    /// # Errors
    /// `WeakPassword`.
    pub fn check_password_strength(&self, password: &str) -> Result<(), UserError> {
        if password.chars().take(self.config().settings.password_min_length).count()
            < self.config().settings.password_min_length
        {
            return Err(UserError::WeakPassword("it is too short"));
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(UserError::WeakPassword("it is too long"));
        }
        Ok(())
    }

    /// Creates an account. Two concurrent calls for one localpart give one account and one `UserInUse`.
    /// Cancel-safe: either the account exists completely or not at all.
    ///
    /// # Errors
    /// `InvalidUsername`, `UserInUse`, `Exclusive`, `WeakPassword`, `Busy`; `Forbidden` when the registration token is
    /// used up.
    pub async fn create_account(&self, new: NewAccount<'_>) -> Result<Account, UserError> {
        self.create_available_account(new, Beginning { facts: self.new_facts(), is_newcomer: false }).await
    }

    /// As [`Users::create_account`], for somebody who registers: where the configuration says so, the account cannot
    /// log in before an administrator approves it, and rules against spam hold for it while it is new. The first
    /// account of a server needs no approval.
    ///
    /// # Errors
    /// As [`Users::create_account`].
    pub async fn register_account(&self, new: NewAccount<'_>) -> Result<Account, UserError> {
        let awaits_approval = self.config().settings.registration_approval;
        let facts = AccountFacts { awaits_approval, ..self.new_facts() };
        self.create_available_account(new, Beginning { facts, is_newcomer: true }).await
    }

    async fn create_available_account(&self, new: NewAccount<'_>, beginning: Beginning) -> Result<Account, UserError> {
        // Whose namespaces an account of a service is in was looked at before.
        let user_id = match new.kind {
            AccountKind::Appservice => self.check_unused(new.localpart)?,
            AccountKind::User | AccountKind::Guest => self.check_available(new.localpart)?,
        };
        self.create_unused_account(user_id, new, beginning).await
    }

    /// As [`Users::create_account`], with an unused id that others may not take.
    pub(crate) async fn create_reserved_account(
        &self,
        user_id: UserId,
        new: NewAccount<'_>,
    ) -> Result<Account, UserError> {
        self.create_unused_account(user_id, new, Beginning::default()).await
    }

    async fn create_unused_account(
        &self,
        user_id: UserId,
        new: NewAccount<'_>,
        beginning: Beginning,
    ) -> Result<Account, UserError> {
        let password = match new.password {
            Some(password) => {
                self.check_password_strength(password)?;
                Some(self.hash_password(password).await?)
            }
            None => None,
        };
        let user = self.rooms().intern_user(&user_id).await?;
        let row = AccountRow {
            kind: new.kind,
            created_ms: self.now_ms(),
            password,
            is_admin: false,
            is_locked: false,
            is_suspended: false,
            is_deactivated: false,
        };
        let row = self.insert_account(user, row, &new, &beginning).await?;
        Ok(account_view(user, user_id, &row))
    }

    async fn insert_account(
        &self,
        user: UserNid,
        mut row: AccountRow,
        new: &NewAccount<'_>,
        beginning: &Beginning,
    ) -> Result<AccountRow, UserError> {
        // A conflict other than on the account itself means that somebody else became the first administrator or
        // used the same registration token: both are read again.
        loop {
            let mut batch = Batch::new();
            let is_first = new.kind == AccountKind::User && self.store().get(&FIRST_ADMIN, &())?.is_none();
            row.is_admin = match new.admin {
                AdminRights::Granted => true,
                AdminRights::Denied => false,
                AdminRights::IfFirst => is_first,
            };
            if row.is_admin && is_first {
                batch.expect_absent(&FIRST_ADMIN, &());
                batch.put(&FIRST_ADMIN, &(), &user);
            }
            if let Some(token) = new.registration_token {
                self.take_token(&mut batch, token)?;
            }
            batch.expect_absent(&ACCOUNTS, &user);
            batch.put(&ACCOUNTS, &user, &row);
            batch.touch(account_topic(user));
            let facts = &beginning.facts;
            let facts = AccountFacts { awaits_approval: facts.awaits_approval && !row.is_admin, ..facts.clone() };
            if beginning.is_newcomer {
                self.put_newcomer(&mut batch, user, &row);
            }
            if facts != AccountFacts::default() {
                batch.put(&ACCOUNT_FACTS, &user, &facts);
            }
            if row.is_admin {
                batch.touch(Topic::new(TOPIC_ADMINS, 0));
            }
            match self.store().commit(batch).await {
                Ok(_) => return Ok(row),
                Err(CommitError::Expectation { .. }) => {
                    if self.store().contains(&ACCOUNTS, &user)? {
                        return Err(UserError::UserInUse);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take_token(&self, batch: &mut Batch, token: &str) -> Result<(), UserError> {
        if self.config().registration_token.as_deref() == Some(token) {
            return Ok(());
        }
        take_registration_token(self.store(), batch, token, self.now_ms())
    }

    /// Creates a guest with a random localpart. Cancel-safe.
    ///
    /// # Errors
    /// `GuestsForbidden`.
    pub async fn create_guest(&self) -> Result<Account, UserError> {
        if !self.config().settings.allow_guests {
            return Err(UserError::GuestsForbidden);
        }
        let localpart = self.random_localpart();
        let new = NewAccount {
            localpart: &localpart,
            password: None,
            kind: AccountKind::Guest,
            admin: AdminRights::Denied,
            registration_token: None,
        };
        self.create_available_account(new, Beginning { facts: self.new_facts(), is_newcomer: true }).await
    }

    /// A localpart for a client that did not ask for one.
    pub fn random_localpart(&self) -> String {
        self.inner.random.token(14).to_ascii_lowercase()
    }

    /// The account with this number.
    pub fn account(&self, user: UserNid) -> Result<Option<Account>, UserError> {
        let Some(row) = self.store().get(&ACCOUNTS, &user)? else { return Ok(None) };
        Ok(Some(account_view(user, self.rooms().user_id(user)?, &row)))
    }

    /// Whether the account of this number may send events at all: it exists, and is neither locked nor suspended nor
    /// shadow-banned.
    pub fn may_send(&self, user: UserNid) -> Result<bool, UserError> {
        let row = self.store().get(&ACCOUNTS, &user)?;
        Ok(row.is_some_and(|row| !(row.is_deactivated || row.is_locked || row.is_suspended))
            && !self.facts(user)?.is_shadow_banned)
    }

    /// The account with this ID; `None` also for users of other servers.
    pub fn account_by_id(&self, user_id: &UserId) -> Result<Option<Account>, UserError> {
        let Some(user) = self.rooms().user_nid(user_id)? else { return Ok(None) };
        let Some(row) = self.store().get(&ACCOUNTS, &user)? else { return Ok(None) };
        Ok(Some(account_view(user, user_id.clone(), &row)))
    }

    /// The number of a local, active user: what most operations on another user's data start with.
    pub fn active_user(&self, user_id: &UserId) -> Result<Option<UserNid>, UserError> {
        Ok(self.account_by_id(user_id)?.filter(|account| !account.is_deactivated).map(|account| account.user))
    }

    /// Accounts after `after`, at most `limit`, in order of number: for administration.
    pub fn list_accounts(&self, after: Option<UserNid>, limit: usize) -> Result<Vec<Account>, UserError> {
        let mut scan = self.store().scan(&ACCOUNTS, &());
        if let Some(after) = after {
            scan = scan.after(&after);
        }
        let mut accounts = Vec::new();
        for row in scan.iter().take(limit) {
            let (user, row) = row?;
            accounts.push(account_view(user, self.rooms().user_id(user)?, &row));
        }
        Ok(accounts)
    }

    /// Checks a password and gives the account. Costs the same whether or not the user exists. Cancel-safe.
    ///
    /// # Errors
    /// `Forbidden` for a wrong name or password, `UserDeactivated`, `UserLocked`, `Busy`.
    pub async fn check_password(&self, user_id: &UserId, password: &str) -> Result<Account, UserError> {
        let user = self.rooms().user_nid(user_id)?;
        let row = match user {
            Some(user) => self.store().get(&ACCOUNTS, &user)?.map(|row| (user, row)),
            None => None,
        };
        if row.as_ref().is_some_and(|(_, row)| row.is_deactivated) {
            return Err(UserError::UserDeactivated);
        }
        let stored = row.as_ref().and_then(|(_, row)| row.password.clone());
        let matches = self.inner.passwords.verify(password, stored).await?;
        let Some((user, row)) = row.filter(|_| matches) else {
            return Err(UserError::Forbidden("invalid user name or password"));
        };
        if row.is_locked {
            return Err(UserError::UserLocked);
        }
        Ok(account_view(user, user_id.clone(), &row))
    }

    /// Sets a new password. Devices stay logged in: removing them is a separate decision. Cancel-safe.
    ///
    /// # Errors
    /// `WeakPassword`, `Busy`, `NotFound`.
    pub async fn set_password(&self, user: UserNid, password: &str) -> Result<(), UserError> {
        self.check_password_strength(password)?;
        let hash = self.hash_password(password).await?;
        self.update_account(user, |row, _| {
            if row.is_deactivated {
                return Err(UserError::UserDeactivated);
            }
            row.password = Some(hash.clone());
            Ok(())
        })
        .await
    }

    /// Changes the flags of an account; its open sessions notice at their next request. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`, `UserDeactivated`.
    pub async fn set_account_flags(&self, user: UserNid, flags: AccountFlags) -> Result<(), UserError> {
        self.update_account(user, |row, _| {
            if row.is_deactivated {
                return Err(UserError::UserDeactivated);
            }
            row.is_admin = flags.admin.unwrap_or(row.is_admin);
            row.is_locked = flags.locked.unwrap_or(row.is_locked);
            row.is_suspended = flags.suspended.unwrap_or(row.is_suspended);
            Ok(())
        })
        .await
    }

    /// Ends an account for good: no password, no devices, no keys, no profile, no account data. Returns the rooms
    /// that it must still leave, which is the room layer's work. Calling it again completes an interrupted call.
    /// Not cancel-safe in the sense that a dropped future may leave data behind; the account is closed first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn deactivate(&self, user: UserNid) -> Result<Vec<RoomNid>, UserError> {
        self.deactivate_noting(user, false).await
    }

    /// As [`Users::deactivate`], for good and all: everything is to be erased that can be. The account says so from the
    /// moment on in which it is closed.
    ///
    /// # Errors
    /// As [`Users::deactivate`].
    pub async fn deactivate_to_erase(&self, user: UserNid) -> Result<Vec<RoomNid>, UserError> {
        self.deactivate_noting(user, true).await
    }

    pub(crate) async fn deactivate_noting(&self, user: UserNid, erase: bool) -> Result<Vec<RoomNid>, UserError> {
        self.update_account(user, |row, facts| {
            row.is_deactivated = true;
            row.is_admin = false;
            row.password = None;
            facts.is_erased |= erase;
            Ok(())
        })
        .await?;
        self.delete_dehydrated_device(user).await?;
        self.delete_all_devices(user, None).await?;
        self.erase_user_data(user).await?;
        Ok(self.rooms().joined_rooms(user)?)
    }

    pub(crate) async fn update_account(
        &self,
        user: UserNid,
        mut change: impl FnMut(&mut AccountRow, &mut AccountFacts) -> Result<(), UserError>,
    ) -> Result<(), UserError> {
        loop {
            let old = self.store().get(&ACCOUNTS, &user)?.ok_or(UserError::NotFound("account"))?;
            let stored_facts = self.store().get(&ACCOUNT_FACTS, &user)?;
            let old_facts = stored_facts.clone().unwrap_or_default();
            let (mut row, mut facts) = (old.clone(), old_facts.clone());
            change(&mut row, &mut facts)?;
            if row == old && facts == old_facts {
                return Ok(());
            }
            let mut batch = Batch::new();
            batch.expect_equals(&ACCOUNTS, &user, &old);
            batch.put(&ACCOUNTS, &user, &row);
            if facts != old_facts {
                self.put_facts(&mut batch, user, stored_facts.as_ref(), &facts);
            }
            batch.touch(account_topic(user));
            if old.is_admin || row.is_admin {
                batch.touch(Topic::new(TOPIC_ADMINS, 0));
            }
            // Open sessions repeat some of the row.
            if self.try_commit_revoking(batch, &self.access_tokens(user)?).await?.is_some() {
                return Ok(());
            }
        }
    }

    pub(crate) async fn hash_password(&self, password: &str) -> Result<PasswordHash, UserError> {
        let mut salt = [0; 16];
        self.inner.random.fill(&mut salt);
        self.inner.passwords.hash(password, salt).await
    }
}

pub(crate) fn account_view(user: UserNid, user_id: UserId, row: &AccountRow) -> Account {
    Account {
        user,
        user_id,
        kind: row.kind,
        created_ms: row.created_ms,
        is_admin: row.is_admin,
        is_locked: row.is_locked,
        is_suspended: row.is_suspended,
        is_deactivated: row.is_deactivated,
        has_password: row.password.is_some(),
    }
}

#[cfg(test)]
mod tests;
