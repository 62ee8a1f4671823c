//! What no module can promise by itself: whoever names servers to us, and wherever, makes this server connect to no
//! address inside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Uri};
use outbound::{Lookup, Names, SrvRecord, WebClient, WebParts, is_public};
use parking_lot::Mutex;
use rooms::{CheckedPdu, Membership, Received, RemoteRooms};
use runtime::{Clock, Random};
use serde_json::{Map, Value, json};
use spec::ids::{RoomAlias, RoomId, ServerName, UserId};
use spec::pdu::{Pdu, ReceivedPdu};
use spec::signing::SigningKey;
use spec::xmatrix::XMatrix;
use users::{AccountKind, AdminRights, NewAccount, RemoteUsers};

use crate::inbound::fixture::{Here, NOW_MS, VERSION};
use crate::transport::Sending;
use crate::{Ask, HttpsTransport, Transport, TransportError};

/// Name servers in the hands of an enemy: every name leads inside.
struct Hostile {
    port: u16,
}

impl Names for Hostile {
    fn addresses<'a>(&'a self, _: &'a str) -> Lookup<'a, Vec<IpAddr>> {
        let inner = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00::1"];
        Box::pin(std::future::ready(Ok(inner.iter().map(|address| address.parse().unwrap()).collect())))
    }

    fn services<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<SrvRecord>> {
        let target = match name.strip_prefix("_matrix-fed._tcp.") {
            Some("srv.test") => Some("elsewhere.test"),
            Some("literal.test") => Some("127.0.0.1"),
            _ => None,
        };
        let record = |target: &str| SrvRecord { priority: 1, weight: 1, port: self.port, target: target.to_owned() };
        Box::pin(std::future::ready(Ok(target.into_iter().map(record).collect())))
    }
}

/// The real transport; notes who was refused for being inside, and whatever else came of requests.
struct Watched {
    inner: HttpsTransport,
    refused: Mutex<BTreeSet<String>>,
    others: Mutex<Vec<String>>,
}

impl Watched {
    fn note(&self, name: &str, error: Option<&TransportError>) {
        match error {
            Some(TransportError::PrivateAddress(_)) => drop(self.refused.lock().insert(name.to_owned())),
            other => self.others.lock().push(format!("{name}: {other:?}")),
        }
    }
}

impl Transport for Watched {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        Box::pin(async move {
            let answer = self.inner.send(destination.clone(), request).await;
            self.note(destination.as_str(), answer.as_ref().err());
            answer
        })
    }

    fn get_url(&self, url: Uri) -> Sending<'_> {
        Box::pin(async move {
            let answer = self.inner.get_url(url.clone()).await;
            self.note(url.authority().map_or("", |authority| authority.as_str()), answer.as_ref().err());
            answer
        })
    }
}

/// This server among enemies.
struct Bed {
    here: Here,
    watched: Arc<Watched>,
    name: ServerName,
    key: SigningKey,
}

impl Bed {
    /// Begins one way of naming the server: it may be asked again, whatever came before.
    async fn begin(&self) {
        self.here.federation.clock.advance(Duration::from_secs(24 * 60 * 60));
        self.here.federation.destinations.record_success(&self.name).await;
        self.watched.refused.lock().clear();
    }

    /// Ends it: the server was looked for, found to be inside, and left alone.
    fn end(&self, way: &str) {
        let refused = self.watched.refused.lock();
        assert!(refused.contains(self.name.as_str()), "{way} did not lead to {}: {refused:?}", self.name);
        assert_eq!(*self.watched.others.lock(), Vec::<String>::new(), "{way} of {}", self.name);
    }

    fn user(&self) -> UserId {
        UserId::parse(format!("@eve:{}", self.name)).unwrap()
    }

    /// An event of the server's.
    fn sign(&self, object: Value) -> Pdu {
        let Value::Object(object) = object else { panic!("an event is an object") };
        Pdu::sign(object, &self.name, &self.key, VERSION.rules()).unwrap()
    }
}

fn room_id(text: &str) -> RoomId {
    RoomId::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_us_connect_inside() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let six = TcpListener::bind(("::1", port)).ok();
    six.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
    let names = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "inner.test", "localhost"];
    let names = names.map(|name| format!("{name}:{port}"));
    for name in names.iter().map(String::as_str).chain(["srv.test", "literal.test", "plain.test", "127.0.0.1"]) {
        let parts = WebParts {
            trusted_ca_file: None,
            allow_private_addresses: false,
            connect_timeout: Duration::from_secs(5),
            clock: Clock::system(),
        };
        let web = WebClient::with_names(parts, Arc::new(Hostile { port }), is_public).unwrap();
        let inner = HttpsTransport::new(web, Random::seeded(1));
        let watched = Arc::new(Watched { inner, refused: Mutex::default(), others: Mutex::default() });
        let here = Here::over(watched.clone());
        let key = SigningKey::from_seed([5; 32], "e").unwrap();
        let bed = Bed { here, watched, name: ServerName::parse(name).unwrap(), key };
        by_requests_of_servers(&bed).await;
        by_rooms(&bed).await;
        by_users(&bed).await;
        by_media(&bed).await;
        by_events(&bed).await;
        assert!(listener.accept().is_err() && six.iter().all(|listener| listener.accept().is_err()), "{name}");
    }
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    assert!(listener.accept().is_ok(), "the listener would have told");
}

/// What anybody may send to our listener.
async fn by_requests_of_servers(bed: &Bed) {
    let Bed { here, name, key, .. } = bed;
    bed.begin().await;
    let uri = "/_matrix/federation/v1/query/profile?user_id=%40alice%3Ahere.test";
    let header = XMatrix::sign(key, name, &here.federation.server_name, "GET", uri, None).to_header();
    let (status, _) = here.request("GET", uri, Some(header), Body::empty()).await;
    assert_eq!(status, http::StatusCode::UNAUTHORIZED);
    bed.end("the origin of a request");

    bed.begin().await;
    let query = json!({"server_keys": {name.as_str(): {}}});
    here.request("POST", "/_matrix/key/v2/query", None, Body::from(query.to_string())).await;
    bed.end("a question to the notary");

    bed.begin().await;
    let path = crate::client::encode_path(&["_matrix", "key", "v2", "query", name.as_str()]);
    here.request("GET", &path, None, Body::empty()).await;
    bed.end("a short question to the notary");

    let account = NewAccount {
        localpart: "carol",
        password: None,
        kind: AccountKind::User,
        admin: AdminRights::Denied,
        registration_token: None,
    };
    let carol = here.federation.users.create_account(account).await.unwrap().user_id;
    bed.begin().await;
    let invite = json!({"mxid": carol, "room_id": "!r:x.test", "sender": bed.user(), "signed": {}});
    let binding = json!({"mxid": carol, "invites": [invite]});
    let (status, answer) =
        here.request("PUT", "/_matrix/federation/v1/3pid/onbind", None, Body::from(binding.to_string())).await;
    assert_eq!(status, http::StatusCode::OK, "{answer}");
    bed.end("an invitation to an address");
}

/// What users may ask about rooms.
async fn by_rooms(bed: &Bed) {
    let Bed { here, name, .. } = bed;
    let federation = &here.federation;
    let alice = UserId::parse("@alice:here.test").unwrap();
    let through = [name.clone()];
    let named = room_id(&format!("!r:{name}"));
    let (far, opaque) = (room_id("!r:here.test"), room_id("!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));

    bed.begin().await;
    let alias = RoomAlias::parse(format!("#a:{name}")).unwrap();
    assert!(federation.resolve_alias(&alias).await.is_err());
    bed.end("an alias");
    for (way, room, via) in [
        ("a room id", &named, &[][..]),
        ("via", &far, &through[..]),
        ("via of a room whose id names nobody", &opaque, &through[..]),
    ] {
        bed.begin().await;
        assert!(federation.join(&alice, room, via, Map::new()).await.is_err());
        bed.end(&format!("{way}, joining"));
        bed.begin().await;
        assert!(federation.knock(&alice, room, via, Map::new()).await.is_err());
        bed.end(&format!("{way}, knocking"));
        bed.begin().await;
        assert!(federation.hierarchy(room, via, false).await.is_err());
        bed.end(&format!("{way}, looking into a space"));
    }
    bed.begin().await;
    assert!(federation.public_rooms(name, Map::new()).await.is_err());
    bed.end("a list of public rooms");

    let (room, _) = here.room().await;
    bed.begin().await;
    assert!(federation.invite(&alice, &room, &bed.user(), Map::new()).await.is_err());
    bed.end("an invited user");

    // An invitation that came from there, and is refused.
    bed.begin().await;
    let invite = bed.sign(json!({
        "type": "m.room.member", "room_id": named, "sender": bed.user(), "state_key": alice,
        "content": {"membership": "invite"}, "origin_server_ts": NOW_MS, "depth": 5,
        "prev_events": ["$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"], "auth_events": [],
    }));
    federation.rooms.receive_invite(CheckedPdu::of_ours(Arc::new(invite)), VERSION, Vec::new()).await.unwrap();
    federation.leave(&alice, &named, Map::new()).await.unwrap();
    let user = federation.rooms.user_nid(&alice).unwrap().unwrap();
    let nid = federation.rooms.known_room(&named).unwrap();
    assert_eq!(federation.rooms.membership(nid, user).unwrap().unwrap().membership, Membership::Leave);
    bed.end("a refused invitation");
}

/// What users may ask about users.
async fn by_users(bed: &Bed) {
    let federation = &bed.here.federation;
    let user = bed.user();
    bed.begin().await;
    assert!(federation.profile(&user, None).await.is_err());
    bed.end("a profile");
    bed.begin().await;
    assert!(federation.user_devices(&user).await.is_err());
    bed.end("a list of devices");
    bed.begin().await;
    let wanted = BTreeMap::from([(user.clone(), Vec::new())]);
    assert!(federation.query_keys(&bed.name, wanted, Duration::from_secs(1)).await.is_err());
    bed.end("keys of devices");
    bed.begin().await;
    let wanted = BTreeMap::from([(user, BTreeMap::from([("D".to_owned(), "signed_curve25519".to_owned())]))]);
    assert!(federation.claim_keys(&bed.name, wanted, Duration::from_secs(1)).await.is_err());
    bed.end("one-time keys");
}

/// What users may ask about media, and where other servers send us for them.
async fn by_media(bed: &Bed) {
    bed.begin().await;
    let mxc = media::Mxc::new(bed.name.as_str(), "id").unwrap();
    assert!(bed.here.federation.media.download(&mxc, Duration::from_secs(1)).await.is_err());
    bed.end("media");
    bed.begin().await;
    let url = format!("https://{}/file", bed.name);
    assert!(bed.here.federation.client.fetch_url(&url, Duration::from_secs(5), 100).await.is_err());
    // Of a web address SRV records say nothing; its own name leads inside all the same.
    bed.end("an address of media");
}

/// What events name.
async fn by_events(bed: &Bed) {
    let Bed { here, name, .. } = bed;
    let federation = &here.federation;
    bed.begin().await;
    let event = bed.sign(json!({
        "type": "m.room.message", "room_id": "!r:here.test", "sender": bed.user(), "content": {}, "depth": 5,
        "origin_server_ts": NOW_MS, "prev_events": [], "auth_events": [],
    }));
    let event = ReceivedPdu::check(event.to_object().unwrap(), VERSION.rules()).unwrap();
    assert!(federation.keys.check_pdus(VERSION.rules(), vec![event]).await.pop().unwrap().1.is_err());
    bed.end("the sender of an event");

    // A user of that server is in the room: it is told what happens, and asked for history.
    let (_, room) = here.room().await;
    let head = federation.rooms.head(room).unwrap();
    let auth: Vec<_> = [head.create(), head.power_levels(), head.join_rules()]
        .into_iter()
        .flatten()
        .map(|event| event.event_id.clone())
        .collect();
    let join = bed.sign(json!({
        "type": "m.room.member", "room_id": head.room_id(), "sender": bed.user(), "state_key": bed.user(),
        "content": {"membership": "join"}, "origin_server_ts": NOW_MS, "depth": 100,
        "prev_events": here.ends(room), "auth_events": auth,
    }));
    let join = Received::from(CheckedPdu::of_ours(Arc::new(join)));
    federation.rooms.receive_all(room, vec![join]).await.unwrap().remove(0).unwrap();
    bed.begin().await;
    assert_eq!(federation.event_near(room, 1, rooms::Direction::Forward).await.unwrap_or(None), None);
    bed.end("a server in a room, asked for an event");
    bed.begin().await;
    let ask = Ask::put("/_matrix/federation/v1/send/t".to_owned(), &json!({"pdus": []}));
    assert!(federation.client.ask(name, ask).await.is_err());
    bed.end("a server in a room, told something");
}
