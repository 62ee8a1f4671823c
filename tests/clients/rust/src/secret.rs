//! Encrypted rooms, what is sent in them, and which devices know of each other.

use anyhow::{Context, Result, bail, ensure};
use matrix_sdk::{
    RoomState,
    attachment::AttachmentConfig,
    encryption::identities,
    media::{MediaFormat, MediaRequestParameters},
    ruma::{
        OwnedEventId, OwnedRoomId, RoomId,
        api::client::room::create_room::v3 as create_room,
        events::room::{MediaSource, message::MessageType},
        serde::Raw,
    },
};
use serde_json::json;

use crate::{
    IMAGE,
    device::{Device, body, find, find_text, is_event, send},
    report::{until, until_true},
};

/// A private, encrypted room to which `guest` is invited.
pub async fn create_room(owner: &Device, name: &str, guest: &Device) -> Result<OwnedRoomId> {
    let encryption =
        json!({"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}});
    let mut request = create_room::Request::new();
    request.name = Some(name.to_owned());
    request.preset = Some(create_room::RoomPreset::PrivateChat);
    request.invite = vec![guest.user()?.to_owned()];
    request.initial_state = vec![Raw::from_json_string(encryption.to_string())?];
    let room = owner.client.create_room(request).await.with_context(|| format!("creating {name}"))?;
    Ok(room.room_id().to_owned())
}

/// Waits until the device knows that the room is encrypted and that the other user is in it.
pub async fn until_ready(device: &Device, room: &RoomId, other: &Device) -> Result<()> {
    let room = device.room(room, RoomState::Joined).await?;
    until_true("the room's encryption", async || {
        room.latest_encryption_state().await.is_ok_and(|state| state.is_encrypted())
    })
    .await?;
    let other = other.user()?;
    until_true("the other as a member", async || {
        let member = room.get_member_no_sync(other).await;
        matches!(member, Ok(Some(member)) if member.membership().as_str() == "join")
    })
    .await
}

/// Sends a text and checks that it left encrypted.
pub async fn say(sender: &Device, room: &RoomId, text: &str) -> Result<OwnedEventId> {
    let room = sender.room(room, RoomState::Joined).await?;
    let id = send(&room, "m.room.message", json!({"msgtype": "m.text", "body": text})).await?;
    let raw = room.event(&id, None).await.context("GET event")?;
    ensure!(raw.encryption_info().is_some(), "the event was sent in the clear");
    Ok(id)
}

/// Sends a text that each of the readers has to decrypt.
pub async fn tell(sender: &Device, room: &RoomId, text: &str, readers: &[(&str, &Device)]) -> Result<()> {
    // Opened first: a timeline that is opened while the message comes in shows it only after paging back.
    for (_, reader) in readers {
        reader.timeline(room).await?;
    }
    say(sender, room, text).await?;
    for (name, reader) in readers {
        let timeline = reader.timeline(room).await?;
        find_text(&timeline, text).await.with_context(|| format!("read by {name}"))?;
    }
    Ok(())
}

/// Sends the picture, encrypted, and checks that the reader gets the same bytes.
pub async fn send_image(sender: &Device, room: &RoomId, reader: &Device) -> Result<()> {
    let timeline = reader.timeline(room).await?;
    let room = sender.room(room, RoomState::Joined).await?;
    let sent = room.send_attachment("image.png", &mime::IMAGE_PNG, IMAGE.to_vec(), AttachmentConfig::new()).await?;
    let event = find(&timeline, "the image", |event| is_event(event, &sent.event_id) && body(event).is_some()).await?;
    let message = event.content().as_message().context("the image event is no message")?;
    let MessageType::Image(image) = message.msgtype() else { bail!("not an m.image") };
    ensure!(matches!(image.source, MediaSource::Encrypted(_)), "the image was uploaded in the clear");
    let file = MediaRequestParameters { source: image.source.clone(), format: MediaFormat::File };
    let bytes = reader.client.media().get_media_content(&file, false).await.context("downloading")?;
    ensure!(bytes == IMAGE, "{} bytes came back for {}", bytes.len(), IMAGE.len());
    Ok(())
}

/// Makes an encrypted direct room of the two in which each has read the other.
pub async fn open_direct_room(one: &Device, other: &Device) -> Result<()> {
    let direct = one.client.create_dm(other.user()?).await.context("creating the direct room")?;
    let id = direct.room_id();
    other.room(id, RoomState::Invited).await?.join().await.context("joining")?;
    until("the direct room in the account data", async || one.client.get_dm_room(other.user().ok()?)).await?;
    // Both room keys must have arrived before the verification events that are encrypted with them.
    for (sender, reader, text) in [(one, other, "shall we verify?"), (other, one, "yes, let us")] {
        until_ready(sender, id, reader).await?;
        say(sender, id, text).await?;
        find_text(&*reader.timeline(id).await?, text).await?;
    }
    Ok(())
}

/// What `asking` knows of another device, without asking its server.
pub async fn find_device(asking: &Device, asked: &Device) -> Option<identities::Device> {
    let (user, device) = (asked.client.user_id()?, asked.client.device_id()?);
    asking.client.encryption().get_device(user, device).await.ok().flatten()
}

/// Waits until the sync loop has made another device known.
pub async fn until_known(asking: &Device, asked: &Device) -> Result<identities::Device> {
    let (user, device) = (asked.user()?, asked.client.device_id().context("no device id")?);
    let what = format!("{device} of {user} to be known at {:?}", asking.client.device_id());
    until(&what, async || find_device(asking, asked).await).await
}
