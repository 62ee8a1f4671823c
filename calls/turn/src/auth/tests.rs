use super::*;
use crate::codec::{Class, Method, Writer, attribute};

const NOW: u64 = 1_700_000_000;

fn auth() -> Auth {
    Auth::new("north", "a.org", &Random::seeded(1))
}

fn source() -> SocketAddr {
    "192.0.2.7:5000".parse().unwrap()
}

/// A signed request; `change` may add to it before it is signed.
fn request(
    auth: &Auth,
    username: &str,
    nonce: &str,
    (sha256_key, integrity): (bool, Integrity),
    change: impl FnOnce(&mut Writer<'_>),
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Class::Request, Method::Allocate, &[7; 12]);
    writer.add(attribute::USERNAME, username.as_bytes()).add(attribute::REALM, b"a.org");
    writer.add(attribute::NONCE, nonce.as_bytes());
    change(&mut writer);
    writer.protect(integrity, auth.key(username, sha256_key).bytes());
    writer.finish();
    out
}

fn check<'a>(auth: &Auth, bytes: &'a [u8], now: u64, source: SocketAddr) -> Result<(String, u64), Unproven> {
    let message: Message<'a> = Message::parse(bytes).unwrap();
    let attributes = Attributes::read(&message).unwrap();
    auth.check(&message, &attributes, now, source).map(|caller| (caller.user.to_owned(), caller.expires))
}

#[test]
fn the_password_is_the_one_that_coturn_expects() {
    // printf 1700000600:alice | openssl dgst -sha1 -hmac north -binary | base64
    assert_eq!(auth().password("1700000600:alice"), PASSWORD_OF_ALICE);
}

const PASSWORD_OF_ALICE: &str = "gthUwOpcRoLI0MMCziCEBOWYnpo=";

#[test]
fn a_caller_is_known_by_the_name_after_the_time() {
    let auth = auth();
    let bytes = request(&auth, "1700000600:@a:a.org", &auth.nonce(NOW, source()), (false, Integrity::Sha1), |_| {});
    assert_eq!(check(&auth, &bytes, NOW, source()), Ok(("@a:a.org".to_owned(), 1_700_000_600)));
    let nobody = request(&auth, "1700000600", &auth.nonce(NOW, source()), (false, Integrity::Sha256), |_| {});
    assert_eq!(check(&auth, &nobody, NOW, source()), Ok((String::new(), 1_700_000_600)));
    let untimed = request(&auth, "alice", &auth.nonce(NOW, source()), (false, Integrity::Sha1), |_| {});
    assert_eq!(check(&auth, &untimed, NOW, source()), Err(Unproven::Unauthorized));
}

#[test]
fn another_secret_or_realm_is_refused() {
    let auth = auth();
    let nonce = auth.nonce(NOW, source());
    let forger = Auth::new("south", "a.org", &Random::seeded(1));
    let forged = request(&forger, "1700000600:a", &nonce, (false, Integrity::Sha1), |_| {});
    assert_eq!(check(&auth, &forged, NOW, source()), Err(Unproven::Unauthorized));
    let elsewhere = Auth::new("north", "b.org", &Random::seeded(1));
    let bytes = request(&auth, "1700000600:a", &nonce, (false, Integrity::Sha1), |_| {});
    assert_eq!(check(&elsewhere, &bytes, NOW, source()), Err(Unproven::Unauthorized));
}

#[test]
fn a_nonce_is_for_one_source_and_some_time() {
    let auth = auth();
    let nonce = auth.nonce(NOW, source());
    assert_eq!(nonce.len(), 29, "strangers get it: it stays short");
    let bytes = request(&auth, "1700000600:a", &nonce, (false, Integrity::Sha1), |_| {});
    assert!(check(&auth, &bytes, NOW + NONCE_SECONDS, source()).is_ok());
    assert_eq!(check(&auth, &bytes, NOW + 2 * NONCE_SECONDS, source()), Err(Unproven::StaleNonce));
    let other_port = SocketAddr::new(source().ip(), 5001);
    assert_eq!(check(&auth, &bytes, NOW, other_port), Err(Unproven::StaleNonce));
    let made_up = request(&auth, "1700000600:a", "obMatJos2gAAB0000000000000000", (false, Integrity::Sha1), |_| {});
    assert_eq!(check(&auth, &made_up, NOW, source()), Err(Unproven::StaleNonce));
}

#[test]
fn the_algorithm_is_chosen_from_the_list_that_was_offered() {
    let auth = auth();
    let nonce = auth.nonce(NOW, source());
    let ask = |list: &'static [u8], chosen: &'static [u8], sha256_key: bool| {
        let bytes = request(&auth, "1700000600:a", &nonce, (sha256_key, Integrity::Sha256), |writer| {
            writer.add(attribute::PASSWORD_ALGORITHMS, list).add(attribute::PASSWORD_ALGORITHM, chosen);
        });
        check(&auth, &bytes, NOW, source()).map(|_| ())
    };
    assert_eq!(ask(&ALGORITHMS, &[0, 2, 0, 0], true), Ok(()));
    assert_eq!(ask(&ALGORITHMS, &[0, 1, 0, 0], false), Ok(()));
    assert_eq!(ask(&ALGORITHMS, &[0, 1, 0, 0], true), Err(Unproven::Unauthorized));
    assert_eq!(ask(&[0, 1, 0, 0], &[0, 1, 0, 0], false), Err(Unproven::Bad), "somebody took SHA-256 off the list");
    assert_eq!(ask(&ALGORITHMS, &[0, 3, 0, 0], false), Err(Unproven::Bad));
    let without_list = request(&auth, "1700000600:a", &nonce, (false, Integrity::Sha1), |writer| {
        writer.add(attribute::PASSWORD_ALGORITHM, &[0, 1, 0, 0]);
    });
    assert_eq!(check(&auth, &without_list, NOW, source()), Err(Unproven::Bad));
}

#[test]
fn unsigned_and_incomplete_requests_differ() {
    let auth = auth();
    let mut out = Vec::new();
    Writer::new(&mut out, Class::Request, Method::Allocate, &[7; 12]).finish();
    assert_eq!(check(&auth, &out, NOW, source()), Err(Unproven::Unauthorized));
    let mut writer = Writer::new(&mut out, Class::Request, Method::Allocate, &[7; 12]);
    writer.add(attribute::USERNAME, b"1700000600:a").protect(Integrity::Sha1, b"any");
    writer.finish();
    assert_eq!(check(&auth, &out, NOW, source()), Err(Unproven::Bad));
}
