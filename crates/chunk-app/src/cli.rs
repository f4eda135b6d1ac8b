//! The command line. Each flag can also be given as an environment variable, `CHUNKD_` and its name.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand};

use crate::address::Address;
use crate::failure::{Failure, Outcome};
use crate::rate::RateCap;
use crate::units::{Cap, Count, Offset, Size, Span};

/// A chunk cache for streaming media: play any HTTP file through it, seek anywhere, keep it for next time.
#[derive(Debug, Parser)]
#[command(name = "chunkd", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What this process was started with. Help, and errors that repeat nothing secret, are the library's to print,
    /// and end the process.
    pub(crate) fn of_process() -> Outcome<Self> {
        Self::try_parse().map_err(|error| untold(&error).unwrap_or_else(|| error.exit()))
    }
}

/// What is told in place of an error that repeats a word which may be a URL with a password or a signature in it: it
/// may stand where none belongs.
fn untold(error: &clap::Error) -> Option<Failure> {
    let repeated = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let is_secret = |word: &str| word.contains(['@', '?']);
    let argument = repeated(ContextKind::InvalidArg);
    let mut words = [
        argument,
        repeated(ContextKind::InvalidValue),
        repeated(ContextKind::InvalidSubcommand),
    ]
    .into_iter()
    .flatten();
    if !words.any(is_secret) {
        return None;
    }
    let place = argument.filter(|argument| !is_secret(argument));
    Some(Failure::usage(format!(
        "{}{}: it is not repeated here, because it may hold a password; an origin is given by --origin URL, and \
         --help shows the rest",
        error.kind(),
        place
            .map(|place| format!(" for {place}"))
            .unwrap_or_default()
    )))
}

/// What every command takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Common {
    /// Settings file [default: $XDG_CONFIG_HOME/chunkd/config.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE", env = "CHUNKD_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where the cache lives [default: $XDG_CACHE_HOME/chunkd]
    #[arg(long, global = true, value_name = "DIR", env = "CHUNKD_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// What to log to standard error: a level, or levels by module such as `chunk_manager=debug`
    #[arg(long, global = true, value_name = "FILTER", env = "CHUNKD_LOG")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve players from the cache, filling it from the origin
    Serve(Serve),
    /// Get whole files now, so that they can be played later without the origin
    ///
    /// What neither flags nor a file given with --config say of origins and limits is as the last `chunkd serve` on
    /// this cache had it.
    Fetch(Fetch),
    /// Say what is cached, what is queued, and how the cache does
    Status(Status),
    /// Say where a byte of a file is, and how it came or why it did not
    Why(Why),
    /// Check every recorded block against its checksum
    Verify(Verify),
    /// Remove a file from the cache with all variants of its query, or everything that is neither pinned
    /// nor being read
    Evict(Evict),
    /// Keep a file whatever the limits say
    Pin(PinTarget),
    /// Let a file go when room is needed
    Unpin(PinTarget),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) cache: Cache,
    /// Where players connect [default: 127.0.0.1:8787]
    #[arg(long, value_name = "ADDRESS", env = "CHUNKD_LISTEN")]
    pub(crate) listen: Option<Address>,
    /// The server's certificate, and after it those that lead to one that players trust, in PEM: players then connect
    /// with TLS, and may speak HTTP/2 [default: none]
    #[arg(long, value_name = "FILE", env = "CHUNKD_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM; may be in the same file
    #[arg(long, value_name = "FILE", env = "CHUNKD_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A further address for /healthz and /metrics alone [default: none]
    #[arg(long, value_name = "ADDRESS", env = "CHUNKD_ADMIN_LISTEN")]
    pub(crate) admin_listen: Option<Address>,
    /// A further host name that players, or whoever asks for metrics, may use for this server; repeatable, in
    /// CHUNKD_HOST separated by blanks
    #[arg(
        long = "host",
        value_name = "NAME",
        env = "CHUNKD_HOST",
        value_delimiter = ' '
    )]
    pub(crate) hosts: Vec<String>,
    /// A web origin whose pages may read answers; repeatable
    #[arg(
        long,
        help = "A web origin whose pages may read answers, such as https://player.example.org; repeatable, in CHUNKD_CORS \
                separated by blanks",
        value_name = "ORIGIN",
        env = "CHUNKD_CORS",
        value_delimiter = ' '
    )]
    pub(crate) cors: Vec<String>,
    /// How long answers under way may go on after SIGTERM [default: 10s]
    #[arg(long, value_name = "DURATION", env = "CHUNKD_GRACE")]
    pub(crate) grace: Option<Span>,
    /// How many connections of players are served at once; one more takes the place of one at rest, or is told 503 [default: 1024]
    #[arg(long, value_name = "N", env = "CHUNKD_MAX_CONNECTIONS")]
    pub(crate) max_connections: Option<Count>,
}

/// What shapes the cache, whichever command runs it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Cache {
    /// The server to cache: one URL, mounted at /, or NAME=URL for each of several, mounted at /NAME/;
    /// repeatable, in CHUNKD_ORIGIN separated by blanks
    #[arg(
        long = "origin",
        value_name = "URL|NAME=URL",
        env = "CHUNKD_ORIGIN",
        value_delimiter = ' ',
        hide_env_values = true
    )]
    pub(crate) origins: Vec<String>,
    /// Bytes per chunk of files that are new to the cache [default: 10MiB]
    #[arg(long, value_name = "SIZE", env = "CHUNKD_CHUNK_SIZE")]
    pub(crate) chunk_size: Option<Size>,
    /// How many transfers from origins may run at once [default: 4]
    #[arg(long, value_name = "N", env = "CHUNKD_MAX_DOWNLOADS")]
    pub(crate) max_downloads: Option<Count>,
    /// How far ahead of each player to fetch [default: 30s]
    #[arg(long, value_name = "DURATION", env = "CHUNKD_READ_AHEAD")]
    pub(crate) read_ahead: Option<Span>,
    /// The most bytes of files the cache may hold, or `none`; what a file system adds to each file (8 KiB on ext4) comes
    /// on top [default: 50GiB]
    #[arg(long, value_name = "SIZE", env = "CHUNKD_MAX_SIZE")]
    pub(crate) max_size: Option<Cap>,
    /// The room to leave free on the disk [default: 5GiB]
    #[arg(long, value_name = "SIZE", env = "CHUNKD_MIN_FREE")]
    pub(crate) min_free: Option<Size>,
    /// Memory for data on its way [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "CHUNKD_MEMORY")]
    pub(crate) memory: Option<Size>,
    /// The most to fetch in the background: `chunkd fetch`, `--fill`; or `none` [default: none]
    #[arg(long, value_name = "RATE", env = "CHUNKD_BACKGROUND_RATE")]
    pub(crate) background_rate: Option<RateCap>,
    /// Each byte costs: fetch nothing in the background, and little ahead of players
    #[arg(
        long,
        env = "CHUNKD_METERED",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) metered: Option<bool>,
    /// Also fetch, when nothing else is to do, the rest of a file that is being played
    #[arg(
        long,
        env = "CHUNKD_FILL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) fill: Option<bool>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Fetch {
    #[command(flatten)]
    pub(crate) cache: Cache,
    /// What to fetch: URLs below an origin, or paths as players ask for them
    #[arg(required = true, value_name = "URL-or-path")]
    pub(crate) targets: Vec<String>,
    /// One JSON object per line instead of a progress bar
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Status {
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Why {
    /// The file, by its path as players ask for it, or by its URL
    pub(crate) path: String,
    /// The byte, counted from 0: a number, or a size such as 10MiB
    pub(crate) offset: Offset,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Verify {
    /// Forget bad blocks, so that they are fetched again when somebody wants them
    #[arg(long)]
    pub(crate) repair: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
#[command(override_usage = "chunkd evict <PATH> | --all")]
pub(crate) struct Evict {
    /// The file, by its path as players ask for it, or by its URL; without a query, every variant of the
    /// file goes, whatever its query
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) path: Option<String>,
    /// Everything that is neither pinned nor being read
    #[arg(long)]
    pub(crate) all: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PinTarget {
    /// The file, by its path as players ask for it, or by its URL
    pub(crate) path: String,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What is set wrongly is not noticed: a variable that nobody reads is no error.
    #[test]
    fn each_variable_is_named_as_its_flag() {
        /// What one call wants, and no installation.
        const OF_ONE_CALL: &[&str] = &["json", "repair", "all", "help", "version"];
        let command = Cli::command();
        let commands = command.get_subcommands().chain([&command]);
        let mut named = 0;
        for argument in commands.flat_map(clap::Command::get_arguments) {
            let Some(flag) = argument.get_long() else {
                continue;
            };
            let variable = argument.get_env().and_then(std::ffi::OsStr::to_str);
            if OF_ONE_CALL.contains(&flag) {
                assert_eq!(variable, None, "--{flag}");
                continue;
            }
            let expected = format!("CHUNKD_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(variable, Some(&*expected), "--{flag}");
            named += 1;
        }
        assert!(named >= 14, "{named}");
    }

    #[test]
    fn the_fixed_forms_are_understood() {
        for line in [
            "chunkd serve --origin https://media.example.org/library/",
            "chunkd serve --origin a=http://x/ --origin b=http://y/ --listen 127.0.0.1:8787 --cache-dir d \
             --chunk-size 10MiB --max-downloads 4 --read-ahead 30s --max-size 50GiB --min-free 5GiB \
             --memory 64MiB --fill --config f --tls-cert c --tls-key k",
            "chunkd fetch https://media.example.org/library/a /b --json",
            "chunkd status --json",
            "chunkd why /a 10MiB",
            "chunkd why /a 1048576 --json",
            "chunkd verify --repair",
            "chunkd evict /a",
            "chunkd evict --all",
            "chunkd pin /a",
            "chunkd unpin /a",
        ] {
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
        for line in [
            "chunkd",
            "chunkd fetch",
            "chunkd evict",
            "chunkd evict /a --all",
            "chunkd pin",
            "chunkd why /a",
            "chunkd why /a -1",
        ] {
            assert!(
                Cli::try_parse_from(line.split_whitespace()).is_err(),
                "{line}"
            );
        }
    }
}
