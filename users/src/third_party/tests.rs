use super::*;
use crate::fixture::Fixture;

fn pair(medium: &str, address: &str) -> (String, String) {
    (medium.to_owned(), address.to_owned())
}

#[test]
fn addresses_are_replaced_and_found_whatever_their_case() {
    let f = Fixture::new();
    let alice = f.account("alice").user;
    f.run(f.users.set_third_party_ids(alice, &[pair("email", "Alice@Example.org"), pair("msisdn", "4930")])).unwrap();
    assert_eq!(f.users.find_by_third_party_id("email", "ALICE@example.org").unwrap(), Some(alice));
    f.run(f.users.set_third_party_ids(alice, &[pair("email", "new@example.org")])).unwrap();
    assert_eq!(f.users.find_by_third_party_id("msisdn", "4930").unwrap(), None);
    let ids = f.users.third_party_ids(alice).unwrap();
    assert_eq!(ids.iter().map(|id| &*id.address).collect::<Vec<_>>(), ["new@example.org"]);
}

#[test]
fn an_address_and_an_external_id_belong_to_one_account() {
    let f = Fixture::new();
    let (alice, bob) = (f.account("alice").user, f.account("bob").user);
    f.run(f.users.set_third_party_ids(alice, &[pair("email", "a@b")])).unwrap();
    let taken = f.run(f.users.set_third_party_ids(bob, &[pair("email", "a@b")]));
    assert!(matches!(taken, Err(UserError::IdentityInUse(_))));
    let id = ExternalId { auth_provider: "oidc".into(), external_id: "1".into() };
    f.run(f.users.set_external_ids(alice, std::slice::from_ref(&id))).unwrap();
    assert_eq!(f.users.find_by_external_id(&id).unwrap(), Some(alice));
    let taken = f.run(f.users.set_external_ids(bob, std::slice::from_ref(&id)));
    assert!(matches!(taken, Err(UserError::IdentityInUse(_))));
    f.run(f.users.deactivate(alice)).unwrap();
    f.run(f.users.set_external_ids(bob, std::slice::from_ref(&id))).unwrap();
    assert_eq!(f.users.find_by_external_id(&id).unwrap(), Some(bob));
}

#[test]
fn what_is_no_address_is_refused() {
    let f = Fixture::new();
    let alice = f.account("alice").user;
    for (medium, address) in [("fax", "1"), ("email", "nobody"), ("email", "@"), ("msisdn", "+49"), ("msisdn", "")] {
        let refused = f.run(f.users.set_third_party_ids(alice, &[pair(medium, address)]));
        assert!(matches!(refused, Err(UserError::InvalidParam(_))), "{medium} {address}");
        assert_eq!(f.users.find_by_third_party_id(medium, address).unwrap(), None);
    }
}
