//! Logs: to standard error, chunkd's own from `info` on, everybody else's from `warn` on.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::failure::{Failure, Outcome};

const DEFAULT_FILTER: &str = "warn,chunkd=info";

/// Starts logging as `filter` says.
pub(crate) fn start(filter: Option<&str>) -> Outcome<()> {
    let text = filter.unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::builder().parse(text).map_err(|_| {
        Failure::usage(format!(
            "log: `{text}` is no filter; say a level (error, warn, info, debug, trace) or levels by \
             module, as in `warn,chunk_manager=debug`"
        ))
    })?;
    // Below `info`, libraries write down what they send and receive: fields with credentials among it.
    let ours = filter_fn(|metadata| {
        metadata.target().starts_with("chunk") || *metadata.level() <= LevelFilter::INFO
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_filter(ours)
        .with_filter(filter);
    tracing_subscriber::registry()
        .with(lines)
        .try_init()
        .map_err(Failure::failed)
}
