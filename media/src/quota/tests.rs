use std::sync::Arc;

use runtime::config::ByteSize;

use super::*;
use crate::media::tests::{fixture, user};

struct Guests;

impl UploaderRoles for Guests {
    fn role(&self, user_id: &UserId) -> Option<UploaderRole> {
        (user_id.localpart() == "guest").then_some(UploaderRole::Guest)
    }
}

fn config() -> MediaConfig {
    MediaConfig { user_quota: Some(ByteSize(10)), guest_quota: Some(ByteSize(2)), ..MediaConfig::default() }
}

#[tokio::test]
async fn uploads_beyond_the_limit_are_refused() {
    let fixture = fixture();
    let media = &fixture.media;
    media.reload(MediaConfig { quota_info_uri: Some("https://x.example/".to_owned()), ..config() });
    let first = fixture.upload_as("alice", b"123456").await.unwrap();
    let refused = fixture.upload_as("alice", b"12345").await.unwrap_err();
    let MediaError::QuotaExceeded { whose: QuotaOf::User, limit: 10, info_uri, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(info_uri, "https://x.example/");
    assert_eq!(fixture.count("files") + fixture.count("temp"), 1, "nothing is left of it");
    fixture.upload_as("alice", b"1234").await.unwrap();
    assert!(media.check_quota(&user("alice"), 1).is_err() && media.check_quota(&user("bob"), 10).is_ok());
    media.delete(&first).await.unwrap();
    fixture.upload_as("alice", b"12345").await.unwrap();
    let reserved = fixture.reserve("alice").await;
    assert!(matches!(fixture.fill("alice", &reserved, b"12").await, Err(MediaError::QuotaExceeded { .. })));
    fixture.fill("alice", &reserved, b"1").await.unwrap();
}

#[tokio::test]
async fn roles_and_single_users_have_limits_of_their_own() {
    let fixture = fixture();
    let media = &fixture.media;
    media.reload(config());
    media.set_roles(Arc::new(Guests));
    assert_eq!((media.quota(&user("guest")).unwrap(), media.quota(&user("alice")).unwrap()), (Some(2), Some(10)));
    media.set_user_quota(&user("guest"), UserQuota::Bytes(5)).await.unwrap();
    assert_eq!(media.user_quota(&user("guest")).unwrap(), UserQuota::Bytes(5));
    fixture.upload_as("guest", b"12345").await.unwrap();
    media.set_user_quota(&user("guest"), UserQuota::OfRole).await.unwrap();
    assert!(media.check_quota(&user("guest"), 1).is_err(), "what is stored beyond the limit stays");
    media.set_user_quota(&user("guest"), UserQuota::Unlimited).await.unwrap();
    assert_eq!(media.quota(&user("guest")).unwrap(), None);
    fixture.upload_as("guest", &[0; 100]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_at_once_do_not_pass_a_limit_together() {
    let fixture = fixture();
    fixture.media.reload(MediaConfig { server_quota: Some(ByteSize(14)), ..config() });
    let of_one = (0..8u8).map(|byte| async move { vec![byte; 3] });
    let of_one = futures_util::future::join_all(of_one).await;
    let uploads = of_one.iter().map(|bytes| fixture.upload_as("alice", bytes));
    let stored = futures_util::future::join_all(uploads).await;
    assert_eq!(stored.iter().filter(|result| result.is_ok()).count(), 3, "9 of 10 bytes");
    let names: Vec<String> = (0..8).map(|index| format!("user{index}")).collect();
    let uploads = names.iter().map(|name| fixture.upload_as(name, b"12"));
    let stored = futures_util::future::join_all(uploads).await;
    assert_eq!(stored.iter().filter(|result| result.is_ok()).count(), 2, "9 and 4 of 14 bytes");
    let refused = stored.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(refused, MediaError::QuotaExceeded { whose: QuotaOf::Server, limit: 14, .. }), "{refused:?}");
}
