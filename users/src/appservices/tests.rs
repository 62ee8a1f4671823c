use std::fs;
use std::sync::Arc;

use spec::ids::{RoomAlias, RoomId, ServerName, UserId};

use super::{AppService, AppServiceError, AppServiceSource, EphemeralKey, RegistrationError};
use crate::UserError;
use crate::fixture::Fixture;

const IRC: &str = r##"
id: "IRC Bridge"
url: "http://127.0.0.1:1234/"
as_token: "30c05ae90a248a4188e620216fa72e349803310ec83e2a77b34fe90be6081f46"
hs_token: "312df522183efd404ec1cd22d2ffa4bbc76a8c1ccf541dd692eef281356bb74e"
sender_localpart: "_irc_bot"
some.bridge.setting: {anything: [1, 2]}
namespaces:
  users:
    - exclusive: true
      regex: "@_irc_bridge_.*"
  aliases:
    - exclusive: false
      regex: "#_irc_bridge_.*"
  rooms: []
"##;

fn parse(document: &str) -> Result<AppService, RegistrationError> {
    AppService::parse(document, &ServerName::parse("example.org").unwrap(), AppServiceSource::Stored)
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

#[test]
fn the_example_of_the_specification_is_read() {
    let service = parse(IRC).unwrap();
    assert_eq!((service.id(), service.url()), ("IRC Bridge", Some("http://127.0.0.1:1234")));
    assert_eq!(service.sender().as_str(), "@_irc_bot:example.org");
    assert!(service.is_rate_limited() && service.ephemeral().is_none() && !service.wants_encryption());
    assert!(service.owns_user_exclusively(&user("@_irc_bridge_x:example.org")));
    assert!(service.owns_user_exclusively(&user("@_irc_bot:example.org")));
    assert!(!service.owns_user(&user("@_irc_bridge_x:elsewhere.org")), "of this server only");
    assert!(!service.owns_user(&user("@x_irc_bridge_:example.org")), "from the first character on");
    let alias = RoomAlias::parse("#_irc_bridge_x:example.org").unwrap();
    assert!(service.owns_alias(&alias) && !service.owns_alias_exclusively(&alias));
    let room = RoomId::parse("!room:example.org").unwrap();
    assert!(service.wants_room(&room, &["#_irc_bridge_x:example.org".to_owned()]));
    assert!(!service.wants_room(&room, &["#other:example.org".to_owned()]));
    assert!(!format!("{service:?}").contains("30c05") && !service.describe().contains("30c05"));
}

#[test]
fn flags_and_absent_keys() {
    let least = "id: a\nas_token: b\nhs_token: c\nsender_localpart: d\n";
    let service = parse(least).unwrap();
    assert!(service.url().is_none() && service.protocols().is_empty());
    let with = |more: &str| parse(&format!("{least}{more}\n")).unwrap();
    assert!(with("url: null").url().is_none() && with("url:").url().is_none());
    assert!(!with("rate_limited: false").is_rate_limited());
    assert_eq!(with("receive_ephemeral: true").ephemeral(), Some(EphemeralKey::Stable));
    assert_eq!(with("de.sorunome.msc2409.push_ephemeral: true").ephemeral(), Some(EphemeralKey::Legacy));
    let both = "receive_ephemeral: true\nde.sorunome.msc2409.push_ephemeral: true";
    assert_eq!(with(both).ephemeral(), Some(EphemeralKey::Stable));
    assert!(with("org.matrix.msc3202: true").wants_encryption());
    let all = with("namespaces: {users: [{exclusive: false, regex: .*}], rooms: [], aliases: []}");
    assert!(all.owns_user(&user("@anybody:example.org")) && !all.owns_user_exclusively(&user("@anybody:example.org")));
}

#[test]
fn what_is_wrong_is_said() {
    let refused = |from: &str, to: &str| {
        let document = IRC.replace(from, to);
        assert_ne!(document, IRC, "{from}");
        parse(&document).unwrap_err().to_string()
    };
    assert!(parse("nonsense").unwrap_err().to_string().starts_with("this is no registration"));
    assert!(parse(&" ".repeat(70_000)).unwrap_err().to_string().contains("65536 bytes"));
    assert!(refused("id: \"IRC Bridge\"\n", "").contains("`id`"));
    assert!(refused("\"IRC Bridge\"", "\"\"").starts_with("id: "));
    assert!(refused("http://127.0.0.1:1234/", "ftp://x").starts_with("url: "));
    assert!(refused("http://127.0.0.1:1234/", "http://").starts_with("url: "));
    assert!(refused("http://127.0.0.1:1234/", "http://a:b@c").starts_with("url: "));
    assert!(refused("http://127.0.0.1:1234/", "http://x/?y").starts_with("url: "));
    assert!(refused("\"_irc_bot\"", "\"IRC\"").starts_with("sender_localpart: "));
    assert!(refused("as_token: \"", "as_token: \"a b").starts_with("as_token: "));
    assert!(refused("@_irc_bridge_.*", "@_irc_(").starts_with("namespaces.users: \"@_irc_(\""));
    assert!(refused("@_irc_bridge_.*", "(((a{200}){200}){200})").starts_with("namespaces.users: "));
    assert!(refused("#_irc_bridge_.*", &"x".repeat(2_000)).starts_with("aliases: "));
    let wrong =
        refused("exclusive: true", "exclusive: [30c05ae90a248a4188e620216fa72e349803310ec83e2a77b34fe90be6081f46]");
    assert!(!wrong.contains("hs_token") && !wrong.contains("312df"), "no lines of the document: {wrong}");
}

#[test]
fn services_that_cannot_be_told_apart_are_refused() {
    let fixture = Fixture::new();
    fixture.run(fixture.users.add_appservice(IRC)).unwrap();
    let add = |id: &str, token: &str, sender: &str| {
        let document = format!("id: {id}\nas_token: {token}\nhs_token: h\nsender_localpart: {sender}\n");
        fixture.run(fixture.users.add_appservice(&document)).map(drop).map_err(|error| error.to_string())
    };
    let token = "30c05ae90a248a4188e620216fa72e349803310ec83e2a77b34fe90be6081f46";
    assert!(add("'IRC Bridge'", "t", "s").unwrap_err().ends_with("have the same id"));
    assert!(add("other", token, "s").unwrap_err().ends_with("have the same as_token"));
    assert!(add("other", "t", "_irc_bot").unwrap_err().ends_with("have the same sender_localpart"));
    add("other", "t", "s").unwrap();
    let services = fixture.users.appservices();
    assert_eq!(services.iter().map(|service| service.id()).collect::<Vec<_>>(), ["IRC Bridge", "other"]);
    assert_eq!(services.find_by_token("t").map(|service| service.id()), Some("other"));
    assert!(services.find_by_token("h").is_none());
}

#[test]
fn services_that_are_added_at_once_go_together() {
    let fixture = Fixture::new();
    let with = |id: &str| format!("id: {id}\nas_token: same\nhs_token: h\nsender_localpart: {id}\n");
    let (first, second) = (with("first"), with("second"));
    let (first, second) = fixture
        .run(async { tokio::join!(fixture.users.add_appservice(&first), fixture.users.add_appservice(&second)) });
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    assert_eq!(fixture.reopen().load_appservices(None).unwrap(), 1);
}

#[test]
fn registrations_come_from_the_folder_and_from_the_database() {
    let fixture = Fixture::new();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fixture.users.load_appservices(Some(&folder.path().join("missing"))).unwrap(), 0);
    fs::write(folder.path().join("irc.yaml"), IRC).unwrap();
    fs::write(folder.path().join("README.md"), "no registration").unwrap();
    assert_eq!(fixture.users.load_appservices(Some(folder.path())).unwrap(), 1);
    let stored = "id: stored\nas_token: t\nhs_token: h\nsender_localpart: s\n";
    let mut watcher = fixture.users.watch_appservices();
    fixture.run(fixture.users.add_appservice(stored)).unwrap();
    assert!(watcher.has_changed().unwrap());
    assert_eq!(watcher.borrow_and_update().iter().count(), 2);
    let reopened = fixture.reopen();
    assert_eq!(reopened.load_appservices(Some(folder.path())).unwrap(), 2, "it is kept");
    // A bad file leaves in force what is in force.
    fs::write(folder.path().join("bad.yml"), "id: [").unwrap();
    let error = fixture.users.load_appservices(Some(folder.path())).unwrap_err();
    assert!(matches!(&error, AppServiceError::File { path, .. } if path.ends_with("bad.yml")), "{error}");
    assert_eq!(fixture.users.appservices().iter().count(), 2);
    let remove = |id: &str| fixture.run(fixture.users.remove_appservice(id));
    assert!(matches!(remove("IRC Bridge"), Err(AppServiceError::FromFile(_))));
    assert!(matches!(remove("nobody"), Err(AppServiceError::Unknown(_))));
    remove("stored").unwrap();
    assert_eq!(fixture.users.appservices().iter().map(|of| of.id()).collect::<Vec<_>>(), ["IRC Bridge"]);
}

#[test]
fn a_sender_is_made_when_it_is_needed() {
    let fixture = Fixture::new();
    let service = fixture.run(fixture.users.add_appservice(IRC)).unwrap();
    assert!(fixture.users.account_by_id(service.sender()).unwrap().is_none());
    let session = fixture.run(fixture.users.authenticate_appservice(&service, None, None)).unwrap();
    assert_eq!(&session.user_id, service.sender());
    assert!(!session.has_device() && session.check_has_device().is_err() && !session.is_rate_limited());
    let account = fixture.users.account_by_id(service.sender()).unwrap().unwrap();
    assert!(!account.is_admin && !account.has_password);
    let as_user = |name: &str, device| {
        let id = format!("@{name}:example.org");
        fixture.run(fixture.users.authenticate_appservice(&service, Some(&id), device))
    };
    assert!(matches!(as_user("_irc_bridge_x", None), Err(UserError::Forbidden(_))), "it is not registered");
    fixture.run(fixture.users.register_for_appservice(&service, "_irc_bridge_x")).unwrap();
    let other = as_user("_irc_bridge_x", None).unwrap();
    assert_ne!(other.device, session.device, "without a device, users are told apart all the same");
    assert!(other.is_rate_limited());
    assert!(matches!(as_user("_irc_bridge_x", Some("D")), Err(UserError::UnknownDevice)));
    assert!(fixture.run(fixture.users.ensure_device(other.user, "D", Some("name"))).unwrap());
    let device = as_user("_irc_bridge_x", Some("D")).unwrap();
    assert!(device.has_device() && &*device.device_id == "D");
    fixture.run(fixture.users.record_device_seen(&other, Some("192.0.2.1"), None)).unwrap();
    fixture.run(fixture.users.record_device_seen(&device, Some("192.0.2.1"), None)).unwrap();
    assert!(fixture.users.device(other.user, "D").unwrap().unwrap().last_seen_ms.is_some());
    fixture.run(fixture.users.deactivate(other.user)).unwrap();
    assert!(matches!(as_user("_irc_bridge_x", None), Err(UserError::UserDeactivated)));
    assert!(Arc::ptr_eq(session.appservice.as_ref().unwrap(), &service));
}

#[test]
fn exclusive_users_cannot_be_registered_by_others() {
    let fixture = Fixture::new();
    let service = fixture.run(fixture.users.add_appservice(IRC)).unwrap();
    assert!(matches!(fixture.users.check_available("_irc_bridge_x"), Err(UserError::Exclusive(_))));
    assert!(matches!(fixture.users.check_available("_irc_bot"), Err(UserError::Exclusive(_))));
    fixture.users.check_available("irc").unwrap();
    let register = |name| fixture.run(fixture.users.register_for_appservice(&service, name));
    assert!(matches!(register("irc"), Err(UserError::Exclusive(_))));
    assert!(matches!(register("@_irc_bridge_x:elsewhere.org"), Err(UserError::Forbidden(_))));
    register("_irc_bridge_x").unwrap();
    assert!(matches!(register("_irc_bridge_x"), Err(UserError::UserInUse)));
    let wide = "id: wide\nas_token: t\nhs_token: h\nsender_localpart: _irc_bridge_wide\n\
                namespaces: {users: [{exclusive: false, regex: '@.*'}]}\n";
    let wide = fixture.run(fixture.users.add_appservice(wide)).unwrap();
    let act = |id| fixture.run(fixture.users.authenticate_appservice(&wide, id, None)).map(drop);
    assert!(matches!(act(Some("@_irc_bridge_x:example.org")), Err(UserError::Forbidden(_))));
    act(None).unwrap();
    fixture.account("alice");
    act(Some("@alice:example.org")).unwrap();
}
