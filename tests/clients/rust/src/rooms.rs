//! The unencrypted part: a space with two channels, and everything people do in them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use client_scenario::{
    IMAGE,
    device::{Device, body, find, find_text, is_event, send},
    report::{Abort, Report, until_true},
};
use futures_util::{StreamExt, pin_mut};
use matrix_sdk::{
    RoomState,
    attachment::AttachmentConfig,
    media::{MediaFormat, MediaRequestParameters, MediaThumbnailSettings},
    room::ListThreadsOptions,
    ruma::{
        OwnedEventId, OwnedRoomId, RoomId, UInt, UserId,
        api::client::{
            receipt::create_receipt::v3::ReceiptType, room::create_room::v3 as create_room, space::get_hierarchy,
        },
        events::{receipt::ReceiptThread, room::message::MessageType},
        serde::Raw,
    },
};
use matrix_sdk_ui::{
    eyeball_im::Vector,
    room_list_service::{RoomListItem, filters::new_filter_non_left},
    timeline::Timeline,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{Rooms, World};

/// Creates a private room with one invited user.
async fn create(device: &Device, name: &str, invite: &UserId, kind: RoomKind) -> Result<OwnedRoomId> {
    let mut request = create_room::Request::new();
    request.name = Some(name.to_owned());
    request.preset = Some(create_room::RoomPreset::PrivateChat);
    request.invite = vec![invite.to_owned()];
    match kind {
        RoomKind::Plain => {}
        RoomKind::Space => {
            request.creation_content = Some(Raw::from_json_string(json!({"type": "m.space"}).to_string())?);
        }
        RoomKind::Encrypted => {
            let event =
                json!({"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}});
            request.initial_state = vec![Raw::from_json_string(event.to_string())?];
        }
    }
    let room = device.client.create_room(request).await.with_context(|| format!("creating {name}"))?;
    Ok(room.room_id().to_owned())
}

enum RoomKind {
    Plain,
    Space,
    Encrypted,
}

/// Alice makes a space with two channels and an encrypted room; bob is invited and joins.
pub async fn create_and_join(report: &mut Report, world: &World) -> Result<Rooms, Abort> {
    let rooms = report.must("create a space, two channels and an encrypted room", create_all(world)).await?;
    report
        .must("link the channels to the space", async {
            let space = world.alice1.room(&rooms.space, RoomState::Joined).await?;
            let via = json!({"via": [world.alice1.user()?.server_name()]});
            for channel in [&rooms.general, &rooms.random] {
                space.send_state_event_raw("m.space.child", channel.as_str(), via.clone()).await?;
                let room = world.alice1.room(channel, RoomState::Joined).await?;
                room.send_state_event_raw("m.space.parent", rooms.space.as_str(), via.clone()).await?;
            }
            Ok(())
        })
        .await?;
    report
        .must("both of bob's devices see the invites", async {
            for device in [&world.bob1, &world.bob2] {
                for room in rooms.all() {
                    device.room(room, RoomState::Invited).await?;
                }
            }
            Ok(())
        })
        .await?;
    report
        .must("bob joins, partly from each device", async {
            for (device, room) in [
                (&world.bob1, &rooms.space),
                (&world.bob2, &rooms.general),
                (&world.bob1, &rooms.random),
                (&world.bob2, &rooms.secret),
            ] {
                device.client.join_room_by_id(room).await.context("joining")?;
            }
            for device in [&world.bob1, &world.bob2] {
                for room in rooms.all() {
                    device.room(room, RoomState::Joined).await?;
                }
            }
            Ok(())
        })
        .await?;
    report.step("the sliding-sync room list has all rooms with names", check_room_list(&world.bob1)).await;
    report
        .step("the space hierarchy lists both channels", async {
            let response = world.bob2.client.send(get_hierarchy::v1::Request::new(rooms.space.clone())).await?;
            for room in [&rooms.space, &rooms.general, &rooms.random] {
                ensure!(response.rooms.iter().any(|entry| entry.summary.room_id == *room), "{room} is missing");
            }
            Ok(())
        })
        .await;
    Ok(rooms)
}

async fn create_all(world: &World) -> Result<Rooms> {
    let bob = world.bob1.user()?;
    Ok(Rooms {
        space: create(&world.alice1, "Our space", bob, RoomKind::Space).await?,
        general: create(&world.alice1, "general", bob, RoomKind::Plain).await?,
        random: create(&world.alice1, "random", bob, RoomKind::Plain).await?,
        secret: create(&world.alice1, "secret", bob, RoomKind::Encrypted).await?,
    })
}

/// Reads the sliding-sync room list until it has the four rooms by name.
pub async fn check_room_list(device: &Device) -> Result<()> {
    let list = device.sync_service()?.room_list_service().all_rooms().await?;
    let (stream, controller) = list.entries_with_dynamic_adapters(50);
    controller.set_filter(Box::new(new_filter_non_left()));
    pin_mut!(stream);
    let mut entries: Vector<RoomListItem> = Vector::new();
    let mut missing = vec!["Our space", "general", "random", "secret"];
    while !missing.is_empty() {
        let diffs = timeout(Duration::from_secs(20), stream.next())
            .await
            .with_context(|| format!("these rooms are not in the list: {missing:?}"))?
            .context("the room list ended")?;
        for diff in diffs {
            diff.apply(&mut entries);
        }
        missing.retain(|name| !entries.iter().any(|entry| entry.name().as_deref() == Some(name)));
    }
    Ok(())
}

impl Rooms {
    /// Every room that bob is invited to.
    pub fn all(&self) -> [&RoomId; 4] {
        [&self.space, &self.general, &self.random, &self.secret]
    }
}

/// The timelines of one channel on all devices.
struct Views {
    alice1: Arc<Timeline>,
    alice2: Arc<Timeline>,
    bob1: Arc<Timeline>,
    bob2: Arc<Timeline>,
}

impl Views {
    fn all(&self) -> [&Arc<Timeline>; 4] {
        [&self.alice1, &self.alice2, &self.bob1, &self.bob2]
    }
}

fn text(body: &str) -> Value {
    json!({"msgtype": "m.text", "body": body})
}

/// Text, edit, reaction, thread, image, typing, receipt, redaction in one channel.
pub async fn chat(report: &mut Report, world: &World, rooms: &Rooms) -> Result<(), Abort> {
    let views = report
        .must("open the channel on all devices", async {
            Ok(Views {
                alice1: world.alice1.timeline(&rooms.general).await?,
                alice2: world.alice2.timeline(&rooms.general).await?,
                bob1: world.bob1.timeline(&rooms.general).await?,
                bob2: world.bob2.timeline(&rooms.general).await?,
            })
        })
        .await?;
    let first = report
        .must("a message reaches all devices", async {
            let room = world.alice1.room(&rooms.general, RoomState::Joined).await?;
            let id = send(&room, "m.room.message", text("hello bob")).await?;
            for view in views.all() {
                find(view, "the message", |event| is_event(event, &id) && body(event) == Some("hello bob")).await?;
            }
            Ok(id)
        })
        .await?;
    report.step("an edit reaches all devices", edit(world, rooms, &views, &first)).await;
    report.step("a reaction reaches all devices", react(world, rooms, &views, &first)).await;
    report.step("a thread reply reaches all devices", reply_in_thread(world, rooms, &views, &first)).await;
    report.step("an image arrives byte for byte, with a thumbnail", send_image(world, rooms, &views)).await;
    report.step("typing is seen by sliding and classic sync", type_a_while(world, rooms)).await;
    report.step("a read receipt is seen by all devices", read_message(world, rooms, &views)).await;
    report.step("a redaction reaches all devices", redact(world, rooms, &views)).await;
    report.step("a burst of messages arrives complete and in order", send_burst(world, rooms)).await;
    Ok(())
}

async fn edit(world: &World, rooms: &Rooms, views: &Views, first: &OwnedEventId) -> Result<()> {
    let room = world.alice2.room(&rooms.general, RoomState::Joined).await?;
    let content = json!({"msgtype": "m.text", "body": "* hello robert", "m.new_content": text("hello robert"),
                         "m.relates_to": {"rel_type": "m.replace", "event_id": first}});
    send(&room, "m.room.message", content).await?;
    for view in views.all() {
        find(view, "the edited message", |event| {
            let edited = event.content().as_message().is_some_and(|message| message.is_edited());
            is_event(event, first) && edited && body(event) == Some("hello robert")
        })
        .await?;
    }
    Ok(())
}

async fn react(world: &World, rooms: &Rooms, views: &Views, first: &OwnedEventId) -> Result<()> {
    let room = world.bob1.room(&rooms.general, RoomState::Joined).await?;
    let content = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "👍"}});
    send(&room, "m.reaction", content).await?;
    let bob = world.bob1.user()?;
    for view in views.all() {
        find(view, "the reaction", |event| {
            let reactions = event.content().reactions();
            let thumbs = reactions.and_then(|by_key| by_key.get("👍"));
            is_event(event, first) && thumbs.is_some_and(|senders| senders.contains_key(bob))
        })
        .await?;
    }
    Ok(())
}

async fn reply_in_thread(world: &World, rooms: &Rooms, views: &Views, first: &OwnedEventId) -> Result<()> {
    let room = world.bob2.room(&rooms.general, RoomState::Joined).await?;
    let content = json!({"msgtype": "m.text", "body": "in a thread", "m.relates_to": {"rel_type": "m.thread",
        "event_id": first, "is_falling_back": true, "m.in_reply_to": {"event_id": first}}});
    send(&room, "m.room.message", content).await?;
    for view in views.all() {
        let found = find_text(view, "in a thread").await?;
        ensure!(found.content().thread_root().as_ref() == Some(first), "the reply has no thread root");
    }
    let room = world.alice1.room(&rooms.general, RoomState::Joined).await?;
    let threads = room.list_threads(ListThreadsOptions::default()).await.context("GET threads")?;
    ensure!(threads.chunk.iter().any(|root| root.event_id() == Some(&**first)), "the thread is not listed");
    Ok(())
}

async fn send_image(world: &World, rooms: &Rooms, views: &Views) -> Result<()> {
    let room = world.alice1.room(&rooms.general, RoomState::Joined).await?;
    let sent = room.send_attachment("image.png", &mime::IMAGE_PNG, IMAGE.to_vec(), AttachmentConfig::new()).await?;
    for (device, view) in [(&world.bob1, &views.bob1), (&world.bob2, &views.bob2)] {
        let event = find(view, "the image", |event| is_event(event, &sent.event_id)).await?;
        let message = event.content().as_message().context("the image event is no message")?;
        let MessageType::Image(image) = message.msgtype() else { anyhow::bail!("not an m.image") };
        let media = device.client.media();
        let file = MediaRequestParameters { source: image.source.clone(), format: MediaFormat::File };
        let bytes = media.get_media_content(&file, false).await.context("downloading")?;
        ensure!(bytes == IMAGE, "{} bytes came back for {}", bytes.len(), IMAGE.len());
        let size = MediaThumbnailSettings::new(UInt::from(64u32), UInt::from(64u32));
        let small = MediaRequestParameters { source: image.source.clone(), format: MediaFormat::Thumbnail(size) };
        let bytes = media.get_media_content(&small, false).await.context("downloading the thumbnail")?;
        ensure!(!bytes.is_empty() && bytes != IMAGE, "the thumbnail is empty or the original");
    }
    Ok(())
}

async fn type_a_while(world: &World, rooms: &Rooms) -> Result<()> {
    let room = world.alice1.room(&rooms.general, RoomState::Joined).await?;
    let alice = world.alice1.user()?;
    for device in [&world.bob1, &world.bob2] {
        let (_guard, mut typing) =
            device.room(&rooms.general, RoomState::Joined).await?.subscribe_to_typing_notifications();
        room.typing_notice(true).await?;
        let limit = Duration::from_secs(20);
        let who = timeout(limit, typing.recv()).await.context("typing was not seen")??;
        ensure!(who.iter().any(|user| user == alice), "typing: {who:?}");
        room.typing_notice(false).await?;
        let who = timeout(limit, typing.recv()).await.context("the end of typing was not seen")??;
        ensure!(who.is_empty(), "still typing: {who:?}");
    }
    Ok(())
}

async fn read_message(world: &World, rooms: &Rooms, views: &Views) -> Result<()> {
    let room = world.alice1.room(&rooms.general, RoomState::Joined).await?;
    let id = send(&room, "m.room.message", text("did you read this?")).await?;
    find(&views.bob1, "the message", |event| is_event(event, &id)).await?;
    let room = world.bob1.room(&rooms.general, RoomState::Joined).await?;
    room.send_single_receipt(ReceiptType::Read, ReceiptThread::Unthreaded, id.clone()).await?;
    let bob = world.bob1.user()?;
    for view in [&views.alice1, &views.alice2] {
        until_true("bob's receipt on the message", async || {
            view.latest_user_read_receipt(bob).await.is_some_and(|(event, _)| event == id)
        })
        .await?;
    }
    Ok(())
}

async fn redact(world: &World, rooms: &Rooms, views: &Views) -> Result<()> {
    let room = world.bob1.room(&rooms.general, RoomState::Joined).await?;
    let id = send(&room, "m.room.message", text("said too much")).await?;
    for view in views.all() {
        find(view, "the message", |event| is_event(event, &id) && body(event).is_some()).await?;
    }
    room.redact(&id, Some("oops"), None).await?;
    for view in views.all() {
        // A client may show a stump or nothing at all, never the text.
        until_true("the text to vanish", async || {
            view.item_by_event_id(&id).await.is_none_or(|event| event.content().is_redacted())
        })
        .await?;
    }
    let fetched = world.alice1.room(&rooms.general, RoomState::Joined).await?.event(&id, None).await?;
    ensure!(!fetched.raw().json().get().contains("said too much"), "the server still gives out the text");
    Ok(())
}

async fn send_burst(world: &World, rooms: &Rooms) -> Result<()> {
    let room = world.alice1.room(&rooms.random, RoomState::Joined).await?;
    let expected: Vec<String> = (0..30).map(|number| format!("number {number}")).collect();
    for line in &expected {
        send(&room, "m.room.message", text(line)).await?;
    }
    for device in [&world.bob1, &world.bob2, &world.alice2] {
        let timeline = device.timeline(&rooms.random).await?;
        find_text(&timeline, "number 29").await?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let items = timeline.items().await;
            let events = items.iter().filter_map(|item| item.as_event());
            let seen: Vec<&str> = events.filter_map(body).filter(|line| line.starts_with("number ")).collect();
            if seen == expected {
                break;
            }
            ensure!(Instant::now() < deadline, "{:?} has {seen:?}", device.client.device_id());
            // A sync that came late has left a gap (limited timeline): it is filled by paging back.
            timeline.paginate_backwards(20).await.context("paging back")?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

/// Profile and user directory.
pub async fn look_around(report: &mut Report, world: &World, rooms: &Rooms) {
    report
        .step("a new display name reaches the other user", async {
            world.bob1.client.account().set_display_name(Some("Robert the Builder")).await?;
            let room = world.alice2.room(&rooms.general, RoomState::Joined).await?;
            let bob = world.bob1.user()?;
            until_true("the new name in the room", async || {
                let member = room.get_member_no_sync(bob).await.ok().flatten();
                member.is_some_and(|member| member.display_name() == Some("Robert the Builder"))
            })
            .await
        })
        .await;
    report
        .step("the user directory finds bob by name", async {
            let bob = world.bob1.user()?;
            until_true("bob among the results", async || {
                let found = world.alice1.client.search_users("Robert", 10).await;
                found.is_ok_and(|found| found.results.iter().any(|user| user.user_id == *bob))
            })
            .await
        })
        .await;
}

/// Bob leaves a channel: everybody sees it and he can no longer send.
pub async fn leave(report: &mut Report, world: &World, rooms: &Rooms) {
    report
        .step("bob leaves a channel and both his devices know", async {
            let room = world.bob1.room(&rooms.random, RoomState::Joined).await?;
            room.leave().await?;
            for device in [&world.bob1, &world.bob2] {
                device.room(&rooms.random, RoomState::Left).await?;
            }
            Ok(())
        })
        .await;
    report
        .step("alice sees that bob left", async {
            let bob = world.bob1.user()?;
            for device in [&world.alice1, &world.alice2] {
                let room = device.room(&rooms.random, RoomState::Joined).await?;
                until_true("bob's leave", async || {
                    let member = room.get_member_no_sync(bob).await.ok().flatten();
                    member.is_some_and(|member| member.membership().as_str() == "leave")
                })
                .await?;
            }
            Ok(())
        })
        .await;
    report
        .step("bob cannot send after leaving", async {
            let request = matrix_sdk::ruma::api::client::message::send_message_event::v3::Request::new_raw(
                rooms.random.clone(),
                "after-leaving".into(),
                "m.room.message".into(),
                Raw::from_json_string(text("am I still here?").to_string())?,
            );
            ensure!(world.bob2.client.send(request).await.is_err(), "a user who left could send");
            Ok(())
        })
        .await;
    report
        .step("logging out ends the token", async {
            world.bob2.client.matrix_auth().logout().await?;
            ensure!(world.bob2.client.whoami().await.is_err(), "the token still works");
            Ok(())
        })
        .await;
}
