use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use image::{ImageFormat, Rgb, RgbImage};
use runtime::Metrics;
use runtime::config::{ByteSize, Span};
use spec::ids::UserId;
use storage::{Backend, Options, Read};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::rows::FILES;
use crate::{Description, Download, KEYSPACES, RemoteDescription, RemoteMediaError, ThumbnailMethod, ThumbnailRequest};

pub(crate) const NO_WAIT: Duration = Duration::ZERO;

#[derive(Default)]
struct FakeRemote {
    fetches: AtomicU32,
}

impl RemoteMedia for FakeRemote {
    fn fetch<'a>(
        &'a self,
        mxc: &'a Mxc,
        _timeout: Duration,
        into: &'a mut MediaWriter,
    ) -> Pin<Box<dyn Future<Output = Result<RemoteDescription, RemoteMediaError>> + Send + 'a>> {
        Box::pin(async move {
            self.fetches.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            match mxc.media_id() {
                "gone" => Err(RemoteMediaError::NotFound),
                "huge" => {
                    into.write(&[0; 4000]).await?;
                    Ok(RemoteDescription::default())
                }
                _ => {
                    into.write(b"remote bytes").await?;
                    let content_type = Some("text/plain\r\nX-Evil: 1".to_owned());
                    Ok(RemoteDescription { content_type, file_name: Some("r.txt".to_owned()) })
                }
            }
        })
    }
}

pub(crate) struct Fixture {
    pub(crate) media: Media,
    pub(crate) clock: Clock,
    remote: Arc<FakeRemote>,
    pub(crate) dir: TempDir,
}

pub(crate) fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fake(1_700_000_000_000);
    let remote = Arc::new(FakeRemote::default());
    let media = open_media(dir.path(), &clock, &remote);
    Fixture { media, clock, remote, dir }
}

fn open_media(dir: &Path, clock: &Clock, remote: &Arc<FakeRemote>) -> Media {
    let store = Store::open(Options::new(Backend::Memory, KEYSPACES.to_vec())).unwrap();
    let config = MediaConfig {
        max_upload: ByteSize::mib(1),
        max_remote: ByteSize(2000),
        max_pending_uploads: 2,
        pending_lifetime: Span::seconds(100),
        ..MediaConfig::default()
    };
    Media::open(MediaSetup {
        store,
        server_name: ServerName::parse("here.example").unwrap(),
        dir: dir.to_path_buf(),
        clock: clock.clone(),
        random: Random::seeded(1),
        tasks: Tasks::new(&Metrics::new()),
        config,
        remote: Arc::clone(remote) as Arc<dyn RemoteMedia>,
    })
    .unwrap()
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(format!("@{name}:here.example")).unwrap()
}

impl Fixture {
    pub(crate) async fn upload(&self, bytes: &[u8]) -> Mxc {
        let mut upload = self.media.new_upload();
        upload.write(bytes).await.unwrap();
        self.media.upload(&user("alice"), upload, Description::default()).await.unwrap()
    }

    pub(crate) async fn upload_as(&self, who: &str, bytes: &[u8]) -> Result<Mxc, MediaError> {
        let mut upload = self.media.new_upload();
        upload.write(bytes).await.unwrap();
        self.media.upload(&user(who), upload, Description::default()).await
    }

    /// Runs the tasks that were spawned to their ends.
    pub(crate) async fn settle(&self) {
        while !self.media.0.noting.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn fetches(&self) -> u32 {
        self.remote.fetches.load(Ordering::Relaxed)
    }

    pub(crate) async fn fill(&self, who: &str, mxc: &Mxc, bytes: &[u8]) -> Result<(), MediaError> {
        let mut upload = self.media.new_upload();
        upload.write(bytes).await?;
        self.media.upload_reserved(&user(who), mxc, upload, Description::default()).await
    }

    pub(crate) async fn reserve(&self, who: &str) -> Mxc {
        self.media.reserve(&user(who)).await.unwrap().mxc
    }

    pub(crate) fn find_problems(&self) -> Vec<crate::fsck::Problem> {
        crate::fsck::check(&self.media.0.store, self.dir.path()).unwrap().problems
    }

    pub(crate) fn count(&self, folder: &str) -> usize {
        fn count(path: &Path) -> usize {
            let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }
        count(&self.dir.path().join(folder))
    }
}

pub(crate) async fn read(mut download: Download) -> Vec<u8> {
    let mut bytes = Vec::new();
    download.file.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len() as u64, download.info.length);
    bytes
}

pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(width, height, Rgb([7, 8, 9])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub(crate) fn small(animated: bool) -> ThumbnailRequest {
    ThumbnailRequest { width: 30, height: 30, method: ThumbnailMethod::Crop, animated }
}

#[tokio::test]
async fn uploads_come_back_as_they_were() {
    let fixture = fixture();
    let mut upload = fixture.media.new_upload();
    let bytes: Vec<u8> = (0..600_000u32).map(|index| (index % 251) as u8).collect();
    upload.write_from(&mut bytes.as_slice()).await.unwrap();
    let about = Description { content_type: Some("video/mp4".to_owned()), file_name: Some("ü.mp4".to_owned()) };
    let mxc = fixture.media.upload(&user("alice"), upload, about).await.unwrap();
    let download = fixture.media.download(&mxc, NO_WAIT).await.unwrap();
    assert_eq!(download.info.content_type.as_deref(), Some("video/mp4"));
    assert_eq!(download.info.file_name.as_deref(), Some("ü.mp4"));
    assert_eq!(download.info.uploader.as_deref(), Some("@alice:here.example"));
    assert_eq!(read(download).await, bytes);
    assert_eq!((fixture.count("files"), fixture.count("temp")), (1, 0));
    let empty = fixture.upload(b"").await;
    assert_eq!(read(fixture.media.download(&empty, NO_WAIT).await.unwrap()).await, b"");
}

#[tokio::test]
async fn limits_hold_while_bytes_arrive() {
    let fixture = fixture();
    let mut upload = fixture.media.new_upload();
    upload.write(&vec![1; 1024 * 1024]).await.unwrap();
    assert!(matches!(upload.write(&[1]).await, Err(MediaError::TooLarge { limit: 1_048_576 })));
    assert_eq!(fixture.count("temp"), 1);
    drop(upload);
    assert_eq!((fixture.count("files"), fixture.count("temp")), (0, 0));
    let about = Description { content_type: Some("a\r\nb".to_owned()), file_name: None };
    let refused = fixture.media.upload(&user("alice"), fixture.media.new_upload(), about).await;
    assert!(matches!(refused, Err(MediaError::InvalidDescription(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_files_are_stored_once_and_live_as_long_as_one_is_used() {
    let fixture = fixture();
    let uploads = (0..8).map(|_| fixture.upload(&[5; 300_000]));
    let mxcs = futures_util::future::join_all(uploads).await;
    assert_eq!((fixture.count("files"), fixture.count("temp")), (1, 0));
    let (last, others) = mxcs.split_last().unwrap();
    for mxc in others {
        assert!(fixture.media.delete(mxc).await.unwrap());
        assert!(matches!(fixture.media.download(mxc, NO_WAIT).await, Err(MediaError::NotFound)));
    }
    assert_eq!(read(fixture.media.download(last, NO_WAIT).await.unwrap()).await, vec![5; 300_000]);
    let open = fixture.media.download(last, NO_WAIT).await.unwrap();
    assert!(fixture.media.delete(last).await.unwrap());
    assert!(!fixture.media.delete(last).await.unwrap());
    assert_eq!(fixture.count("files"), 0);
    assert_eq!(read(open).await.len(), 300_000, "an open download survives");
    assert!(fixture.media.0.store.scan(&FILES, &()).is_empty().unwrap());
}

#[tokio::test]
async fn reserved_ids_are_filled_once_by_their_owner() {
    let fixture = fixture();
    let mxc = fixture.media.reserve(&user("alice")).await.unwrap().mxc;
    assert!(matches!(fixture.media.download(&mxc, NO_WAIT).await, Err(MediaError::NotYetUploaded)));
    assert!(matches!(fixture.fill("bob", &mxc, b"x").await, Err(MediaError::NotYours)));
    fixture.fill("alice", &mxc, b"x").await.unwrap();
    assert!(matches!(fixture.fill("alice", &mxc, b"y").await, Err(MediaError::AlreadyUploaded)));
    assert_eq!(read(fixture.media.download(&mxc, NO_WAIT).await.unwrap()).await, b"x");
    let unknown = Mxc::new("here.example", "unknown").unwrap();
    assert!(matches!(fixture.fill("alice", &unknown, b"x").await, Err(MediaError::NotFound)));
    let contested = fixture.media.reserve(&user("alice")).await.unwrap().mxc;
    let (a, b) = tokio::join!(fixture.fill("alice", &contested, b"a"), fixture.fill("alice", &contested, b"b"));
    assert_ne!(a.is_ok(), b.is_ok(), "exactly one upload wins");
    assert_eq!(fixture.count("files"), 2);
}

#[tokio::test]
async fn reservations_are_limited_and_expire() {
    let fixture = fixture();
    let alice = user("alice");
    let first = fixture.media.reserve(&alice).await.unwrap();
    assert_eq!(first.expires_ms, 1_700_000_100_000);
    fixture.clock.advance(Duration::from_secs(10));
    fixture.media.reserve(&alice).await.unwrap();
    let refused = fixture.media.reserve(&alice).await.unwrap_err();
    assert!(matches!(refused, MediaError::TooManyPending { retry_after_ms: 90_000 }), "{refused:?}");
    fixture.media.reserve(&user("bob")).await.unwrap();
    fixture.clock.advance(Duration::from_secs(90));
    assert!(matches!(fixture.fill("alice", &first.mxc, b"x").await, Err(MediaError::NotFound)));
    assert!(matches!(fixture.media.download(&first.mxc, NO_WAIT).await, Err(MediaError::NotFound)));
    fixture.media.reserve(&alice).await.unwrap();
    fixture.clock.advance(Duration::from_secs(1000));
    assert_eq!(fixture.media.sweep().await.unwrap().reservations, 3);
}

#[tokio::test]
async fn downloads_wait_for_the_upload() {
    let fixture = fixture();
    let mxc = fixture.media.reserve(&user("alice")).await.unwrap().mxc;
    let (downloaded, filled) = tokio::join!(fixture.media.download(&mxc, Duration::from_secs(20)), async {
        tokio::task::yield_now().await;
        fixture.fill("alice", &mxc, b"late").await
    });
    filled.unwrap();
    assert_eq!(read(downloaded.unwrap()).await, b"late");
    let never = fixture.media.reserve(&user("alice")).await.unwrap().mxc;
    let (downloaded, ()) = tokio::join!(fixture.media.download(&never, Duration::from_secs(20)), async {
        tokio::task::yield_now().await;
        fixture.clock.advance(Duration::from_secs(21));
    });
    assert!(matches!(downloaded, Err(MediaError::NotYetUploaded)));
}

#[tokio::test]
async fn remote_media_is_fetched_once_and_kept() {
    let fixture = fixture();
    let mxc = Mxc::new("there.example", "abc").unwrap();
    let wait = Duration::from_secs(20);
    let requests = (0..5).map(|_| fixture.media.download(&mxc, wait));
    for download in futures_util::future::join_all(requests).await {
        let download = download.unwrap();
        assert_eq!((download.info.content_type.as_deref(), download.info.file_name.as_deref()), (None, Some("r.txt")));
        assert_eq!(read(download).await, b"remote bytes");
    }
    assert_eq!(fixture.remote.fetches.load(Ordering::Relaxed), 1);
    let gone = Mxc::new("there.example", "gone").unwrap();
    let (a, b) = tokio::join!(fixture.media.download(&gone, wait), fixture.media.download(&gone, wait));
    assert!(matches!((a, b), (Err(MediaError::NotFound), Err(MediaError::NotFound))));
    assert_eq!(fixture.remote.fetches.load(Ordering::Relaxed), 2, "a failure is shared");
    let huge = Mxc::new("there.example", "huge").unwrap();
    let refused = fixture.media.download(&huge, wait).await;
    assert!(matches!(refused, Err(MediaError::RemoteTooLarge { limit: 2000 })));
}

#[tokio::test]
async fn thumbnails_are_made_once_and_deleted_with_their_media() {
    let fixture = fixture();
    let mxc = fixture.upload(&png(400, 300)).await;
    assert_eq!(fixture.media.info(&mxc).unwrap().content_type.as_deref(), Some("image/png"), "recognised");
    let request = small(false);
    let requests = (0..4).map(|_| fixture.media.thumbnail(&mxc, &request, NO_WAIT));
    for thumbnail in futures_util::future::join_all(requests).await {
        let thumbnail = thumbnail.unwrap();
        assert_eq!(thumbnail.info.content_type.as_deref(), Some("image/jpeg"));
        assert_eq!(thumbnail.info.file_name.as_deref(), Some("thumbnail.jpeg"));
        let image = image::load_from_memory(&read(thumbnail).await).unwrap();
        assert_eq!((image.width(), image.height()), (32, 32));
    }
    assert_eq!(fixture.count("files"), 2);
    let uses = fixture.media.0.store.scan(&FILES, &()).iter().map(|row| row.unwrap().1).collect::<Vec<_>>();
    assert_eq!(uses, [1, 1], "made once");
    let large = ThumbnailRequest { width: 1000, height: 1000, method: ThumbnailMethod::Scale, animated: false };
    let original = fixture.media.thumbnail(&mxc, &large, NO_WAIT).await.unwrap();
    assert_eq!(read(original).await, png(400, 300));
    assert!(fixture.media.delete(&mxc).await.unwrap());
    assert_eq!(fixture.count("files"), 0);
    assert!(matches!(fixture.media.thumbnail(&mxc, &request, NO_WAIT).await, Err(MediaError::NotFound)));
}

#[tokio::test]
async fn what_cannot_be_thumbnailed_is_refused() {
    let fixture = fixture();
    let text = fixture.upload(b"no image").await;
    let damaged = fixture.upload(&png(300, 300)[..80]).await;
    for mxc in [&text, &damaged] {
        let refused = fixture.media.thumbnail(mxc, &small(true), NO_WAIT).await;
        assert!(matches!(refused, Err(MediaError::NotThumbnailable)));
    }
    let nothing = ThumbnailRequest { width: 0, ..small(false) };
    assert!(matches!(fixture.media.thumbnail(&text, &nothing, NO_WAIT).await, Err(MediaError::InvalidSize)));
    assert_eq!(fixture.count("temp"), 0);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_removed() {
    let fixture = fixture();
    let mxc = fixture.upload(b"kept").await;
    std::fs::write(fixture.dir.path().join("temp/unfinished"), b"half a file").unwrap();
    let orphan = fixture.dir.path().join("files/ab/cd");
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::write(orphan.join("e".repeat(60)), b"nobody's").unwrap();
    let report = fixture.media.sweep().await.unwrap();
    assert_eq!((report.files, fixture.count("files")), (1, 1));
    assert_eq!(read(fixture.media.download(&mxc, NO_WAIT).await.unwrap()).await, b"kept");
    assert_eq!(fixture.count("temp"), 1);
    open_media(fixture.dir.path(), &fixture.clock, &fixture.remote);
    assert_eq!(fixture.count("temp"), 0);
}

#[test]
fn addresses_cannot_leave_the_folder() {
    for bad in ["mxc://a.b/../x", "mxc://a.b/", "mxc://a.b", "mxc://a.b/x/y", "mxc:///x", "http://a.b/x", "mxc://a/é"]
    {
        assert!(Mxc::parse(bad).is_err(), "{bad}");
    }
    assert!(Mxc::new("a.b", &"x".repeat(256)).is_err());
    assert_eq!(Mxc::parse("mxc://a.b:1/x-_9").unwrap().to_string(), "mxc://a.b:1/x-_9");
}
