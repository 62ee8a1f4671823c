//! What the administrator may do with application services while the server runs.

use users::Users;

/// Adds a service for good.
pub(crate) async fn add(users: &Users, document: &str) -> Result<String, String> {
    let service = users.add_appservice(document).await.map_err(|error| error.to_string())?;
    tracing::info!(appservice = service.id(), "the operator added an application service");
    Ok(format!("the application service {} is registered", service.id()))
}

/// One line for each service: its id, where it is reached, and where its registration comes from.
pub(crate) fn list(users: &Users) -> String {
    let services = users.appservices();
    if services.is_empty() {
        return "there are no application services".to_owned();
    }
    let line = |service: &users::AppService| {
        format!("{}\t{}\t{}", service.id(), service.url().unwrap_or("(no URL)"), service.source())
    };
    services.iter().map(|service| line(service)).collect::<Vec<_>>().join("\n")
}

/// A registration without its tokens.
pub(crate) fn show(users: &Users, id: &str) -> Result<String, String> {
    let services = users.appservices();
    let service = services.get(id).ok_or_else(|| format!("there is no application service with the id {id:?}"))?;
    Ok(format!("# from {}\n{}", service.source(), service.describe().trim_end()))
}

/// Removes a service that was added.
pub(crate) async fn remove(users: &Users, id: &str) -> Result<String, String> {
    users.remove_appservice(id).await.map_err(|error| error.to_string())?;
    tracing::info!(appservice = id, "the operator removed an application service");
    Ok(format!("the application service {id} is registered no more; its users and rooms stay"))
}
