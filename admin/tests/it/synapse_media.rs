//! The families Media and Statistics of the Synapse admin API.

use serde_json::json;
use testkit::encode_path_segment;

use crate::media_bed::{Bed, DAY, START_MS, download, id_of, send_picture, upload, use_media};

const BOB: &str = "/users/@bob:hs.test/media";

#[test]
fn one_media_is_described_quarantined_protected_and_deleted() {
    let mut bed = Bed::start();
    let mxc = upload(&mut bed.bob, b"content", "a.txt");
    let id = id_of(&mxc).to_owned();
    let path = format!("/media/hs.test/{id}");
    let info = bed.ask("GET", &path)["media_info"].clone();
    assert_eq!(info["sha256"].as_str().map(str::len), Some(64));
    for (key, value) in [
        ("media_origin", json!(null)),
        ("user_id", json!("@bob:hs.test")),
        ("media_id", json!(id)),
        ("media_type", json!("application/json")),
        ("media_length", json!(7)),
        ("upload_name", json!("a.txt")),
        ("created_ts", json!(START_MS)),
        ("last_access_ts", json!(null)),
        ("url_cache", json!(null)),
        ("quarantined_by", json!(null)),
        ("authenticated", json!(true)),
        ("safe_from_quarantine", json!(false)),
    ] {
        assert_eq!(info[key], value, "{key}");
    }
    assert_eq!(bed.ask("POST", &format!("/media/protect/{id}")), json!({}));
    assert_eq!(bed.refuse("POST", &format!("/media/quarantine/hs.test/{id}")).0, 409, "protected");
    assert_eq!(bed.ask("GET", &path)["media_info"]["safe_from_quarantine"], true);
    assert_eq!(bed.ask("POST", &format!("/media/unprotect/{id}")), json!({}));
    assert_eq!(bed.ask("POST", &format!("/media/quarantine/hs.test/{id}")), json!({}));
    assert_eq!(bed.ask("GET", &path)["media_info"]["quarantined_by"], "@alice:hs.test");
    assert_eq!(download(&mut bed.bob, &mxc), 404);
    assert_eq!(download(&mut bed.admin, &mxc), 404, "administrators too");
    assert_eq!(bed.ask("POST", &format!("/media/unquarantine/hs.test/{id}")), json!({}));
    assert_eq!(download(&mut bed.bob, &mxc), 200);
    let changes = bed.ask("GET", "/media/quarantine_changes");
    assert_eq!(
        changes["changes"],
        json!([{"origin": "hs.test", "media_id": id, "quarantined": true},
               {"origin": "hs.test", "media_id": id, "quarantined": false}])
    );
    let next = &changes["next_batch"];
    let rest = bed.ask("GET", &format!("/media/quarantine_changes?from={next}"));
    assert_eq!(rest, json!({"next_batch": next, "changes": []}));
    assert_eq!(bed.ask("DELETE", &path), json!({"deleted_media": [id], "total": 1}));
    assert_eq!(download(&mut bed.bob, &mxc), 404);
    assert_eq!(bed.refuse("GET", &path), (404, "M_NOT_FOUND".to_owned()));
    assert_eq!(bed.refuse("DELETE", &path), (404, "M_NOT_FOUND".to_owned()));
}

#[test]
fn a_users_media_are_listed_quarantined_and_deleted() {
    let mut bed = Bed::start();
    let mut made = Vec::new();
    for (name, bytes) in [("b", &b"333"[..]), ("a", b"1"), ("c", b"22")] {
        made.push(upload(&mut bed.bob, bytes, name));
        bed.advance(DAY);
    }
    upload(&mut bed.admin, b"other", "x");
    let mut names = |query: &str| {
        let list = bed.ask("GET", &format!("{BOB}{query}"));
        let names: Vec<String> =
            list["media"].as_array().unwrap().iter().map(|it| it["upload_name"].as_str().unwrap().to_owned()).collect();
        (names.concat(), list["total"].clone(), list["next_token"].clone())
    };
    assert_eq!(names(""), ("cab".to_owned(), json!(3), json!(null)), "the newest first");
    assert_eq!(names("?limit=2"), ("ca".to_owned(), json!(3), json!(2)));
    assert_eq!(names("?limit=2&from=2"), ("b".to_owned(), json!(3), json!(null)));
    assert_eq!(names("?order_by=upload_name").0, "abc");
    assert_eq!(names("?order_by=media_length&dir=b").0, "bca");
    assert_eq!(names("?order_by=created_ts").0, "bac");
    assert_eq!(names("?from=7"), (String::new(), json!(3), json!(null)));
    let first = &bed.ask("GET", &format!("{BOB}?limit=1"))["media"][0];
    let mut keys: Vec<&String> = first.as_object().unwrap().keys().collect();
    keys.sort();
    let expected = ["created_ts", "last_access_ts", "media_id", "media_length", "media_type", "quarantined_by"];
    assert_eq!(keys[..6], expected);
    assert_eq!(keys[6..], ["safe_from_quarantine", "upload_name"]);
    assert_eq!(bed.ask("POST", "/user/@bob:hs.test/media/quarantine"), json!({"num_quarantined": 3}));
    assert_eq!(bed.ask("POST", "/user/@bob:hs.test/media/quarantine"), json!({"num_quarantined": 0}));
    let deleted = bed.ask("DELETE", &format!("{BOB}?order_by=upload_name&limit=2"));
    assert_eq!(deleted, json!({"deleted_media": [id_of(&made[1]), id_of(&made[0])], "total": 2}));
    assert_eq!(bed.ask("GET", BOB)["total"], 1);
}

#[test]
fn media_of_a_room_are_those_that_its_events_name() {
    let mut bed = Bed::start();
    let room = bed.bob.create_room(&json!({}));
    let mxc = upload(&mut bed.bob, b"picture", "p");
    send_picture(&mut bed.bob, &room, "1", &mxc);
    send_picture(&mut bed.bob, &room, "2", "mxc://there.example/remote");
    send_picture(&mut bed.bob, &room, "3", "mxc://hs.test/neverThere");
    let avatar = upload(&mut bed.bob, b"face", "face");
    bed.bob.expect("PUT", "/profile/@bob:hs.test/avatar_url", Some(&json!({"avatar_url": avatar})));
    let path = format!("/room/{}/media", encode_path_segment(&room));
    let list = bed.ask("GET", &path);
    let mut local: Vec<&str> = list["local"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    let mut expected = vec![mxc.as_str(), "mxc://hs.test/neverThere"];
    local.sort_unstable();
    expected.sort_unstable();
    assert_eq!((local, &list["remote"]), (expected, &json!(["mxc://there.example/remote"])));
    assert_eq!(bed.ask("POST", &format!("{path}/quarantine")), json!({"num_quarantined": 2}));
    let old = format!("/quarantine_media/{}", encode_path_segment(&room));
    assert_eq!(bed.ask("POST", &old), json!({"num_quarantined": 0}), "the older form of it");
    assert_eq!((download(&mut bed.bob, &mxc), download(&mut bed.bob, &avatar)), (404, 200));
    assert_eq!(bed.refuse("GET", "/room/!unknown:hs.test/media"), (404, "M_NOT_FOUND".to_owned()));
    assert_eq!(bed.refuse("POST", "/room/nonsense/media/quarantine"), (400, "M_INVALID_PARAM".to_owned()));
}

#[test]
fn old_media_are_deleted_but_for_pictures_in_use() {
    let mut bed = Bed::start();
    let (old, used) = (upload(&mut bed.bob, b"old", "o"), upload(&mut bed.bob, b"used", "u"));
    let avatar = upload(&mut bed.bob, b"face", "f");
    bed.bob.expect("PUT", "/profile/@bob:hs.test/avatar_url", Some(&json!({"avatar_url": avatar})));
    let room = bed.bob.create_room(&json!({}));
    let picture = upload(&mut bed.bob, b"of the room", "r");
    let state = format!("/rooms/{}/state/m.room.avatar", encode_path_segment(&room));
    bed.bob.expect("PUT", &state, Some(&json!({"url": picture})));
    bed.advance(2 * DAY);
    use_media(&mut bed, &used);
    let before = START_MS + 60_000;
    let large = bed.ask("POST", &format!("/media/delete?before_ts={before}&size_gt=3"));
    assert_eq!(large, json!({"deleted_media": [], "total": 0}), "nothing unused is larger");
    let deleted = bed.ask("POST", &format!("/media/delete?before_ts={before}"));
    assert_eq!(deleted, json!({"deleted_media": [id_of(&old)], "total": 1}));
    let deleted = bed.ask("POST", &format!("/media/hs.test/delete?before_ts={before}&keep_profiles=false"));
    assert_eq!(deleted["total"], 2, "pictures too, by the older form");
    assert_eq!(download(&mut bed.bob, &used), 200);
    assert_eq!(bed.ask("POST", &format!("/purge_media_cache?before_ts={before}")), json!({"deleted": 0}));
    for path in ["/media/delete", "/purge_media_cache"] {
        assert_eq!(bed.refuse("POST", path), (400, "M_MISSING_PARAM".to_owned()));
        for bad in ["before_ts=-1", "before_ts=soon", "before_ts=1700000000"] {
            assert_eq!(bed.refuse("POST", &format!("{path}?{bad}")), (400, "M_INVALID_PARAM".to_owned()), "{bad}");
        }
    }
    let elsewhere = bed.refuse("POST", &format!("/media/there.example/delete?before_ts={before}"));
    assert_eq!(elsewhere, (400, "M_UNKNOWN".to_owned()));
}

#[test]
fn statistics_of_users_and_rooms() {
    let mut bed = Bed::start();
    bed.bob.expect("PUT", "/profile/@bob:hs.test/displayname", Some(&json!({"displayname": "Zed"})));
    bed.admin.expect("PUT", "/profile/@alice:hs.test/displayname", Some(&json!({"displayname": "Yan"})));
    upload(&mut bed.bob, b"12345", "1");
    bed.advance(DAY);
    upload(&mut bed.admin, b"1", "1");
    upload(&mut bed.admin, b"2", "2");
    let alice = json!({"user_id": "@alice:hs.test", "displayname": "Yan", "media_count": 2, "media_length": 2});
    let bob = json!({"user_id": "@bob:hs.test", "displayname": "Zed", "media_count": 1, "media_length": 5});
    let mut ask = |query: &str| bed.ask("GET", &format!("/statistics/users/media{query}"));
    assert_eq!(ask(""), json!({"users": [alice, bob], "total": 2}));
    assert_eq!(ask("?limit=1"), json!({"users": [alice], "total": 2, "next_token": 1}));
    assert_eq!(ask("?limit=1&from=1"), json!({"users": [bob], "total": 2}));
    for (query, first) in [
        ("?order_by=media_length", &alice),
        ("?order_by=media_length&dir=b", &bob),
        ("?order_by=media_count", &bob),
        ("?order_by=displayname&dir=b", &bob),
        ("?dir=b", &bob),
        ("?search_term=ZE", &bob),
        ("?search_term=lic", &alice),
        (&*format!("?from_ts={}", START_MS + 1), &alice),
        (&*format!("?until_ts={}", START_MS + 1), &bob),
    ] {
        assert_eq!(&ask(query)["users"][0], first, "{query}");
    }
    assert_eq!(ask("?search_term=nobody"), json!({"users": [], "total": 0}));
    for bad in ["order_by=x", "dir=x", "limit=-1", "from=-1", "from_ts=-1", "from_ts=5&until_ts=5", "search_term="] {
        let refused = bed.refuse("GET", &format!("/statistics/users/media?{bad}"));
        assert_eq!(refused, (400, "M_INVALID_PARAM".to_owned()), "{bad}");
    }
    let (small, large) = (bed.bob.create_room(&json!({})), bed.bob.create_room(&json!({})));
    for index in 0..20 {
        bed.bob.send_text(&large, &index.to_string(), &"text ".repeat(50));
    }
    let rooms = bed.ask("GET", "/statistics/database/rooms")["rooms"].clone();
    assert_eq!((&rooms[0]["room_id"], &rooms[1]["room_id"]), (&json!(large), &json!(small)));
    assert!(rooms[0]["estimated_size"].as_u64() > rooms[1]["estimated_size"].as_u64(), "{rooms}");
}

#[test]
fn bad_input_and_other_callers_are_refused() {
    let mut bed = Bed::start();
    let mxc = upload(&mut bed.bob, b"content", "a");
    let id = id_of(&mxc).to_owned();
    let invalid = (400, "M_INVALID_PARAM".to_owned());
    let unknown = (404, "M_NOT_FOUND".to_owned());
    for (method, path, refused) in [
        ("GET", "/media/hs.test/b%20ad", &invalid),
        ("GET", "/media/hs.test/unknown", &unknown),
        ("GET", "/media/there.example/unknown", &unknown),
        ("POST", "/media/quarantine/hs.test/unknown", &unknown),
        ("POST", "/media/protect/unknown", &unknown),
        ("POST", "/media/protect/%2E%2E", &invalid),
        ("GET", "/media/quarantine_changes?from=99999999", &invalid),
        ("GET", "/media/quarantine_changes?from=-1", &invalid),
        ("GET", "/users/@nobody:hs.test/media", &unknown),
        ("GET", "/users/nonsense/media", &invalid),
        ("GET", "/users/@x:there.example/media", &(400, "M_UNKNOWN".to_owned())),
        ("DELETE", "/media/there.example/remote", &(400, "M_UNKNOWN".to_owned())),
        ("GET", "/users/@bob:hs.test/media?order_by=x", &invalid),
        ("GET", "/users/@bob:hs.test/media?limit=-1", &invalid),
        ("DELETE", "/users/@bob:hs.test/media?dir=x", &invalid),
        ("POST", "/user/@nobody:hs.test/media/quarantine", &unknown),
    ] {
        assert_eq!(&bed.refuse(method, path), refused, "{method} {path}");
    }
    let token = bed.bob.token.clone();
    for (method, path) in [
        ("GET", format!("/media/hs.test/{id}")),
        ("DELETE", format!("/media/hs.test/{id}")),
        ("POST", format!("/media/quarantine/hs.test/{id}")),
        ("GET", "/users/@bob:hs.test/media".to_owned()),
        ("GET", "/statistics/users/media".to_owned()),
        ("POST", "/purge_media_cache?before_ts=1700000000000".to_owned()),
    ] {
        let path = format!("/_synapse/admin/v1{path}");
        let response = bed.bob.client.request(method, &path, Some(&token), None).unwrap();
        assert_eq!((response.status, &response.json()["errcode"]), (403, &json!("M_FORBIDDEN")), "{method} {path}");
    }
    assert_eq!(download(&mut bed.bob, &mxc), 200);
    bed.ask("POST", "/media/quarantine/there.example/unknown");
    assert_eq!(download(&mut bed.bob, "mxc://there.example/unknown"), 404, "it is not even asked for");
}

#[test]
fn many_at_once_are_jobs_that_go_on_without_the_request() {
    let mut bed = Bed::start();
    let mxc = upload(&mut bed.bob, b"old", "a");
    bed.advance(10 * DAY);
    let before = START_MS + 5 * 86_400_000;
    let deleted = bed.ask("POST", &format!("/media/delete?before_ts={before}"));
    assert_eq!(deleted, json!({"deleted_media": [id_of(&mxc)], "total": 1}));
    upload(&mut bed.bob, b"new", "a");
    bed.ask("POST", "/user/@bob:hs.test/media/quarantine");
    bed.ask("POST", &format!("/purge_media_cache?before_ts={before}"));
    let jobs = bed.done("job", "list", &json!({"kind": "sweep-media"}));
    let jobs: Vec<_> = jobs["items"].as_array().unwrap().iter().map(|job| (&job["state"], &job["target"])).collect();
    let (done, none) = (&json!("done"), &json!(null));
    assert_eq!(jobs, [(done, none), (done, &json!("@bob:hs.test")), (done, none)]);
    // Each is on record as what was asked for, with its arguments as an object.
    let records = bed.done("audit", "list", &json!({"operation": "media"}));
    let names: Vec<_> = records["items"].as_array().unwrap().iter().map(|record| &record["operation"]).collect();
    assert_eq!(names, ["media purge-remote", "media quarantine-user", "media delete-before"]);
    assert_eq!(records["items"][1]["arguments"]["user"], "@bob:hs.test", "{records}");
}
