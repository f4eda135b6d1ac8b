//! What belongs to HTTP alone: redirects, credentials, addresses, connections.

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_fetch_http::{BuildError, HttpFetcher, Lookup, OriginConfig};
use chunk_ports::{
    ChunkFetcher, Condition, FetchError, FetchOutcome, FetchRequest, RangeSupport, Secret, Wanted,
};
use chunk_testkit::origin::{Fault, OriginObject, ScriptedOrigin, When, verify_content};
use support::{assert_untold, drain, fetch, resource, span, whole_chain};
use tokio::time::Instant;

const PLANTED: &str = "planted-secret";

async fn origin() -> ScriptedOrigin {
    let origin = ScriptedOrigin::start().await.unwrap();
    origin.put(OriginObject::new("film.mkv", 10_000));
    origin
}

fn fetcher(config: OriginConfig) -> HttpFetcher {
    HttpFetcher::builder().origin("", config).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_is_known_by_its_fields_although_every_range_of_it_is_a_416() {
    let origin = origin().await;
    let empty = OriginObject::new("empty", 0).content_type("text/plain");
    let described = empty.representation();
    origin.put(empty);
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    let ask = |wanted, condition| {
        let resource = resource("/empty", "/empty");
        fetcher.fetch(FetchRequest {
            resource,
            wanted,
            condition,
        })
    };
    let from_start = Wanted::Span {
        start: 0,
        end: Some(1),
    };
    for wanted in [from_start, Wanted::Suffix { len: 5 }] {
        let before = origin.journal().requests();
        let outcome = ask(wanted, Condition::Any).await.unwrap();
        let FetchOutcome::Body(fetched) = &outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!((fetched.start, fetched.end), (0, Some(0)));
        assert_eq!(fetched.representation, described);
        assert_eq!(drain(outcome).await.unwrap(), []);
        assert_eq!(origin.journal().requests(), before + 2);
    }
    // A range that starts later may be past the end of any file, and costs one request.
    let later = Wanted::Span {
        start: 5,
        end: None,
    };
    let before = origin.journal().requests();
    let error = ask(later, Condition::Any).await.unwrap_err();
    assert!(matches!(
        error,
        FetchError::Unsatisfiable { total_len: Some(0) }
    ));
    assert_eq!(origin.journal().requests(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn trap12_a_suffix_that_leaves_its_end_open_is_answered_by_the_whole() {
    let origin = origin().await;
    origin.fault("film.mkv", When::Always, Fault::NoTotal);
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    let ask = |len| {
        fetcher.fetch(FetchRequest {
            resource: resource("/film.mkv", "/film.mkv"),
            wanted: Wanted::Suffix { len },
            condition: Condition::Any,
        })
    };
    // As long as the file, and longer; then a part with less than was asked for, and one from the wrong end.
    let said = |text: &str| Fault::ContentRange(text.to_owned());
    for (len, fault) in [
        (10_000, None),
        (10_001, None),
        (500, Some(said("bytes 9600-9999/*"))),
        (500, Some(said("bytes 0-500/*"))),
    ] {
        let before = origin.journal().requests();
        if let Some(fault) = fault {
            origin.clear_faults("film.mkv");
            origin.fault("film.mkv", When::Next, fault);
        }
        let outcome = ask(len).await.unwrap();
        let FetchOutcome::Body(fetched) = &outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!((fetched.start, fetched.end), (0, Some(10_000)));
        assert_eq!(fetched.representation.total_len, Some(10_000));
        assert_eq!(fetched.ranges, RangeSupport::Claimed);
        let whole = drain(outcome).await.unwrap();
        assert_eq!(verify_content("film.mkv", 1, 0, &whole), Ok(()));
        let asked = origin.journal().records().split_off(before);
        let ranges: Vec<_> = asked.iter().map(|asked| asked.range.is_some()).collect();
        assert_eq!(ranges, [true, false], "{len}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_carry_what_is_listed_and_nothing_else() {
    let origin = origin().await;
    fetch(
        &fetcher(OriginConfig::new(origin.url())),
        "/film.mkv",
        5,
        10,
    )
    .await
    .unwrap();
    let record = origin.journal().last().unwrap();
    let mut names: Vec<_> = record
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["accept", "accept-encoding", "host", "range", "user-agent"]
    );
    assert_eq!(record.header("accept-encoding"), Some("identity"));
    assert_eq!(record.range.as_deref(), Some("bytes=5-9"));
    assert!(record.header("user-agent").unwrap().starts_with("chunkd/"));
}

#[tokio::test(start_paused = true)]
async fn the_base_url_keeps_its_path_and_its_user_becomes_a_basic_authorization() {
    let origin = origin().await;
    origin.put(OriginObject::new("library/a%20b/film.mkv", 100));
    let base = origin
        .url()
        .replace("http://", &format!("http://me:{PLANTED}@"));
    let fetcher = fetcher(OriginConfig::new(format!("{base}/library/")));
    fetch(&fetcher, "/a%20b/film.mkv?x=1&y=%2F", 0, 10)
        .await
        .unwrap();
    let record = origin.journal().last().unwrap();
    assert_eq!(record.target, "/library/a%20b/film.mkv?x=1&y=%2F");
    // base64 of "me:planted-secret"
    assert_eq!(
        record.header("authorization"),
        Some("Basic bWU6cGxhbnRlZC1zZWNyZXQ=")
    );
    assert!(!format!("{fetcher:?}").contains(PLANTED));

    for climbing in [
        "/../film.mkv",
        "/a/../../film.mkv",
        "/%2e%2e/film.mkv",
        "/..\\film.mkv",
    ] {
        let request = span(resource("/film.mkv", climbing), 0, 10);
        let error = fetcher.fetch(request).await.unwrap_err();
        assert!(
            matches!(error, FetchError::Forbidden { .. }),
            "{climbing}: {error:?}"
        );
    }
    assert_eq!(origin.journal().requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn trap17_a_query_reaches_the_origin_as_it_came() {
    let origin = origin().await;
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    for target in ["/film.mkv?q=it's&r=%27&s={|}^`[]", "/film.mkv?"] {
        fetch(&fetcher, target, 0, 10).await.unwrap();
        assert_eq!(origin.journal().last().unwrap().target, target);
    }
    // A place that the origin leads to has made its query no less for itself.
    origin.fault(
        "film.mkv",
        When::Nth(3),
        Fault::redirect("/film.mkv?sig=a'b%27"),
    );
    fetch(&fetcher, "/film.mkv?q='", 0, 10).await.unwrap();
    assert_eq!(
        origin.journal().last().unwrap().target,
        "/film.mkv?sig=a'b%27"
    );
}

#[tokio::test(start_paused = true)]
async fn fault44_an_answer_that_says_twice_where_it_ends_is_refused() {
    let origin = origin().await;
    origin.put(OriginObject::new("two.mkv", 10_000).header("Content-Length", "10"));
    origin.fault("two.mkv", When::Always, Fault::Chunked);
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    let error = fetch(&fetcher, "/two.mkv", 0, 100).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
    assert!(!error.is_retryable());
    // Nothing is asked for on that connection again.
    fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap();
    assert_eq!(origin.journal().last().unwrap().connection, 1);
}

#[tokio::test(start_paused = true)]
async fn a_clients_authorization_is_forwarded_only_where_that_is_configured() {
    let origin = origin().await;
    let mut config = OriginConfig::new(origin.url());
    for (forward, sent) in [(false, None), (true, Some("Bearer x"))] {
        config.forward_authorization = forward;
        let resource = resource("/film.mkv", "/film.mkv");
        let resource = resource.with_authorization(Secret::new("Bearer x"));
        fetcher(config.clone())
            .fetch(span(resource, 0, 10))
            .await
            .unwrap();
        assert_eq!(
            origin.journal().last().unwrap().header("authorization"),
            sent
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fault48_configured_secrets_reach_the_origin_and_no_other_place() {
    let (origin, other) = (origin().await, origin().await);
    let mut config = OriginConfig::new(origin.url()).header("X-Key", Secret::new(PLANTED));
    config.allow_private = true;
    config.forward_authorization = true;
    let fetcher = fetcher(config);
    let there = format!("{}/film.mkv", other.url());
    let back = format!("{}/film.mkv", origin.url());
    let ask = async || {
        let resource = resource("/film.mkv", "/film.mkv");
        let resource = resource.with_authorization(Secret::new(PLANTED));
        fetcher.fetch(span(resource, 0, 10)).await.unwrap();
    };
    origin.fault("film.mkv", When::Nth(1), Fault::redirect(there));
    ask().await;
    let told = other.journal().last().unwrap();
    assert!(
        told.headers
            .iter()
            .all(|(_, value)| !value.contains(PLANTED))
    );
    assert_eq!(told.range.as_deref(), Some("bytes=0-9"));
    let known = origin.journal().last().unwrap();
    assert_eq!(known.header("x-key"), Some(PLANTED));
    assert_eq!(known.header("authorization"), Some(PLANTED));

    // Neither does the other place get to choose what of the origin is asked for with them.
    origin.fault(
        "film.mkv",
        When::Nth(2),
        Fault::redirect(format!("{}/film.mkv", other.url())),
    );
    other.fault("film.mkv", When::Next, Fault::redirect(back));
    ask().await;
    let last = origin.journal().last().unwrap();
    assert_eq!(last.status, 206);
    assert!(
        last.headers
            .iter()
            .all(|(_, value)| !value.contains(PLANTED))
    );
}

#[tokio::test(start_paused = true)]
async fn fault12_a_redirect_is_resolved_again_from_the_stable_url() {
    let (origin, storage) = (origin().await, ScriptedOrigin::start().await.unwrap());
    let mut config = OriginConfig::new(origin.url());
    config.allow_private = true;
    let fetcher = fetcher(config);
    for name in ["first", "second"] {
        storage.put(OriginObject::new(name, 10_000));
        let location = format!("{}/{name}?signature={PLANTED}", storage.url());
        origin.fault("film.mkv", When::Next, Fault::redirect(location));
    }
    fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap();
    storage.fault("first", When::Always, Fault::status(403));
    fetch(&fetcher, "/film.mkv", 10, 20).await.unwrap();
    assert_eq!(storage.journal().requests_of("first"), 1);
    assert_eq!(storage.journal().requests_of("second"), 1);

    // Where the new one has expired as well, that is told, and its signature is not.
    let location = format!("{}/first?signature={PLANTED}", storage.url());
    origin.fault("film.mkv", When::Next, Fault::redirect(location));
    let error = fetch(&fetcher, "/film.mkv", 20, 30).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Denied { status: 403, .. }),
        "{error:?}"
    );
    assert_untold(&error, PLANTED);
}

#[tokio::test(start_paused = true)]
async fn fault41_a_redirect_to_a_private_address_is_not_followed() {
    let (origin, inside) = (origin().await, origin().await);
    let config = OriginConfig::new(origin.url());
    let careful = fetcher(config.clone());
    let port = inside.address().port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        let location = format!("http://{host}:{port}/film.mkv?{PLANTED}");
        origin.fault("film.mkv", When::Next, Fault::redirect(location));
        let error = fetch(&careful, "/film.mkv", 0, 10).await.unwrap_err();
        assert!(
            matches!(error, FetchError::Forbidden { .. }),
            "{host}: {error:?}"
        );
        assert!(!error.is_retryable());
        assert_untold(&error, PLANTED);
        assert_untold(&error, host);
    }
    assert_eq!(inside.journal().requests(), 0);

    // The origin itself is at a private address, and may redirect to itself.
    origin.put(OriginObject::new("moved.mkv", 10_000));
    origin.fault("film.mkv", When::Next, Fault::redirect("/moved.mkv"));
    fetch(&careful, "/film.mkv", 0, 10).await.unwrap();
    // But not by a detour to elsewhere on the machine.
    origin.fault("film.mkv", When::Next, Fault::redirect("/moved.mkv"));
    let location = format!("http://127.0.0.1:{port}/film.mkv");
    origin.fault("moved.mkv", When::Next, Fault::redirect(location.clone()));
    let error = fetch(&careful, "/film.mkv", 0, 10).await.unwrap_err();
    assert!(matches!(error, FetchError::Forbidden { .. }), "{error:?}");
    assert_eq!(inside.journal().requests(), 0);

    let mut trusting = config;
    trusting.allow_private = true;
    origin.fault("film.mkv", When::Next, Fault::redirect(location));
    fetch(&fetcher(trusting), "/film.mkv", 0, 10).await.unwrap();
    assert_eq!(inside.journal().requests(), 1);
}

/// Says of every name that it is at one address.
#[derive(Debug)]
struct AllAt(IpAddr);

#[async_trait]
impl Lookup for AllAt {
    async fn addresses(&self, _host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec![self.0])
    }
}

#[tokio::test(start_paused = true)]
async fn fault42_the_address_that_is_checked_is_the_one_connected_to() {
    let (origin, inside) = (origin().await, origin().await);
    let lookup = Arc::new(AllAt([127, 0, 0, 1].into()));
    // The operator named the origin: its name may be at any address.
    let base = format!("http://media.test:{}", origin.address().port());
    let location = format!("http://cdn.test:{}/film.mkv", inside.address().port());
    for (allow_private, reached) in [(false, 0), (true, 1)] {
        let mut config = OriginConfig::new(base.clone());
        config.allow_private = allow_private;
        let builder = HttpFetcher::builder().lookup(lookup.clone());
        let fetcher = builder.origin("", config).build().unwrap();
        fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap();
        origin.fault("film.mkv", When::Next, Fault::redirect(location.clone()));
        let outcome = fetch(&fetcher, "/film.mkv", 0, 10).await;
        assert_eq!(inside.journal().requests(), reached);
        if let Err(error) = outcome {
            assert!(matches!(error, FetchError::Forbidden { .. }), "{error:?}");
            assert_untold(&error, "cdn.test");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn redirects_end_after_five_hops() {
    let origin = origin().await;
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    origin.fault("film.mkv", When::Always, Fault::redirect("/film.mkv"));
    let error = fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
    assert_eq!(origin.journal().requests(), 6);
}

#[tokio::test(start_paused = true)]
async fn fault10_a_date_to_come_back_at_is_a_time_from_the_origins_now() {
    let origin = origin().await;
    origin.put(OriginObject::new("film.mkv", 100).date(1_700_000_000));
    // Eighty seconds after its `Date`.
    let fault = Fault::retry_after(503, "Tue, 14 Nov 2023 22:14:40 GMT");
    origin.fault("film.mkv", When::Next, fault);
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    let error = fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(80)));
}

#[tokio::test(start_paused = true)]
async fn fault11_an_origin_that_is_down_is_unreachable_and_may_come_back() {
    let mut origin = origin().await;
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap();
    origin.close().await;
    let error = fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap_err();
    assert!(matches!(error, FetchError::NoConnection(_)), "{error:?}");
    assert!(error.is_retryable());
    assert!(!whole_chain(&error).contains("film"));
    origin.reopen().await.unwrap();
    fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn fault13_a_head_that_trickles_in_is_given_up_at_the_head_timeout() {
    let origin = origin().await;
    origin.fault("film.mkv", When::Always, Fault::SlowHead { gap_ms: 900 });
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    let began = Instant::now();
    let error = fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(_)), "{error:?}");
    assert!(
        began.elapsed() < Duration::from_secs(31),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn the_connection_cap_holds_and_a_finished_or_dropped_body_gives_its_place_up() {
    let origin = origin().await;
    origin.fault("film.mkv", When::Always, Fault::StallAfter { bytes: 5 });
    let mut config = OriginConfig::new(origin.url());
    config.max_connections = 2;
    let fetcher = fetcher(config);
    let ask = || fetcher.fetch(span(resource("/film.mkv", "/film.mkv"), 0, 10));
    let (first, second) = (ask().await.unwrap(), ask().await.unwrap());
    let waits = tokio::time::timeout(Duration::from_secs(3600), ask());
    assert!(waits.await.is_err());
    drop(first);
    let third = ask().await.unwrap();
    origin.release();
    assert_eq!(drain(second).await.unwrap().len(), 10);
    drain(third).await.unwrap();
    assert_eq!(origin.journal().max_in_flight(), 2);
    assert_eq!(origin.journal().requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_after_a_whole_body() {
    let origin = origin().await;
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    for start in [0, 100, 200] {
        fetch(&fetcher, "/film.mkv", start, start + 100)
            .await
            .unwrap();
    }
    let connections: Vec<_> = origin
        .journal()
        .records()
        .iter()
        .map(|r| r.connection)
        .collect();
    assert_eq!(connections, [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_was_closed_costs_no_request() {
    let mut origin = origin().await;
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    for start in [0, 100, 200] {
        fetch(&fetcher, "/film.mkv", start, start + 100)
            .await
            .unwrap();
        origin.close().await;
        origin.reopen().await.unwrap();
    }
    assert_eq!(origin.journal().requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_text_of_a_refusal_does_not_cost_the_connection() {
    let origin = origin().await;
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap();
    fetch(&fetcher, "/none", 0, 10).await.unwrap_err();
    fetch(&fetcher, "/film.mkv", 10, 20).await.unwrap();
    let journal = origin.journal();
    assert!(journal.records().iter().all(|r| r.connection == 0));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_origin_is_forbidden() {
    let fetcher = HttpFetcher::builder().build().unwrap();
    let error = fetch(&fetcher, "/film.mkv", 0, 10).await.unwrap_err();
    assert!(matches!(error, FetchError::Forbidden { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn fault47_a_backslash_asks_for_no_slash() {
    let origin = origin().await;
    let fetcher = fetcher(OriginConfig::new(origin.url()));
    let asked = span(resource("/film.mkv", r"/a\..\film.mkv"), 0, 10);
    let error = fetcher.fetch(asked).await.unwrap_err();
    assert!(matches!(error, FetchError::Forbidden { .. }), "{error}");
    assert_eq!(origin.journal().requests(), 0);
}

#[test]
fn fault48_a_wrong_configuration_is_told_without_its_values() {
    let base = || OriginConfig::new(format!("https://me:{PLANTED}@media.example/"));
    let build = |config| HttpFetcher::builder().origin("films", config).build();
    let mut pem = base();
    pem.extra_ca_pem = Some(PLANTED.into());
    let mut identity = base();
    identity.identity_pem = Some(Secret::new(PLANTED));
    for config in [
        OriginConfig::new(format!("media/{PLANTED}")),
        OriginConfig::new(format!("ftp://media.example/{PLANTED}")),
        OriginConfig::new(format!("https://media.example/?{PLANTED}")),
        OriginConfig::new(format!("http://me:{PLANTED}/2@media.example/")),
        OriginConfig::new(format!("http://me:1/{PLANTED}@media.example/")),
        OriginConfig::new(format!("http://me:1\\{PLANTED}@media.example/")),
        base().header("X-Key", Secret::new(format!("{PLANTED}\n"))),
        base().header("Range", Secret::new(PLANTED)),
        pem,
        identity,
    ] {
        let shown = format!("{config:?}");
        assert!(!shown.contains(PLANTED), "{shown}");
        let error = build(config).unwrap_err();
        assert!(error.to_string().contains("films"), "{error}");
        assert_untold(&error, PLANTED);
    }
    let twice = HttpFetcher::builder()
        .origin("a", base())
        .origin("a", base());
    assert!(matches!(twice.build(), Err(BuildError::Duplicate { .. })));
}
