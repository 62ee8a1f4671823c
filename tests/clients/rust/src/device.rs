//! One logged-in device: registration, login, its sync loop and its timelines.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use matrix_sdk::{
    Client, Room, RoomState,
    config::{RequestConfig, SyncSettings},
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::{
        EventId, OwnedEventId, OwnedRoomId, RoomId, UserId,
        api::client::{account::register, uiaa},
    },
};
use matrix_sdk_ui::{
    sync_service::SyncService,
    timeline::{EventTimelineItem, RoomExt, Timeline},
};
use serde_json::Value;
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::report::{WAIT_LIMIT, until};

/// The password of every account of the scenario.
pub const PASSWORD: &str = "correct horse battery staple";

/// How a device learns what happened.
enum Sync {
    /// Sliding sync as mobile clients use it: a room list and an encryption connection.
    Sliding(SyncService),
    /// `/sync` v3 in a loop, begun anew after an error.
    Classic(JoinHandle<()>),
    Off,
}

/// A device of a user, with a running sync loop once one was started.
pub struct Device {
    /// The SDK's handle, a cheap clone.
    pub client: Client,
    sync: Sync,
    /// Open timelines: kept, as a client keeps the views that it shows, for closing one trims the SDK's event cache.
    timelines: Mutex<HashMap<OwnedRoomId, Arc<Timeline>>>,
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Sync::Classic(task) = &self.sync {
            task.abort();
        }
    }
}

impl Device {
    /// A client without a session that keeps everything in memory.
    async fn connect(homeserver: &str) -> Result<Self> {
        let client = Client::builder()
            .homeserver_url(homeserver)
            .request_config(RequestConfig::new().timeout(Duration::from_secs(90)).retry_limit(3))
            .with_encryption_settings(EncryptionSettings {
                auto_enable_cross_signing: false,
                backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
                auto_enable_backups: false,
            })
            .build()
            .await
            .context("building the client (GET /versions)")?;
        Ok(Self { client, sync: Sync::Off, timelines: Mutex::default() })
    }

    /// Registers `username` with the dummy stage when the server asks for one.
    pub async fn register(homeserver: &str, username: &str, device: &str) -> Result<Self> {
        let this = Self::connect(homeserver).await?;
        let mut request = register::v3::Request::new();
        request.username = Some(username.to_owned());
        request.password = Some(PASSWORD.to_owned());
        request.initial_device_display_name = Some(device.to_owned());
        if let Err(error) = this.client.matrix_auth().register(request.clone()).await {
            let session = match error.as_uiaa_response() {
                Some(info) => info.session.clone(),
                None => return Err(error).context("first POST /register"),
            };
            let mut dummy = uiaa::Dummy::new();
            dummy.session = session;
            request.auth = Some(uiaa::AuthData::Dummy(dummy));
            this.client.matrix_auth().register(request).await.context("POST /register with m.login.dummy")?;
        }
        this.client.user_id().context("no session after registration")?;
        Ok(this)
    }

    /// Logs in with the right password: a new device of an existing user.
    pub async fn login(homeserver: &str, username: &str, device: &str) -> Result<Self> {
        Self::login_with(homeserver, username, PASSWORD, device).await
    }

    /// Logs in with any password.
    pub async fn login_with(homeserver: &str, username: &str, password: &str, device: &str) -> Result<Self> {
        let this = Self::connect(homeserver).await?;
        this.client
            .matrix_auth()
            .login_username(username, password)
            .initial_device_display_name(device)
            .send()
            .await
            .context("POST /login")?;
        Ok(this)
    }

    /// Starts the two sliding-sync connections.
    pub async fn start_sliding_sync(&mut self) -> Result<()> {
        let service = SyncService::builder(self.client.clone()).with_offline_mode().build().await?;
        service.start().await;
        self.sync = Sync::Sliding(service);
        Ok(())
    }

    /// Starts the `/sync` v3 loop.
    pub fn start_classic_sync(&mut self) {
        let client = self.client.clone();
        self.sync = Sync::Classic(tokio::spawn(async move {
            let mut told: Option<Instant> = None;
            loop {
                let settings = SyncSettings::default().timeout(Duration::from_secs(10));
                if let Err(error) = client.sync(settings).await
                    && told.is_none_or(|at| at.elapsed() > Duration::from_secs(10))
                {
                    eprintln!("  sync of {:?} begins anew: {error}", client.device_id());
                    told = Some(Instant::now());
                }
                sleep(Duration::from_millis(500)).await;
            }
        }));
    }

    /// Ends the sync loop, as a client does that is closed.
    pub async fn stop_sync(&mut self) {
        match std::mem::replace(&mut self.sync, Sync::Off) {
            Sync::Sliding(service) => service.stop().await,
            Sync::Classic(task) => task.abort(),
            Sync::Off => {}
        }
    }

    /// The sync service of a device that uses sliding sync.
    pub fn sync_service(&self) -> Result<&SyncService> {
        match &self.sync {
            Sync::Sliding(service) => Ok(service),
            Sync::Classic(_) | Sync::Off => bail!("this device does not use sliding sync"),
        }
    }

    /// This device's user.
    pub fn user(&self) -> Result<&UserId> {
        self.client.user_id().context("not logged in")
    }

    /// Waits until the sync loop has brought `room` in the given membership.
    pub async fn room(&self, room: &RoomId, membership: RoomState) -> Result<Room> {
        let what = format!("room {room} as {membership:?} at {:?}", self.client.device_id());
        until(&what, async || self.client.get_room(room).filter(|found| found.state() == membership)).await
    }

    /// The timeline of a joined room; sliding sync subscribes to the room for it.
    pub async fn timeline(&self, id: &RoomId) -> Result<Arc<Timeline>> {
        let room = self.room(id, RoomState::Joined).await?;
        let mut timelines = self.timelines.lock().await;
        if let Some(open) = timelines.get(id) {
            return Ok(Arc::clone(open));
        }
        let timeline = Arc::new(room.timeline().await?);
        timelines.insert(id.to_owned(), Arc::clone(&timeline));
        if let Sync::Sliding(service) = &self.sync {
            let open: Vec<&RoomId> = timelines.keys().map(AsRef::as_ref).collect();
            service.room_list_service().set_room_subscriptions(&open).await;
        }
        Ok(timeline)
    }
}

/// Sends an event and gives its id; encrypted by the SDK in an encrypted room.
pub async fn send(room: &Room, kind: &str, content: Value) -> Result<OwnedEventId> {
    let sent = room.send_raw(kind, content).await.with_context(|| format!("sending {kind}"))?;
    Ok(sent.response.event_id)
}

/// Waits until the timeline has an item that satisfies `wanted`; the error lists what it had.
pub async fn find(
    timeline: &Timeline,
    what: &str,
    wanted: impl Fn(&EventTimelineItem) -> bool,
) -> Result<EventTimelineItem> {
    let deadline = Instant::now() + WAIT_LIMIT;
    let mut looks = 0u32;
    loop {
        let items = timeline.items().await;
        let mut events = items.iter().filter_map(|item| item.as_event());
        if let Some(found) = events.find(|event| wanted(event)) {
            return Ok(found.clone());
        }
        if Instant::now() > deadline {
            let seen: Vec<String> = items.iter().filter_map(|item| item.as_event()).map(describe).collect();
            bail!("{what} did not appear; the timeline has [{}]", seen.join("; "));
        }
        sleep(Duration::from_millis(100)).await;
        looks += 1;
        if looks % 50 == 0 {
            // Several events that came with one sync of a short timeline have left a gap.
            timeline.paginate_backwards(20).await.context("paging back")?;
        }
    }
}

/// Waits for a readable message with this text.
pub async fn find_text(timeline: &Timeline, text: &str) -> Result<EventTimelineItem> {
    find(timeline, &format!("message {text:?}"), |event| body(event) == Some(text)).await
}

/// The text of a message item.
pub fn body(event: &EventTimelineItem) -> Option<&str> {
    event.content().as_message().map(|message| message.body())
}

/// Whether the item is the event with this id.
pub fn is_event(event: &EventTimelineItem, id: &EventId) -> bool {
    event.event_id() == Some(id)
}

fn describe(event: &EventTimelineItem) -> String {
    let kind = if event.content().is_unable_to_decrypt() {
        "UNDECRYPTED".to_owned()
    } else if let Some(text) = body(event) {
        format!("{text:?}")
    } else {
        event.content().event_type_str().unwrap_or_else(|| "other".to_owned())
    };
    format!("{} {kind}", event.sender().localpart())
}
