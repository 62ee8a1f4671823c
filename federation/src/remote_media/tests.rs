use std::sync::Arc;

use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use media::{Media, MediaConfig, MediaError, MediaSetup};
use parking_lot::Mutex;
use runtime::{Clock, Metrics, Random, Tasks};
use spec::ids::ServerName;
use spec::signing::SigningKey;
use storage::{Backend, Options, Store};
use tokio::io::AsyncReadExt;

use super::*;
use crate::client::ClientParts;
use crate::config::FederationConfig;
use crate::destinations::{Destinations, DestinationsParts};
use crate::transport::{Sending, Transport, TransportError};

/// What the other server answers, by the beginning of path or address.
type Script = Vec<(&'static str, u16, &'static str, Vec<u8>)>;

struct Scripted {
    script: Script,
    asked: Mutex<Vec<String>>,
}

impl Scripted {
    fn answer(&self, asked: String) -> Sending<'_> {
        let found = self.script.iter().find(|(path, ..)| asked.starts_with(path));
        let answer = found.ok_or_else(|| TransportError::Unreachable("no such server".into())).map(|found| {
            let (_, status, content_type, body) = found;
            // In small steps, as from a slow network.
            let frames: Vec<_> = body.chunks(5).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let response = Response::builder().status(*status).header("content-type", *content_type);
            response.header("content-disposition", "inline; filename=plain").body(BodyExt::boxed(body)).unwrap()
        });
        self.asked.lock().push(asked);
        Box::pin(std::future::ready(answer))
    }
}

impl Transport for Scripted {
    fn send(&self, _: ServerName, request: http::Request<Bytes>) -> Sending<'_> {
        self.answer(request.uri().to_string())
    }

    fn get_url(&self, url: http::Uri) -> Sending<'_> {
        self.answer(url.to_string())
    }
}

struct Bed {
    media: Media,
    transport: Arc<Scripted>,
    _dir: tempfile::TempDir,
}

fn bed(script: Script) -> Bed {
    let mut keyspaces = crate::keyspaces();
    keyspaces.extend_from_slice(media::KEYSPACES);
    let store = Store::open(Options::new(Backend::Memory, keyspaces)).unwrap();
    let (clock, random) = (Clock::system(), Random::seeded(1));
    let config = Arc::new(FederationConfig::default());
    let destinations = Destinations::open(DestinationsParts {
        store: store.clone(),
        clock: clock.clone(),
        random: random.clone(),
        config: config.clone(),
    });
    let transport = Arc::new(Scripted { script, asked: Mutex::default() });
    let server_name = ServerName::parse("us.example").unwrap();
    let client = FederationClient::new(ClientParts {
        server_name: server_name.clone(),
        signing_key: Arc::new(SigningKey::from_seed([1; 32], "1").unwrap()),
        clock: clock.clone(),
        random: random.clone(),
        destinations: destinations.unwrap(),
        config,
        transport: transport.clone(),
    });
    let dir = tempfile::tempdir().unwrap();
    let media = Media::open(MediaSetup {
        store,
        server_name,
        dir: dir.path().to_owned(),
        clock,
        random,
        tasks: Tasks::new(&Metrics::new()),
        config: MediaConfig { max_remote: runtime::config::ByteSize::kib(8), ..MediaConfig::default() },
        remote: Arc::new(RemoteMediaClient::new(client)),
    });
    Bed { media: media.unwrap(), transport, _dir: dir }
}

impl Bed {
    /// Content, type and name of the media.
    async fn fetch(&self) -> Result<(String, String, String), MediaError> {
        let mxc = Mxc::new("them.example", "id").unwrap();
        let mut download = self.media.download(&mxc, Duration::from_secs(1)).await?;
        let mut content = String::new();
        download.file.read_to_string(&mut content).await.unwrap();
        let info = download.info;
        Ok((content, info.content_type.unwrap_or_default(), info.file_name.unwrap_or_default()))
    }
}

const SIGNED: &str = "/_matrix/federation/v1/media/download/id";
const UNSIGNED: &str = "/_matrix/media/v3/download/them.example/id";
const MIXED: &str = "multipart/mixed; boundary=b";
const JSON: &str = "application/json";

fn parts(second: &str) -> Vec<u8> {
    format!("--b\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--b\r\n{second}\r\n--b--\r\n").into_bytes()
}

fn texts(content: &str, content_type: &str, name: &str) -> (String, String, String) {
    (content.to_owned(), content_type.to_owned(), name.to_owned())
}

#[tokio::test]
async fn the_second_part_is_the_content_and_is_kept() {
    let second = "Content-Type: text/plain\r\nContent-Disposition: inline; filename=\"a b\"\r\n\r\nhello";
    let bed = bed(vec![(SIGNED, 200, MIXED, parts(second))]);
    for _ in 0..2 {
        assert_eq!(bed.fetch().await.unwrap(), texts("hello", "text/plain", "a b"));
    }
    assert_eq!(*bed.transport.asked.lock(), [format!("{SIGNED}?timeout_ms=1000")]);
}

#[tokio::test]
async fn a_redirect_is_followed() {
    let second = "Location: https://cdn.example/x?y=z\r\n\r\nignored";
    let bed = bed(vec![
        (SIGNED, 200, MIXED, parts(second)),
        ("https://cdn.example/x?y=z", 200, "image/x-test", b"elsewhere".to_vec()),
    ]);
    assert_eq!(bed.fetch().await.unwrap(), texts("elsewhere", "image/x-test", "plain"));
}

#[tokio::test]
async fn an_old_server_is_asked_in_the_old_way() {
    for (status, body) in [
        (404, r#"{"errcode":"M_UNRECOGNIZED","error":"x"}"#),
        (400, r#"{"errcode":"M_UNRECOGNIZED","error":"x"}"#),
        (404, "not found"),
    ] {
        let bed =
            bed(vec![(SIGNED, status, JSON, body.as_bytes().to_vec()), (UNSIGNED, 200, "text/plain", b"old".to_vec())]);
        assert_eq!(bed.fetch().await.unwrap(), texts("old", "text/plain", "plain"));
        assert!(bed.transport.asked.lock()[1].contains("allow_remote=false"));
    }
}

/// Whether an error is the right one.
type Judge = fn(&MediaError) -> bool;

#[tokio::test]
async fn failures_say_whose_they_are() {
    let big = "x".repeat(9000);
    let table: Vec<(Script, Judge)> = vec![
        (vec![(SIGNED, 404, JSON, br#"{"errcode":"M_NOT_FOUND"}"#.to_vec())], |e| matches!(e, MediaError::NotFound)),
        (vec![(SIGNED, 504, JSON, br#"{"errcode":"M_NOT_YET_UPLOADED"}"#.to_vec())], |e| {
            matches!(e, MediaError::NotYetUploaded)
        }),
        (vec![(SIGNED, 502, JSON, br#"{"errcode":"M_TOO_LARGE"}"#.to_vec())], |e| {
            matches!(e, MediaError::RemoteTooLarge { .. })
        }),
        (vec![(SIGNED, 200, MIXED, parts(&format!("\r\n{big}")))], |e| matches!(e, MediaError::RemoteTooLarge { .. })),
        (vec![(SIGNED, 200, MIXED, "--b\r\n\r\n{}".repeat(20_000).into_bytes())], |e| {
            matches!(e, MediaError::RemoteUnavailable | MediaError::RemoteTooLarge { .. })
        }),
        (vec![(SIGNED, 500, JSON, Vec::new())], |e| matches!(e, MediaError::RemoteUnavailable)),
        (vec![], |e| matches!(e, MediaError::RemoteUnavailable)),
        (vec![(SIGNED, 200, "text/html", b"hello".to_vec())], |e| matches!(e, MediaError::RemoteUnavailable)),
        (vec![(SIGNED, 200, MIXED, parts("\r\nx\r\n--b\r\n\r\nthird"))], |e| {
            matches!(e, MediaError::RemoteUnavailable)
        }),
        (vec![(SIGNED, 200, MIXED, b"--b\r\n\r\n{}\r\n--b\r\n\r\ncut off".to_vec())], |e| {
            matches!(e, MediaError::RemoteUnavailable)
        }),
        (vec![(SIGNED, 200, MIXED, b"--b\r\n\r\n[]\r\n--b\r\n\r\nx\r\n--b--".to_vec())], |e| {
            matches!(e, MediaError::RemoteUnavailable)
        }),
        (vec![(SIGNED, 200, MIXED, b"--b\r\n\r\n{}\r\n--b--".to_vec())], |e| {
            matches!(e, MediaError::RemoteUnavailable)
        }),
        (vec![(SIGNED, 200, MIXED, parts("Location: http://10.0.0.1/x\r\n\r\n"))], |e| {
            matches!(e, MediaError::RemoteUnavailable)
        }),
    ];
    for (script, is_expected) in table {
        let shown = format!("{:.80?}", script);
        let error = bed(script).fetch().await.unwrap_err();
        assert!(is_expected(&error), "{error} of {shown}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_given_up_by_the_limit() {
    let body = Full::new(Bytes::from(vec![b'x'; 100])).map_err(|never| match never {});
    let response = Response::new(BodyExt::boxed(body));
    let bed = bed(vec![]);
    let mut writer = bed.media.new_upload();
    assert!(read_multipart(response, &Clock::system(), &mut writer).await.is_err(), "no type, no boundary");
    assert_eq!(writer.length(), 0);
}

#[tokio::test]
async fn metadata_are_bounded() {
    for (length, is_fetched) in [(MAX_METADATA - 20, true), (MAX_METADATA, false)] {
        let metadata = format!("{{\"x\":\"{}\"}}", "x".repeat(length));
        let body = format!("--b\r\n\r\n{metadata}\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b--");
        let bed = bed(vec![(SIGNED, 200, MIXED, body.into_bytes())]);
        assert_eq!(bed.fetch().await.is_ok(), is_fetched, "{length}");
    }
}

#[tokio::test]
async fn bytes_that_do_not_come_are_not_waited_for() {
    let clock = Clock::fake(1_700_000_000_000);
    let begin = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"--b")))]);
    let stalled = StreamBody::new(futures_util::StreamExt::chain(begin, futures_util::stream::pending()));
    let mut body: AnswerBody = BodyExt::boxed(stalled);
    assert!(next_bytes(&mut body, &clock).await.unwrap().is_some());
    let passing = async {
        for _ in 0..STALL.as_secs() {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(1));
        }
        std::future::pending::<()>().await;
    };
    let result = tokio::select! {
        result = next_bytes(&mut body, &clock) => result,
        () = passing => unreachable!(),
    };
    assert!(matches!(result, Err(FetchError::Malformed(STALLED))));
}

/// A server that takes the question and says nothing.
struct Silent;

impl Transport for Silent {
    fn send(&self, _: ServerName, _: http::Request<Bytes>) -> Sending<'_> {
        Box::pin(std::future::pending())
    }

    fn get_url(&self, _: http::Uri) -> Sending<'_> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let fixture = crate::client::tests::Fixture::new(Arc::new(Silent), FederationConfig::default());
    let (remote, clock) = (RemoteMediaClient::new(fixture.client.clone()), fixture.clock.clone());
    let passing = async {
        loop {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(1));
        }
    };
    let (mxc, before) = (Mxc::new("them.example", "id").unwrap(), clock.monotonic());
    let wait = Duration::from_secs(5);
    let ask = Ask { timeout: WHOLE, ..Ask::get(SIGNED.to_owned()) };
    let head = remote.ask_within(&mxc, ask, wait);
    let result = tokio::select! {
        result = head => result.map(drop),
        () = passing => unreachable!(),
    };
    assert!(matches!(result, Err(FetchError::Remote(RemoteError::Timeout(_)))), "{result:?}");
    let took = clock.monotonic() - before;
    assert!((wait + HEAD_GRACE..wait + HEAD_GRACE * 2).contains(&took), "{took:?}");
}
