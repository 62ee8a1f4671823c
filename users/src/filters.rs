//! Filters that clients store by ID.
//!
//! Spec: Client-Server API §"Filtering". The same filter uploaded twice gets the same ID.

use rooms::UserNid;
use sha2::{Digest, Sha256};
use storage::{Batch, Keyspace, Profile, Read};

use crate::{UserError, Users};

pub(crate) const FILTERS: Keyspace<(UserNid, u64), Vec<u8>> = Keyspace::new("filters", Profile::Points);
/// SHA-256 of the JSON → ID.
pub(crate) const FILTER_IDS: Keyspace<(UserNid, [u8; 32]), u64> = Keyspace::new("filter_ids", Profile::Points);

const MAX_FILTER_BYTES: usize = 64 * 1024;

impl Users {
    /// Stores a filter (canonical JSON) and gives its ID. Cancel-safe.
    ///
    /// # Errors
    /// `TooLarge` above 64 KiB.
    pub async fn store_filter(&self, user: UserNid, json: Vec<u8>) -> Result<u64, UserError> {
        if json.len() > MAX_FILTER_BYTES {
            return Err(UserError::TooLarge("the filter"));
        }
        let hash: [u8; 32] = Sha256::digest(&json).into();
        loop {
            if let Some(id) = self.store().get(&FILTER_IDS, &(user, hash))? {
                return Ok(id);
            }
            let last = self.store().scan(&FILTERS, &user).reverse().iter().next().transpose()?;
            let id = last.map_or(0, |((_, id), _)| id + 1);
            let mut batch = Batch::new();
            batch.expect_absent(&FILTERS, &(user, id));
            batch.put(&FILTERS, &(user, id), &json);
            batch.put(&FILTER_IDS, &(user, hash), &id);
            if self.try_commit(batch).await?.is_some() {
                return Ok(id);
            }
        }
    }

    /// The JSON of a stored filter.
    pub fn filter(&self, user: UserNid, id: u64) -> Result<Option<Vec<u8>>, UserError> {
        Ok(self.store().get(&FILTERS, &(user, id))?)
    }
}

#[cfg(test)]
mod tests;
