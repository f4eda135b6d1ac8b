//! Feeds a parser what libFuzzer makes up; which one, `CHUNKD_FUZZ_TARGET` says.
//!
//! The proxy shows its parsers to a build that is for fuzzing. What the fetcher and the program have is taken from their
//! sources, so that neither TLS nor the index is built with counters.
#![no_main]

#[path = "../../crates/chunk-app/src/found_inputs.rs"]
mod app_checks;
#[path = "../../crates/chunk-fetch-http/src/content_range.rs"]
mod content_range;
#[path = "../../crates/chunk-core/tests/found_inputs/checks.rs"]
mod core_checks;
#[path = "../../crates/chunk-fetch-http/src/found_inputs.rs"]
mod fetch_checks;
#[path = "../../crates/chunk-fetch-http/src/freshness.rs"]
mod freshness;
#[path = "../../crates/chunk-app/src/origin_url.rs"]
mod origin_url;
#[path = "../../crates/chunk-app/src/units.rs"]
mod units;

use std::sync::OnceLock;

use chunk_proxy::found_inputs as proxy_checks;
use libfuzzer_sys::fuzz_target;

type Check = fn(&[u8]);

const CHECKS: [(&str, Check); 10] = [
    ("range", proxy_checks::range),
    ("head", proxy_checks::head),
    ("target", proxy_checks::target),
    ("conditions", proxy_checks::conditions),
    ("content-range", fetch_checks::content_range),
    ("freshness", fetch_checks::freshness),
    ("container", core_checks::container),
    ("block-map", core_checks::block_map),
    ("units", app_checks::units),
    ("origin-url", app_checks::origin_url),
];

fn check() -> Check {
    static CHECK: OnceLock<Check> = OnceLock::new();
    *CHECK.get_or_init(|| {
        let wanted = std::env::var("CHUNKD_FUZZ_TARGET").unwrap_or_default();
        let found = CHECKS.iter().find(|(name, _)| *name == wanted);
        found.expect("CHUNKD_FUZZ_TARGET names a target").1
    })
}

fuzz_target!(|data: &[u8]| check()(data));
