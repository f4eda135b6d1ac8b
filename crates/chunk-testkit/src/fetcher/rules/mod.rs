//! The rules of the fetcher's contract, one function each.
//!
//! Each takes a fetcher whose unnamed origin serves [`world`], and panics where the rule is broken. They
//! run in paused time: a wait for something that never happens fails at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chunk_core::{CacheKey, Representation};
use chunk_ports::{
    ChunkFetcher, Condition, FetchError, FetchOutcome, FetchRequest, FetchedBody, Resource, Secret,
    Wanted,
};
use futures_util::StreamExt;

use crate::origin::{OriginObject, OriginWorld, verify_content};

mod faults;
mod plain;

pub use faults::*;
pub use plain::*;

/// The one object of [`world`].
const FILM: &str = "film.mkv";

/// Its length: a multiple of no block.
const LEN: u64 = 300_007;

/// A text that stands for a signature in every target asked for.
const PLANTED: &str = "planted-secret";

/// What the rules expect the origin to hold.
#[must_use]
pub fn world() -> OriginWorld {
    let world = OriginWorld::new();
    world.put(OriginObject::new(FILM, LEN));
    world
}

fn film() -> Representation {
    OriginObject::new(FILM, LEN).representation()
}

fn asked(wanted: Wanted, condition: Condition) -> FetchRequest {
    let target = format!("/{FILM}?token={PLANTED}");
    let key = CacheKey::new("", &target, &["token"]).unwrap();
    FetchRequest {
        resource: Resource::new(Arc::new(key), Secret::new(target)),
        wanted,
        condition,
    }
}

fn span(start: u64, end: u64) -> FetchRequest {
    continued(start, end, Condition::Any)
}

fn continued(start: u64, end: u64, condition: Condition) -> FetchRequest {
    let end = Some(end);
    asked(Wanted::Span { start, end }, condition)
}

/// What `future` gives, if it ever gives anything.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let day = Duration::from_secs(24 * 3600);
    let given = tokio::time::timeout(day, future).await;
    given.expect("nothing happened for a day")
}

async fn body<F: ChunkFetcher + ?Sized>(fetcher: &F, request: FetchRequest) -> FetchedBody {
    match soon(fetcher.fetch(request)).await {
        Ok(FetchOutcome::Body(body)) => body,
        other => panic!("bytes were expected, not {other:?}"),
    }
}

async fn failure<F: ChunkFetcher + ?Sized>(fetcher: &F, request: FetchRequest) -> FetchError {
    match soon(fetcher.fetch(request)).await {
        Err(error) => error,
        other => panic!("an error was expected, not {other:?}"),
    }
}

/// All bytes of a body, and its error if it ends with one. Nothing may follow an error.
async fn drain(mut fetched: FetchedBody) -> (Vec<u8>, Option<FetchError>) {
    let mut bytes = Vec::new();
    while let Some(item) = soon(fetched.body.next()).await {
        match item {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => {
                assert!(
                    soon(fetched.body.next()).await.is_none(),
                    "more after an error"
                );
                return (bytes, Some(error));
            }
        }
    }
    (bytes, None)
}

/// Checks that a body gives exactly `start..end` of version `version`.
async fn assert_bytes(fetched: FetchedBody, version: u64, start: u64, end: u64) {
    assert_eq!(fetched.start, start);
    let (bytes, error) = drain(fetched).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(bytes.len() as u64, end - start);
    assert_eq!(verify_content(FILM, version, start, &bytes), Ok(()));
}
