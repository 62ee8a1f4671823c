//! What operators see and do.

use super::fixture::{Fixture, join, user};
use crate::{LegStatistics, LiveLeg, LiveTrack, MuteScope};

fn track(id: &str, source: &str, muted: bool) -> LiveTrack {
    LiveTrack { id: id.to_owned(), source: source.to_owned(), muted, ..LiveTrack::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_who_is_in_and_mute_them() {
    let here = Fixture::new();
    for name in ["alice", "bob"] {
        here.account(name).await;
    }
    let room = here.room(&["alice", "bob"]).await;
    let other = here.room(&["alice"]).await;
    let (call, alice) = join(&here, &room, "alice").await;
    join(&here, &room, "bob").await;
    join(&here, &other, "alice").await;
    let tracks =
        vec![track("TR_1", "microphone", false), track("TR_2", "camera", false), track("TR_3", "camera", true)];
    let statistics = LegStatistics { transport: "relay".to_owned(), ..LegStatistics::default() };
    here.media.set_live(&call, LiveLeg { identity: alice, statistics, tracks, ..LiveLeg::default() });
    let shown = here.calls.participants(&room).unwrap();
    let users: Vec<_> = shown.iter().map(|participant| participant.user.clone()).collect();
    assert_eq!(users, [user("alice"), user("bob")]);
    assert_eq!(shown[0].live.as_ref().unwrap().statistics.transport, "relay");
    assert_eq!(shown[1].live, None);
    assert_eq!(here.calls.calls_in(&room).unwrap().len(), 1);
    assert_eq!(here.calls.mute_participant(&room, &user("alice"), MuteScope::Sound).unwrap(), 1);
    assert_eq!(here.media.take_muted(), ["TR_1"]);
    assert_eq!(here.calls.mute_participant(&room, &user("alice"), MuteScope::All).unwrap(), 2, "one is muted already");
    assert_eq!(here.calls.mute_participant(&room, &user("bob"), MuteScope::All).unwrap(), 0);
    assert_eq!(here.calls.mute_participant(&other, &user("alice"), MuteScope::Pictures).unwrap(), 0);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_needs_a_new_token() {
    let here = Fixture::new();
    here.account("alice").await;
    let room = here.room(&["alice"]).await;
    let (call, alice) = join(&here, &room, "alice").await;
    assert_eq!(here.calls.remove_participant(&room, &user("nobody:far")).await.unwrap(), 0);
    assert_eq!(here.calls.remove_participant(&room, &user("alice")).await.unwrap(), 1);
    assert_eq!(here.media.take_disconnected(), [alice.as_str()]);
    assert!(!here.calls.may_join(&call, &alice));
    here.events.left(&call, &alice, LegStatistics::default());
    here.until(|| here.present() == 0).await;
    here.until(|| here.calls.history(None, u64::MAX, 10).unwrap().len() == 1).await;
    assert!(!here.calls.may_join(&call, &alice), "the end of the leg brings the token to life again");
    join(&here, &room, "alice").await;
    here.stop().await;
}
