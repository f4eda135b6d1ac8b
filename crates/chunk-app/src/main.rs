//! `chunkd`: a chunk cache for streaming media. Play any HTTP file through it, seek anywhere, keep it for
//! next time.
//!
//! | command | what it does |
//! |---|---|
//! | `chunkd serve --origin URL` | serves players from the cache, filling it from the origin |
//! | `chunkd fetch URL-or-path …` | gets whole files now; durable, resumable, with progress |
//! | `chunkd status` | what is cached, what is queued, and how the cache does |
//! | `chunkd why PATH OFFSET` | where a byte is, and how it came or why it did not |
//! | `chunkd verify [--repair]` | checks every recorded block against its checksum |
//! | `chunkd evict PATH`, `--all` | removes files |
//! | `chunkd pin PATH`, `unpin PATH` | keeps a file whatever the limits say, or lets it go |
//!
//! ```console
//! $ chunkd serve --origin https://media.example.org/library/
//! chunkd: http://127.0.0.1:8787/ -> https://media.example.org/library/
//! $ mpv http://127.0.0.1:8787/film.mkv
//! ```
//!
//! One process at a time holds the cache folder, by a lock, and answers orders on a Unix socket in it.
//! Every command goes to that process or, where there is none, becomes it for as long as it takes, so
//! that the answer is the same. This crate only puts the others together: settings, composition, the
//! socket, and what is printed. The cache itself is `chunk-manager`.
//!
//! Exit codes: 0 done, 1 not done, 2 asked for wrongly. An error is one line on standard error.
#![forbid(unsafe_code)]

mod access;
mod address;
mod admin;
mod cli;
mod compose;
mod config;
mod control;
mod descriptors;
mod failure;
mod fetching;
mod folder;
mod forms;
#[cfg(test)]
mod found_inputs;
mod host;
mod identity;
mod idle;
mod instance;
mod known;
mod lines;
mod logging;
mod metrics;
mod orders;
mod origin;
mod origin_url;
mod output;
mod progress;
mod rate;
mod record;
mod remote;
mod run;
mod secret_key;
mod serve;
mod settings;
mod signals;
mod socket;
mod suggest;
mod units;
mod wire;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Outcome};
use crate::known::Known;
use crate::record::Record;
use crate::settings::{Environment, Layers};

fn main() -> ExitCode {
    match Cli::of_process().and_then(|cli| start(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn start(cli: &Cli) -> Outcome<()> {
    let layers = Layers::read(&cli.common, Environment(&|name| std::env::var(name).ok()))?;
    logging::start(layers.log(&cli.common).as_deref())?;
    let cache_dir = layers.cache_dir(&cli.common)?;
    let (cache, known) = match &cli.command {
        Command::Serve(flags) => (&flags.cache, Known::Nothing),
        Command::Fetch(flags) => (&flags.cache, Known::Otherwise(Record::read(&cache_dir))),
        _ => (
            &cli::Cache::default(),
            Known::First(Record::read(&cache_dir)),
        ),
    };
    let settings = layers.settings(cache_dir, cache, &known)?;
    descriptors::raise_limit();
    let work = async {
        match &cli.command {
            Command::Serve(flags) => serve::serve(&settings, &layers.serve(flags)?).await,
            Command::Fetch(flags) => orders::fetch(&settings, flags).await,
            Command::Status(flags) => orders::status(&settings, flags).await,
            Command::Why(flags) => orders::why(&settings, flags).await,
            Command::Verify(flags) => orders::verify(&settings, flags).await,
            Command::Evict(flags) => orders::evict(&settings, flags).await,
            Command::Pin(flags) => orders::pin(&settings, flags, true).await,
            Command::Unpin(flags) => orders::pin(&settings, flags, false).await,
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(work);
    // What still runs then, such as a resolver's thread, must not hold the end up.
    runtime.shutdown_background();
    outcome
}
