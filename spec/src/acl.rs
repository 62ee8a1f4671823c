//! Server access control lists of rooms: the content of `m.room.server_acl` (Client-Server API §Server
//! Access Control Lists (ACLs) for rooms).

use serde_json::{Map, Value};

use crate::ids::ServerName;
use crate::push::glob::Glob;

#[cfg(test)]
mod tests;

/// A list, compiled. Whatever of it is malformed counts as not being there.
#[derive(Clone, Debug)]
pub struct ServerAcl {
    allow_ip_literals: bool,
    allow: Box<[Glob]>,
    deny: Box<[Glob]>,
}

impl ServerAcl {
    /// Reads the content of an `m.room.server_acl` event. A list without a usable `allow` allows no server.
    pub fn parse(content: &str) -> Self {
        let content: Map<String, Value> = serde_json::from_str(content).unwrap_or_default();
        let globs = |key: &str| -> Box<[Glob]> {
            let entries = content.get(key).and_then(Value::as_array).into_iter().flatten();
            entries.filter_map(Value::as_str).map(Glob::new).collect()
        };
        Self {
            allow_ip_literals: content.get("allow_ip_literals").and_then(Value::as_bool).unwrap_or(true),
            allow: globs("allow"),
            deny: globs("deny"),
        }
    }

    /// Whether the server may take part in the room. Its port is not considered.
    pub fn allows(&self, server: &ServerName) -> bool {
        let host = server.host();
        if !self.allow_ip_literals && is_ip_literal(host) {
            return false;
        }
        let is_in = |list: &[Glob]| list.iter().any(|glob| glob.matches(host));
        !is_in(&self.deny) && is_in(&self.allow)
    }
}

/// Whether a host is an address instead of a name. What is made of digits and dots alone is: no top-level
/// domain is a number.
fn is_ip_literal(host: &str) -> bool {
    host.starts_with('[') || host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}
