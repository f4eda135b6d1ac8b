use std::sync::Arc;

use chunk_core::CacheKey;
use chunk_ports::{FetchedBody, Resource};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::*;
use crate::origin::{Cut, Fault, OriginObject, When, verify_content};

fn world() -> OriginWorld {
    let world = OriginWorld::new();
    world.put(OriginObject::new("film", 1_000_000));
    world
}

fn span(start: u64, end: u64) -> FetchRequest {
    let key = CacheKey::new("", "/film", &[""; 0]).unwrap();
    FetchRequest {
        resource: Resource::from_key(Arc::new(key)),
        wanted: Wanted::Span {
            start,
            end: Some(end),
        },
        condition: Condition::Any,
    }
}

async fn body(fetcher: &ScriptedFetcher, request: FetchRequest) -> FetchedBody {
    match fetcher.fetch(request).await.unwrap() {
        FetchOutcome::Body(body) => body,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn two_transfers_share_the_line_and_the_delay_comes_first() {
    let link = Link::new()
        .delay(Duration::from_millis(50))
        .total_rate(1_000_000);
    let fetcher = ScriptedFetcher::new(world(), link);
    let begin = Instant::now();
    let read = async |start| {
        let mut fetched = body(&fetcher, span(start, start + 100_000)).await;
        assert_eq!(begin.elapsed(), Duration::from_millis(50));
        let mut got = Vec::new();
        while let Some(piece) = fetched.body.next().await {
            got.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(verify_content("film", 1, start, &got), Ok(()));
        assert_eq!(got.len(), 100_000);
    };
    tokio::join!(read(0), read(500_000));
    // 200,000 bytes at 1 MB/s after 50 ms; the timer counts whole milliseconds.
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(240), "{took:?}");
    assert!(took <= Duration::from_millis(260), "{took:?}");
    assert_eq!(fetcher.journal().max_in_flight(), 2);
    assert_eq!(fetcher.journal().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stall_ends_at_the_timeout_and_a_dropped_body_at_once() {
    let fetcher = ScriptedFetcher::new(world(), Link::new());
    fetcher.fault("film", When::Next, Fault::StallAfter { bytes: 10 });
    let mut fetched = body(&fetcher, span(0, 100)).await;
    assert_eq!(fetched.body.next().await.unwrap().unwrap().len(), 10);
    let begin = Instant::now();
    assert!(matches!(
        fetched.body.next().await,
        Some(Err(FetchError::Stalled))
    ));
    assert_eq!(begin.elapsed(), Duration::from_secs(10));
    assert!(fetched.body.next().await.is_none());

    let fetched = body(&fetcher, span(0, 100)).await;
    assert_eq!(fetcher.journal().in_flight(), 1);
    drop(fetched);
    assert_eq!(fetcher.journal().in_flight(), 0);
    assert!(fetcher.journal().last().unwrap().ended_by_peer);
}

#[tokio::test(start_paused = true)]
async fn a_cut_body_ends_with_interrupted() {
    let fetcher = ScriptedFetcher::new(world(), Link::new());
    let cut = Fault::CutAfter {
        bytes: 7,
        how: Cut::Close,
    };
    fetcher.fault("film", When::Next, cut);
    let mut fetched = body(&fetcher, span(0, 100)).await;
    assert_eq!(fetched.body.next().await.unwrap().unwrap().len(), 7);
    let last = fetched.body.next().await;
    assert!(matches!(last, Some(Err(FetchError::Interrupted(_)))));
    assert!(fetched.body.next().await.is_none());
}

mod conformance {
    use crate::fetcher::ScriptedFetcher;
    use crate::origin::{Link, OriginWorld};

    async fn fresh(world: OriginWorld) -> (ScriptedFetcher, ()) {
        (ScriptedFetcher::new(world, Link::new()), ())
    }

    crate::fetcher_conformance!(fresh);
}
