//! The tally port: sums that outlive the process that counts them.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::ChunkStoreError;

/// Where the sums of a cache are kept, beside its index or in it.
///
/// # Contract
/// - `tally` of a store that has never kept one is [`Tally::default`].
/// - `keep_tally` replaces what was there, as a whole and in one transaction; the last one stands, even where its
///   sums are smaller. Repeating it is always right.
/// - A sum above 2⁶³ − 1, the largest number a database keeps, is kept as that.
/// - A `tally` that begins after a `keep_tally` has returned `Ok` sees it. Whether it survives a power cut is up to
///   the store; the end of the process it survives where the store is one that survives it.
/// - A dropped future may have taken effect or not, wholly.
/// - Neither touches the index: what is cached and wanted does not depend on what was counted.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait TallyStore: Send + Sync + Debug + 'static {
    /// What was kept last.
    async fn tally(&self) -> Result<Tally, ChunkStoreError>;

    /// Keeps `tally`.
    async fn keep_tally(&self, tally: Tally) -> Result<(), ChunkStoreError>;
}

/// Sums over the life of a cache, whichever processes counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "adapters build it")]
pub struct Tally {
    /// Payload bytes given to readers.
    pub bytes_served: u64,
    /// Payload bytes given to readers that were readable before they were asked for.
    pub bytes_served_from_cache: u64,
    /// Payload bytes received from origins.
    pub bytes_from_origin: u64,
    /// Payload bytes received that were there already or were thrown away.
    pub bytes_wasted: u64,
    /// Reads that found their bytes.
    pub hits: u64,
    /// Reads that had to wait.
    pub misses: u64,
    /// Requests made to origins.
    pub origin_requests: u64,
    /// Bytes removed to make room.
    pub evicted_bytes: u64,
    /// Blocks whose checksum did not match.
    pub checksum_failures: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            bytes_served: self.bytes_served.saturating_add(other.bytes_served),
            bytes_served_from_cache: self
                .bytes_served_from_cache
                .saturating_add(other.bytes_served_from_cache),
            bytes_from_origin: self
                .bytes_from_origin
                .saturating_add(other.bytes_from_origin),
            bytes_wasted: self.bytes_wasted.saturating_add(other.bytes_wasted),
            hits: self.hits.saturating_add(other.hits),
            misses: self.misses.saturating_add(other.misses),
            origin_requests: self.origin_requests.saturating_add(other.origin_requests),
            evicted_bytes: self.evicted_bytes.saturating_add(other.evicted_bytes),
            checksum_failures: self
                .checksum_failures
                .saturating_add(other.checksum_failures),
        }
    }
}
