//! Runs the relay by itself, for `tests/turn` and `bench/turn`: `serve CONFIG`, where CONFIG is a TOML file with the
//! keys of the section `turn`. TLS has a certificate of its own making. Ends with SIGINT or SIGTERM.

use std::error::Error;
use std::sync::Arc;

use runtime::{Clock, Metrics, Random, Tasks};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::signal::unix::{SignalKind, signal};
use turn::{Turn, TurnConfig, TurnParts};

fn make_certificate() -> Result<SingleCertAndKey, Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    Ok(CertifiedKey::new(vec![made.cert.der().clone()], any_supported_type(&key)?).into())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: serve CONFIG")?;
    let config: TurnConfig = toml::from_str(&std::fs::read_to_string(path)?)?;
    let metrics = Metrics::new();
    let tasks = Tasks::new(&metrics);
    let turn = Turn::start(TurnParts {
        config,
        clock: Clock::system(),
        random: Random::system(),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
        tls: Some(Arc::new(make_certificate()?)),
        realm: "conduit.test".to_owned(),
        neighbours: Vec::new(),
    })?;
    println!("ready {}", turn.credentials("someone", std::time::Duration::from_secs(3600)).uris.join(" "));
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    print!("{}", metrics.render());
    tasks.drain(std::time::Duration::from_secs(5)).await;
    Ok(())
}
