//! The media server alone, on loopback, for tests with browsers:
//! `bare [--port 7880] [--udp 7882] [--tcp 7881] [--root FOLDER] [--public IP]
//! [--listen IP] [--threads 0] [--seats 100]`.
//!
//! Serves signalling under `/sfu`, the files of a folder, and `/token?room=…&identity=…` with a token for
//! anybody (`&create=0`, `&publish=0`, `&subscribe=0`). Not for production.
#![expect(clippy::unwrap_used, reason = "a tool of tests may panic")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use runtime::{Clock, LogConfig, Metrics, Random, Tasks};
use sfu::{Grant, LegStats, Observer, Sfu, SfuConfig, SfuParts};

struct Log;

impl Observer for Log {
    fn may_join(&self, _room: &str, _identity: &str) -> bool {
        true
    }

    fn joined(&self, room: &str, identity: &str) {
        println!("joined {room} {identity}");
    }

    fn left(&self, room: &str, identity: &str, stats: LegStats) {
        println!("left {room} {identity} {}", serde_json::to_string(&stats).unwrap());
    }
}

#[derive(Clone)]
struct Bare {
    sfu: Sfu,
    metrics: Metrics,
    root: PathBuf,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, default: u16| argument(name).map_or(default, |text| text.parse().unwrap());
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    let _logs = runtime::start_logging(&LogConfig { level, ..LogConfig::default() }).unwrap();
    let metrics = Metrics::new();
    let tasks = Tasks::new(&metrics);
    let public: IpAddr = argument("--public").map_or(Ipv4Addr::LOCALHOST.into(), |ip| ip.parse().unwrap());
    let config = SfuConfig {
        threads: number("--threads", 0).into(),
        udp_port: number("--udp", 7882),
        tcp_port: number("--tcp", 7881),
        listen: vec![Ipv4Addr::UNSPECIFIED.into()],
        public_addresses: vec![public],
        max_room_participants: u32::from(number("--seats", 100)),
        departure_timeout: runtime::config::Span::seconds(5),
        ..SfuConfig::default()
    };
    let sfu = Sfu::start(SfuParts {
        config,
        clock: Clock::system(),
        random: Random::system(),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
        secret: [1; 32],
        observer: Arc::new(Log),
        relay: None,
    })
    .await
    .unwrap();
    let root = argument("--root").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let router = Router::new()
        .nest_service("/sfu", sfu.router())
        .route("/token", get(token))
        .route("/rooms", get(rooms))
        .route("/metrics", get(metrics_text))
        .route("/disconnect", post(disconnect))
        .route("/mute", post(mute))
        .fallback(get(file))
        .with_state(Bare { sfu, metrics, root });
    let listen: IpAddr = argument("--listen").map_or(Ipv4Addr::LOCALHOST.into(), |ip| ip.parse().unwrap());
    let address = SocketAddr::from((listen, number("--port", 7880)));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stop).await.unwrap();
    tasks.drain(Duration::from_secs(3)).await;
}

async fn token(State(bare): State<Bare>, Query(query): Query<HashMap<String, String>>) -> Response {
    let text = |name: &str| query.get(name).cloned().unwrap_or_default();
    let flag = |name: &str| query.get(name).is_none_or(|value| value != "0");
    let grant = Grant {
        room: text("room"),
        identity: text("identity"),
        name: text("name"),
        can_publish: flag("publish"),
        can_subscribe: flag("subscribe"),
        may_create: flag("create"),
        lifetime: Duration::from_secs(3600),
    };
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], bare.sfu.token(&grant)).into_response()
}

async fn rooms(State(bare): State<Bare>) -> Response {
    let body = serde_json::to_string_pretty(&bare.sfu.rooms()).unwrap();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn metrics_text(State(bare): State<Bare>) -> String {
    bare.metrics.render()
}

async fn disconnect(State(bare): State<Bare>, Query(query): Query<HashMap<String, String>>) {
    let text = |name: &str| query.get(name).cloned().unwrap_or_default();
    bare.sfu.disconnect(&text("room"), &text("identity"), sfu::DisconnectReason::Removed);
}

async fn mute(State(bare): State<Bare>, Query(query): Query<HashMap<String, String>>) {
    let text = |name: &str| query.get(name).cloned().unwrap_or_default();
    bare.sfu.mute(&text("room"), &text("identity"), &text("track"));
}

async fn file(State(bare): State<Bare>, uri: Uri) -> Response {
    let path = Path::new(uri.path().trim_start_matches('/'));
    if path.components().any(|part| !matches!(part, Component::Normal(_))) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let kind = match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html",
        Some("js" | "mjs") => "text/javascript",
        Some("css") => "text/css",
        Some("json" | "map") => "application/json",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    };
    match tokio::fs::read(bare.root.join(path)).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
