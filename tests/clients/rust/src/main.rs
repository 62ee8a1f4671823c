//! Two users with two devices each chat through the Rust client SDK against a running server.
//!
//! The first device of each user syncs by sliding sync (as mobile clients do), the second by `/sync` v3, so that
//! each event is read through both. Environment: `HOMESERVER` (base URL, required), `RESTART` (shell command
//! that stops and starts the server; without it that step is left out).

#![recursion_limit = "256"]

mod encryption;
mod rooms;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use client_scenario::{
    device::{Device, find_text, send},
    report::{Abort, Report, until_true},
};
use matrix_sdk::ruma::OwnedRoomId;
use tokio::{process::Command, time::timeout};

/// Longest time for the whole scenario.
const SCENARIO_LIMIT: Duration = Duration::from_secs(480);

/// The four devices and the rooms they share.
pub struct World {
    homeserver: String,
    alice_name: String,
    /// Sliding sync.
    alice1: Device,
    /// Classic sync.
    alice2: Device,
    /// Sliding sync.
    bob1: Device,
    /// Classic sync.
    bob2: Device,
}

/// The rooms made in the first part.
pub struct Rooms {
    space: OwnedRoomId,
    general: OwnedRoomId,
    random: OwnedRoomId,
    secret: OwnedRoomId,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut report = Report::default();
    match std::env::var("HOMESERVER") {
        Err(_) => report.fail("environment", "HOMESERVER is not set"),
        Ok(homeserver) => match timeout(SCENARIO_LIMIT, Box::pin(run_scenario(&mut report, homeserver))).await {
            Ok(Ok(())) => {}
            Ok(Err(Abort)) => println!("the steps after this one need it and were not run"),
            Err(_) => report.fail("scenario", &format!("not finished after {} s", SCENARIO_LIMIT.as_secs())),
        },
    }
    if report.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run_scenario(report: &mut Report, homeserver: String) -> Result<(), Abort> {
    let world = log_in(report, homeserver).await?;
    encryption::set_up_identities(report, &world).await;
    let rooms = rooms::create_and_join(report, &world).await?;
    rooms::chat(report, &world, &rooms).await?;
    rooms::look_around(report, &world, &rooms).await;
    encryption::chat_encrypted(report, &world, &rooms).await?;
    encryption::verify_everyone(report, &world).await;
    restart_server(report, &world, &rooms).await;
    encryption::recover_on_fresh_device(report, &world, &rooms).await;
    rooms::leave(report, &world, &rooms).await;
    Ok(())
}

async fn log_in(report: &mut Report, homeserver: String) -> Result<World, Abort> {
    // Names that are free also on a server that has seen the scenario before.
    let suffix = std::process::id();
    let (alice_name, bob_name) = (format!("rust-alice-{suffix}"), format!("rust-bob-{suffix}"));
    let mut alice1 = report.must("register alice", Device::register(&homeserver, &alice_name, "alice phone")).await?;
    let mut bob1 = report.must("register bob", Device::register(&homeserver, &bob_name, "bob phone")).await?;
    let mut alice2 =
        report.must("log in alice's second device", Device::login(&homeserver, &alice_name, "alice desk")).await?;
    let mut bob2 = report.must("log in bob's second device", Device::login(&homeserver, &bob_name, "bob desk")).await?;
    report
        .step("a wrong password is refused", async {
            let refused = Device::login_with(&homeserver, &bob_name, "wrong", "thief").await;
            ensure!(refused.is_err(), "a login with a wrong password succeeded");
            Ok(())
        })
        .await;
    report.must("start alice's sliding sync", alice1.start_sliding_sync()).await?;
    report.must("start bob's sliding sync", bob1.start_sliding_sync()).await?;
    alice2.start_classic_sync();
    bob2.start_classic_sync();
    Ok(World { homeserver, alice_name, alice1, alice2, bob1, bob2 })
}

async fn restart_server(report: &mut Report, world: &World, rooms: &Rooms) {
    let Ok(command) = std::env::var("RESTART") else {
        println!("RESTART is not set: the server is not restarted");
        return;
    };
    let restarted = report
        .step("restart the server", async {
            let status = Command::new("sh").arg("-c").arg(&command).status().await.context("running RESTART")?;
            ensure!(status.success(), "RESTART ended with {status}");
            Ok(())
        })
        .await;
    if restarted.is_none() {
        return;
    }
    report
        .step("access tokens outlive the restart", async {
            for device in [&world.alice1, &world.alice2, &world.bob1, &world.bob2] {
                let who = device.client.whoami().await?;
                ensure!(device.client.user_id() == Some(&*who.user_id), "the token is now {}'s", who.user_id);
                ensure!(device.client.device_id() == who.device_id.as_deref(), "the token's device changed");
            }
            Ok(())
        })
        .await;
    report
        .step("every sync loop goes on after the restart", async {
            let texts = [(&world.alice1, "after the restart"), (&world.bob2, "welcome back")];
            for (sender, text) in texts {
                let room = sender.client.get_room(&rooms.general).context("sender has lost the room")?;
                send(&room, "m.room.message", serde_json::json!({"msgtype": "m.text", "body": text})).await?;
            }
            for reader in [&world.alice1, &world.alice2, &world.bob1, &world.bob2] {
                let timeline = reader.timeline(&rooms.general).await?;
                for (_, text) in texts {
                    find_text(&timeline, text).await?;
                }
            }
            Ok(())
        })
        .await;
    report
        .step("encrypted chat goes on after the restart", async {
            let room = world.alice2.client.get_room(&rooms.secret).context("sender has lost the room")?;
            let text = "still secret";
            send(&room, "m.room.message", serde_json::json!({"msgtype": "m.text", "body": text})).await?;
            for reader in [&world.alice1, &world.bob1, &world.bob2] {
                let timeline = reader.timeline(&rooms.secret).await?;
                find_text(&timeline, text).await?;
            }
            Ok(())
        })
        .await;
    report
        .step("the room list service runs again", async {
            let service = world.bob1.sync_service()?;
            until_true("the sync service to run", async || {
                matches!(service.state().get(), matrix_sdk_ui::sync_service::State::Running)
            })
            .await
        })
        .await;
}
