use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{AccountKind, AdminRights, NewAccount, UsersConfig, fixture::Fixture};

fn auth(body: serde_json::Value) -> AuthData {
    serde_json::from_value(body).unwrap()
}

fn fixture(registration: RegistrationMode) -> Fixture {
    let registration_token = Some("letmein".to_owned());
    Fixture::with_config(UsersConfig { registration, registration_token, ..UsersConfig::default() })
}

fn step(f: &Fixture, purpose: UiaPurpose, data: Option<AuthData>) -> Result<UiaOutcome, UserError> {
    f.run(f.users.authenticate_interactively(purpose, data.as_ref()))
}

fn challenge_of(outcome: UiaOutcome) -> Challenge {
    match outcome {
        UiaOutcome::Challenge(challenge) => challenge,
        UiaOutcome::Complete { .. } => panic!("complete too early"),
    }
}

#[test]
fn open_registration_needs_the_dummy_stage_and_a_session_serves_once() {
    let f = fixture(RegistrationMode::Open);
    let start = challenge_of(step(&f, UiaPurpose::Register, None).unwrap());
    assert_eq!(start.flows, [AuthFlow { stages: vec![AuthStage::Dummy] }]);
    let answer = json!({ "type": "m.login.dummy", "session": start.session });
    let done = step(&f, UiaPurpose::Register, Some(auth(answer.clone()))).unwrap();
    assert_eq!(done, UiaOutcome::Complete { registration_token: None });
    assert!(matches!(step(&f, UiaPurpose::Register, Some(auth(answer))), Err(UserError::InvalidParam(_))));
}

#[test]
fn a_challenge_serialises_as_the_specification_shows_it() {
    let f = fixture(RegistrationMode::Open);
    let start = challenge_of(step(&f, UiaPurpose::Register, None).unwrap());
    let expected = json!({
        "session": start.session, "flows": [{ "stages": ["m.login.dummy"] }], "completed": [], "params": {}
    });
    assert_eq!(serde_json::to_value(&start).unwrap(), expected);
}

#[test]
fn token_registration_wants_a_valid_token_and_hands_it_on() {
    let f = fixture(RegistrationMode::Token);
    let start = challenge_of(step(&f, UiaPurpose::Register, None).unwrap());
    let wrong = json!({ "type": "m.login.registration_token", "session": start.session, "token": "nope" });
    let refused = challenge_of(step(&f, UiaPurpose::Register, Some(auth(wrong))).unwrap());
    assert_eq!(refused.errcode, Some("M_FORBIDDEN"));
    let dummy = json!({ "type": "m.login.dummy", "session": start.session });
    challenge_of(step(&f, UiaPurpose::Register, Some(auth(dummy))).unwrap());
    let right = json!({ "type": "m.login.registration_token", "session": start.session, "token": "letmein" });
    let done = step(&f, UiaPurpose::Register, Some(auth(right))).unwrap();
    assert_eq!(done, UiaOutcome::Complete { registration_token: Some("letmein".into()) });
}

#[test]
fn closed_registration_offers_nothing() {
    let f = fixture(RegistrationMode::Closed);
    assert!(matches!(step(&f, UiaPurpose::Register, None), Err(UserError::RegistrationClosed)));
}

#[test]
fn the_password_must_be_of_the_own_account() {
    let f = fixture(RegistrationMode::Open);
    let create = |localpart, password| {
        f.run(f.users.create_account(NewAccount {
            localpart,
            password: Some(password),
            kind: AccountKind::User,
            admin: AdminRights::Denied,
            registration_token: None,
        }))
        .unwrap()
        .user
    };
    let alice = create("alice", "alice's password");
    create("mallory", "mallory's password");
    let purpose = UiaPurpose::Account(alice, "delete device");
    let attempt = |user: &str, password: &str| {
        let identifier = json!({ "type": "m.id.user", "user": user });
        let data = json!({ "type": "m.login.password", "identifier": identifier, "password": password });
        step(&f, purpose, Some(auth(data))).unwrap()
    };
    assert_eq!(challenge_of(attempt("alice", "wrong password")).errcode, Some("M_FORBIDDEN"));
    assert_eq!(challenge_of(attempt("mallory", "mallory's password")).errcode, Some("M_FORBIDDEN"));
    assert!(matches!(attempt("@alice:example.org", "alice's password"), UiaOutcome::Complete { .. }));
    let dummy = challenge_of(step(&f, purpose, Some(auth(json!({ "type": "m.login.dummy" })))).unwrap());
    assert_eq!(dummy.completed, [AuthStage::Dummy]);
}

#[test]
fn a_session_is_bound_to_its_purpose_and_expires() {
    let f = fixture(RegistrationMode::Open);
    let user = f.account("alice").user;
    let session = challenge_of(step(&f, UiaPurpose::Account(user, "a"), None).unwrap()).session;
    let ask = |purpose| step(&f, purpose, Some(auth(json!({ "session": session }))));
    assert!(ask(UiaPurpose::Account(user, "b")).is_err());
    assert!(ask(UiaPurpose::Register).is_err());
    assert!(ask(UiaPurpose::Account(user, "a")).is_ok());
    f.clock.advance(Duration::from_secs(15 * 60));
    assert!(ask(UiaPurpose::Account(user, "a")).is_err());
}

#[test]
fn sessions_are_bounded() {
    let f = fixture(RegistrationMode::Open);
    for _ in 0..MAX_SESSIONS + 50 {
        f.users.start_uia_session(UiaPurpose::Register);
    }
    let table = f.users.inner.uia.0.lock();
    assert_eq!((table.sessions.len(), table.order.len()), (MAX_SESSIONS, MAX_SESSIONS));
}
