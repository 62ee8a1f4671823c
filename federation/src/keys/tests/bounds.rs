//! Each bound of what is asked about keys, and of what is believed, crossed.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::check::Signed;
use super::super::fetch::Attempt;
use super::*;

/// A ring whose transport answers every request for keys with what `answer` gives.
fn ring(answer: impl Fn(ServerName, &Request<Bytes>) -> Sending<'static> + Send + Sync + 'static) -> Fixture {
    let transport = FakeTransport::new(move |destination, request| answer(destination, &request));
    let config = FederationConfig { trusted_key_servers: vec!["notary.org".to_owned()], ..FederationConfig::default() };
    let ClientFixture { client, clock, store, signing_key } = ClientFixture::new(transport, config.clone());
    let parts = KeyRingParts {
        store: store.clone(),
        clock: clock.clone(),
        tasks: Tasks::new(&Metrics::new()),
        server_name: server("us.org"),
        own: OwnKeys { current: signing_key, old: Vec::new() },
        config: Arc::new(config),
        client: client.clone(),
    };
    Fixture { world: World::default(), ring: KeyRing::new(parts), clock, store, client }
}

/// A document of a.org with something more in it, signed.
fn document_with(more: impl Fn(&mut Map<String, Value>)) -> Vec<u8> {
    let key = signing_key("a.org", "k");
    let keys = OwnKeys { current: key.clone(), old: Vec::new() };
    let mut object = describe_own(&keys, &server("a.org"), NOW + DAY).unwrap();
    object.remove("signatures");
    more(&mut object);
    key.sign_json(&mut object, "a.org").unwrap();
    serde_json::to_vec(&object).unwrap()
}

fn padded(bytes: usize) -> Vec<u8> {
    document_with(|object| drop(object.insert("padding".into(), "x".repeat(bytes).into())))
}

fn missing(server_name: &str, keys: usize) -> Signed {
    let mut signed = Signed::new(server(server_name), None);
    let ids: Vec<String> = (0..keys).map(|number| format!("ed25519:k{number}")).collect();
    signed.add_keys(ids.iter().map(String::as_str));
    signed
}

/// Lets time pass until the work is done; says how long it took.
async fn while_time_passes<T>(clock: &Clock, work: impl Future<Output = T>) -> (T, Duration) {
    let before = clock.monotonic();
    let passing = async {
        loop {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_millis(100));
        }
    };
    let result = tokio::select! {
        result = work => result,
        () = passing => unreachable!(),
    };
    (result, clock.monotonic() - before)
}

#[tokio::test]
async fn documents_are_bounded_in_size_and_large_ones_are_not_kept_for_others() {
    for (bytes, is_believed, is_kept) in [(1000, true, true), (40 * 1024, true, false), (64 * 1024, false, false)] {
        let fixture = ring(move |destination, _| match destination.as_str() {
            "a.org" => answer(200, padded(bytes)),
            _ => unreachable(),
        });
        assert_eq!(fixture.request_from("a.org", "k").await.is_ok(), is_believed, "{bytes}");
        assert_eq!(fixture.ring.kept_document(&server("a.org")).unwrap().is_some(), is_kept, "{bytes}");
    }
}

#[tokio::test]
async fn long_key_ids_are_passed_over() {
    let long = format!("ed25519:{}", "x".repeat(130));
    let added = long.clone();
    let fixture = ring(move |destination, _| match destination.as_str() {
        "a.org" => answer(
            200,
            document_with(|object| {
                let key = json!({"key": signing_key("a.org", "other").public_base64()});
                object["verify_keys"].as_object_mut().unwrap().insert(added.clone(), key);
            }),
        ),
        _ => unreachable(),
    });
    fixture.request_from("a.org", "k").await.unwrap();
    let known = fixture.ring.known(&server("a.org")).unwrap();
    assert!(known.valid_now(&long, NOW).is_none());
    assert!(known.valid_now("ed25519:k", NOW).is_some());
}

#[tokio::test]
async fn few_keys_of_a_signature_are_looked_for() {
    let signed = missing("a.org", 40);
    assert_eq!(signed.key_ids.len(), 16);
    // Of many signatures of one server, a notary is asked for twenty keys by name.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let fixture = ring(move |_, request| {
        if request.uri().path() == "/_matrix/key/v2/query" {
            let query: Value = serde_json::from_slice(request.body()).unwrap();
            let servers = query["server_keys"].as_object().unwrap();
            seen.lock().extend(servers.values().map(|keys| keys.as_object().unwrap().len()));
        }
        unreachable()
    });
    let mut other = Signed::new(server("a.org"), None);
    other.add_keys(["ed25519:a", "ed25519:b", "ed25519:c", "ed25519:d", "ed25519:e", "ed25519:f"].into_iter());
    fixture.ring.find_missing(vec![signed, other], None).await;
    assert_eq!(*asked.lock(), [20]);
}

#[tokio::test]
async fn a_notary_is_asked_about_few_servers_at_a_time() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let fixture = ring(move |_, request| match request.uri().path() {
        "/_matrix/key/v2/query" => {
            let query: Value = serde_json::from_slice(request.body()).unwrap();
            seen.lock().push(query["server_keys"].as_object().unwrap().len());
            answer(200, r#"{"server_keys":[]}"#)
        }
        _ => unreachable(),
    });
    let all = (0..120).map(|number| missing(&format!("s{number}.org"), 1)).collect();
    fixture.ring.find_missing(all, None).await;
    assert_eq!(*asked.lock(), [50, 50, 20]);
}

#[tokio::test]
async fn the_answer_of_a_notary_is_bounded_in_size() {
    for (bytes, is_believed) in [(1024 * 1024, true), (4 * 1024 * 1024, false)] {
        let fixture = ring(move |destination, request| match (destination.as_str(), request.uri().path()) {
            ("notary.org", "/_matrix/key/v2/server") => {
                let keys = OwnKeys { current: signing_key("notary.org", "n"), old: Vec::new() };
                answer(200, serde_json::to_vec(&describe_own(&keys, &destination, NOW + DAY).unwrap()).unwrap())
            }
            ("notary.org", _) => {
                let mut document: Map<String, Value> = serde_json::from_slice(&document_with(|_| ())).unwrap();
                signing_key("notary.org", "n").sign_json(&mut document, "notary.org").unwrap();
                answer(200, json!({"server_keys": [document], "padding": "x".repeat(bytes)}).to_string())
            }
            _ => unreachable(),
        });
        assert_eq!(fixture.request_from("a.org", "k").await.is_ok(), is_believed, "{bytes}");
    }
}

#[tokio::test]
async fn few_servers_are_asked_at_once_and_all_of_them_not_for_long() {
    let (flying, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (flying.clone(), most.clone());
    struct Landing(Arc<AtomicUsize>);
    impl Drop for Landing {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let fixture = ring(move |_, _| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let landing = Landing(now.clone());
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(landing);
            unreachable().await
        })
    });
    let servers: BTreeSet<ServerName> = (0..1000).map(|number| server(&format!("s{number}.org"))).collect();
    let all: Vec<Signed> = servers.iter().map(|server| missing(server.as_str(), 1)).collect();
    // Each takes ten seconds; one after the other, even so many at once, they would take five minutes.
    let ((), took) = while_time_passes(&fixture.clock, fixture.ring.ask_servers(&all)).await;
    assert_eq!(most.load(Ordering::SeqCst), 32);
    assert!((Duration::from_secs(60)..Duration::from_secs(65)).contains(&took), "{took:?}");
    assert_eq!(flying.load(Ordering::SeqCst), 0, "nobody is asked any more");
}

#[tokio::test]
async fn a_request_waits_for_keys_ten_seconds() {
    let fixture = ring(|_, _| Box::pin(std::future::pending()));
    let (result, took) = while_time_passes(&fixture.clock, fixture.request_from("a.org", "k")).await;
    assert!(matches!(result, Err(KeyError::NoKey { .. })), "{result:?}");
    assert!((Duration::from_secs(9)..Duration::from_secs(12)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn few_questions_make_the_notary_ask_others() {
    let fixture = Fixture::new();
    fixture.world.publish("a.org", "k", vec![], NOW + DAY);
    let taken = fixture.ring.0.notary_places.acquire_many(NOTARY_PLACES as u32).await.unwrap();
    let query = json!({ "server_keys": { "a.org": {} } });
    assert_eq!(fixture.ask_notary(notary_query(&query)).await.1, json!({ "server_keys": [] }));
    assert!(fixture.world.asked().is_empty(), "no place was left");
    drop(taken);
    assert_eq!(fixture.ask_notary(notary_query(&query)).await.1["server_keys"].as_array().unwrap().len(), 1);
}

#[test]
fn the_pause_between_attempts_grows_to_ten_minutes() {
    assert_eq!(Attempt::pause_ms(0), 10_000);
    assert_eq!(Attempt::pause_ms(3), 40_000);
    for failures in [7, 20, u32::MAX] {
        assert_eq!(Attempt::pause_ms(failures), 600_000, "{failures}");
    }
}
