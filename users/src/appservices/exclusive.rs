//! Who may make which users and aliases (Application Service API §"Server admin style permissions").

use spec::ids::{RoomAlias, UserId};

use super::AppService;
use crate::{Account, AccountKind, AdminRights, NewAccount, UserError, Users};

impl Users {
    /// Refuses a user that only an application service, or the server itself, may make.
    ///
    /// # Errors
    /// `Exclusive`.
    pub(crate) fn check_user_is_free(&self, user: &UserId) -> Result<(), UserError> {
        if self.is_server_user(user) {
            return Err(UserError::Exclusive("this user id belongs to the server"));
        }
        let services = self.appservices();
        if services.iter().any(|service| service.owns_user_exclusively(user)) {
            return Err(UserError::Exclusive("this user id belongs to an application service"));
        }
        Ok(())
    }

    /// Whether the caller may make or delete an alias, as far as application services are concerned: others keep out of
    /// exclusive namespaces, and a service keeps to its own namespaces.
    ///
    /// # Errors
    /// `Exclusive`.
    pub fn check_alias_owner(&self, caller: Option<&AppService>, alias: &RoomAlias) -> Result<(), UserError> {
        if let Some(service) = caller
            && !service.owns_alias(alias)
        {
            return Err(UserError::Exclusive("the alias is in none of the application service's namespaces"));
        }
        let services = self.appservices();
        let is_other = |service: &AppService| caller.is_none_or(|caller| caller.id() != service.id());
        if services.iter().any(|service| is_other(service) && service.owns_alias_exclusively(alias)) {
            return Err(UserError::Exclusive("the alias belongs to an application service"));
        }
        Ok(())
    }

    /// Makes an account for a service. Cancel-safe as [`Users::create_account`].
    ///
    /// # Errors
    /// `Exclusive` outside of its namespaces; those of [`Users::create_account`].
    pub async fn register_for_appservice(&self, service: &AppService, name: &str) -> Result<Account, UserError> {
        let user = self.parse_local_user(name)?;
        self.check_owner(service, &user)?;
        self.create_appservice_account(&user).await
    }

    /// The account that a service logs in as; its sender's is made if need be. Cancel-safe.
    ///
    /// # Errors
    /// `Exclusive` outside of its namespaces; `Forbidden` for a user that does not exist.
    pub async fn login_for_appservice(&self, service: &AppService, name: &str) -> Result<Account, UserError> {
        let user = self.parse_local_user(name)?;
        self.check_owner(service, &user)?;
        self.appservice_account(service, &user).await
    }

    /// Refuses a service another user than its own ones, whether it is to be made or to act.
    ///
    /// # Errors
    /// `Exclusive`.
    pub(super) fn check_owner(&self, service: &AppService, user: &UserId) -> Result<(), UserError> {
        if self.is_server_user(user) {
            return Err(UserError::Exclusive("this user id belongs to the server"));
        }
        if user == service.sender() {
            return Ok(());
        }
        if !service.owns_user(user) {
            return Err(UserError::Exclusive("the user is in none of the application service's namespaces"));
        }
        let services = self.appservices();
        let is_other = |other: &AppService| other.id() != service.id();
        if services.iter().any(|other| is_other(other) && other.owns_user_exclusively(user)) {
            return Err(UserError::Exclusive("the user belongs to another application service"));
        }
        Ok(())
    }

    /// The account of a user of a service; the sender's is made if it does not exist.
    pub(super) async fn appservice_account(&self, service: &AppService, user: &UserId) -> Result<Account, UserError> {
        let account = match self.account_by_id(user)? {
            Some(account) => account,
            None if user == service.sender() => self.ensure_sender(service).await?,
            None => return Err(UserError::Forbidden("the application service has not registered this user")),
        };
        if account.is_deactivated { Err(UserError::UserDeactivated) } else { Ok(account) }
    }

    /// Makes the account of a service's sender, unless it exists. Cancel-safe.
    ///
    /// # Errors
    /// Those of [`Users::create_account`], but for `UserInUse`.
    pub async fn ensure_sender(&self, service: &AppService) -> Result<Account, UserError> {
        let user = service.sender();
        if let Some(account) = self.account_by_id(user)? {
            return Ok(account);
        }
        match self.create_appservice_account(user).await {
            // Somebody else was quicker.
            Err(UserError::UserInUse) => self.account_by_id(user)?.ok_or(UserError::NotFound("account")),
            made => made,
        }
    }

    async fn create_appservice_account(&self, user: &UserId) -> Result<Account, UserError> {
        self.create_account(NewAccount {
            localpart: user.localpart(),
            password: None,
            kind: AccountKind::Appservice,
            admin: AdminRights::Denied,
            registration_token: None,
        })
        .await
    }
}
