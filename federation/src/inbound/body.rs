//! Reading the bodies of requests whose signature is not checked yet, within one bound of memory for all of them.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use runtime::Clock;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What every body may take without being counted, so that no number of large ones keeps small ones out.
const FREE: usize = 64 * 1024;
/// How long a body may take however small it is.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// The bytes that have to arrive in each second after that: memory is not held by who sends next to nothing.
const LEAST_SPEED: usize = 64 * 1024;
/// The unit in which memory is counted: a semaphore's permits are fewer than a machine's bytes.
const UNIT: usize = 1024;

/// The memory for such bodies.
#[derive(Debug)]
pub(super) struct Buffers(Semaphore);

/// A body in memory; its memory is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Buffered<'a> {
    /// The whole body.
    pub bytes: Bytes,
    _memory: Option<SemaphorePermit<'a>>,
}

/// Why a body was not read (client).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// It is larger than it may be.
    TooLarge,
    /// It ended early.
    Broken,
    /// It came too slowly.
    Slow,
    /// The bodies of others take all the memory there is for them.
    Full,
}

impl Buffers {
    /// Memory for so many bytes.
    pub fn new(bytes: usize) -> Buffers {
        Buffers(Semaphore::new(bytes / UNIT))
    }

    /// Reads a body of at most `limit` bytes. Counted is what has arrived, not what is announced, so that who sends
    /// nothing takes nothing from others. Cancel-safe: the memory is given back.
    pub async fn read(&self, mut body: Body, limit: usize, clock: &Clock) -> Result<Buffered<'_>, ReadError> {
        let begun = clock.monotonic();
        let mut bytes = BytesMut::new();
        let mut memory: Option<SemaphorePermit<'_>> = None;
        loop {
            let earned = Duration::from_secs((bytes.len() / LEAST_SPEED) as u64);
            let left = (GRACE + earned).saturating_sub(clock.monotonic().saturating_sub(begun));
            let Some(frame) = clock.timeout(left, body.frame()).await.ok_or(ReadError::Slow)? else {
                return Ok(Buffered { bytes: bytes.freeze(), _memory: memory });
            };
            let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
            if bytes.len().saturating_add(data.len()) > limit {
                return Err(ReadError::TooLarge);
            }
            bytes.extend_from_slice(&data);
            self.grow(&mut memory, bytes.len())?;
        }
    }

    /// Counts a body of so many bytes.
    fn grow<'a>(&'a self, memory: &mut Option<SemaphorePermit<'a>>, length: usize) -> Result<(), ReadError> {
        let held = memory.as_ref().map_or(0, SemaphorePermit::num_permits);
        let missing = length.saturating_sub(FREE).div_ceil(UNIT).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| ReadError::TooLarge)?;
        let more = self.0.try_acquire_many(missing).map_err(|_| ReadError::Full)?;
        match memory {
            Some(memory) => memory.merge(more),
            None => *memory = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use runtime::Clock;

    use super::{Buffers, FREE, GRACE, ReadError};

    #[tokio::test]
    async fn bodies_share_one_bound_and_give_it_back() {
        let (buffers, clock) = (Buffers::new(4096), Clock::fake(0));
        let read =
            async |length: usize, limit: usize| buffers.read(Body::from(vec![b'x'; length]), limit, &clock).await;
        let first = read(FREE + 3000, FREE + 5000).await.unwrap();
        assert_eq!(first.bytes.len(), FREE + 3000);
        assert_eq!(read(FREE + 2000, FREE + 5000).await.unwrap_err(), ReadError::Full);
        let second = read(FREE + 1000, FREE + 5000).await.unwrap();
        assert_eq!(read(FREE, FREE).await.unwrap().bytes.len(), FREE, "small bodies always find room");
        drop(first);
        assert_eq!(read(3001, 3000).await.unwrap_err(), ReadError::TooLarge);
        drop(second);
        assert_eq!(read(FREE + 4096, FREE + 5000).await.unwrap().bytes.len(), FREE + 4096);
        assert_eq!(buffers.0.available_permits(), 4);
    }

    #[tokio::test]
    async fn a_body_has_to_go_on_arriving() {
        let (buffers, clock) = (Buffers::new(1024 * 1024), Clock::fake(0));
        let (sender, receiver) = tokio::sync::mpsc::channel::<bytes::Bytes>(4);
        let body = futures_util::stream::unfold(receiver, async |mut receiver| {
            Some((Ok::<_, std::io::Error>(receiver.recv().await?), receiver))
        });
        let mut reading = std::pin::pin!(buffers.read(Body::from_stream(body), usize::MAX, &clock));
        assert!(futures_util::poll!(&mut reading).is_pending());
        sender.send(vec![b'x'; 3 * FREE].into()).await.unwrap();
        assert!(futures_util::poll!(&mut reading).is_pending());
        // What has arrived earns it three seconds more.
        clock.advance(GRACE + Duration::from_secs(2));
        assert!(futures_util::poll!(&mut reading).is_pending());
        clock.advance(Duration::from_secs(2));
        assert_eq!(reading.await.unwrap_err(), ReadError::Slow);
        assert_eq!(buffers.0.available_permits(), 1024);
    }
}
