//! The clock port.

use std::fmt::Debug;

use async_trait::async_trait;
use chunk_core::Tick;

/// Time: monotonic for every wait and measurement, wall-clock only for what is written down.
///
/// # Contract
/// - `now` never goes back.
/// - `sleep_until` returns once `now() >= deadline`, at once where that is already so; dropping the
///   future cancels the wait.
/// - `unix_seconds` may jump in either direction; no timeout depends on it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Clock: Send + Sync + Debug + 'static {
    /// The present instant.
    fn now(&self) -> Tick;

    /// Waits for `deadline`.
    async fn sleep_until(&self, deadline: Tick);

    /// Seconds since 1970-01-01T00:00:00Z by the wall clock.
    fn unix_seconds(&self) -> i64;
}
