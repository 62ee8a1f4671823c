//! The encrypted part: cross-signing, megolm chat, verification, key backup and recovery.

use anyhow::{Context, Result, ensure};
use matrix_sdk::{
    RoomState,
    attachment::AttachmentConfig,
    media::{MediaFormat, MediaRequestParameters},
    ruma::events::room::{MediaSource, message::MessageType},
};
use serde_json::json;

use crate::{
    Rooms, World,
    device::{Device, body, find, find_text, is_event, send},
    report::{Abort, Report, until, until_true},
    rooms::{self, IMAGE},
    verify,
};

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
    for (name, sender) in devices(world) {
        let text = format!("secret from {name}");
        report
            .step(&format!("an encrypted message from {name} is read by the other three"), async {
                let room = sender.room(&rooms.secret, RoomState::Joined).await?;
                let id = send(&room, "m.room.message", json!({"msgtype": "m.text", "body": text})).await?;
                let raw = room.event(&id, None).await.context("GET event")?;
                ensure!(raw.encryption_info().is_some(), "the event was sent in the clear");
                for (reader_name, reader) in devices(world) {
                    let timeline = reader.timeline(&rooms.secret).await?;
                    find_text(&timeline, &text).await.with_context(|| format!("read by {reader_name}"))?;
                }
                Ok(())
            })
            .await;
    }
    report.step("an encrypted image arrives byte for byte", send_image(world, rooms)).await;
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

async fn send_image(world: &World, rooms: &Rooms) -> Result<()> {
    let room = world.alice1.room(&rooms.secret, RoomState::Joined).await?;
    let sent = room.send_attachment("image.png", &mime::IMAGE_PNG, IMAGE.to_vec(), AttachmentConfig::new()).await?;
    let timeline = world.bob2.timeline(&rooms.secret).await?;
    let event = find(&timeline, "the image", |event| is_event(event, &sent.event_id) && body(event).is_some()).await?;
    let message = event.content().as_message().context("the image event is no message")?;
    let MessageType::Image(image) = message.msgtype() else { anyhow::bail!("not an m.image") };
    ensure!(matches!(image.source, MediaSource::Encrypted(_)), "the image was uploaded in the clear");
    let file = MediaRequestParameters { source: image.source.clone(), format: MediaFormat::File };
    let bytes = world.bob2.client.media().get_media_content(&file, false).await?;
    ensure!(bytes == IMAGE, "{} bytes came back for {}", bytes.len(), IMAGE.len());
    Ok(())
}

/// Emoji verification: each user's two devices, then the two users.
pub async fn verify_everyone(report: &mut Report, world: &World) {
    report
        .step("alice verifies her second device by emoji", verify::verify_own_devices(&world.alice1, &world.alice2))
        .await;
    report.step("bob verifies his second device by emoji", verify::verify_own_devices(&world.bob1, &world.bob2)).await;
    let room = report.step("alice and bob have an encrypted direct room", open_direct_room(world)).await;
    if room.is_some() {
        report.step("alice and bob verify each other by emoji", verify::verify_users(&world.alice2, &world.bob2)).await;
    }
}

/// The devices with classic sync do this: with sliding sync the SDK sends what a verification inside a room needs only
/// when its other, encryption connection next returns, so each of the steps could take one long poll.
async fn open_direct_room(world: &World) -> Result<()> {
    let (alice, bob) = (&world.alice2, &world.bob2);
    let direct = alice.client.create_dm(bob.user()?).await.context("creating the direct room")?;
    let id = direct.room_id();
    bob.room(id, RoomState::Invited).await?.join().await.context("joining")?;
    until("the direct room in alice's account data", async || alice.client.get_dm_room(bob.user().ok()?)).await?;
    // Both room keys must have arrived before the verification events that are encrypted with them.
    for (sender, reader, text) in [(alice, bob, "shall we verify?"), (bob, alice, "yes, let us")] {
        let room = sender.room(id, RoomState::Joined).await?;
        until_true("the other as a member", async || {
            let member = room.get_member_no_sync(reader.client.user_id().unwrap_or(room.own_user_id())).await;
            matches!(member, Ok(Some(member)) if member.membership().as_str() == "join")
        })
        .await?;
        send(&room, "m.room.message", json!({"msgtype": "m.text", "body": text})).await?;
        find_text(&*reader.timeline(id).await?, text).await?;
    }
    Ok(())
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
