//! Reading the bodies of requests whose signature is not checked yet, within one bound of memory for all of them.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

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
    pub async fn read(&self, mut body: Body, limit: usize) -> Result<Buffered<'_>, ReadError> {
        let mut bytes = BytesMut::new();
        let mut memory: Option<SemaphorePermit<'_>> = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
            let length = bytes.len().saturating_add(data.len());
            if length > limit {
                return Err(ReadError::TooLarge);
            }
            let held = memory.as_ref().map_or(0, SemaphorePermit::num_permits);
            let missing = length.div_ceil(UNIT).saturating_sub(held);
            if missing > 0 {
                let missing = u32::try_from(missing).map_err(|_| ReadError::TooLarge)?;
                let more = self.0.try_acquire_many(missing).map_err(|_| ReadError::Full)?;
                match &mut memory {
                    Some(memory) => memory.merge(more),
                    None => memory = Some(more),
                }
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Buffered { bytes: bytes.freeze(), _memory: memory })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::{Buffers, ReadError};

    #[tokio::test]
    async fn bodies_share_one_bound_and_give_it_back() {
        let buffers = Buffers::new(4096);
        let body = |length: usize| Body::from(vec![b'x'; length]);
        let first = buffers.read(body(3000), 5000).await.unwrap();
        assert_eq!(first.bytes.len(), 3000);
        assert_eq!(buffers.read(body(2000), 5000).await.unwrap_err(), ReadError::Full);
        let second = buffers.read(body(1000), 5000).await.unwrap();
        drop(first);
        assert_eq!(buffers.read(body(3001), 3000).await.unwrap_err(), ReadError::TooLarge);
        drop(second);
        assert_eq!(buffers.read(body(4096), 5000).await.unwrap().bytes.len(), 4096);
        assert_eq!(buffers.0.available_permits(), 4);
    }
}
