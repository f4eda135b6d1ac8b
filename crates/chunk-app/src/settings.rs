//! What is in force: flags over environment over file over defaults.
//!
//! Flags and environment are one layer here, because the command line parser lets a flag win over its
//! variable.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chunk_core::ChunkSize;
use chunk_manager::Limits;

use crate::address::Address;
use crate::cli;
use crate::config::{ConfigFile, OriginTable, WithUnit};
use crate::failure::{Failure, Outcome};
use crate::identity::IdentityFiles;
use crate::known::{Known, Told};
use crate::origin::{Mounts, Origin};
use crate::origin_url::OriginUrl;
use crate::rate::RateCap;
use crate::record::Shape;
use crate::units::{Cap, Count, Size, Span};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8787);
const DEFAULT_MAX_SIZE: Size = Size(50 << 30);
const DEFAULT_MIN_FREE: Size = Size(5 << 30);
const DEFAULT_GRACE: Span = Span(Duration::from_secs(10));
const DEFAULT_MAX_CONNECTIONS: usize = 1024;
/// Less could not hold one run's tail beside a pass-through ring.
const LEAST_MEMORY: Size = Size(8 << 20);

/// The layers below the flags.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    file: ConfigFile,
    /// The file's, empty where there is none.
    path: PathBuf,
    /// Whether the command was given the file; else it is the one in the usual place.
    is_given: bool,
    env: Environment<'a>,
}

/// The process's environment, as a parameter so that a test needs none of its own.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'a>(pub(crate) &'a dyn Fn(&str) -> Option<String>);

impl fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// What every command needs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cache_dir: PathBuf,
    pub(crate) chunk_size: ChunkSize,
    pub(crate) limits: Limits,
    pub(crate) fill: bool,
    /// None where neither flags nor file name any.
    pub(crate) mounts: Mounts,
}

/// What `serve` needs besides.
#[derive(Clone, Debug)]
pub(crate) struct ServeSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) admin_listen: Option<SocketAddr>,
    pub(crate) hosts: Vec<String>,
    pub(crate) cors: Vec<String>,
    pub(crate) grace: Duration,
    pub(crate) max_connections: usize,
    pub(crate) identity: Option<IdentityFiles>,
}

impl<'a> Layers<'a> {
    /// Reads the settings file that `common` names, or the usual one where it exists.
    pub(crate) fn read(common: &cli::Common, env: Environment<'a>) -> Outcome<Self> {
        let path = match &common.config {
            Some(path) => Some(path.clone()),
            None => xdg(env, "XDG_CONFIG_HOME", ".config")
                .map(|folder| folder.join("chunkd/config.toml"))
                .filter(|path| path.exists()),
        };
        let file = match &path {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        let path = path.unwrap_or_default();
        Ok(Self {
            file,
            path,
            is_given: common.config.is_some(),
            env,
        })
    }

    /// What to log.
    pub(crate) fn log(&self, common: &cli::Common) -> Option<String> {
        common.log.clone().or_else(|| self.file.log.clone())
    }

    /// Where the cache is.
    pub(crate) fn cache_dir(&self, common: &cli::Common) -> Outcome<PathBuf> {
        match common.cache_dir.as_ref().or(self.file.cache_dir.as_ref()) {
            Some(folder) => Ok(folder.clone()),
            None => xdg(self.env, "XDG_CACHE_HOME", ".cache")
                .ok_or_else(|| {
                    Failure::usage(
                        "there is no home folder to keep the cache in; say --cache-dir DIR",
                    )
                })
                .map(|folder| folder.join("chunkd")),
        }
    }

    /// What is in force for any command on the cache in `cache_dir`; `cache` are its flags where it has them.
    pub(crate) fn settings(
        &self,
        cache_dir: PathBuf,
        cache: &cli::Cache,
        known: &Known,
    ) -> Outcome<Settings> {
        let file = &self.file;
        let written = layered("chunk_size", cache.chunk_size, file.chunk_size.as_ref())?;
        let chunk_size = self
            .settle(known, cache.chunk_size, written, |shape| {
                Size(shape.chunk_size)
            })
            .unwrap_or(Size(ChunkSize::DEFAULT.get()));
        let chunk_size = ChunkSize::new(chunk_size.0)
            .map_err(|error| Failure::usage(format!("chunk_size: {error}; say 10MiB")))?;
        let written = layered(
            "max_downloads",
            cache.max_downloads,
            file.max_downloads.as_ref(),
        )?;
        let max_downloads = self
            .settle(known, cache.max_downloads, written, |shape| {
                Count(shape.max_downloads)
            })
            .map_or(4, |Count(count)| count);
        if max_downloads == 0 {
            return Err(Failure::usage(
                "max_downloads is 0, so that nothing could ever be fetched; say 1 or more",
            ));
        }
        let defaults = Limits::default();
        let read_ahead = layered("read_ahead", cache.read_ahead, file.read_ahead.as_ref())?
            .unwrap_or(Span(defaults.read_ahead));
        let written = layered("max_size", cache.max_size, file.max_size.as_ref())?;
        let max_size = self
            .settle(known, cache.max_size, written, |shape| {
                Cap(shape.max_size.map(Size))
            })
            .unwrap_or(Cap(Some(DEFAULT_MAX_SIZE)));
        let written = layered("min_free", cache.min_free, file.min_free.as_ref())?;
        let min_free = self
            .settle(known, cache.min_free, written, |shape| Size(shape.min_free))
            .unwrap_or(DEFAULT_MIN_FREE);
        let memory =
            layered("memory", cache.memory, file.memory.as_ref())?.unwrap_or(Size(defaults.memory));
        if memory < LEAST_MEMORY {
            return Err(Failure::usage(format!(
                "memory is {memory}, too little to pass data on; say {LEAST_MEMORY} or more"
            )));
        }
        let flag = cache.background_rate;
        let written = layered("background_rate", flag, file.background_rate.as_ref())?;
        let background = self.settle(known, flag, written, |shape| RateCap(shape.background_rate));
        let written = cache.metered.or(file.metered);
        let metered = self.settle(known, cache.metered, written, |shape| shape.metered);
        Ok(Settings {
            cache_dir,
            chunk_size,
            limits: defaults
                .with_max_downloads(max_downloads)
                .with_read_ahead(read_ahead.0)
                .with_max_size(max_size.0.map(|size| size.0))
                .with_min_free(min_free.0)
                .with_memory(memory.0)
                .with_background_rate(background.and_then(|rate| rate.0))
                .with_metered(metered.unwrap_or(false)),
            fill: cache.fill.or(file.fill).unwrap_or(false),
            mounts: Mounts::new(self.mounts(&cache.origins, known)?)?,
        })
    }

    /// What is in force for `serve`.
    pub(crate) fn serve(&self, flags: &cli::Serve) -> Outcome<ServeSettings> {
        let file = &self.file;
        let or_file = |flags: &[String], file: &[String]| {
            if flags.is_empty() { file } else { flags }.to_vec()
        };
        let hosts = or_file(&flags.hosts, &file.hosts);
        if hosts.iter().any(|host| host.contains(',')) {
            return Err(Failure::usage(
                "hosts: a host name holds no `,`; several are separated by blanks in CHUNKD_HOST, or have a --host each",
            ));
        }
        let cors = or_file(&flags.cors, &file.cors);
        for origin in &cors {
            if OriginUrl::parse(origin).is_err() || origin.matches('/').count() != 2 {
                return Err(Failure::usage(format!(
                    "cors: `{origin}` is no web origin; say for example https://player.example.org, \
                     without a path"
                )));
            }
        }
        let max_connections = layered(
            "max_connections",
            flags.max_connections,
            file.max_connections.as_ref(),
        )?
        .map_or(DEFAULT_MAX_CONNECTIONS, |count| count.0);
        if max_connections == 0 {
            return Err(Failure::usage(
                "max_connections is 0, so that nobody could ever connect; say 1 or more",
            ));
        }
        Ok(ServeSettings {
            max_connections,
            identity: IdentityFiles::of(flags, file, &self.path)?,
            listen: address("listen", flags.listen, file.listen.as_deref())?
                .unwrap_or(DEFAULT_LISTEN),
            admin_listen: address(
                "admin_listen",
                flags.admin_listen,
                file.admin_listen.as_deref(),
            )?,
            hosts,
            cors,
            grace: layered("grace", flags.grace, file.grace.as_ref())?
                .unwrap_or(DEFAULT_GRACE)
                .0,
        })
    }

    /// The origins in force.
    fn mounts(&self, flags: &[String], known: &Known) -> Outcome<Vec<Origin>> {
        let given = self.origins(flags, known)?;
        Ok(known.join(given, self.told(!flags.is_empty())))
    }

    /// The value in force: `flag`, what is `written` in the file where there is no flag, or what is recorded.
    fn settle<T>(
        &self,
        known: &Known,
        flag: Option<T>,
        written: Option<T>,
        recorded: impl FnOnce(&Shape) -> T,
    ) -> Option<T> {
        known.settle(written, self.told(flag.is_some()), recorded)
    }

    const fn told(&self, by_flag: bool) -> Told {
        if by_flag || self.is_given {
            Told::ByCommand
        } else {
            Told::ByUsualFile
        }
    }

    /// The origins: those of the flags where there are any, else those of the file.
    fn origins(&self, flags: &[String], known: &Known) -> Outcome<Vec<Origin>> {
        let mut origins = Vec::new();
        if flags.is_empty() {
            if let Some(table) = &self.file.origin {
                origins.push(self.origin_of_file("", table)?);
            }
            for (name, table) in &self.file.origins {
                origins.push(self.origin_of_file(name, table)?);
            }
        }
        for text in flags {
            let (name, url) = name_and_url(text)?;
            let table = match name {
                "" => self.file.origin.as_ref(),
                _ => self.file.origins.get(name),
            };
            // What is known of a name is meant for the server it is known of.
            origins.push(match table.filter(|table| table.may_be_of(&url)) {
                Some(table) => Origin::from_table(name, url, table, &self.path)?,
                None => match known.origin(name, &url) {
                    Some(origin) => origin.at(url),
                    None => Origin::plain(name, url),
                },
            });
        }
        Ok(origins)
    }

    fn origin_of_file(&self, name: &str, table: &OriginTable) -> Outcome<Origin> {
        let place = if name.is_empty() {
            "[origin]".to_owned()
        } else {
            format!("[origins.{name}]")
        };
        check_name(name)?;
        let url = table.url.as_ref().ok_or_else(|| {
            Failure::usage(format!(
                "{place} has no url; say url = \"https://media.example.org/library/\""
            ))
        })?;
        let url = OriginUrl::parse(url.0.expose())
            .map_err(|error| Failure::usage(format!("the URL of {place}: {error}")))?;
        Origin::from_table(name, url, table, &self.path)
    }
}

/// `NAME=URL` or `URL`. A `=` after the scheme belongs to the URL.
pub(crate) fn name_and_url(text: &str) -> Outcome<(&str, OriginUrl)> {
    let (name, url) = match text.split_once('=') {
        Some((name, url)) if !name.contains(':') => (name, url),
        // A name that is none, rather than a URL that is none.
        Some((name, url)) if url.contains("://") && !name.contains("://") => (name, url),
        _ => ("", text),
    };
    if url.len() < text.len() {
        check_name(name)?;
        if name.is_empty() {
            return Err(Failure::usage("an origin's name is missing before `=`"));
        }
    }
    let url = OriginUrl::parse(url)
        .map_err(|error| Failure::usage(format!("the URL of --origin: {error}")))?;
    Ok((name, url))
}

fn check_name(name: &str) -> Outcome<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.chars().all(fits) {
        return Ok(());
    }
    // It may be a URL that was begun wrongly.
    if name.contains('@') {
        return Err(Failure::usage(
            "what stands before `=` is no name for an origin: letters, digits, `_` and `-` make one; say library",
        ));
    }
    let right: String = name.chars().filter(|c| fits(*c)).collect();
    Err(Failure::usage(format!(
        "`{name}` is no name for an origin: letters, digits, `_` and `-` make one; say {}",
        if right.is_empty() { "library" } else { &right }
    )))
}

/// The flag's value, else the file's.
fn layered<T>(name: &str, flag: Option<T>, file: Option<&WithUnit>) -> Outcome<Option<T>>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    match (flag, file) {
        (Some(value), _) => Ok(Some(value)),
        (None, Some(text)) => match text.0.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Failure::usage(format!("{name}: {error}"))),
        },
        (None, None) => Ok(None),
    }
}

fn address(name: &str, flag: Option<Address>, file: Option<&str>) -> Outcome<Option<SocketAddr>> {
    match (flag, file) {
        (Some(address), _) => Ok(Some(address.0)),
        (None, Some(text)) => match text.parse::<Address>() {
            Ok(address) => Ok(Some(address.0)),
            Err(error) => Err(Failure::usage(format!("{name}: {error}"))),
        },
        (None, None) => Ok(None),
    }
}

/// A folder of the XDG base directory specification. It says to ignore a relative path.
fn xdg(env: Environment<'_>, variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        (env.0)(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn no_env(_: &str) -> Option<String> {
        None
    }

    fn home(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home-of-nobody".to_owned())
    }

    /// The flags of `line` over `file`.
    fn layered_settings(line: &str, file: &str) -> Outcome<(Settings, ServeSettings)> {
        let line = format!("chunkd {line}");
        let cli = cli::Cli::try_parse_from(line.split_whitespace()).unwrap();
        let cli::Command::Serve(serve) = cli.command else {
            panic!("the tests use serve");
        };
        let layers = Layers {
            file: ConfigFile::parse(file).unwrap(),
            path: PathBuf::new(),
            is_given: false,
            env: Environment(&home),
        };
        let cache_dir = layers.cache_dir(&cli.common)?;
        Ok((
            layers.settings(cache_dir, &serve.cache, &Known::Nothing)?,
            layers.serve(&serve)?,
        ))
    }

    fn error(line: &str, file: &str) -> String {
        layered_settings(line, file).unwrap_err().to_string()
    }

    #[test]
    fn background_work_can_be_limited_in_all_and_for_an_origin() {
        let file = "background_rate = \"20Mbit/s\"\n[origins.nas]\nurl = \"http://192.168.1.20/\"\n\
                    background_rate = \"8Mbit/s\"";
        let (settings, _) = layered_settings("serve", file).unwrap();
        assert_eq!(settings.limits.background_rate, Some(2_500_000));
        assert!(!settings.limits.metered);
        let rates: Vec<_> = settings
            .mounts
            .iter()
            .map(|origin| origin.background_rate)
            .collect();
        assert_eq!(rates, [Some(1_000_000)]);
        let line = "serve --background-rate none --metered";
        let (settings, _) = layered_settings(line, file).unwrap();
        assert_eq!(settings.limits.background_rate, None);
        assert!(settings.limits.metered);
        assert_eq!(
            error("serve", "background_rate = 20"),
            "background_rate: 20 has no unit: say 20Mbit/s"
        );
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let (settings, serve) = layered_settings("serve", "").unwrap();
        assert_eq!(
            settings.cache_dir,
            std::path::Path::new("/home-of-nobody/.cache/chunkd")
        );
        assert_eq!(settings.chunk_size, ChunkSize::DEFAULT);
        assert_eq!(settings.limits.max_downloads, 4);
        assert_eq!(settings.limits.read_ahead, Duration::from_secs(30));
        assert_eq!(settings.limits.max_size, Some(50 << 30));
        assert_eq!(settings.limits.min_free, 5 << 30);
        assert_eq!(settings.limits.memory, 64 << 20);
        assert!(!settings.fill);
        assert!(settings.mounts.is_empty());
        assert_eq!(serve.listen.to_string(), "127.0.0.1:8787");
        assert_eq!(serve.admin_listen, None);
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file =
            "chunk_size = \"1MiB\"\nmax_size = \"none\"\nlisten = \"127.0.0.1:1\"\nfill = true";
        let (settings, serve) = layered_settings("serve --chunk-size 2MiB", file).unwrap();
        assert_eq!(settings.chunk_size.get(), 2 << 20);
        assert_eq!(settings.limits.max_size, None);
        assert!(settings.fill);
        assert_eq!(serve.listen.port(), 1);
        let (settings, serve) =
            layered_settings("serve --listen 127.0.0.1:2 --fill=false", file).unwrap();
        assert_eq!(serve.listen.port(), 2);
        assert!(!settings.fill);
    }

    #[test]
    fn a_wrong_value_says_where_it_stands_and_what_would_be_right() {
        for (line, file, message) in [
            (
                "serve",
                "chunk_size = 10",
                "chunk_size: 10 has no unit: say 10MiB",
            ),
            (
                "serve",
                "read_ahead = \"5m\"",
                "read_ahead: `m` is no unit of time: say 5min",
            ),
            (
                "serve",
                "chunk_size = \"0\"",
                "chunk_size: the chunk size is 0; it must be at least 1 byte; say 10MiB",
            ),
            (
                "serve --memory 1MiB",
                "",
                "memory is 1MiB, too little to pass data on; say 8MiB or more",
            ),
            (
                "serve --max-connections 0",
                "",
                "max_connections is 0, so that nobody could ever connect; say 1 or more",
            ),
            (
                "serve --max-downloads 0",
                "",
                "max_downloads is 0, so that nothing could ever be fetched; say 1 or more",
            ),
            (
                "serve",
                "listen = \"8787\"",
                "listen: `8787` is no address and port; say for example 127.0.0.1:8787",
            ),
            (
                "serve --cors https://a/b",
                "",
                "cors: `https://a/b` is no web origin; say for example https://player.example.org, without a path",
            ),
            (
                "serve --origin media.example.org",
                "",
                "the URL of --origin: it does not begin with http:// or https://; say for example \
                 https://media.example.org/library/",
            ),
            (
                "serve --origin a.b=http://h/",
                "",
                "`a.b` is no name for an origin: letters, digits, `_` and `-` make one; say ab",
            ),
            (
                "serve",
                "[origins.a]\nimmutable = true",
                "[origins.a] has no url; say url = \"https://media.example.org/library/\"",
            ),
        ] {
            assert_eq!(error(line, file), message);
        }
    }

    #[test]
    fn without_a_home_the_cache_folder_must_be_named() {
        let layers = Layers {
            file: ConfigFile::default(),
            path: PathBuf::new(),
            is_given: false,
            env: Environment(&no_env),
        };
        let failure = layers.cache_dir(&cli::Common::default()).unwrap_err();
        assert!(failure.message().contains("--cache-dir"));
    }

    #[test]
    fn fault48_headers_of_the_file_reach_only_the_server_they_were_written_for() {
        let file = "[origin]\nurl = \"https://a.example.org/\"\nheaders = { A = \"v\" }";
        let headers = |line: &str| {
            let (settings, _) = layered_settings(line, file).unwrap();
            settings.mounts.iter().next().unwrap().headers.len()
        };
        assert_eq!(headers("serve"), 1);
        assert_eq!(headers("serve --origin https://a.example.org/below/"), 1);
        assert_eq!(headers("serve --origin https://b.example.org/"), 0);
        assert_eq!(headers("serve --origin http://a.example.org/"), 0);
    }

    #[test]
    fn a_url_may_hold_an_equals_sign() {
        let (settings, _) = layered_settings("serve --origin http://h/a=b/", "").unwrap();
        assert_eq!(
            settings.mounts.iter().next().unwrap().url.to_string(),
            "http://h/a=b/"
        );
    }
}
