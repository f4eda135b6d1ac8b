//! The settings file: TOML, every key checked, so that a slip is told and not ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use chunk_ports::Secret;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use crate::failure::{Failure, Outcome};
use crate::forms;
use crate::origin_url::OriginUrl;
use crate::suggest::nearest;

/// Keys at the top of the file.
pub(crate) const TOP_KEYS: &[&str] = &[
    "listen",
    "tls_cert",
    "tls_key",
    "admin_listen",
    "hosts",
    "cors",
    "grace",
    "max_connections",
    "cache_dir",
    "log",
    "chunk_size",
    "max_downloads",
    "read_ahead",
    "max_size",
    "min_free",
    "memory",
    "background_rate",
    "metered",
    "fill",
    "origin",
    "origins",
];

/// Keys of `[origin]` and of each `[origins.NAME]`.
pub(crate) const ORIGIN_KEYS: &[&str] = &[
    "url",
    "headers",
    "ca_file",
    "client_cert",
    "allow_private",
    "immutable",
    "private_cache",
    "auth",
    "signature_parameters",
    "background_rate",
    "secret_query",
];

/// Keys of a header that is not written out.
const HEADER_KEYS: &[&str] = &["env", "file"];

/// The file as it stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
    pub(crate) listen: Option<String>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) admin_listen: Option<String>,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    #[serde(default)]
    pub(crate) cors: Vec<String>,
    pub(crate) grace: Option<WithUnit>,
    pub(crate) max_connections: Option<WithUnit>,
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) log: Option<String>,
    pub(crate) chunk_size: Option<WithUnit>,
    pub(crate) max_downloads: Option<WithUnit>,
    pub(crate) read_ahead: Option<WithUnit>,
    pub(crate) max_size: Option<WithUnit>,
    pub(crate) min_free: Option<WithUnit>,
    pub(crate) memory: Option<WithUnit>,
    pub(crate) background_rate: Option<WithUnit>,
    pub(crate) metered: Option<bool>,
    pub(crate) fill: Option<bool>,
    pub(crate) origin: Option<OriginTable>,
    #[serde(default)]
    pub(crate) origins: BTreeMap<String, OriginTable>,
}

/// One origin as it stands in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OriginTable {
    pub(crate) url: Option<SecretText>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, HeaderValue>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) client_cert: Option<PathBuf>,
    #[serde(default)]
    pub(crate) allow_private: bool,
    #[serde(default)]
    pub(crate) immutable: bool,
    #[serde(default)]
    pub(crate) private_cache: bool,
    #[serde(default)]
    pub(crate) auth: Auth,
    pub(crate) signature_parameters: Option<Vec<String>>,
    pub(crate) background_rate: Option<WithUnit>,
    #[serde(default)]
    pub(crate) secret_query: SecretQuery,
}

/// Which query parameters are secrets besides those that sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretQuery {
    /// These, which do not tell one file from another.
    Named(Vec<String>),
    /// Any may be.
    All,
}

impl Default for SecretQuery {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

impl<'de> Deserialize<'de> for SecretQuery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Word(String),
            Names(Vec<String>),
        }
        let wrong = || serde::de::Error::custom("`secret_query` is [\"NAME\", …] or \"all\"");
        match Form::deserialize(deserializer).map_err(|_| wrong())? {
            Form::Word(word) if word == "all" => Ok(Self::All),
            Form::Names(names) if names.iter().all(|name| !matches!(name.as_str(), "" | "*")) => {
                Ok(Self::Named(names))
            }
            _ => Err(wrong()),
        }
    }
}

/// What becomes of the credentials a player sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Auth {
    /// They stay here.
    #[default]
    Drop,
    /// They go to the origin, and each set of them has its own cache entries.
    Forward,
}

/// Where the value of a request field comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum HeaderValue {
    /// It is written out, because it is no secret. Not printed all the same.
    Plain(SecretText),
    /// It is the value of an environment variable.
    Env {
        /// The variable.
        env: String,
    },
    /// It is the content of a file, without the line break at its end.
    File {
        /// The file; a relative path starts at the settings file's folder.
        file: PathBuf,
    },
}

/// A text that may be a secret.
#[derive(Clone, Debug)]
pub(crate) struct SecretText(pub(crate) Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// A size, a duration or a count, still as text. A bare number is read too, so that an error can say what is missing.
#[derive(Clone, Debug)]
pub(crate) struct WithUnit(pub(crate) String);

impl<'de> Deserialize<'de> for WithUnit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = WithUnit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, with its unit in quotes where it has one")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WithUnit, E> {
                Ok(WithUnit(text.to_owned()))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<WithUnit, E> {
                Ok(WithUnit(number.to_string()))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<WithUnit, E> {
                Ok(WithUnit(number.to_string()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl ConfigFile {
    /// Reads the file at `path`.
    pub(crate) fn read(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!(
                "cannot read the settings file {}: {error}",
                path.display()
            ))
        })?;
        Self::parse(&text)
            .map_err(|message| Failure::usage(format!("{}: {message}", path.display())))
    }

    /// Reads `text`; the error is one line without anything that may be a secret.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let located = |error: &toml::de::Error, message: &str| {
            let line = error.span().map_or(1, |span| {
                text.get(..span.start)
                    .map_or(1, |before| before.matches('\n').count() + 1)
            });
            format!("line {line}: {}", message.replace('\n', " "))
        };
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| located(&error, error.message()))?;
        check_keys(&table)?;
        toml::from_str(text).map_err(|error| located(&error, &without_value(error.message())))
    }
}

/// What the library says of a value that is of another kind than it should be, without the value: a URL may stand where
/// none belongs.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((found, expected)) => {
            let kind = found.split(['"', '`']).next().unwrap_or_default();
            format!("{}, expected {expected}", kind.trim_end())
        }
        None => message.to_owned(),
    }
}

impl OriginTable {
    /// Its URL, where it has one that is one.
    pub(crate) fn parsed_url(&self) -> Option<OriginUrl> {
        OriginUrl::parse(self.url.as_ref()?.0.expose()).ok()
    }

    /// Whether what it says is meant for the server of `url`: a header must not reach another one.
    pub(crate) fn may_be_of(&self, url: &OriginUrl) -> bool {
        self.url.is_none() || self.parsed_url().is_some_and(|own| own.is_same_server(url))
    }

    /// Why the table cannot be used whatever the environment, if so.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        self.headers
            .keys()
            .any(|name| name.is_empty() || name.chars().any(|c| c.is_control() || c == ' '))
            .then_some("a header's name consists of letters, digits and `-`")
    }
}

/// Finds keys that nobody knows, in the file's own words, before serde does in its own.
fn check_keys(table: &toml::Table) -> Result<(), String> {
    check_table("", table, TOP_KEYS)?;
    forms::check("", table)?;
    match table.get("origin") {
        Some(toml::Value::Table(origin)) => check_origin("origin.", origin)?,
        Some(_) => {
            return Err(
                "`origin` is not a table; say [origin] and below it url = \"…\"".to_owned(),
            );
        }
        None => {}
    }
    match table.get("origins") {
        None => Ok(()),
        Some(toml::Value::Table(origins)) => check_origins(origins),
        Some(_) => Err(
            "`origins` is not a table; say [origins.NAME] for each and below it url = \"…\""
                .to_owned(),
        ),
    }
}

fn check_origins(origins: &toml::Table) -> Result<(), String> {
    for (name, origin) in origins {
        if let toml::Value::Table(origin) = origin {
            check_origin(&format!("origins.{name}."), origin)?;
        } else {
            return Err(format!(
                "`origins.{name}` is not a table; say [origins.{name}] and below it url = \"…\""
            ));
        }
    }
    Ok(())
}

fn check_origin(prefix: &str, origin: &toml::Table) -> Result<(), String> {
    check_table(prefix, origin, ORIGIN_KEYS)?;
    forms::check(prefix, origin)?;
    if let Some(toml::Value::Table(headers)) = origin.get("headers") {
        for (name, value) in headers {
            let right = || {
                format!(
                    "`{prefix}headers.{name}` must be a text, {{ env = \"VARIABLE\" }} or {{ file = \"…\" }}"
                )
            };
            match value {
                toml::Value::String(_) => {}
                toml::Value::Table(source) => {
                    check_table(&format!("{prefix}headers.{name}."), source, HEADER_KEYS)?;
                    if source.len() != 1 || !source.values().all(toml::Value::is_str) {
                        return Err(right());
                    }
                }
                _ => return Err(right()),
            }
        }
    }
    Ok(())
}

fn check_table(prefix: &str, table: &toml::Table, known: &[&str]) -> Result<(), String> {
    for key in table.keys() {
        if !known.contains(&key.as_str()) {
            return Err(match nearest(key, known) {
                Some(meant) => {
                    format!("unknown key `{prefix}{key}`; did you mean `{prefix}{meant}`?")
                }
                None => format!(
                    "unknown key `{prefix}{key}`; there are {}",
                    known.join(", ")
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        listen = "127.0.0.1:8787"
        admin_listen = "127.0.0.1:8788"
        hosts = ["media.lan"]
        cors = ["https://player.example.org"]
        grace = "10s"
        max_connections = 2000
        cache_dir = "/var/cache/chunkd"
        log = "info"
        chunk_size = "10MiB"
        max_downloads = 4
        read_ahead = "30s"
        max_size = "none"
        min_free = "5GiB"
        memory = "64MiB"
        background_rate = "20Mbit/s"
        metered = true
        fill = true
        tls_cert = "chain.pem"
        tls_key = "key.pem"

        [origin]
        url = "https://a.example.org/"

        [origins.library]
        url = "https://media.example.org/library/"
        headers = { Authorization = { env = "TOKEN" }, X-Key = { file = "key" }, X-Plain = "v" }
        ca_file = "ca.pem"
        client_cert = "client.pem"
        allow_private = true
        immutable = true
        private_cache = true
        auth = "forward"
        signature_parameters = ["sig"]
        secret_query = ["pass"]
        background_rate = "8Mbit/s"
    "#;

    #[test]
    fn every_key_that_is_known_is_also_read() {
        let file = ConfigFile::parse(WHOLE).unwrap();
        assert_eq!(file.origins["library"].auth, Auth::Forward);
        assert_eq!(file.origins["library"].headers.len(), 3);
        let table: toml::Table = WHOLE.parse().unwrap();
        assert_eq!(table.len(), TOP_KEYS.len());
        let origin = table["origins"]["library"].as_table().unwrap();
        assert_eq!(origin.len(), ORIGIN_KEYS.len());
    }

    #[test]
    fn an_unknown_key_names_its_nearest_neighbour() {
        for (text, message) in [
            (
                "chunk_sise = \"1MiB\"",
                "unknown key `chunk_sise`; did you mean `chunk_size`?",
            ),
            (
                "[origins.a]\nurll = \"http://h/\"",
                "unknown key `origins.a.urll`; did you mean `origins.a.url`?",
            ),
            (
                "[origin]\nheaders = { A = { evn = \"T\" } }",
                "unknown key `origin.headers.A.evn`; did you mean `origin.headers.A.env`?",
            ),
            (
                "[origin]\nheaders = { A = 5 }",
                "`origin.headers.A` must be a text, { env = \"VARIABLE\" } or { file = \"…\" }",
            ),
            (
                "[origins]\na = \"http://h/\"",
                "`origins.a` is not a table; say [origins.a] and below it url = \"…\"",
            ),
        ] {
            assert_eq!(ConfigFile::parse(text).unwrap_err(), message);
        }
        let far = ConfigFile::parse("colour = 1").unwrap_err();
        assert!(
            far.starts_with("unknown key `colour`; there are listen, "),
            "{far}"
        );
    }

    #[test]
    fn secret_queries_are_a_list_or_all_and_nothing_else() {
        let read = |value: &str| {
            let text = format!("[origin]\nsecret_query = {value}");
            ConfigFile::parse(&text).map(|file| file.origin.unwrap().secret_query)
        };
        assert_eq!(read("\"all\""), Ok(SecretQuery::All));
        let named = SecretQuery::Named(vec!["pass".to_owned(), "x-*".to_owned()]);
        assert_eq!(read("[\"pass\", \"x-*\"]"), Ok(named));
        // A star alone would make one entry of all queries, whatever they name.
        for wrong in ["\"pass\"", "[\"*\"]", "[\"\"]", "true"] {
            let error = read(wrong).unwrap_err();
            assert!(
                error.contains("`secret_query` is [\"NAME\", …] or \"all\""),
                "{error}"
            );
        }
    }

    #[test]
    fn a_fault_of_syntax_names_its_line_and_shows_no_content() {
        let error =
            ConfigFile::parse("fill = true\n[origin]\nurl = \"https://u:hunter2@h/").unwrap_err();
        assert!(error.starts_with("line 3: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn fault48_a_url_where_none_belongs_is_not_repeated() {
        let url = "\"http://u:hunter2, expected @h/\"";
        for (text, message) in [
            (
                format!("origin = {url}"),
                "`origin` is not a table; say [origin] and below it url = \"…\"",
            ),
            (
                format!("origins = {url}"),
                "`origins` is not a table; say [origins.NAME] for each and below it url = \"…\"",
            ),
            (
                format!("[origin]\nimmutable = {url}"),
                "`origin.immutable` must be true or false, without quotes; say immutable = true",
            ),
            (
                format!("[origin]\nauth = {url}"),
                "line 2: unknown variant, expected `drop` or `forward`",
            ),
            (
                "[origin]\nurl = http://u:hunter2@h/".to_owned(),
                "line 2: string values must be quoted, expected literal string",
            ),
        ] {
            assert_eq!(ConfigFile::parse(&text).unwrap_err(), message);
        }
    }

    #[test]
    fn nothing_that_may_be_secret_is_printed() {
        let file = ConfigFile::parse(
            "[origin]\nurl = \"https://u:hunter2@h/\"\nheaders = { A = \"hunter2\" }",
        )
        .unwrap();
        assert!(!format!("{file:?}").contains("hunter2"));
    }
}
