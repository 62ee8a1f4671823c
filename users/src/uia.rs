//! User-interactive authentication: sessions in memory, bounded, that expire.
//!
//! Spec: Client-Server API §"User-Interactive Authentication API". A session remembers which stages were completed
//! and for what purpose, and nothing of the request's body: the edge repeats its own checks on the final request.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use rooms::UserNid;
use serde::{Deserialize, Serialize};

use crate::{RegistrationMode, UserError, Users};

const SESSION_LIFETIME_MS: u64 = 15 * 60_000;
const MAX_SESSIONS: usize = 10_000;

/// One step of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthStage {
    /// Nothing to prove.
    #[serde(rename = "m.login.dummy")]
    Dummy,
    /// A registration token.
    #[serde(rename = "m.login.registration_token")]
    RegistrationToken,
    /// The account's password.
    #[serde(rename = "m.login.password")]
    Password,
}

/// Stages that together are enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthFlow {
    /// In the order a client should take them; any order is accepted.
    pub stages: Vec<AuthStage>,
}

/// What the authentication is for. A session serves only the purpose it was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UiaPurpose {
    /// Creating an account.
    Register,
    /// Something that needs the account's password again; the text names the endpoint.
    Account(UserNid, &'static str),
}

/// The `auth` object of a request.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AuthData {
    /// The stage being answered; absent when a client only asks whether the session is complete.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The session, from an earlier answer.
    pub session: Option<String>,
    /// For `m.login.password`.
    pub identifier: Option<AuthIdentifier>,
    /// For `m.login.password`, the old form of the identifier.
    pub user: Option<String>,
    /// For `m.login.password`.
    pub password: Option<String>,
    /// For `m.login.registration_token`.
    pub token: Option<String>,
}

/// Who answers a password stage.
#[derive(Clone, Debug, Deserialize)]
pub struct AuthIdentifier {
    /// Only `m.id.user` is known.
    #[serde(rename = "type")]
    pub kind: String,
    /// Localpart or user ID.
    pub user: Option<String>,
}

/// The 401 answer: what is still to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Challenge {
    /// The session to continue.
    pub session: String,
    /// The ways to complete it.
    pub flows: Vec<AuthFlow>,
    /// What was completed so far.
    pub completed: Vec<AuthStage>,
    /// Parameters of the stages: none of ours has any.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errcode: Option<&'static str>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Outcome of one request's authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UiaOutcome {
    /// Enough: go on. The session is used up.
    Complete {
        /// The registration token that was shown; it is used up together with creating the account.
        registration_token: Option<String>,
    },
    /// Answer 401 with this.
    Challenge(Challenge),
}

#[derive(Debug)]
struct UiaSession {
    purpose: UiaPurpose,
    started_ms: u64,
    completed: Vec<AuthStage>,
    registration_token: Option<String>,
}

/// Sessions under way. Bounded: the oldest is forgotten first.
#[derive(Default)]
pub(crate) struct UiaSessions(Mutex<SessionTable>);

#[derive(Default)]
struct SessionTable {
    sessions: HashMap<String, UiaSession>,
    order: VecDeque<String>,
}

impl SessionTable {
    fn drop_expired(&mut self, now_ms: u64) {
        while let Some(oldest) = self.order.front() {
            let alive = self.sessions.get(oldest).is_some_and(|s| now_ms < s.started_ms + SESSION_LIFETIME_MS);
            if alive && self.order.len() <= MAX_SESSIONS {
                break;
            }
            if let Some(oldest) = self.order.pop_front() {
                self.sessions.remove(&oldest);
            }
        }
    }
}

impl UiaSessions {
    /// In how many sessions a registration token was shown.
    pub(crate) fn count_shown(&self, token: &str, now_ms: u64) -> usize {
        let mut table = self.0.lock();
        table.drop_expired(now_ms);
        table.sessions.values().filter(|session| session.registration_token.as_deref() == Some(token)).count()
    }
}

impl Users {
    /// The flows for a purpose.
    ///
    /// # Errors
    /// `RegistrationClosed`.
    pub fn auth_flows(&self, purpose: UiaPurpose) -> Result<Vec<AuthFlow>, UserError> {
        let stage = match (purpose, self.config().registration) {
            (UiaPurpose::Register, RegistrationMode::Closed) => return Err(UserError::RegistrationClosed),
            (UiaPurpose::Register, RegistrationMode::Token) => AuthStage::RegistrationToken,
            (UiaPurpose::Register, RegistrationMode::Open) => AuthStage::Dummy,
            (UiaPurpose::Account(..), _) => AuthStage::Password,
        };
        Ok(vec![AuthFlow { stages: vec![stage] }])
    }

    /// Takes one step. `auth: None` starts a session. Cancel-safe: a cancelled step has not been taken.
    ///
    /// # Errors
    /// `RegistrationClosed`, `InvalidParam` for a session of another purpose, `Busy`.
    pub async fn authenticate_interactively(
        &self,
        purpose: UiaPurpose,
        auth: Option<&AuthData>,
    ) -> Result<UiaOutcome, UserError> {
        let flows = self.auth_flows(purpose)?;
        let Some(auth) = auth else {
            let session = self.start_uia_session(purpose);
            return Ok(UiaOutcome::Challenge(challenge(session, flows, Vec::new(), None)));
        };
        let session = match &auth.session {
            Some(session) => self.check_uia_session(purpose, session)?,
            None => self.start_uia_session(purpose),
        };
        let mut failure = None;
        if let Some(kind) = &auth.kind {
            match self.take_stage(purpose, kind, auth).await {
                Ok(stage) => self.complete_stage(&session, stage, auth),
                Err(error @ (UserError::Forbidden(_) | UserError::UserLocked | UserError::UserDeactivated)) => {
                    failure = Some(("M_FORBIDDEN", error));
                }
                Err(error @ (UserError::MissingParam(_) | UserError::InvalidParam(_))) => {
                    failure = Some(("M_INVALID_PARAM", error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.finish_or_challenge(session, flows, failure))
    }

    fn finish_or_challenge(
        &self,
        session: String,
        flows: Vec<AuthFlow>,
        failure: Option<(&'static str, UserError)>,
    ) -> UiaOutcome {
        let mut table = self.inner.uia.0.lock();
        let completed = table.sessions.get(&session).map(|s| s.completed.clone()).unwrap_or_default();
        let is_complete = flows.iter().any(|flow| flow.stages.iter().all(|stage| completed.contains(stage)));
        if failure.is_none() && is_complete {
            let registration_token = table.sessions.remove(&session).and_then(|s| s.registration_token);
            return UiaOutcome::Complete { registration_token };
        }
        UiaOutcome::Challenge(challenge(session, flows, completed, failure))
    }

    fn start_uia_session(&self, purpose: UiaPurpose) -> String {
        let session = self.inner.random.token(24);
        let now = self.now_ms();
        let mut table = self.inner.uia.0.lock();
        table.order.push_back(session.clone());
        let fresh = UiaSession { purpose, started_ms: now, completed: Vec::new(), registration_token: None };
        table.sessions.insert(session.clone(), fresh);
        table.drop_expired(now);
        session
    }

    fn check_uia_session(&self, purpose: UiaPurpose, session: &str) -> Result<String, UserError> {
        let mut table = self.inner.uia.0.lock();
        table.drop_expired(self.now_ms());
        match table.sessions.get(session) {
            Some(known) if known.purpose == purpose => Ok(session.to_owned()),
            Some(_) => Err(UserError::InvalidParam("this session was started for another operation")),
            None => Err(UserError::InvalidParam("unknown or expired authentication session")),
        }
    }

    async fn take_stage(&self, purpose: UiaPurpose, kind: &str, auth: &AuthData) -> Result<AuthStage, UserError> {
        match (kind, purpose) {
            ("m.login.dummy", _) => Ok(AuthStage::Dummy),
            ("m.login.registration_token", UiaPurpose::Register) => {
                let token = auth.token.as_deref().ok_or(UserError::MissingParam("token"))?;
                if !self.is_registration_token_valid(token)? {
                    return Err(UserError::Forbidden("the registration token is not valid"));
                }
                Ok(AuthStage::RegistrationToken)
            }
            ("m.login.password", UiaPurpose::Account(user, _)) => {
                self.check_own_password(user, auth).await?;
                Ok(AuthStage::Password)
            }
            _ => Err(UserError::InvalidParam("this authentication type is not offered")),
        }
    }

    async fn check_own_password(&self, user: UserNid, auth: &AuthData) -> Result<(), UserError> {
        let password = auth.password.as_deref().ok_or(UserError::MissingParam("password"))?;
        let named = match &auth.identifier {
            Some(identifier) if identifier.kind == "m.id.user" => identifier.user.as_deref(),
            Some(_) => return Err(UserError::InvalidParam("only m.id.user identifiers are known")),
            None => auth.user.as_deref(),
        };
        let user_id = self.rooms().user_id(user)?;
        if let Some(named) = named
            && self.parse_local_user(named).ok().as_ref() != Some(&user_id)
        {
            return Err(UserError::Forbidden("the password of another user was given"));
        }
        self.check_password(&user_id, password).await?;
        Ok(())
    }

    fn complete_stage(&self, session: &str, stage: AuthStage, auth: &AuthData) {
        if let Some(known) = self.inner.uia.0.lock().sessions.get_mut(session) {
            if !known.completed.contains(&stage) {
                known.completed.push(stage);
            }
            if stage == AuthStage::RegistrationToken {
                known.registration_token.clone_from(&auth.token);
            }
        }
    }
}

fn challenge(
    session: String,
    flows: Vec<AuthFlow>,
    completed: Vec<AuthStage>,
    failure: Option<(&'static str, UserError)>,
) -> Challenge {
    let (errcode, error) = failure.map_or((None, None), |(code, error)| (Some(code), Some(error.to_string())));
    Challenge { session, flows, completed, params: serde_json::Map::new(), errcode, error }
}

#[cfg(test)]
mod tests;
