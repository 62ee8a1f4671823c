//! Client-Server API §"Server discovery".

use std::sync::Arc;

use ::calls::Calls;
use axum::extract::State;
use serde_json::{Map, Value, json};

use crate::config::ClientApiConfig;
use crate::error::ApiError;
use crate::json::{Answer, answer};

/// `GET /.well-known/matrix/client`, with the transports of calls for clients that do not ask their homeserver for them
/// (MSC4143).
pub(crate) async fn get_client(State(config): State<Arc<ClientApiConfig>>, State(calls): State<Calls>) -> Answer {
    let base_url =
        config.public_baseurl.as_ref().ok_or_else(|| ApiError::not_found("no public_baseurl is configured"))?;
    let mut document = Map::new();
    document.insert("m.homeserver".to_owned(), json!({"base_url": base_url}));
    let transports = calls.transports().unwrap_or_default();
    if !transports.is_empty() {
        document.insert("org.matrix.msc4143.rtc_foci".to_owned(), transports.into());
    }
    answer(&document)
}

/// `GET /.well-known/matrix/support`.
pub(crate) async fn get_support(State(config): State<Arc<ClientApiConfig>>) -> Answer {
    let contacts = [
        contact("m.role.admin", config.admin_matrix_id.as_deref(), config.admin_email.as_deref()),
        contact("m.role.security", config.security_matrix_id.as_deref(), config.security_email.as_deref()),
    ];
    let contacts: Vec<Value> = contacts.into_iter().flatten().collect();
    let mut document = Map::new();
    if !contacts.is_empty() {
        document.insert("contacts".to_owned(), contacts.into());
    }
    if let Some(page) = &config.support_page {
        document.insert("support_page".to_owned(), page.as_str().into());
    }
    if document.is_empty() {
        return Err(ApiError::not_found("no contacts are configured"));
    }
    answer(&document)
}

fn contact(role: &str, matrix_id: Option<&str>, email: Option<&str>) -> Option<Value> {
    let mut contact = Map::new();
    contact.extend(matrix_id.map(|id| ("matrix_id".to_owned(), id.into())));
    contact.extend(email.map(|email| ("email_address".to_owned(), email.into())));
    if contact.is_empty() {
        return None;
    }
    contact.insert("role".to_owned(), role.into());
    Some(contact.into())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn contacts_are_told_if_there_are_any() {
        let support = async |config: ClientApiConfig| get_support(State(Arc::new(config))).await;
        assert_eq!(support(ClientApiConfig::default()).await.unwrap_err().errcode(), "M_NOT_FOUND");
        let config = ClientApiConfig {
            support_page: Some("https://hs.test/help".to_owned()),
            admin_matrix_id: Some("@admin:hs.test".to_owned()),
            admin_email: Some("admin@hs.test".to_owned()),
            security_email: Some("security@hs.test".to_owned()),
            ..ClientApiConfig::default()
        };
        let body = support(config).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        let expected = json!({
            "contacts": [
                {"matrix_id": "@admin:hs.test", "email_address": "admin@hs.test", "role": "m.role.admin"},
                {"email_address": "security@hs.test", "role": "m.role.security"},
            ],
            "support_page": "https://hs.test/help",
        });
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    }
}
