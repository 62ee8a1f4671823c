use super::*;
use crate::fixture::Fixture;

#[test]
fn a_new_role_counts_at_the_next_request_of_an_open_session() {
    let f = Fixture::new();
    let session = f.session("alice", "PHONE");
    assert_eq!(session.role, Role::Member);
    assert!(session.check_may(Right::CreateRooms).is_ok());
    let login = crate::DeviceLogin { device_id: Some("PHONE"), ..Default::default() };
    let token = f.run(f.users.start_session(session.user, login)).unwrap().tokens.access_token;
    f.run(f.users.set_role(session.user, Role::Guest)).unwrap();
    let session = f.run(f.users.authenticate(&token)).unwrap();
    assert_eq!(session.role, Role::Guest);
    assert!(matches!(session.check_may(Right::CreateRooms), Err(UserError::Forbidden(_))));
    assert!(session.check_may(Right::Call).is_ok());
}

#[test]
fn an_administrator_is_one_by_the_account_and_stops_to_be_one() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    f.run(f.users.set_role(user, Role::Administrator)).unwrap();
    assert!(f.users.account(user).unwrap().unwrap().is_admin);
    f.run(f.users.set_role(user, Role::Moderator)).unwrap();
    assert!(!f.users.account(user).unwrap().unwrap().is_admin);
    assert_eq!(f.users.role(user).unwrap(), Some(Role::Moderator));
    f.run(f.users.set_role(user, Role::Member)).unwrap();
    assert_eq!(f.users.role(user).unwrap(), Some(Role::Member));
}

#[test]
fn a_guest_of_the_specification_stays_one() {
    let settings = crate::UsersSettings { allow_guests: true, ..Default::default() };
    let f = Fixture::with_config(crate::UsersConfig { settings, ..Default::default() });
    let guest = f.run(f.users.create_guest()).unwrap().user;
    assert_eq!(f.users.role(guest).unwrap(), Some(Role::Guest));
    let refused = f.run(f.users.set_role(guest, Role::Member));
    assert!(matches!(refused, Err(UserError::InvalidParam(_))));
}

#[test]
fn what_a_role_may_do_is_configured() {
    let mut config = RolesConfig::default();
    config.member.invite = false;
    config.guest.upload = true;
    assert!(!Rights::of(Role::Member, &config).allow(Right::Invite));
    assert!(Rights::of(Role::Moderator, &config).allow(Right::Invite));
    assert!(Rights::of(Role::Guest, &config).allow(Right::Upload));
    assert!(!Rights::of(Role::Guest, &config).allow(Right::CreateRooms));
    config.member.create_rooms = false;
    assert!(Rights::of(Role::Administrator, &config).allow(Right::CreateRooms));
}

#[test]
fn every_role_is_read_by_its_name() {
    for role in [Role::Administrator, Role::Moderator, Role::Member, Role::Guest] {
        assert_eq!(Role::parse(role.as_str()), Some(role));
    }
    assert_eq!(Role::parse("root"), None);
}
