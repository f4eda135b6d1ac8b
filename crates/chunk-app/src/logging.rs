//! Logs: to standard error, chunkd's own from `info` on, everybody else's from `warn` on.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::failure::{Failure, Outcome};

const DEFAULT_FILTER: &str = "warn,chunkd=info";

fn parse(text: &str) -> Outcome<EnvFilter> {
    // The library takes a word by itself for a module of which to log everything, so that a slip would
    // silence all others.
    let is_level = |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
    let mut parts = text.split(',');
    EnvFilter::builder()
        .parse(text)
        .ok()
        .filter(|_| parts.all(is_level))
        .ok_or_else(|| {
            Failure::usage(format!(
                "log: `{text}` is no filter; say a level (error, warn, info, debug, trace) or levels by \
                 module, as in `warn,chunk_manager=debug`"
            ))
        })
}

/// Starts logging as `filter` says.
pub(crate) fn start(filter: Option<&str>) -> Outcome<()> {
    let filter = parse(filter.unwrap_or(DEFAULT_FILTER))?;
    // Below `info`, libraries write down what they send and receive: fields with credentials among it.
    let ours = filter_fn(|metadata| {
        let target = metadata.target();
        // What a player can make that library warn of, it can make it warn of as often as it likes.
        let most = if target.starts_with("h2") {
            LevelFilter::ERROR
        } else {
            LevelFilter::INFO
        };
        target.starts_with("chunk") || *metadata.level() <= most
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for right in ["off", "debug", DEFAULT_FILTER, "warn,chunk_manager=debug"] {
            assert!(parse(right).is_ok(), "{right}");
        }
        for wrong in ["banana", "warn,banana", "chunk=banana", "a=b=c"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
