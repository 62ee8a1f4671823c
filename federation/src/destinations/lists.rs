//! The operator's lists of servers.

use spec::ids::ServerName;

/// Which servers the operator allows.
pub(super) struct ServerLists {
    allowed: Vec<String>,
    denied: Vec<String>,
}

impl ServerLists {
    pub(super) fn new(allowed: &[String], denied: &[String]) -> ServerLists {
        let lower = |patterns: &[String]| patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
        ServerLists { allowed: lower(allowed), denied: lower(denied) }
    }

    /// Denial outweighs permission. A pattern stands for a name with its port or for a host with any.
    pub(super) fn allow(&self, server: &ServerName) -> bool {
        if self.allowed.is_empty() && self.denied.is_empty() {
            return true;
        }
        let name = server.as_str().to_ascii_lowercase();
        let host = server.host().to_ascii_lowercase();
        let is_in =
            |list: &[String]| list.iter().any(|pattern| matches_glob(pattern, &name) || matches_glob(pattern, &host));
        !is_in(&self.denied) && (self.allowed.is_empty() || is_in(&self.allowed))
    }
}

/// Whether a pattern with `*` (any characters) and `?` (any one) stands for the whole text. Takes at
/// most pattern times text steps.
pub(super) fn matches_glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut position) = (0, 0);
    // Where to go on if what follows the last star does not fit: the star then takes one more.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(position) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, position));
                at += 1;
            }
            Some(b'?') => (at, position) = (at + 1, position + 1),
            Some(expected) if expected == byte => (at, position) = (at + 1, position + 1),
            _ => match star {
                Some((after_star, taken)) => {
                    star = Some((after_star, taken + 1));
                    (at, position) = (after_star, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'*'))
}
