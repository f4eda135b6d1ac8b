//! What the tests of this crate share.

use std::error::Error;
use std::sync::Arc;

use chunk_core::CacheKey;
use chunk_ports::{
    ChunkFetcher, Condition, FetchError, FetchOutcome, FetchRequest, Resource, Secret, Wanted,
};
use futures_util::StreamExt;

/// The resource cached as `path`, asked for as `target`.
pub(crate) fn resource(path: &str, target: &str) -> Resource {
    let key = CacheKey::new("", path, &[""; 0]).unwrap();
    Resource::new(Arc::new(key), Secret::new(target))
}

/// A request for `start..end`, whatever the version.
pub(crate) fn span(resource: Resource, start: u64, end: u64) -> FetchRequest {
    FetchRequest {
        resource,
        wanted: Wanted::Span {
            start,
            end: Some(end),
        },
        condition: Condition::Any,
    }
}

/// The bytes `start..end` of `target`, all of them.
pub(crate) async fn fetch(
    fetcher: &dyn ChunkFetcher,
    target: &str,
    start: u64,
    end: u64,
) -> Result<Vec<u8>, FetchError> {
    drain(
        fetcher
            .fetch(span(resource(target, target), start, end))
            .await?,
    )
    .await
}

/// All bytes of an answer.
pub(crate) async fn drain(outcome: FetchOutcome) -> Result<Vec<u8>, FetchError> {
    let FetchOutcome::Body(mut fetched) = outcome else {
        panic!("{outcome:?}");
    };
    let mut bytes = Vec::new();
    while let Some(piece) = fetched.body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// An error, its causes, and how each prints to debug it.
pub(crate) fn whole_chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| <dyn Error>::source(*error));
    causes.map(|cause| format!("{cause} {cause:?}\n")).collect()
}

/// Checks that nowhere in an error `secret` is told.
pub(crate) fn assert_untold(error: &(dyn Error + 'static), secret: &str) {
    let told = whole_chain(error);
    assert!(!told.contains(secret), "{told}");
}
