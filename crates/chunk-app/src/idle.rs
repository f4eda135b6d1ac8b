//! A fetcher for short commands.

use async_trait::async_trait;
use chunk_ports::{ChunkFetcher, FetchError, FetchOutcome, FetchRequest};

/// Takes every request and never answers. None comes: a short command opens nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdleFetcher;

#[async_trait]
impl ChunkFetcher for IdleFetcher {
    async fn fetch(&self, _request: FetchRequest) -> Result<FetchOutcome, FetchError> {
        std::future::pending().await
    }
}
