//! Single-use tokens with which one device logs another one in (`m.login.token`).
//!
//! Spec: Client-Server API §"POST /login/get_token". In memory: they live two minutes.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use rooms::UserNid;

use crate::{
    UserError, Users,
    tokens::{TokenHash, hash_token},
};

const LIFETIME_MS: u64 = 120_000;
const MAX_TOKENS: usize = 10_000;

/// Tokens handed out and not yet used. Bounded: the oldest is forgotten first.
#[derive(Default)]
pub(crate) struct LoginTokens(Mutex<TokenTable>);

#[derive(Default)]
struct TokenTable {
    owners: HashMap<TokenHash, (UserNid, u64)>,
    order: VecDeque<TokenHash>,
}

impl Users {
    /// A token that logs another device of `user` in once, and its life in milliseconds.
    pub fn create_login_token(&self, user: UserNid) -> (String, u64) {
        let token = self.inner.random.token(32);
        let hash = hash_token(&token);
        let now = self.now_ms();
        let mut table = self.inner.login_tokens.0.lock();
        table.order.push_back(hash);
        table.owners.insert(hash, (user, now + LIFETIME_MS));
        while let Some(oldest) = table.order.front().copied() {
            let alive = table.owners.get(&oldest).is_some_and(|(_, expires)| now < *expires);
            if alive && table.order.len() <= MAX_TOKENS {
                break;
            }
            table.order.pop_front();
            table.owners.remove(&oldest);
        }
        (token, LIFETIME_MS)
    }

    /// The user of a login token, which is used up.
    ///
    /// # Errors
    /// `Forbidden` when it is unknown, used or expired.
    pub fn take_login_token(&self, token: &str) -> Result<UserNid, UserError> {
        match self.inner.login_tokens.0.lock().owners.remove(&hash_token(token)) {
            Some((user, expires)) if self.now_ms() < expires => Ok(user),
            _ => Err(UserError::Forbidden("the login token is not valid")),
        }
    }
}

#[cfg(test)]
mod tests;
