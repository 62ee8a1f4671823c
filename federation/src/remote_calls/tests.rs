use bytes::Bytes;
use calls::Seat;
use http::Request;
use parking_lot::Mutex;
use spec::ids::RoomId;
use std::sync::Arc;

use super::*;
use crate::FederationConfig;
use crate::client::tests::{FakeTransport, Fixture, answer, server, unreachable};

type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A client of calls whose peer answers this, and what it is asked.
fn answering(status: u16, body: &'static str) -> (CallsClient, Asked, Fixture) {
    let asked = Asked::default();
    let noted = asked.clone();
    let transport = FakeTransport::new(move |_, request: Request<Bytes>| {
        let body_asked = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        noted.lock().push((format!("{} {}", request.method(), request.uri()), body_asked));
        if status == 0 { unreachable() } else { answer(status, body) }
    });
    let fixture = Fixture::new(transport, FederationConfig::default());
    (CallsClient::new(fixture.client.clone()), asked, fixture)
}

fn wanted(member: Member) -> RemoteSeat {
    let room = RoomId::parse("!room:a.org").unwrap();
    let seat = Seat { room, slot: "m.call#ROOM".to_owned(), member, device: None };
    RemoteSeat { user: UserId::parse("@us:us.org").unwrap(), url: "wss://a.org/sfu".to_owned(), seat }
}

#[tokio::test]
async fn the_server_of_an_openid_token_is_asked_whose_it_is() {
    let proof = OpenIdProof { access_token: "a b".to_owned(), matrix_server_name: "a.org".to_owned() };
    let (client, asked, _fixture) = answering(200, r#"{"sub": "@alice:a.org"}"#);
    assert_eq!(client.openid_user(&server("a.org"), &proof).await.unwrap(), "@alice:a.org");
    let expected = "GET /_matrix/federation/v1/openid/userinfo?access_token=a%20b".to_owned();
    assert_eq!(*asked.lock(), [(expected, Value::Null)]);
    for (status, body) in
        [(200, "{}"), (200, r#"{"sub": "alice"}"#), (401, r#"{"errcode": "M_UNKNOWN_TOKEN"}"#), (0, "")]
    {
        let (client, _, fixture) = answering(status, body);
        assert!(client.openid_user(&server("a.org"), &proof).await.is_err(), "{status} {body}");
        // Whoever names a server that fails leaves no trace of it.
        assert_eq!(fixture.client.destinations().retry_at(&server("a.org")), None);
    }
}

#[tokio::test]
async fn tokens_are_asked_for_as_the_client_named_its_member() {
    let (client, asked, _fixture) = answering(200, r#"{"jwt": "token"}"#);
    let by_id = wanted(Member::Id("m".to_owned()));
    assert_eq!(client.token(&server("a.org"), &by_id).await.unwrap(), "token");
    let claimed = wanted(Member::Claimed { id: "m".to_owned(), device: "D".to_owned() });
    client.token(&server("a.org"), &claimed).await.unwrap();
    let asked = asked.lock();
    assert_eq!(asked[0].0, "POST /_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token");
    let expected = json!({
        "user_id": "@us:us.org", "url": "wss://a.org/sfu", "room_id": "!room:a.org", "slot_id": "m.call#ROOM",
        "member_id": "m",
    });
    assert_eq!(asked[0].1, expected);
    assert_eq!(asked[1].1["member"], json!({"id": "m", "claimed_device_id": "D"}));
}

#[tokio::test]
async fn refusals_are_told_apart_from_failures() {
    let refusal = r#"{"errcode": "M_FORBIDDEN", "error": "no"}"#;
    let (client, _, _fixture) = answering(403, refusal);
    let refused = client.token(&server("a.org"), &wanted(Member::Id("m".to_owned()))).await.unwrap_err();
    assert!(matches!(refused, CallError::RemoteRefused { status: 403, errcode, .. } if errcode == "M_FORBIDDEN"));
    for (status, body) in [(0, ""), (200, "[]")] {
        let (client, _, _fixture) = answering(status, body);
        let failed = client.token(&server("a.org"), &wanted(Member::Id("m".to_owned()))).await.unwrap_err();
        assert!(matches!(failed, CallError::RemoteUnavailable(name) if name == "a.org"));
    }
}
