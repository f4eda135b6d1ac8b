//! Redirects of a stable URL to signed ones that expire.

#[expect(dead_code, reason = "other tests use the rest of it")]
mod support;

use std::time::Duration;

use chunk_core::Representation;
use chunk_fetch_http::{HttpFetcher, OriginConfig};
use chunk_ports::{ChunkFetcher, Condition, FetchError, FetchOutcome};
use chunk_testkit::origin::{Fault, OriginObject, ScriptedOrigin, When, content};
use support::{assert_untold, drain, resource, span};

const PLANTED: &str = "planted-secret";

/// An origin that redirects to a storage, and a fetcher that may follow.
struct Redirected {
    origin: ScriptedOrigin,
    storage: ScriptedOrigin,
    fetcher: HttpFetcher,
}

impl Redirected {
    async fn new() -> Self {
        let origin = ScriptedOrigin::start().await.unwrap();
        let storage = ScriptedOrigin::start().await.unwrap();
        storage.put(OriginObject::new("film.mkv", 10_000));
        let mut config = OriginConfig::new(origin.url());
        config.allow_private = true;
        let fetcher = HttpFetcher::builder().origin("", config).build().unwrap();
        Self {
            origin,
            storage,
            fetcher,
        }
    }

    fn location(&self) -> String {
        format!("{}/film.mkv?signature={PLANTED}", self.storage.url())
    }

    async fn ask(&self, start: u64, condition: Condition) -> Result<Vec<u8>, FetchError> {
        let mut request = span(resource("/film.mkv", "/film.mkv"), start, start + 10);
        request.condition = condition;
        drain(self.fetcher.fetch(request).await?).await
    }

    /// Asks for the first bytes, so that the version is known.
    async fn known(&self) -> Representation {
        let request = span(resource("/film.mkv", "/film.mkv"), 0, 10);
        let FetchOutcome::Body(fetched) = self.fetcher.fetch(request).await.unwrap() else {
            panic!("no body");
        };
        fetched.representation
    }

    fn asked(&self) -> (usize, usize) {
        let (origin, storage) = (self.origin.journal(), self.storage.journal());
        (origin.requests(), storage.requests())
    }
}

#[tokio::test(start_paused = true)]
async fn fault12_a_continuation_goes_straight_to_where_the_redirect_led() {
    let world = Redirected::new().await;
    let redirect = Fault::redirect(world.location());
    world.origin.fault("film.mkv", When::Always, redirect);
    let known = world.known().await;
    assert_eq!(world.asked(), (1, 1));
    for start in [10, 20, 30] {
        let bytes = world.ask(start, Condition::Continue(known.clone())).await;
        assert_eq!(bytes.unwrap(), content("film.mkv", 1, start, 10));
    }
    assert_eq!(world.asked(), (1, 4));
    assert!(!format!("{:?}", world.fetcher).contains(PLANTED));

    // A question about the version is one to the stable URL.
    let stale = Condition::IfChanged(Representation::with_len(Some(1)));
    world.ask(0, stale).await.unwrap();
    assert_eq!(world.asked(), (2, 5));

    // Nor is a place remembered for long.
    tokio::time::advance(Duration::from_secs(61)).await;
    world.ask(40, Condition::Continue(known)).await.unwrap();
    assert_eq!(world.asked(), (3, 6));
}

#[tokio::test(start_paused = true)]
async fn fault12_a_remembered_place_that_refuses_is_asked_for_anew_at_the_stable_url() {
    for status in [400, 401, 403, 404, 410] {
        let world = Redirected::new().await;
        let redirect = Fault::redirect(world.location());
        world.origin.fault("film.mkv", When::Always, redirect);
        let known = Condition::Continue(world.known().await);
        let refusal = Fault::status(status);
        world.storage.fault("film.mkv", When::Next, refusal.clone());
        let bytes = world.ask(10, known.clone()).await.unwrap();
        assert_eq!(bytes, content("film.mkv", 1, 10, 10));
        assert_eq!(world.asked(), (2, 3), "{status}");

        // Where the new one refuses as well, that is told, and its signature is not.
        world.storage.fault("film.mkv", When::Always, refusal);
        let error = world.ask(20, known.clone()).await.unwrap_err();
        assert!(!error.is_retryable(), "{error:?}");
        assert_untold(&error, PLANTED);
        assert_eq!(world.asked(), (3, 5), "{status}");

        // And neither is asked without the stable URL from then on.
        world.ask(20, known).await.unwrap_err();
        assert_eq!(world.asked(), (4, 6), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault12_a_remembered_place_that_fails_is_forgotten() {
    let mut world = Redirected::new().await;
    let redirect = Fault::redirect(world.location());
    world.origin.fault("film.mkv", When::Always, redirect);
    let known = Condition::Continue(world.known().await);
    world
        .storage
        .fault("film.mkv", When::Next, Fault::status(503));
    let error = world.ask(10, known.clone()).await.unwrap_err();
    assert!(error.is_retryable());
    world.ask(10, known.clone()).await.unwrap();
    assert_eq!(world.asked(), (2, 3));

    world.storage.close().await;
    let error = world.ask(10, known.clone()).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(_)), "{error:?}");
    assert_untold(&error, PLANTED);
    world.storage.reopen().await.unwrap();
    world.ask(10, known).await.unwrap();
    assert_eq!(world.asked(), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn fault12_a_redirect_that_may_not_be_kept_is_not() {
    let world = Redirected::new().await;
    for (caching, origin_asked) in [("no-store", 2), ("no-cache", 2), ("max-age=30", 1)] {
        world.origin.clear_faults("film.mkv");
        world.origin.journal().clear();
        let redirect = Fault::Status {
            status: 302,
            headers: vec![
                ("Location".to_owned(), world.location()),
                ("Cache-Control".to_owned(), caching.to_owned()),
            ],
            body: String::new(),
        };
        world.origin.fault("film.mkv", When::Always, redirect);
        let known = Condition::Continue(world.known().await);
        world.ask(10, known).await.unwrap();
        assert_eq!(world.asked().0, origin_asked, "{caching}");
    }
}
