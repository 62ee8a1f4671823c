//! Operations on media, and limits of storage.

use runtime::config::{ByteSize, Span};
use serde_json::json;

use crate::admin_room::wait_for;
use crate::media_bed::{Bed, DAY, download, send_picture, try_upload, upload, use_media};

#[test]
fn a_media_is_shown_hidden_shown_again_protected_and_deleted() {
    let mut bed = Bed::start();
    let mxc = upload(&mut bed.bob, b"content", "a.txt");
    let one = json!({"media": mxc});
    let shown = bed.done("media", "show", &one);
    assert_eq!(
        (&shown["uploader"], &shown["bytes"], &shown["protected"]),
        (&json!("@bob:hs.test"), &json!(7), &json!(false))
    );
    bed.done("media", "quarantine", &one);
    assert_eq!(bed.done("media", "show", &one)["quarantined_by"], "@alice:hs.test");
    assert_eq!(download(&mut bed.bob, &mxc), 404);
    bed.done("media", "unquarantine", &one);
    bed.done("media", "protect", &one);
    assert_eq!(bed.perform("media", "quarantine", &one).0, 409);
    assert_eq!(download(&mut bed.bob, &mxc), 200);
    bed.done("media", "unprotect", &one);
    bed.done("media", "delete", &one);
    assert_eq!(bed.perform("media", "delete", &one).0, 404);
    assert_eq!(bed.perform("media", "show", &json!({"media": "nonsense"})).0, 400);
}

#[test]
fn lists_and_usage_page() {
    let mut bed = Bed::start();
    let room = bed.bob.create_room(&json!({}));
    let mut made = Vec::new();
    for size in [3, 1, 2] {
        made.push(upload(&mut bed.bob, &vec![0; size], "x"));
        bed.advance(DAY);
    }
    send_picture(&mut bed.bob, &room, "1", &made[0]);
    let first = bed.done("media", "list", &json!({"user": "bob", "order": "size", "limit": 2}));
    assert_eq!((&first["items"][0]["media"], &first["total"]), (&json!(made[0]), &json!(3)));
    let rest = bed.done("media", "list", &json!({"user": "bob", "order": "size", "limit": 2, "from": first["next"]}));
    assert_eq!((&rest["items"][0]["media"], rest.get("next")), (&json!(made[1]), None));
    let of_room = bed.done("media", "list", &json!({"room": room}));
    assert_eq!((&of_room["items"][0]["media"], &of_room["total"]), (&json!(made[0]), &json!(1)));
    let all = bed.done("media", "list", &json!({"limit": 2}));
    let rest = bed.done("media", "list", &json!({"limit": 2, "from": all["next"]}));
    assert_eq!((all["items"].as_array().map(Vec::len), rest["items"].as_array().map(Vec::len)), (Some(2), Some(1)));
    assert_eq!(bed.perform("media", "list", &json!({"user": "bob", "room": room})).0, 400);
    assert_eq!(bed.perform("media", "list", &json!({"user": "nobody"})).0, 404);
    let usage = bed.done("media", "usage", &json!({}));
    assert_eq!(usage["items"], json!([{"user": "@bob:hs.test", "media": 3, "bytes": 6}]));
    let of_bob = bed.done("media", "usage", &json!({"user": "bob"}));
    assert_eq!(of_bob, json!({"user": "@bob:hs.test", "media": 3, "bytes": 6, "limit": "none"}));
}

#[test]
fn many_are_hidden_or_deleted_by_jobs() {
    let mut bed = Bed::start();
    let room = bed.bob.create_room(&json!({}));
    let (a, b, c) = (upload(&mut bed.bob, b"a", "a"), upload(&mut bed.bob, b"b", "b"), upload(&mut bed.bob, b"c", "c"));
    send_picture(&mut bed.bob, &room, "1", &a);
    bed.finish_job("media", "quarantine-room", &json!({"room": room}));
    assert_eq!((download(&mut bed.bob, &a), download(&mut bed.bob, &b)), (404, 200));
    bed.finish_job("media", "quarantine-user", &json!({"user": "bob"}));
    assert_eq!((download(&mut bed.bob, &b), download(&mut bed.bob, &c)), (404, 404));
    bed.finish_job("media", "delete-by-room", &json!({"room": room}));
    let left = |bed: &mut Bed| bed.done("media", "usage", &json!({"user": "bob"}))["media"].clone();
    assert_eq!(left(&mut bed), 2);
    bed.done("media", "unquarantine", &json!({"media": b}));
    bed.advance(10 * DAY);
    use_media(&mut bed, &b);
    bed.finish_job("media", "delete-before", &json!({"before": "5d"}));
    assert_eq!((left(&mut bed), download(&mut bed.bob, &b)), (json!(1), 200));
    bed.finish_job("media", "delete-by-user", &json!({"user": "bob"}));
    assert_eq!(left(&mut bed), 0);
    bed.finish_job("media", "purge-remote", &json!({"before": "1d"}));
    for (verb, arguments, status) in [
        ("quarantine-room", json!({"room": "!unknown:hs.test"}), 404),
        ("delete-by-user", json!({"user": "nobody"}), 404),
        ("delete-by-user", json!({"user": "@x:there.example"}), 400),
        ("delete-before", json!({"before": "yesterday"}), 400),
        ("purge-remote", json!({}), 400),
    ] {
        assert_eq!(bed.perform("media", verb, &arguments).0, status, "{verb} {arguments}");
    }
}

#[test]
fn limits_of_storage_hold_and_are_shown() {
    let mut bed = Bed::start_with(|config| {
        config.media.user_quota = Some(ByteSize(10));
        config.media.administrator_quota = Some(ByteSize(20));
        config.media.quota_info_uri = Some("https://hs.test/storage".to_owned());
    });
    upload(&mut bed.bob, b"12345678", "a");
    let (status, refused) = try_upload(&mut bed.bob, b"123", "b");
    assert_eq!((status, &refused["errcode"]), (403, &json!("M_USER_LIMIT_EXCEEDED")));
    assert_eq!((&refused["info_uri"], &refused["can_upgrade"]), (&json!("https://hs.test/storage"), &json!(false)));
    let config = bed.bob.client.request("GET", "/_matrix/client/v1/media/config", Some(&bed.bob.token), None).unwrap();
    let config = config.json();
    assert_eq!(
        (&config["org.matrix.msc4034.storage.size"], &config["org.matrix.msc4034.storage.used"]),
        (&json!(10), &json!(8))
    );
    upload(&mut bed.admin, &[0; 20], "more");
    assert_eq!(try_upload(&mut bed.admin, b"1", "x").0, 403);
    let shown = bed.done("media", "quota", &json!({"user": "bob"}));
    assert_eq!(
        (&shown["limit"], &shown["set_by"], &shown["bytes"]),
        (&json!(10), &json!("the configuration"), &json!(8))
    );
    let shown = bed.done("media", "quota", &json!({"user": "bob", "set": "11"}));
    assert_eq!((&shown["limit"], &shown["set_by"]), (&json!(11), &json!("an administrator")));
    upload(&mut bed.bob, b"123", "b");
    bed.done("media", "quota", &json!({"user": "bob", "set": "none"}));
    upload(&mut bed.bob, &[1; 100], "c");
    assert_eq!(bed.done("media", "quota", &json!({"user": "bob", "set": "role"}))["limit"], 10);
    assert_eq!(try_upload(&mut bed.bob, b"1", "x").0, 403);
    assert_eq!(bed.perform("media", "quota", &json!({"user": "bob", "set": "much"})).0, 400);
}

#[test]
fn old_media_go_by_themselves() {
    let mut bed = Bed::start_with(|config| config.media.local_media_lifetime = Some(Span(10 * DAY)));
    let mxc = upload(&mut bed.bob, b"old", "o");
    let avatar = upload(&mut bed.bob, b"face", "f");
    bed.bob.expect("PUT", "/profile/@bob:hs.test/avatar_url", Some(&json!({"avatar_url": avatar})));
    wait_for("the deletion of what is old", || {
        bed.advance(DAY);
        (bed.perform("media", "show", &json!({"media": mxc})).0 == 404).then_some(())
    });
    assert_eq!(bed.perform("media", "show", &json!({"media": avatar})).0, 200);
}

#[test]
fn limits_go_by_role_and_there_is_one_for_the_server() {
    let mut bed = Bed::start_with(|config| {
        config.media.user_quota = Some(ByteSize(4));
        config.roles.guest.upload = true;
        config.media.guest_quota = Some(ByteSize(2));
        config.media.moderator_quota = Some(ByteSize(8));
        config.media.administrator_quota = Some(ByteSize(100));
        config.media.server_quota = Some(ByteSize(20));
    });
    let refused = |account: &mut _, bytes: &[u8]| {
        let (status, answer) = try_upload(account, bytes, "a");
        (status, answer["errcode"].as_str().unwrap_or_default().to_owned())
    };
    let over = (403, "M_USER_LIMIT_EXCEEDED".to_owned());
    for (role, limit) in [("guest", 2), ("member", 4), ("moderator", 8)] {
        bed.done("user", "role", &json!({"user": "bob", "role": role}));
        assert_eq!(bed.done("media", "usage", &json!({"user": "bob"}))["limit"], limit, "{role}");
        assert_eq!(refused(&mut bed.bob, &vec![7; limit + 1]), over, "{role}");
    }
    upload(&mut bed.bob, &[7; 8], "all");
    // That of the server is shared by all.
    upload(&mut bed.admin, &[7; 11], "a");
    assert_eq!(refused(&mut bed.admin, b"12"), over);
    upload(&mut bed.admin, b"1", "last");
    assert_eq!(refused(&mut bed.admin, b"1"), over);
    let removed = bed.done("media", "list", &json!({"user": "bob"}))["items"][0]["media"].clone();
    bed.done("media", "delete", &json!({"media": removed}));
    upload(&mut bed.admin, &[7; 8], "again");
}
