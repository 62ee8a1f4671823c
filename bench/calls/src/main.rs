//! Puts load on a media server and says what it costs: publishers send synthetic Opus and VP8 over WebRTC, subscribers decrypt
//! it, look for gaps and measure how long it took. One run against one server; prints one JSON object.

#![allow(clippy::disallowed_methods, reason = "the real time is what is measured, and there is no server here")]

mod arrival;
mod decoder;
mod flood;
mod janus;
mod livekit;
mod measure;
mod peer;
mod plan;
mod process;
mod report;
mod source;
mod stamp;
mod worker;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, ValueEnum};
use tokio::time::{sleep, timeout};

use crate::plan::Media;
use crate::report::{Meter, trace};
use crate::worker::{PeerHandle, Worker};

/// How long it may take until all media flow.
const JOIN_LIMIT: Duration = Duration::from_secs(30);
const ROOM: u64 = 4711;

/// Puts load on a media server and says what it costs.
#[derive(Parser)]
struct Options {
    /// What the server speaks.
    #[arg(long, value_enum, default_value = "livekit")]
    server: Kind,
    /// Address and port of its signalling; for LiveKit's, `/token?room=&identity=` gives tokens there.
    #[arg(long, default_value = "127.0.0.1:7880")]
    url: String,
    /// Its process, to say what it costs.
    #[arg(long)]
    pid: Option<u32>,
    /// Name of the run in what is printed.
    #[arg(long, default_value = "run")]
    name: String,
    /// All join at the same moment, publish and subscribe to all others; there are no other subscribers.
    #[arg(long, conflicts_with = "subscribers")]
    together: bool,
    /// So many others join and leave another call while it is measured, as fast as the server lets them.
    #[arg(long, default_value_t = 0)]
    flood: u16,
    #[arg(long, default_value_t = 2)]
    publishers: u16,
    #[arg(long, default_value_t = 2)]
    subscribers: u16,
    /// Publishers send audio.
    #[arg(long)]
    audio: bool,
    /// Publishers send video with these layers: 0 = 180p, 1 = 360p, 2 = 720p.
    #[arg(long, value_delimiter = ',')]
    video: Vec<u8>,
    /// Ask for this layer of every video.
    #[arg(long)]
    quality: Option<u8>,
    /// Seconds that are measured, and before them those that are not.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    #[arg(long, default_value_t = 3)]
    warm_up: u64,
    /// Threads for the peers.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Which of the participants this process has.
    #[arg(long, value_enum, default_value = "both")]
    role: Role,
    /// Address of the peers' sockets.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Print what each subscriber sees every half second.
    #[arg(long)]
    trace: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Livekit,
    Janus,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Role {
    Both,
    Publish,
    Subscribe,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let media = Media { audio: options.audio, levels: options.video.clone() };
    if media.tracks().is_empty() {
        bail!("neither --audio nor --video");
    }
    let started = (0..options.threads.max(1)).map(|_| Worker::start(options.address)).collect::<Result<Vec<_>>>()?;
    let (workers, threads): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    let meter = Meter::start(options.pid)?;
    let joining = Instant::now();
    let subscribers =
        timeout(JOIN_LIMIT, gather(&options, &media, &workers)).await.context("not all joined in time")??;
    let others = usize::from(options.publishers) - usize::from(options.together);
    let streams = others * media.tracks().len();
    let flowing = async {
        for subscriber in &subscribers {
            while subscriber.with(|peer| peer.received(Instant::now()).streams).await? < streams as u64 {
                sleep(Duration::from_millis(20)).await;
            }
        }
        anyhow::Ok(())
    };
    if timeout(JOIN_LIMIT, flowing).await.is_err() {
        bail!("{}", missing(&subscribers, streams).await?);
    }
    let joined = joining.elapsed();
    let floods = flood::start(&options.url, options.flood, &workers)?;
    sleep(Duration::from_secs(options.warm_up)).await;
    let window = meter.window(&workers).await?;
    if options.trace {
        trace(&subscribers, Duration::from_secs(options.seconds)).await?;
    } else {
        sleep(Duration::from_secs(options.seconds)).await;
    }
    let participants = options.publishers + if options.together { 0 } else { options.subscribers };
    floods.report();
    println!("{}", serde_json::to_string(&window.end(&workers, &options.name, participants, joined).await?)?);
    for worker in &workers {
        worker.stop()?;
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a thread of peers panicked"))?;
    }
    Ok(())
}

/// Brings everybody into the call; gives the subscribers.
async fn gather(options: &Options, media: &Media, workers: &[Worker]) -> Result<Vec<PeerHandle>> {
    if options.together {
        return gather_together(options, media, workers).await;
    }
    let mut subscribers = Vec::new();
    let mut feeds = Vec::new();
    let mut places = workers.iter().cycle();
    if options.role != Role::Subscribe {
        if options.server == Kind::Janus {
            let mut first = janus::Participant::connect(&options.url).await?;
            first.create_room(ROOM, options.publishers.into()).await?;
            remain(first.stay());
        }
        for publisher in 0..options.publishers {
            let peer = places.next().context("no thread")?.add(format!("publisher {publisher}")).await?;
            feeds.extend(publish(options, media, publisher, peer).await?);
        }
    }
    if options.role != Role::Publish {
        for subscriber in 0..options.subscribers {
            let peer = places.next().context("no thread")?.add(format!("subscriber {subscriber}")).await?;
            subscribe(options, subscriber, &feeds, peer.clone()).await?;
            subscribers.push(peer);
        }
    }
    Ok(subscribers)
}

/// Brings everybody into the call at the same moment.
async fn gather_together(options: &Options, media: &Media, workers: &[Worker]) -> Result<Vec<PeerHandle>> {
    if options.server != Kind::Livekit {
        bail!("--together is for LiveKit's protocol only");
    }
    let mut peers = Vec::new();
    for (number, worker) in (0..options.publishers).zip(workers.iter().cycle()) {
        peers.push(worker.add(format!("participant {number}")).await?);
    }
    let joins = (0..options.publishers).zip(&peers).map(|(number, peer)| async move {
        let first = Instant::now() + Duration::from_millis(u64::from(number) * 7 % 20);
        let (identity, quality) = (format!("participant-{number}"), options.quality);
        let mut one = livekit::Participant::join(&options.url, "load", &identity, peer.clone(), true, quality).await?;
        one.publish(number, media, first).await?;
        remain(one.stay());
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(joins).await?;
    Ok(peers)
}

/// Adds a publisher; of Janus, gives its feed.
async fn publish(options: &Options, media: &Media, publisher: u16, peer: PeerHandle) -> Result<Option<u64>> {
    // Publishers do not all send in the same instant.
    let first = Instant::now() + Duration::from_millis(u64::from(publisher) * 7 % 20);
    match options.server {
        Kind::Livekit => {
            let identity = format!("publisher-{publisher}");
            let mut one = livekit::Participant::join(&options.url, "load", &identity, peer, false, None).await?;
            one.publish(publisher, media, first).await?;
            remain(one.stay());
            Ok(None)
        }
        Kind::Janus => {
            let mut one = janus::Participant::connect(&options.url).await?;
            let feed = one.publish(ROOM, publisher, media, &peer, first).await?;
            remain(one.stay());
            // Janus knows a feed's media only once they are there.
            while !peer.with(|peer| peer.connected()).await? {
                sleep(Duration::from_millis(10)).await;
            }
            Ok(Some(feed))
        }
    }
}

async fn subscribe(options: &Options, subscriber: u16, feeds: &[u64], peer: PeerHandle) -> Result<()> {
    match options.server {
        Kind::Livekit => {
            let identity = format!("subscriber-{subscriber}");
            let one = livekit::Participant::join(&options.url, "load", &identity, peer, true, options.quality).await?;
            remain(one.stay());
        }
        Kind::Janus => {
            let mut one = janus::Participant::connect(&options.url).await?;
            one.subscribe(ROOM, feeds, &peer).await?;
            remain(one.stay());
        }
    }
    Ok(())
}

/// Lets a participant stay; without it the measurement is worth nothing.
fn remain(stay: impl Future<Output = Result<()>> + 'static + Send) {
    tokio::spawn(async move {
        if let Err(error) = stay.await {
            eprintln!("callbench: {error:#}");
            std::process::exit(1);
        }
    });
}

/// Who did not get all streams.
async fn missing(subscribers: &[PeerHandle], streams: usize) -> Result<String> {
    let mut short = Vec::new();
    for subscriber in subscribers {
        let (name, there, connected) = subscriber
            .with(|peer| (peer.name.clone(), peer.received(Instant::now()).streams, peer.connected()))
            .await?;
        if there < streams as u64 {
            short.push(format!(
                "{name}: {there} of {streams} streams{}",
                if connected { "" } else { ", not connected" }
            ));
        }
    }
    Ok(format!("{} subscribers lack media: {}", short.len(), short.join("; ")))
}
