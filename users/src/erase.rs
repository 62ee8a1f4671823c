//! Deleting many rows: in pages, because a batch has a size limit.

use rooms::UserNid;
use storage::{Batch, Key, KeyPrefix, Keyspace, Read, RowKey, Value};

use crate::{
    DeviceNid, UserError, Users,
    account_data::{GLOBAL_DATA, GLOBAL_DATA_LOG, ROOM_DATA, ROOM_DATA_LOG},
    e2ee::{
        backup::{BACKUP_KEYS, BACKUP_VERSIONS},
        cross_signing::CROSS_SIGNING,
        one_time_keys::{FALLBACK_KEYS, ONE_TIME_KEY_COUNTS, ONE_TIME_KEY_ORDER, ONE_TIME_KEYS},
        signatures::SIGNATURES,
    },
    filters::{FILTER_IDS, FILTERS},
    thread_subscriptions::{THREAD_SUBSCRIPTION_LOG, THREAD_SUBSCRIPTIONS},
    to_device::TO_DEVICE,
};

const PAGE_ROWS: usize = 1_000;

impl Users {
    /// Deletes every row under `prefix`, a thousand per commit. Cancelling leaves the rest.
    pub(crate) async fn erase_rows<K, V, P>(&self, keyspace: &Keyspace<K, V>, prefix: &P) -> Result<(), UserError>
    where
        K: RowKey + Key,
        V: Value,
        P: KeyPrefix<K>,
    {
        loop {
            let mut batch = Batch::new();
            let mut rows = 0;
            for row in self.store().scan(keyspace, prefix).iter().take(PAGE_ROWS) {
                batch.delete(keyspace, &row?.0);
                rows += 1;
            }
            if rows == 0 {
                return Ok(());
            }
            self.store().commit(batch).await?;
            if rows < PAGE_ROWS {
                return Ok(());
            }
        }
    }

    /// What a deleted device leaves behind. Nobody can reach these rows any more.
    pub(crate) async fn erase_device_queues(&self, device: DeviceNid) -> Result<(), UserError> {
        self.erase_rows(&TO_DEVICE, &device).await?;
        self.erase_rows(&ONE_TIME_KEYS, &device).await?;
        self.erase_rows(&ONE_TIME_KEY_ORDER, &device).await?;
        self.erase_rows(&ONE_TIME_KEY_COUNTS, &device).await?;
        self.erase_rows(&FALLBACK_KEYS, &device).await
    }

    /// What a deactivated account leaves behind, except what its devices owned.
    pub(crate) async fn erase_user_data(&self, user: UserNid) -> Result<(), UserError> {
        self.erase_profile(user).await?;
        self.erase_third_party_ids(user).await?;
        self.erase_rows(&GLOBAL_DATA, &user).await?;
        self.erase_rows(&GLOBAL_DATA_LOG, &user).await?;
        self.erase_rows(&ROOM_DATA, &user).await?;
        self.erase_rows(&ROOM_DATA_LOG, &user).await?;
        self.erase_rows(&THREAD_SUBSCRIPTIONS, &user).await?;
        self.erase_rows(&THREAD_SUBSCRIPTION_LOG, &user).await?;
        self.erase_rows(&FILTERS, &user).await?;
        self.erase_rows(&FILTER_IDS, &user).await?;
        self.erase_rows(&BACKUP_KEYS, &user).await?;
        self.erase_rows(&BACKUP_VERSIONS, &user).await?;
        self.erase_rows(&SIGNATURES, &user).await?;
        self.erase_rows(&CROSS_SIGNING, &user).await?;

        // This commit names the user, so that what is cached of the rows above is forgotten.
        self.delete_all_pushers(user).await
    }
}
