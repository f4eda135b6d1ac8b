//! The ports' contracts, kept against an origin on loopback.

use chunk_fetch_http::{HttpFetcher, OriginConfig};
use chunk_testkit::origin::{Link, OriginWorld, ScriptedOrigin};

async fn fresh(world: OriginWorld) -> (HttpFetcher, ScriptedOrigin) {
    let origin = ScriptedOrigin::start_with(world, Link::new())
        .await
        .unwrap();
    let config = OriginConfig::new(origin.url());
    let fetcher = HttpFetcher::builder().origin("", config).build().unwrap();
    (fetcher, origin)
}

mod fetching {
    use super::*;

    chunk_testkit::fetcher_conformance!(fresh);
}

mod forwarding {
    use super::*;

    chunk_testkit::forward_conformance!(fresh);
}
