//! The byte-store port.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::GenerationId;

use crate::{BackendError, Window};

/// The name of one segment's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the three parts are the name; another would be another port"
)]
pub struct SegmentKey {
    /// The representation the bytes belong to.
    pub generation: GenerationId,
    /// Which segment of it, counted from 0.
    pub segment: u32,
    /// Raised when the bytes stored under the former epoch can no longer be trusted.
    pub epoch: u32,
}

/// The bytes of segments.
///
/// # Contract
/// - **Miss and error.** Reading a segment that was never written, or past its written end, gives
///   `Ok(None)` or fewer bytes; it is not an error. A hole inside what was written reads as zeros or
///   ends the read early: the caller knows its coverage and never asks for a hole.
///   A caller that finds bytes gone which it has written takes every other byte of that segment for doubtful: a
///   later write may make a segment that was cut as long again as it was.
/// - **Read your writes.** What `write` has acknowledged is seen by every later `read` in this process,
///   before any `flush`. It survives a power cut only after a `flush` that began after it has returned `Ok`.
/// - **A failed `flush` is final**: nothing written to that segment since the last successful one may be
///   trusted, and no later `flush` of the same key may pretend otherwise; it fails again.
/// - **Removal** takes effect at once for new reads; a read that has begun finishes with the bytes it
///   began with or fails, and never sees other content. Removing what is not there is `Ok`.
/// - **Names are never reused** by the caller, so an adapter need not overwrite.
/// - **Concurrency.** All methods may run at once on any keys. Writes of disjoint ranges of one key do
///   not disturb each other. Writes of one range at the same time are not made by the caller.
/// - **Cancellation.** A dropped `write` may have written any part of its bytes, at their own offsets.
///
/// Not promised: order between keys, atomic writes, detection of damaged bytes (the caller keeps checksums).
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ByteStore: Send + Sync + Debug + 'static {
    /// Writes `data` at byte `offset` of the segment, extending it as needed.
    async fn write(
        &self,
        key: SegmentKey,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<(), ByteStoreError>;

    /// Reads up to `len` bytes at `offset`; fewer where the segment ends, `None` where nothing is there.
    async fn read(
        &self,
        key: SegmentKey,
        offset: u64,
        len: usize,
    ) -> Result<Option<Bytes>, ByteStoreError>;

    /// A way to put bytes at `offset` into a socket without bringing them into this process's memory: at
    /// least one and at most `len` of them. Does not wait for anything.
    ///
    /// A fast lane that a store need not have. `None` says nothing of whether the bytes are there: they are
    /// to be read then.
    fn window(&self, _key: SegmentKey, _offset: u64, _len: usize) -> Option<Box<dyn Window>> {
        None
    }

    /// Makes everything written to the segment durable, its name included.
    async fn flush(&self, key: SegmentKey) -> Result<(), ByteStoreError>;

    /// Removes segments, of any epoch given. All or some may be gone after an error.
    async fn remove(&self, keys: Vec<SegmentKey>) -> Result<(), ByteStoreError>;

    /// Removes every segment of a generation.
    async fn remove_generation(&self, generation: GenerationId) -> Result<(), ByteStoreError>;

    /// The generations of which any segment is stored, in any order. Cost: O(generations).
    async fn generations(&self) -> Result<Vec<GenerationId>, ByteStoreError>;

    /// How many bytes could still be written, where the backend can tell.
    async fn free_space(&self) -> Result<Option<u64>, ByteStoreError>;
}

/// Why a byte store could not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ByteStoreError {
    /// There is no room: make some and try again.
    #[error("the byte store is full")]
    Full(#[source] BackendError),
    /// The bytes of this segment cannot be trusted; write them under a new epoch.
    #[error("bytes of the segment cannot be trusted")]
    Corrupt(#[source] BackendError),
    /// The backend cannot do it now; later it may.
    #[error("the byte store is unavailable")]
    Unavailable(#[source] BackendError),
}

impl ByteStoreError {
    /// Whether the same call may succeed later without anything else being done.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
