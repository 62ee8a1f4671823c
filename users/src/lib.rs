//! The domain of accounts: who exists here, on which devices, with which keys, data and messages. No HTTP.
//!
//! Invariants:
//! - A user ID is given out once: its account row stays after deactivation.
//! - A device owns its tokens, keys, pushers and queued messages; one commit ends them together.
//! - Tokens are stored as SHA-256 only, and a revoked token is refused from the commit of its revocation on.
//! - A one-time key is given out at most once, whoever asks at the same time.
//! - What another server says of a user is taken from that user's server only, and kept only while a room is shared.
//! - A to-device message is stored once per transaction ID, and deleted only after the device acknowledged it.
//! - Whoever waits for a change is named as a topic in the batch that makes the change.
//! - Unread counts are computed when they are asked for: an event costs its room's members nothing here.
//! - Presence, UI-authentication sessions, nonces and login tokens live in memory only, and are bounded.

mod account_data;
mod account_list;
mod accounts;
mod acting;
mod appservices;
mod cache;
mod closing;
mod config;
mod device_lists;
mod devices;
mod directory;
mod e2ee;
mod erase;
mod error;
mod facts;
mod filters;
mod forget_room;
pub mod fsck;
mod invite_permission;
mod login_tokens;
mod maintenance;
mod newcomers;
mod notices;
mod notifications;
mod openid;
mod password;
mod presence;
mod profiles;
mod push_rules;
mod pushers;
mod registration;
mod remote;
mod remote_devices;
mod remote_keys;
mod reports;
mod roles;
mod security;
mod server_notices;
mod server_users;
mod signals;
mod third_party;
mod thread_subscriptions;
mod to_device;
mod tokens;
mod topics;
mod transactions;
mod uia;
mod unread;
mod unsure_lists;

#[cfg(test)]
mod fixture;

use std::sync::Arc;

use rooms::{Rooms, TOPIC_USER, UserNid};
use runtime::{Clock, Random};
use storage::{Batch, CommitError, Committed, KeyspaceInfo, Store, StreamPos};

pub use account_data::{AccountDataEvent, RoomAccountDataEvent};
pub use account_list::{AccountOrder, AccountPage, AccountQuery, AccountSummary};
pub use accounts::{Account, AccountFlags, AccountKind, AdminRights, NewAccount};
pub use appservices::{
    AppService, AppServiceAnswer, AppServiceDevice, AppServiceError, AppServiceFailure, AppServiceQueries,
    AppServiceSource, AppServices, AppServicesSettings, EphemeralKey, NoAppServices, RegistrationError,
    ThirdPartyQuestion,
};
pub use config::{GuestRights, RegistrationMode, RoleRights, RolesConfig, UsersConfig, UsersSettings};
pub use device_lists::{DeviceListChange, DeviceListChangeKind};
pub use devices::{Device, DeviceLogin, DeviceNid, NewSession};
pub use directory::FoundUser;
pub use e2ee::backup::{BackupEtag, BackupVersion, KeyBackupData, RoomKeys};
pub use e2ee::cross_signing::{CrossSigningUpload, KeyUsage};
pub use e2ee::dehydrated::{DehydratedDevice, DehydratedUpload};
pub use e2ee::device_keys::{KeyUpload, QueriedKeys, UserDevice, UserDevices};
pub use e2ee::one_time_keys::{ClaimedKeys, KeyCounts};
pub use e2ee::signatures::{SignatureFailure, SignatureUpload};
pub use error::UserError;
pub use facts::{AccountFacts, RateLimitOverride};
pub use invite_permission::{InvitePermission, InviteRules};
pub use newcomers::{SpamRefusals, SpamRule};
pub use notices::{Notice, NoticeEvent, NoticeRoom};
pub use notifications::{Notification, NotificationPage, NotificationPlace};
pub use openid::OpenIdToken;
pub use presence::{Presence, PresenceState, SyncingPresence};
pub use profiles::{ProfileChange, ProfileField};
pub use pushers::{KeptPusher, Pusher};
pub use registration::{RegistrationToken, SharedSecretRegistration};
pub use remote::{RemoteAnswer, RemoteUsers};
pub use remote_devices::RemoteDeviceList;
pub use reports::{MAX_REPORT_TEXT_BYTES, Report, ReportFilter, ReportKind, ReportPage, ReportState, StoredReport};
pub use roles::{Right, Rights, Role};
pub use security::{SecurityEvent, SecurityEventKind, SecurityLog};
pub use server_notices::{ServerNotice, ServerNoticesConfig};
pub use signals::Signal;
pub use third_party::{ExternalId, ThirdPartyId};
pub use thread_subscriptions::{SubscriptionRange, ThreadSubscription};
pub use to_device::{DeviceTarget, QueuedMessages, ToDeviceMessages};
pub use tokens::{IssuedTokens, Session};
pub use topics::{device_lists_topic, device_topic, user_topic};
pub use transactions::TransactionScope;
pub use uia::{AuthData, AuthFlow, AuthIdentifier, AuthStage, Challenge, UiaOutcome, UiaPurpose};
pub use unread::{RoomUnread, UnreadCounts};

/// The keyspaces of this crate, to be declared when the store is opened.
pub const KEYSPACES: &[KeyspaceInfo] = &[
    account_data::GLOBAL_DATA.info(),
    account_data::GLOBAL_DATA_LOG.info(),
    account_data::ROOM_DATA.info(),
    account_data::ROOM_DATA_LOG.info(),
    accounts::ACCOUNTS.info(),
    accounts::FIRST_ADMIN.info(),
    acting::ACTING_SESSIONS.info(),
    appservices::APPSERVICES.info(),
    device_lists::DEVICE_LIST_LOG.info(),
    device_lists::DEVICE_LIST_VERSION.info(),
    devices::DEVICES.info(),
    devices::DEVICE_AGENTS.info(),
    devices::DEVICE_OWNERS.info(),
    devices::DEVICE_SEEN.info(),
    e2ee::backup::BACKUP_KEYS.info(),
    e2ee::backup::BACKUP_VERSIONS.info(),
    e2ee::cross_signing::CROSS_SIGNING.info(),
    e2ee::dehydrated::DEHYDRATED.info(),
    e2ee::device_keys::DEVICE_KEYS.info(),
    e2ee::one_time_keys::FALLBACK_KEYS.info(),
    e2ee::one_time_keys::ONE_TIME_KEYS.info(),
    e2ee::one_time_keys::ONE_TIME_KEY_COUNTS.info(),
    e2ee::one_time_keys::ONE_TIME_KEY_ORDER.info(),
    e2ee::signatures::SIGNATURES.info(),
    facts::ACCOUNT_FACTS.info(),
    filters::FILTERS.info(),
    filters::FILTER_IDS.info(),
    newcomers::NEWCOMERS.info(),
    newcomers::SPAM_REFUSALS.info(),
    openid::OPENID_TOKENS.info(),
    profiles::PROFILES.info(),
    profiles::PROFILE_CHANGES.info(),
    profiles::PROFILE_LOG.info(),
    pushers::PUSHERS.info(),
    pushers::PUSHER_OWNERS.info(),
    registration::REGISTRATION_TOKENS.info(),
    remote_devices::REMOTE_DEVICES.info(),
    remote_devices::REMOTE_DEVICE_LISTS.info(),
    reports::REPORTS.info(),
    reports::REPORT_STATES.info(),
    server_notices::NOTICE_ROOMS.info(),
    signals::SIGNALS.info(),
    third_party::EXTERNAL_IDS.info(),
    third_party::EXTERNAL_OWNERS.info(),
    third_party::THIRD_PARTY_IDS.info(),
    third_party::THIRD_PARTY_OWNERS.info(),
    thread_subscriptions::THREAD_SUBSCRIPTIONS.info(),
    thread_subscriptions::THREAD_SUBSCRIPTION_LOG.info(),
    to_device::TO_DEVICE.info(),
    tokens::ACCESS_TOKENS.info(),
    tokens::DEVICE_TOKENS.info(),
    tokens::REFRESH_TOKENS.info(),
    transactions::TRANSACTIONS.info(),
    transactions::TRANSACTIONS_BY_HOUR.info(),
    unsure_lists::UNSURE_DEVICE_LISTS.info(),
];

/// Handle of the domain: cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Users {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    rooms: Rooms,
    clock: Clock,
    random: Random,
    config: UsersConfig,
    account_column: Arc<account_list::AccountColumn>,
    appservices: appservices::AppServiceState,
    claims: e2ee::one_time_keys::ClaimsInFlight,
    compiled_push_rules: Arc<push_rules::CompiledRules>,
    ignored: Arc<account_data::IgnoreLists>,
    glances: unread::glance::Glances,
    invite_rules: Arc<invite_permission::CompiledInviteRules>,
    list_fetches: remote_keys::ListFetches,
    latest_device_list_change: Arc<device_lists::LatestDeviceListChange>,
    login_tokens: login_tokens::LoginTokens,
    new_reports: reports::NewReports,
    next_device: devices::NextDeviceNid,
    nonces: registration::Nonces,
    passwords: password::PasswordPool,
    presence: presence::PresenceTable,
    /// Makes the event ids that shadow-banned users are told impossible to foresee.
    pretence: [u8; 32],
    /// Held while the number of somebody's pushers grows: it is in no row that a commit could expect.
    pusher_added: tokio::sync::Mutex<()>,
    /// Who keeps the record of what concerns the security of accounts.
    security_log: std::sync::OnceLock<Arc<dyn SecurityLog>>,
    server_notices: server_notices::ServerNotices,
    sessions: tokens::SessionCache,
    spam_meters: newcomers::SpamMeters,
    tallies: unread::Tallies,
    uia: uia::UiaSessions,
    unsure_lists: unsure_lists::UnsureLists,
}

impl Users {
    /// Opens the domain on a store that declares [`KEYSPACES`]. Reads two rows.
    ///
    /// # Errors
    /// `Storage` when those cannot be read.
    pub fn open(
        store: Store,
        rooms: Rooms,
        clock: Clock,
        random: Random,
        config: UsersConfig,
    ) -> Result<Self, UserError> {
        let compiled_push_rules = Arc::new(push_rules::CompiledRules::new());
        let ignored = Arc::new(account_data::IgnoreLists::new());
        let invite_rules = Arc::new(invite_permission::CompiledInviteRules::new());
        let account_column = Arc::new(account_list::AccountColumn::default());
        let mut pretence = [0; 32];
        random.fill(&mut pretence);
        let inner = Inner {
            account_column: Arc::clone(&account_column),
            appservices: appservices::AppServiceState::default(),
            claims: e2ee::one_time_keys::ClaimsInFlight::default(),
            compiled_push_rules: Arc::clone(&compiled_push_rules),
            ignored: Arc::clone(&ignored),
            glances: unread::glance::Glances::new(),
            invite_rules: Arc::clone(&invite_rules),
            latest_device_list_change: device_lists::LatestDeviceListChange::follow(&store)?,
            list_fetches: remote_keys::ListFetches::default(),
            login_tokens: login_tokens::LoginTokens::default(),
            new_reports: reports::NewReports::default(),
            next_device: devices::NextDeviceNid::load(&store)?,
            nonces: registration::Nonces::default(),
            passwords: password::PasswordPool::new(&config),
            presence: presence::PresenceTable::new(),
            pretence,
            pusher_added: tokio::sync::Mutex::default(),
            security_log: std::sync::OnceLock::new(),
            server_notices: server_notices::ServerNotices::default(),
            sessions: tokens::SessionCache::new(config.settings.session_cache_entries),
            spam_meters: newcomers::SpamMeters::default(),
            tallies: unread::Tallies::new(),
            uia: uia::UiaSessions::default(),
            unsure_lists: unsure_lists::UnsureLists::load(&store)?,
            store,
            rooms,
            clock,
            random,
            config,
        };
        inner.store.on_commit(Arc::new(move |group: &[Committed]| {
            account_column.observe(group);
            for topic in group.iter().flat_map(|committed| &committed.topics) {
                if topic.kind() == TOPIC_USER {
                    let user = UserNid(topic.id());
                    compiled_push_rules.forget(user);
                    ignored.forget(user);
                    invite_rules.forget(user);
                }
            }
        }));
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &UsersConfig {
        &self.inner.config
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn rooms(&self) -> &Rooms {
        &self.inner.rooms
    }

    fn now_ms(&self) -> u64 {
        self.inner.clock.now_ms()
    }

    /// Commits; `None` when an expectation of the batch no longer held, so that the caller reads again.
    async fn try_commit(&self, batch: Batch) -> Result<Option<StreamPos>, UserError> {
        match self.inner.store.commit(batch).await {
            Ok(pos) => Ok(Some(pos)),
            Err(CommitError::Expectation { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}
