//! Operations on application services: bridges and the like.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::{AppService, AppServiceError};

use crate::admin::Admin;
use crate::arguments::Document;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

impl From<AppServiceError> for AdminError {
    fn from(error: AppServiceError) -> Self {
        let text = error.to_string();
        match error {
            AppServiceError::Storage(error) => error.into(),
            AppServiceError::Commit(error) => error.into(),
            _ => AdminError::Invalid(text),
        }
    }
}

/// List the application services
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("appservice", "list");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let row = |service: &AppService| {
            vec![
                Cell::text(service.id()),
                Cell::or_none(service.url(), Cell::text),
                Cell::text(service.sender()),
                Cell::text(service.source()),
            ]
        };
        let rows = admin.users().appservices().iter().map(|service| row(service)).collect();
        Ok(Outcome::table(&["id", "url", "sender", "from"], rows))
    }
}

/// Show the registration of an application service, without its tokens
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// Its id
    pub id: String,
}

impl Operation for Show {
    const NAME: (&'static str, &'static str) = ("appservice", "show");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{appservice}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let services = admin.users().appservices();
        let unknown = || AdminError::not_found(format!("there is no application service {:?}", self.id));
        let service = services.get(&self.id).ok_or_else(unknown)?;
        Ok(Outcome::line(format!("# from {}\n{}", service.source(), service.describe().trim_end())))
    }
}

/// Register an application service, for good
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The registration file (YAML) that it came with or made
    pub registration: Document,
}

impl Operation for Add {
    const NAME: (&'static str, &'static str) = ("appservice", "add");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{registration}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let service = admin.users().add_appservice(self.registration.text()?).await?;
        Ok(Outcome::record(vec![("id", Cell::text(service.id())), ("sender", Cell::text(service.sender()))]))
    }
}

/// Take back the registration of an application service; its users and rooms stay
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// Its id
    pub id: String,
}

impl Operation for Remove {
    const NAME: (&'static str, &'static str) = ("appservice", "remove");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{appservice}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        if admin.users().appservices().get(&self.id).is_none() {
            return Err(AdminError::not_found(format!("there is no application service {:?}", self.id)));
        }
        admin.users().remove_appservice(&self.id).await?;
        Ok(Outcome::line(format!("the application service {} is registered no more", self.id)))
    }
}
