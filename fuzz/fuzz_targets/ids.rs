//! Identifiers: whatever parses is kept byte for byte, and its parts make it up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spec::ids::{EventId, RoomAlias, RoomId, ServerName, UserId};

fuzz_target!(|text: &str| {
    if let Ok(user) = UserId::parse(text) {
        assert_eq!(user.as_str(), text);
        let server = ServerName::parse(user.server_name()).expect("the server of a user id is a server name");
        assert_eq!(UserId::new(user.localpart(), &server).as_ref(), Ok(&user));
        assert!(user.is_compliant() || !UserId::is_valid_new_localpart(user.localpart()));
    }
    if let Ok(room) = RoomId::parse(text) {
        assert_eq!(room.as_str(), text);
        match room.server_name() {
            Some(server) => assert!(text.ends_with(server)),
            None => {
                let create = room.create_event_id().expect("an id without a server is a hash");
                assert_eq!(RoomId::from_create_event(&create), room);
            }
        }
    }
    if let Ok(event) = EventId::parse(text) {
        assert_eq!(event.as_str(), text);
        assert!(event.server_name().is_none_or(|server| text.ends_with(server)));
    }
    if let Ok(alias) = RoomAlias::parse(text) {
        assert_eq!(format!("#{}:{}", alias.localpart(), alias.server_name()), text);
    }
    if let Ok(server) = ServerName::parse(text) {
        assert!(text.starts_with(server.host()));
        assert!(server.port().is_none_or(|_| text.len() > server.host().len()));
    }
});
