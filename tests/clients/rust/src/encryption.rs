//! The encrypted part: cross-signing, megolm chat, verification, key backup and recovery.

use anyhow::{Context, ensure};
use client_scenario::{
    device::{Device, find_text},
    report::{Abort, Report, until_true},
    secret, verify,
};
use matrix_sdk::RoomState;

use crate::{Rooms, World, rooms};

/// Each user's first device makes the cross-signing identity.
pub async fn set_up_identities(report: &mut Report, world: &World) {
    report.step("alice sets up cross-signing", verify::bootstrap_cross_signing(&world.alice1)).await;
    report.step("bob sets up cross-signing", verify::bootstrap_cross_signing(&world.bob1)).await;
}

/// Every device writes, every other device reads; then a picture.
pub async fn chat_encrypted(report: &mut Report, world: &World, rooms: &Rooms) -> Result<(), Abort> {
    report
        .must("all devices know that the room is encrypted", async {
            for (_, device) in devices(world) {
                let room = device.room(&rooms.secret, RoomState::Joined).await?;
                until_true("the room's encryption", async || {
                    room.latest_encryption_state().await.is_ok_and(|state| state.is_encrypted())
                })
                .await?;
            }
            Ok(())
        })
        .await?;
    let readers = devices(world);
    for (name, sender) in devices(world) {
        let text = format!("secret from {name}");
        let told = secret::tell(sender, &rooms.secret, &text, &readers);
        report.step(&format!("an encrypted message from {name} is read by the other three"), told).await;
    }
    let image = secret::send_image(&world.alice1, &rooms.secret, &world.bob2);
    report.step("an encrypted image arrives byte for byte", image).await;
    Ok(())
}

fn devices(world: &World) -> [(&'static str, &Device); 4] {
    [
        ("alice's phone", &world.alice1),
        ("alice's desk", &world.alice2),
        ("bob's phone", &world.bob1),
        ("bob's desk", &world.bob2),
    ]
}

/// Emoji verification: each user's two devices, then the two users.
pub async fn verify_everyone(report: &mut Report, world: &World) {
    report
        .step("alice verifies her second device by emoji", verify::verify_own_devices(&world.alice1, &world.alice2))
        .await;
    report.step("bob verifies his second device by emoji", verify::verify_own_devices(&world.bob1, &world.bob2)).await;
    // The devices with classic sync do this: with sliding sync the SDK sends what a verification inside a room needs only
    // when its other, encryption connection next returns, so each of the steps could take one long poll.
    let open = secret::open_direct_room(&world.alice2, &world.bob2);
    let room = report.step("alice and bob have an encrypted direct room", open).await;
    if room.is_some() {
        report.step("alice and bob verify each other by emoji", verify::verify_users(&world.alice2, &world.bob2)).await;
    }
}

/// Alice backs up her room keys; a device that logs in later reads old messages by the recovery key alone.
pub async fn recover_on_fresh_device(report: &mut Report, world: &World, shared: &Rooms) {
    let recovery_key = report
        .step("alice makes a key backup and a recovery key", async {
            let recovery = world.alice1.client.encryption().recovery();
            let key = recovery.enable().wait_for_backups_to_upload().await?;
            ensure!(
                world.alice1.client.encryption().backups().fetch_exists_on_server().await?,
                "no backup on the server"
            );
            Ok(key)
        })
        .await;
    let Some(recovery_key) = recovery_key else { return };
    let login = Device::login(&world.homeserver, &world.alice_name, "alice new phone");
    let Some(mut fresh) = report.step("alice logs in on a third device", login).await else { return };
    report.step("start the third device's sliding sync", fresh.start_sliding_sync()).await;
    report.step("the third device's first room list has all rooms with names", rooms::check_room_list(&fresh)).await;
    report
        .step("the recovery key restores the identity on the third device", async {
            fresh.room(&shared.secret, RoomState::Joined).await?;
            fresh.client.encryption().recovery().recover(&recovery_key).await.context("recovering")?;
            let status = fresh.client.encryption().cross_signing_status().await.context("no status")?;
            ensure!(status.is_complete(), "private cross-signing keys are missing: {status:?}");
            let own = fresh.client.encryption().get_own_device().await?.context("own device is unknown")?;
            ensure!(own.is_cross_signed_by_owner(), "the third device is not signed by its owner");
            Ok(())
        })
        .await;
    report
        .step("the third device reads old encrypted messages from the backup", async {
            let timeline = fresh.timeline(&shared.secret).await?;
            for _ in 0..10 {
                let items = timeline.items().await;
                let known = items.iter().filter_map(|item| item.as_event());
                if known.filter(|event| event.content().is_message() || event.content().is_unable_to_decrypt()).count()
                    >= 5
                {
                    break;
                }
                timeline.paginate_backwards(20).await.context("paging back")?;
            }
            for name in ["alice's phone", "alice's desk", "bob's phone", "bob's desk"] {
                find_text(&timeline, &format!("secret from {name}")).await?;
            }
            Ok(())
        })
        .await;
}
