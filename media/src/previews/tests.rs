use std::collections::HashMap;
use std::net::TcpListener as BlockingListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outbound::{WebClient, WebParts};
use parking_lot::Mutex;
use runtime::{Clock, Metrics, Tasks};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::MediaConfig;
use crate::media::tests::{Fixture, fixture, png};

/// What a path is answered with: the whole head after the first line, and the body.
type Site = Arc<Mutex<HashMap<String, (u16, String, Vec<u8>)>>>;

/// A web server of the test.
struct WebSite {
    origin: String,
    pages: Site,
    asked: Arc<AtomicUsize>,
}

impl WebSite {
    async fn start(tasks: &Tasks) -> WebSite {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let site = WebSite { origin, pages: Site::default(), asked: Arc::default() };
        let (pages, asked, inner) = (site.pages.clone(), site.asked.clone(), tasks.clone());
        tasks.spawn("web site", async move {
            while let Ok((stream, _)) = listener.accept().await {
                inner.spawn("connection", answer(stream, pages.clone(), asked.clone()));
            }
        });
        site
    }

    fn put(&self, path: &str, content_type: &str, body: &[u8]) {
        self.put_answer(path, 200, &format!("content-type: {content_type}\r\n"), body);
    }

    fn put_answer(&self, path: &str, status: u16, headers: &str, body: &[u8]) {
        self.pages.lock().insert(path.to_owned(), (status, headers.to_owned(), body.to_vec()));
    }

    fn redirect(&self, path: &str, to: &str) {
        self.put_answer(path, 302, &format!("location: {to}\r\n"), b"");
    }
}

async fn answer(mut stream: TcpStream, pages: Site, asked: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        asked.fetch_add(1, Ordering::SeqCst);
        let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().to_owned();
        head.clear();
        let (status, headers, body) = pages.lock().get(&path).cloned().unwrap_or((404, String::new(), Vec::new()));
        // Slow enough for others to come meanwhile.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let first = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        stream.write_all(&[first.as_bytes(), &body].concat()).await.unwrap();
    }
}

fn id(localpart: &str) -> UserId {
    UserId::parse(format!("@{localpart}:hs.test")).unwrap()
}

struct Bed {
    fixture: Fixture,
    previews: Previews,
    site: WebSite,
}

async fn bed(config: MediaConfig) -> Bed {
    bed_guarded(config, true).await
}

async fn bed_guarded(config: MediaConfig, allow_private_addresses: bool) -> Bed {
    let fixture = fixture();
    fixture.media.reload(MediaConfig { url_previews: true, ..config });
    let parts = WebParts {
        trusted_ca_file: None,
        allow_private_addresses,
        connect_timeout: Duration::from_secs(5),
        clock: Clock::system(),
    };
    let previews = Previews::new(fixture.media.clone(), Arc::new(WebClient::new(parts).unwrap()));
    Bed { fixture, previews, site: WebSite::start(&Tasks::new(&Metrics::new())).await }
}

impl Bed {
    async fn preview(&self, path: &str) -> Result<Map<String, Value>, MediaError> {
        self.preview_at(path, None).await
    }

    async fn preview_at(&self, path: &str, at_ms: Option<u64>) -> Result<Map<String, Value>, MediaError> {
        self.preview_for("alice", path, at_ms).await
    }

    async fn preview_for(&self, user: &str, path: &str, at_ms: Option<u64>) -> Result<Map<String, Value>, MediaError> {
        self.previews.preview(&id(user), &format!("{}{path}", self.site.origin), at_ms).await
    }

    fn asked(&self) -> usize {
        self.site.asked.swap(0, Ordering::SeqCst)
    }
}

fn page(title: &str, image: &str) -> Vec<u8> {
    format!("<head><title>{title}</title><meta property=og:image content='{image}'></head>").into_bytes()
}

#[tokio::test]
async fn a_page_is_fetched_once_for_all_and_again_when_stale() {
    let bed = bed(MediaConfig::default()).await;
    bed.site.put("/page", "text/html", &page("one", "/image.png"));
    bed.site.put("/image.png", "image/png", &png(30, 20));
    let all = tokio::join!(bed.preview("/page"), bed.preview("/page"), bed.preview("/page#part"));
    let first = all.0.unwrap();
    assert_eq!((first.clone(), first.clone()), (all.1.unwrap(), all.2.unwrap()));
    assert_eq!(bed.asked(), 2, "the page and its image");
    assert_eq!(first["og:title"], "one");
    assert_eq!((&first["og:image:width"], &first["og:image:height"]), (&json!(30), &json!(20)));
    assert_eq!(first["matrix:image:size"], png(30, 20).len());
    let fetched_ms = bed.fixture.clock.now_ms();

    bed.site.put("/page", "text/html", &page("two", ""));
    bed.fixture.clock.advance(Duration::from_secs(3599));
    assert_eq!(bed.preview("/page").await.unwrap()["og:title"], "one");
    bed.fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(bed.preview_at("/page", Some(fetched_ms + 5)).await.unwrap()["og:title"], "one", "as it was then");
    assert_eq!(bed.asked(), 0);
    let second = bed.preview("/page").await.unwrap();
    assert_eq!((second["og:title"].as_str(), second.get("og:image")), (Some("two"), None));
    assert_eq!(bed.preview_at("/page", Some(fetched_ms + 5)).await.unwrap()["og:title"], "two", "no older one is left");
}

#[tokio::test]
async fn what_is_stale_is_forgotten_with_its_image() {
    let bed = bed(MediaConfig::default()).await;
    bed.site.put("/page", "text/html", &page("one", "/image.png"));
    bed.site.put("/image.png", "image/png", &png(30, 20));
    let image = bed.preview("/page").await.unwrap()["og:image"].as_str().unwrap().to_owned();
    let image = image.strip_prefix("mxc://").and_then(|id| id.split_once('/')).unwrap();
    let image = Mxc::new(image.0, image.1).unwrap();
    bed.fixture.clock.advance(Duration::from_secs(3600));
    bed.site.put("/page", "text/html", &page("two", ""));
    bed.preview("/page").await.unwrap();
    bed.fixture.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(bed.previews.sweep().await.unwrap(), 0);
    assert!(bed.fixture.media.info(&image).is_ok());
    bed.fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(bed.previews.sweep().await.unwrap(), 1);
    assert!(matches!(bed.fixture.media.info(&image), Err(MediaError::NotFound)));
    let store = &bed.fixture.media.0.store;
    assert_eq!(store.scan(&PREVIEWS, &()).keys().count(), 1, "the newer one stays");
    bed.fixture.clock.advance(Duration::from_secs(3600));
    assert_eq!(bed.previews.sweep().await.unwrap(), 1);
    assert_eq!(store.scan(&PREVIEWS, &()).keys().count() + store.scan(&PREVIEWS_DUE, &()).keys().count(), 0);
    assert!(bed.fixture.find_problems().is_empty());
}

#[tokio::test]
async fn redirects_are_followed_a_few_times_and_checked_each_time() {
    let denied = vec!["127.0.0.1/secret".to_owned()];
    let bed = bed(MediaConfig { url_preview_denied: denied, ..MediaConfig::default() }).await;
    bed.site.put("/deep/page", "text/html", &page("here", "image.png"));
    bed.site.put("/deep/image.png", "image/png", &png(3, 2));
    bed.site.put("/secret", "text/html", &page("secret", ""));
    bed.site.redirect("/r0", "/deep/page");
    for at in 1..=5 {
        bed.site.redirect(&format!("/r{at}"), &format!("r{}", at - 1));
    }
    let found = bed.preview("/r4").await.unwrap();
    assert_eq!(found["og:title"], "here");
    assert!(found.contains_key("og:image"), "relative to where the page is: {found:?}");
    assert!(matches!(bed.preview("/r5").await, Err(MediaError::PageUnavailable)), "too many");
    bed.asked();
    for (path, to) in
        [("/to-secret", "/secret"), ("/to-file", "file:///etc/passwd"), ("/to-user", "http://u:p@127.0.0.1/")]
    {
        bed.site.redirect(path, to);
        let refused = bed.preview(path).await;
        assert!(matches!(refused, Err(MediaError::UrlDenied | MediaError::PageUnavailable)), "{path}: {refused:?}");
    }
    assert_eq!(bed.asked(), 3, "where they lead nobody was asked");
    // An image that may not be fetched is left out.
    bed.site.put("/page", "text/html", &page("page", "/secret"));
    assert_eq!(json!(bed.preview("/page").await.unwrap()), json!({"og:title": "page"}));
}

#[tokio::test]
async fn nothing_inside_is_fetched() {
    let bed = bed_guarded(MediaConfig::default(), false).await;
    bed.site.put("/page", "text/html", &page("inside", ""));
    let listener = BlockingListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"] {
        let refused = bed.previews.preview(&id("alice"), &format!("http://{host}:{port}/"), None).await;
        assert!(matches!(refused, Err(MediaError::PageUnavailable)), "{host}: {refused:?}");
    }
    assert!(listener.accept().is_err(), "somebody connected");
    assert!(matches!(bed.preview("/page").await, Err(MediaError::PageUnavailable)));
    assert_eq!(bed.asked(), 0);
}

#[tokio::test]
async fn bounds_hold() {
    let bed =
        bed(MediaConfig { url_preview_max_image: runtime::config::ByteSize(2000), ..MediaConfig::default() }).await;
    let mut long = page("head", "/large.png");
    long.resize(MAX_PAGE_BYTES + 1000, b' ');
    long.extend(b"<meta property=og:type content=tail>");
    bed.site.put("/long", "text/html", &long);
    bed.site.put("/large.png", "image/png", &[png(30, 20), vec![0; 2000]].concat());
    assert_eq!(json!(bed.preview("/long").await.unwrap()), json!({"og:title": "head"}));
    assert!(matches!(bed.preview("/large.png").await, Err(MediaError::PageUnavailable)));
    bed.site.put("/small.png", "image/png", &png(30, 20));
    assert_eq!(bed.preview("/small.png").await.unwrap()["og:image:type"], "image/png");
    // What says that it is an image and is none.
    bed.site.put("/no.png", "image/svg+xml", b"<svg/>");
    assert_eq!(json!(bed.preview("/no.png").await.unwrap()), json!({}));
    bed.site.put_answer("/zipped", 200, "content-type: text/html\r\ncontent-encoding: gzip\r\n", b"\x1f\x8b");
    assert!(matches!(bed.preview("/zipped").await, Err(MediaError::PageUnavailable)));
    assert!(matches!(bed.preview("/nothing").await, Err(MediaError::PageUnavailable)));
    assert!(matches!(bed.preview(&"/x".repeat(MAX_URL_BYTES)).await, Err(MediaError::InvalidUrl)));
}

#[tokio::test]
async fn a_page_that_does_not_come_is_not_waited_for() {
    let bed = bed(MediaConfig::default()).await;
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let clock = bed.fixture.clock.clone();
    let alice = id("alice");
    let late = tokio::select! {
        late = bed.previews.preview(&alice, &url, None) => late,
        () = async {
            let _connection = silent.accept().await.unwrap();
            clock.advance(Duration::from_secs(10));
            std::future::pending().await
        } => unreachable!(),
    };
    assert!(matches!(late, Err(MediaError::PageUnavailable)));
}

#[tokio::test]
async fn a_page_that_cannot_be_had_is_left_alone_for_some_minutes() {
    let bed = bed(MediaConfig::default()).await;
    for _ in 0..3 {
        assert!(matches!(bed.preview("/page").await, Err(MediaError::PageUnavailable)));
    }
    assert_eq!(bed.asked(), 1);
    bed.site.put("/page", "text/html", &page("here now", ""));
    bed.fixture.clock.advance(FAILED_FOR - Duration::from_secs(1));
    assert!(matches!(bed.preview("/page").await, Err(MediaError::PageUnavailable)));
    bed.fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(bed.preview("/page").await.unwrap()["og:title"], "here now");
}

#[tokio::test]
async fn only_so_many_pages_are_fetched_for_one_user() {
    let bed = bed(MediaConfig { url_preview_hourly_pages: 2, ..MediaConfig::default() }).await;
    for path in ["/1", "/2", "/3"] {
        bed.site.put(path, "text/html", &page(path, ""));
    }
    bed.preview("/1").await.unwrap();
    bed.fixture.clock.advance(Duration::from_secs(60));
    bed.preview("/2").await.unwrap();
    let refused = bed.preview("/3").await;
    assert!(matches!(refused, Err(MediaError::TooManyPreviews { retry_after_ms: 3_540_000 })), "{refused:?}");
    bed.preview("/1").await.expect("what was fetched costs nothing");
    bed.preview_for("bob", "/3", None).await.expect("others are not concerned");
    bed.site.put("/4", "text/html", &page("4", ""));
    assert!(bed.preview("/4").await.is_err());
    bed.fixture.clock.advance(Duration::from_secs(3540));
    bed.preview("/4").await.unwrap();
}

#[tokio::test]
async fn slow_pages_of_one_user_hold_up_no_others() {
    let bed = bed(MediaConfig::default()).await;
    bed.site.put("/page", "text/html", &page("quick", ""));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = |number| format!("http://{}/{number}", silent.local_addr().unwrap());
    let eve = id("eve");
    let slow = futures_util::future::join_all((0..MAX_RUNNING * 2).map(|number| {
        let (previews, eve, url) = (&bed.previews, &eve, url(number));
        async move { previews.preview(eve, &url, None).await }
    }));
    tokio::select! {
        _ = slow => panic!("nobody answers"),
        quick = bed.preview("/page") => assert_eq!(quick.unwrap()["og:title"], "quick"),
        () = tokio::time::sleep(Duration::from_secs(120)) => panic!("alice waits for eve"),
    }
}
