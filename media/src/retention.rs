//! Deleting what nobody has used for long, in small steps.

use storage::Read;

use crate::error::MediaError;
use crate::media::Media;
use crate::mxc::Mxc;
use crate::rows::{ACCESSES, MARKS, MEDIA, MediaState};

/// How many media one step looks at.
const STEP: usize = 500;

/// Which media are to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unused {
    /// Whether it is about this server's media, or about copies of others'.
    pub local: bool,
    /// Last asked for (or stored, if never asked for) before this, in milliseconds since the Unix epoch.
    pub before_ms: u64,
    /// Larger than so many bytes; 0 includes empty ones.
    pub larger_than: u64,
    /// Whether media in quarantine and protected media stay.
    pub spare_marked: bool,
}

/// Media with their lengths, and the last that was looked at.
type Found = (Vec<(Mxc, u64)>, Option<Mxc>);

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// What was deleted.
    pub media: Vec<Mxc>,
    /// The bytes of that.
    pub bytes: u64,
    /// Where the next step begins; none after the last.
    pub next: Option<Mxc>,
}

impl Media {
    /// Deletes unused media among the next few hundred after `after`, but those that `keep` names. Going on with what it
    /// returns comes to an end; dropped half-way, a step can be done again.
    ///
    /// # Errors
    /// As [`Media::delete`].
    pub async fn delete_unused(
        &self,
        which: &Unused,
        after: Option<&Mxc>,
        keep: &(dyn Fn(&Mxc) -> bool + Send + Sync),
    ) -> Result<Deleted, MediaError> {
        let (candidates, next) = self.find_unused(which, after)?;
        let mut deleted = Deleted { next, ..Deleted::default() };
        for (mxc, length) in candidates {
            if !keep(&mxc) && self.delete(&mxc).await? {
                deleted.bytes = deleted.bytes.saturating_add(length);
                deleted.media.push(mxc);
            }
        }
        Ok(deleted)
    }

    /// Deletes what is older than the configured lifetimes, until nothing is left of it, and says how many. `keep` names
    /// media of this server that stay however old they are. Cancel-safe: a later call goes on.
    ///
    /// # Errors
    /// As [`Media::delete`].
    pub async fn expire(&self, keep: &(dyn Fn(&Mxc) -> bool + Send + Sync)) -> Result<u64, MediaError> {
        let config = self.config();
        let lifetimes = [(false, config.remote_media_lifetime), (true, config.local_media_lifetime)];
        let mut count = 0u64;
        for (local, lifetime) in lifetimes {
            let Some(lifetime) = lifetime else { continue };
            let age = u64::try_from(lifetime.duration().as_millis()).unwrap_or(u64::MAX);
            let before_ms = self.0.clock.now_ms().saturating_sub(age);
            let which = Unused { local, before_ms, larger_than: 0, spare_marked: true };
            let mut after = None;
            loop {
                let step = self.delete_unused(&which, after.as_ref(), keep).await?;
                count = count.saturating_add(u64::try_from(step.media.len()).unwrap_or(u64::MAX));
                after = step.next;
                if after.is_none() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(count)
    }

    /// Unused media among the next few after `after` with their lengths, and the last that was looked at.
    fn find_unused(&self, which: &Unused, after: Option<&Mxc>) -> Result<Found, MediaError> {
        let inner = &*self.0;
        let own = inner.server_name.as_str().to_owned();
        let scan = if which.local { inner.store.scan(&MEDIA, &own) } else { inner.store.scan(&MEDIA, &()) };
        let scan = match after {
            Some(mxc) => scan.after(&mxc.key()),
            None => scan,
        };
        let rows = scan.iter().take(STEP).collect::<Result<Vec<_>, _>>()?;
        let last = rows.last().filter(|_| rows.len() == STEP).and_then(|(key, _)| Mxc::new(&key.0, &key.1).ok());
        let mut found = Vec::new();
        for (key, row) in rows {
            let MediaState::Complete { length, .. } = row.state else { continue };
            let is_large = which.larger_than == 0 || length > which.larger_than;
            if (key.0 == own) != which.local || row.created_ms >= which.before_ms || !is_large {
                continue;
            }
            if inner.store.get(&ACCESSES, &key)?.is_some_and(|at| at >= which.before_ms) {
                continue;
            }
            if which.spare_marked && inner.store.contains(&MARKS, &key)? {
                continue;
            }
            found.extend(Mxc::new(&key.0, &key.1).ok().map(|mxc| (mxc, length)));
        }
        Ok((found, last))
    }
}

#[cfg(test)]
mod tests;
