//! Alice on one server and Bob on another chat encrypted, through the Rust client SDK, while both of them change devices,
//! verify each other and lose their servers.
//!
//! Environment: `FIRST` and `SECOND`, the base URLs of Alice's and of Bob's server. To stop or start one, the scenario
//! prints `server stop first` (or `start`, `second`) and waits for a line on its standard input; a stop is violent.

#![recursion_limit = "256"]

mod devices;
mod outage;
mod stage;
mod trust;
mod wire;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use client_scenario::{
    device::Device,
    report::{Abort, Report},
    secret,
};
use matrix_sdk::{RoomState, ruma::OwnedRoomId};
use tokio::time::timeout;

use crate::{stage::Server, wire::Wire};

/// Longest time for the whole scenario.
const SCENARIO_LIMIT: Duration = Duration::from_secs(900);

/// A user with the device that stays to the end.
pub struct Party {
    /// Who this is, in the report.
    name: &'static str,
    /// The account's local part.
    username: String,
    server: Server,
    /// What `phone` sends to its server.
    wire: Wire,
    phone: Device,
}

impl Party {
    /// A further device of this user, not syncing yet, that talks to the server directly.
    pub async fn log_in(&self, device: &str) -> Result<Device> {
        Device::login(&self.server.url, &self.username, &format!("{}'s {device}", self.name)).await
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut report = Report::default();
    match timeout(SCENARIO_LIMIT, Box::pin(run_scenario(&mut report))).await {
        Ok(Ok(())) => {}
        Ok(Err(Abort)) => println!("the steps after this one need it and were not run"),
        Err(_) => report.fail("scenario", &format!("not finished after {} s", SCENARIO_LIMIT.as_secs())),
    }
    if report.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run_scenario(report: &mut Report) -> Result<(), Abort> {
    let alice = report.must("register alice on the first server", enter("alice", "first")).await?;
    let bob = report.must("register bob on the second server", enter("bob", "second")).await?;
    let room = meet(report, &alice, &bob).await?;
    trust::make_identities(report, &alice, &bob).await;
    let alice_desk = Box::pin(devices::replace_device(report, &room, &alice, &bob)).await?;
    let bob_desk = Box::pin(devices::replace_device(report, &room, &bob, &alice)).await?;
    Box::pin(trust::verify_everyone(report, (&alice, &alice_desk), (&bob, &bob_desk))).await;
    Box::pin(outage::lose_servers(report, &room, (&alice, &alice_desk), (&bob, &bob_desk))).await
}

/// A new account whose first device syncs.
async fn enter(name: &'static str, place: &'static str) -> Result<Party> {
    let server = Server::find(place)?;
    let wire = Wire::lay(&server.url).await?;
    let username = format!("{name}-{}", std::process::id());
    let mut phone = Device::register(&wire.url, &username, &format!("{name}'s phone")).await?;
    phone.start_classic_sync();
    Ok(Party { name, username, server, wire, phone })
}

/// An encrypted room of Alice's, into which Bob comes.
async fn meet(report: &mut Report, alice: &Party, bob: &Party) -> Result<OwnedRoomId, Abort> {
    let (one, two) = (&alice.phone, &bob.phone);
    let room = report.must("alice makes an encrypted room", secret::create_room(one, "secret", two)).await?;
    report
        .must("bob gets the invite and joins", async {
            two.room(&room, RoomState::Invited).await?.join().await.context("joining")?;
            secret::until_ready(one, &room, two).await?;
            secret::until_ready(two, &room, one).await
        })
        .await?;
    for (from, to) in [(alice, bob), (bob, alice)] {
        let text = format!("hello from {}", from.name);
        let readers = [(to.name, &to.phone)];
        let told = secret::tell(&from.phone, &room, &text, &readers);
        report.must(&format!("{} reads what {} writes", to.name, from.name), told).await?;
    }
    for (from, to) in [(alice, bob), (bob, alice)] {
        let sent = secret::send_image(&from.phone, &room, &to.phone);
        report.step(&format!("{} gets an encrypted picture of {}'s", to.name, from.name), sent).await;
    }
    Ok(room)
}
