//! A user of a server under test.

use serde_json::{Value, json};

use crate::{HttpClient, HttpError, HttpResponse};

/// A logged-in user with a connection of their own.
pub struct Account {
    /// The connection.
    pub client: HttpClient,
    /// The user id.
    pub user_id: String,
    /// The access token.
    pub token: String,
}

impl Account {
    /// Registers `name` (password `name-password`) on a server with open registration.
    ///
    /// # Panics
    /// If the server does not answer with a new account.
    #[must_use]
    pub fn register(mut client: HttpClient, name: &str) -> Account {
        const PATH: &str = "/_matrix/client/v3/register";
        let mut body = json!({"username": name, "password": format!("{name}-password"), "device_id": "TEST"});
        let mut response = client.request("POST", PATH, None, Some(&body)).expect("the server answers");
        if response.status == 401 {
            // User-interactive authentication: the stage that asks for nothing.
            body["auth"] = json!({"type": "m.login.dummy", "session": response.json()["session"]});
            response = client.request("POST", PATH, None, Some(&body)).expect("the server answers");
        }
        let account = expect_ok("register", &response);
        Account { client, user_id: text_of(&account, "user_id"), token: text_of(&account, "access_token") }
    }

    /// Sends a request as this user. `path` begins after `/_matrix/client/v3`.
    ///
    /// # Errors
    /// Where the connection fails; any status is a response.
    pub fn request(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<HttpResponse, HttpError> {
        self.client.request(method, &format!("/_matrix/client/v3{path}"), Some(&self.token), body)
    }

    /// As [`Account::request`], where anything but a success ends the test.
    ///
    /// # Panics
    /// If the connection fails, or the status is not 200.
    pub fn expect(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let response = self.request(method, path, body);
        let response = response.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        expect_ok(&format!("{method} {path}"), &response)
    }

    /// Makes a room from the body of `POST /createRoom`; returns its id.
    ///
    /// # Panics
    /// As [`Account::expect`].
    pub fn create_room(&mut self, request: &Value) -> String {
        text_of(&self.expect("POST", "/createRoom", Some(request)), "room_id")
    }

    /// Joins a room.
    ///
    /// # Panics
    /// As [`Account::expect`].
    pub fn join(&mut self, room: &str) {
        self.expect("POST", &format!("/rooms/{}/join", encode_path_segment(room)), Some(&json!({})));
    }

    /// Sends a text message; returns its event id.
    ///
    /// # Panics
    /// As [`Account::expect`].
    pub fn send_text(&mut self, room: &str, transaction: &str, text: &str) -> String {
        let path = format!("/rooms/{}/send/m.room.message/{transaction}", encode_path_segment(room));
        text_of(&self.expect("PUT", &path, Some(&json!({"msgtype": "m.text", "body": text}))), "event_id")
    }
}

fn expect_ok(what: &str, response: &HttpResponse) -> Value {
    assert_eq!(response.status, 200, "{what}: {}", String::from_utf8_lossy(&response.body));
    response.json()
}

fn text_of(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned()
}

/// Escapes an id for a path or a query value.
#[must_use]
pub fn encode_path_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
