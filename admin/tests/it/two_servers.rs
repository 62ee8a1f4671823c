//! Copies of media, between two whole servers.

use runtime::Clock;
use runtime::config::Span;
use serde_json::json;
use testkit::{Account, Neighbours, TestServer, encode_path_segment};

use crate::admin_room::wait_for;
use crate::media_bed::{Bed, DAY, START_MS, download, upload};

const ASKED: &str = "/federation/v1/media/download/";

/// A server where somebody uploads, and another one with its administrator.
struct Pair {
    neighbours: Neighbours,
    there: TestServer,
    alice: Account,
    here: Bed,
}

impl Pair {
    fn start(there: impl FnOnce(&mut conduit::Config), here: impl FnOnce(&mut conduit::Config)) -> Pair {
        let (neighbours, clock) = (Neighbours::default(), Clock::fake(START_MS));
        let there = TestServer::start_among(&neighbours, "there.test", clock.clone(), there);
        let alice = Account::register(there.client(), "alice");
        let here = Bed::of(TestServer::start_among(&neighbours, "here.test", clock, here));
        Pair { neighbours, there, alice, here }
    }

    fn is_known_here(&mut self, mxc: &str) -> bool {
        self.here.perform("media", "show", &json!({"media": mxc})).0 == 200
    }

    /// How often the other server was asked for media.
    fn asked(&self) -> usize {
        self.neighbours.count_asked(ASKED)
    }
}

#[test]
fn a_copy_goes_after_its_lifetime_and_is_fetched_again() {
    let mut pair = Pair::start(|_| {}, |config| config.media.remote_media_lifetime = Some(Span(10 * DAY)));
    let mxc = upload(&mut pair.alice, b"a picture of a cat", "cat.png");
    let hidden = upload(&mut pair.alice, b"something else", "other.png");
    for _ in 0..2 {
        assert_eq!(download(&mut pair.here.bob, &mxc), 200);
        assert_eq!(pair.asked(), 1, "a copy is kept");
    }
    assert_eq!(download(&mut pair.here.bob, &hidden), 200);
    pair.here.done("media", "quarantine", &json!({"media": hidden}));
    let here = pair.here.server.admin().media().server_usage().unwrap();
    assert_eq!((here.local.count, here.remote.count), (0, 2));
    // Not yet.
    pair.here.advance(5 * DAY);
    assert!(pair.is_known_here(&mxc));
    wait_for("the end of the copy", || {
        pair.here.advance(DAY);
        (!pair.is_known_here(&mxc)).then_some(())
    });
    assert_eq!((download(&mut pair.here.bob, &mxc), pair.asked()), (200, 3), "it is fetched again");
    assert!(pair.is_known_here(&mxc));
    // What is in quarantine stays there, and is not fetched again.
    assert!(pair.is_known_here(&hidden));
    assert_eq!((download(&mut pair.here.bob, &hidden), pair.asked()), (404, 3));
    // The other server keeps what is its own.
    assert_eq!(download(&mut pair.alice, &hidden), 200);
    assert_eq!(pair.there.admin().media().server_usage().unwrap().local.count, 2);
}

#[test]
fn what_is_gone_at_its_own_server_stays_as_a_copy_until_that_goes() {
    let mut pair = Pair::start(|config| config.media.local_media_lifetime = Some(Span(10 * DAY)), |_| {});
    let mxc = upload(&mut pair.alice, b"soon gone", "a");
    let sticker = upload(&mut pair.alice, b"a sticker", "b");
    pair.alice.expect("PUT", &avatar_path(&pair.alice), Some(&json!({"avatar_url": sticker})));
    let protected = upload(&mut pair.alice, b"protected", "c");
    let path = format!("/_synapse/admin/v1/media/protect/{}", crate::media_bed::id_of(&protected));
    let answer = pair.alice.client.request("POST", &path, Some(&pair.alice.token), Some(&json!({}))).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(download(&mut pair.here.bob, &mxc), 200);
    let original = media::Mxc::parse(&mxc).unwrap();
    wait_for("the end of the original", || {
        pair.here.advance(DAY);
        pair.there.admin().media().describe(&original).is_err().then_some(())
    });
    assert_eq!(download(&mut pair.alice, &mxc), 404);
    assert_eq!((download(&mut pair.alice, &sticker), download(&mut pair.alice, &protected)), (200, 200));
    let asked = pair.asked();
    assert_eq!((download(&mut pair.here.bob, &mxc), pair.asked()), (200, asked), "the copy is here");
    pair.here.done("media", "delete", &json!({"media": mxc}));
    assert_eq!((download(&mut pair.here.bob, &mxc), pair.asked()), (404, asked + 1));
}

fn avatar_path(account: &Account) -> String {
    format!("/profile/{}/avatar_url", encode_path_segment(&account.user_id))
}
