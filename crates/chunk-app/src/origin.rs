//! The origins in use: how each is asked, and which of them a path or URL belongs to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chunk_core::{CacheKey, DEFAULT_SIGNATURE_PARAMETERS};
use chunk_ports::{Resource, Secret};
use chunk_proxy::{PartitionKey, plain_target};

use crate::access::{HeaderSource, LoginSource, beside};
use crate::config::{Auth, OriginTable, SecretQuery};
use crate::failure::{Failure, Outcome};
use crate::origin_url::OriginUrl;
use crate::rate::RateCap;

/// One origin with everything that is set for it; secrets by where they come from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Empty for the single one that is mounted at `/`.
    pub(crate) name: String,
    pub(crate) url: OriginUrl,
    /// Where the user name and the password of its URL come from, where it has them.
    pub(crate) login: Option<LoginSource>,
    pub(crate) headers: Vec<(String, HeaderSource)>,
    /// A PEM file.
    pub(crate) ca_file: Option<PathBuf>,
    /// A PEM file: certificate and key.
    pub(crate) client_cert: Option<PathBuf>,
    pub(crate) allow_private: bool,
    pub(crate) immutable: bool,
    pub(crate) private_cache: bool,
    pub(crate) forward_auth: bool,
    /// What a query's identity leaves out: what only signs it, and what is secret in it.
    pub(crate) signature_parameters: Vec<String>,
    /// The most bytes a second to fetch from it in the background.
    pub(crate) background_rate: Option<u64>,
    /// Whether of the rest of a query only a hash is kept.
    pub(crate) hides_queries: bool,
    /// Whether this process knows it from the record of an earlier one alone.
    pub(crate) is_recorded: bool,
}

impl Origin {
    /// An origin of which only the URL is known.
    pub(crate) fn plain(name: &str, url: OriginUrl) -> Self {
        Self {
            name: name.to_owned(),
            login: url.has_login().then_some(LoginSource::CommandLine),
            url,
            headers: Vec::new(),
            ca_file: None,
            client_cert: None,
            allow_private: false,
            immutable: false,
            private_cache: false,
            forward_auth: false,
            signature_parameters: DEFAULT_SIGNATURE_PARAMETERS
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
            background_rate: None,
            hides_queries: false,
            is_recorded: false,
        }
    }

    /// The origin that `table` in the settings file `settings` describes, at `url`.
    pub(crate) fn from_table(
        name: &str,
        url: OriginUrl,
        table: &OriginTable,
        settings: &Path,
    ) -> Outcome<Self> {
        let place = if name.is_empty() {
            "[origin]".to_owned()
        } else {
            format!("[origins.{name}]")
        };
        if let Some(fault) = table.contradiction() {
            return Err(Failure::usage(format!("{place}: {fault}")));
        }
        let mut origin = Self::plain(name, url);
        let settings = &std::path::absolute(settings).unwrap_or_else(|_| settings.to_owned());
        if origin.login.is_some() && table.parsed_url().as_ref() == Some(&origin.url) {
            origin.login = Some(LoginSource::Settings(settings.clone()));
        }
        origin.headers = table
            .headers
            .iter()
            .map(|(header, value)| (header.clone(), HeaderSource::of(value, settings)))
            .collect();
        let file = |path: &Option<PathBuf>| path.as_deref().map(|path| beside(settings, path));
        origin.ca_file = file(&table.ca_file);
        origin.client_cert = file(&table.client_cert);
        origin.allow_private = table.allow_private;
        origin.immutable = table.immutable;
        if let Some(rate) = &table.background_rate {
            let rate: RateCap = rate
                .0
                .parse()
                .map_err(|error| Failure::usage(format!("{place}: background_rate: {error}")))?;
            origin.background_rate = rate.0;
        }
        origin.private_cache = table.private_cache;
        origin.forward_auth = table.auth == Auth::Forward;
        if let Some(parameters) = &table.signature_parameters {
            origin.signature_parameters.clone_from(parameters);
        }
        match &table.secret_query {
            SecretQuery::Named(names) => origin.signature_parameters.extend(names.iter().cloned()),
            SecretQuery::All => origin.hides_queries = true,
        }
        Ok(origin)
    }

    /// The same origin at a URL that a command names for it, on the same server.
    pub(crate) fn at(mut self, url: OriginUrl) -> Self {
        if url.has_login() {
            self.login = Some(LoginSource::CommandLine);
        }
        self.url = url;
        self
    }

    /// Where players find it: `/` or `/NAME/`.
    pub(crate) fn mount(&self) -> String {
        if self.name.is_empty() {
            "/".to_owned()
        } else {
            format!("/{}/", self.name)
        }
    }
}

/// All origins in use, by name. Either the unnamed one alone or named ones only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounts {
    origins: BTreeMap<String, Origin>,
    /// The folder's key, which queries are hashed under where an origin hides them.
    query_key: Option<PartitionKey>,
}

impl Mounts {
    /// Puts origins together.
    pub(crate) fn new(origins: Vec<Origin>) -> Outcome<Self> {
        let count = origins.len();
        let mounts: BTreeMap<_, _> = origins
            .into_iter()
            .map(|origin| (origin.name.clone(), origin))
            .collect();
        if mounts.len() < count {
            return Err(Failure::usage(
                "two origins have one name; each needs its own: --origin NAME=URL",
            ));
        }
        if mounts.contains_key("") && mounts.len() > 1 {
            return Err(Failure::usage(
                "an origin without a name takes the whole of `/`, so that there can be no other; \
                 name each of them: --origin NAME=URL",
            ));
        }
        Ok(Self {
            origins: mounts,
            query_key: None,
        })
    }

    /// Whether a key for queries is needed.
    pub(crate) fn hide_queries(&self) -> bool {
        self.iter().any(|origin| origin.hides_queries)
    }

    /// The same, with the folder's key for queries.
    pub(crate) fn with_query_key(mut self, key: PartitionKey) -> Self {
        self.query_key = Some(key);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.origins.values()
    }

    /// Refuses an origin that a command names and that is not one of these: who runs with others cannot take it up.
    pub(crate) fn expect(&self, name: &str, url: &str) -> Outcome<()> {
        let known = self.origins.get(name);
        if known.is_some_and(|known| known.url.to_string() == url) {
            return Ok(());
        }
        let given = match name {
            "" => url.to_owned(),
            name => format!("{name}={url}"),
        };
        Err(Failure::usage(format!(
            "a chunkd that runs already uses this cache folder, and what counts is which origins it was started with: \
             `--origin {given}` is not among them; {}",
            self.listed()
        )))
    }

    /// What `text`, a URL or a path as players ask for it, is at which origin.
    pub(crate) fn resource(&self, text: &str) -> Outcome<Resource> {
        let (origin, target) = self.split(text)?;
        let target = plain_target(encode(target)).map_err(Failure::usage)?;
        let key = CacheKey::new(&origin.name, &target, &origin.signature_parameters)
            .map_err(Failure::usage)?;
        let key = match &self.query_key {
            _ if !origin.hides_queries => key,
            Some(under) => under.hide_query(key),
            None if key.query().is_empty() => key,
            None => {
                return Err(Failure::failed(
                    "the queries of this origin are hidden under a key that is not at hand",
                ));
            }
        };
        // The normalised path, so that no spelling of `..` leads out of the folder the base URL names;
        // the query as it came, because it may be signed.
        let target = match target.split_once('?') {
            Some((_, query)) => format!("{}?{query}", key.path()),
            None => key.path().to_owned(),
        };
        Ok(Resource::new(Arc::new(key), Secret::new(target)))
    }

    /// What the path `text` is at `origin`, where that is none of those in use. Of such a one nothing is known but
    /// its entries, so that of a query only the usual signatures are left out.
    pub(crate) fn former_key(&self, text: &str, origin: &str) -> Option<CacheKey> {
        if self.origins.contains_key(origin) {
            return None;
        }
        let target = match origin {
            "" => text,
            name => text.strip_prefix('/')?.strip_prefix(name)?,
        };
        if !target.starts_with('/') {
            return None;
        }
        let target = plain_target(encode(target)).ok()?;
        CacheKey::new(origin, &target, DEFAULT_SIGNATURE_PARAMETERS).ok()
    }

    fn split<'a>(&self, text: &'a str) -> Outcome<(&Origin, &'a str)> {
        if text.contains("://") {
            return self
                .origins
                .values()
                .filter_map(|origin| origin.url.target_of(text).map(|target| (origin, target)))
                // The longest base: origins may lie within one another.
                .min_by_key(|(_, target)| target.len())
                .ok_or_else(|| {
                    Failure::usage(format!(
                        "that URL lies under no origin of this cache; {}",
                        self.listed()
                    ))
                });
        }
        if !text.starts_with('/') {
            return Err(Failure::usage(format!(
                "{} is neither a URL nor a path: a path begins with `/`, as players ask for it",
                shown(text)
            )));
        }
        if let Some(origin) = self.origins.get("") {
            return Ok((origin, text));
        }
        let end = text[1..]
            .find(['/', '?'])
            .map_or(text.len(), |slash| slash + 1);
        let (name, target) = (&text[1..end], &text[end..]);
        match self.origins.get(name) {
            Some(origin) if target.starts_with('/') => Ok((origin, target)),
            Some(_) => Err(Failure::usage(format!(
                "`/{name}` names an origin and no file; say /{name}/… "
            ))),
            None => Err(Failure::usage(format!(
                "{} lies under no origin of this cache; {}",
                shown(text),
                self.listed()
            ))),
        }
    }

    /// The origins there are, for a message.
    fn listed(&self) -> String {
        if self.origins.is_empty() {
            return "there is none yet: say --origin https://media.example.org/library/".to_owned();
        }
        let mut text = "there is ".to_owned();
        for (index, origin) in self.origins.values().enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            // Writing to a String cannot fail.
            let _ = write!(text, "{} ({})", origin.mount(), origin.url);
        }
        text
    }
}

/// What a message calls the path `text`: without its query, which may hold a secret, and not at all where it may be a
/// URL that was begun wrongly, with a password in it.
fn shown(text: &str) -> String {
    match text.split('?').next().unwrap_or(text) {
        path if path.contains('@') => "that".to_owned(),
        path => format!("`{path}`"),
    }
}

/// Percent-encodes what a person may type and a request line may not hold. A `#` is part of a file's name
/// here, since the fragment of a URL is gone already.
fn encode(target: &str) -> String {
    let mut out = String::with_capacity(target.len());
    for byte in target.bytes() {
        if byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(origins: &[(&str, &str)]) -> Mounts {
        Mounts::new(
            origins
                .iter()
                .map(|(name, url)| Origin::plain(name, OriginUrl::parse(url).unwrap()))
                .collect(),
        )
        .unwrap()
    }

    fn named() -> Mounts {
        mounts(&[
            ("lib", "https://media.example.org/library/"),
            ("hd", "https://media.example.org/library/hd/"),
        ])
    }

    #[test]
    fn a_path_and_its_url_are_one_entry() {
        let by_path = named().resource("/lib/a b.mkv?t=1").unwrap();
        let by_url = named()
            .resource("https://media.example.org/library/a%20b.mkv?t=1#t=5")
            .unwrap();
        assert_eq!(by_path.key, by_url.key);
        assert_eq!(by_path.target.expose(), "/a%20b.mkv?t=1");
        assert_eq!(by_path.key.origin(), "lib");
        let alone = mounts(&[("", "http://h/x/")]);
        assert_eq!(alone.resource("/lib/a").unwrap().key.path(), "/lib/a");
    }

    #[test]
    fn what_a_player_told_the_proxy_is_no_part_of_a_path() {
        let plain = named().resource("/lib/a.mkv?t=1").unwrap();
        let told = named()
            .resource("/lib/a.mkv?chunkd-rate=8Mbit/s&t=1")
            .unwrap();
        assert_eq!(told.key, plain.key);
        assert_eq!(told.target.expose(), "/a.mkv?t=1");
        let refused = named().resource("/lib/a.mkv?chunkd-rate=zz").unwrap_err();
        assert!(refused.to_string().contains("20Mbit/s"), "{refused}");
    }

    #[test]
    fn fault47_no_spelling_of_dots_leads_out_of_the_base_url() {
        for path in ["/lib/../../x", "/lib/%2e%2e/x", "/lib/a/../../../x"] {
            let resource = named().resource(path).unwrap();
            assert_eq!(resource.target.expose(), "/x", "{path}");
        }
    }

    #[test]
    fn the_nearest_of_nested_origins_is_taken() {
        let resource = named()
            .resource("https://media.example.org/library/hd/a")
            .unwrap();
        assert_eq!((resource.key.origin(), resource.key.path()), ("hd", "/a"));
    }

    #[test]
    fn trap17_a_signature_is_sent_and_not_part_of_the_entry() {
        let mounts = mounts(&[("", "https://cdn.example.org/")]);
        let one = mounts.resource("/a?v=1&token=hunter2").unwrap();
        let other = mounts.resource("/a?v=1&token=hunter3").unwrap();
        assert_eq!(one.key, other.key);
        assert_eq!(one.target.expose(), "/a?v=1&token=hunter2");
        assert!(!format!("{one:?}").contains("hunter2"));
    }

    #[test]
    fn what_lies_under_no_origin_is_told_which_there_are() {
        let error = named()
            .resource("https://elsewhere.example.org/a?sig=hunter2")
            .unwrap_err();
        assert_eq!(
            error.message(),
            "that URL lies under no origin of this cache; there is /hd/ (https://media.example.org/library/hd/), \
             /lib/ (https://media.example.org/library/)"
        );
        let error = named().resource("/other/a?sig=hunter2").unwrap_err();
        assert!(
            error
                .message()
                .starts_with("`/other/a` lies under no origin")
        );
        let error = named().resource("film.mkv").unwrap_err();
        assert!(error.message().contains("a path begins with `/`"));
        assert!(
            named()
                .resource("/lib")
                .unwrap_err()
                .message()
                .contains("names an origin")
        );
    }

    #[test]
    fn a_path_names_also_what_came_of_an_origin_that_is_not_in_use() {
        let key = |text, origin| named().former_key(text, origin).map(|key| key.to_string());
        assert_eq!(key("/films/a b", ""), Some("/films/a%20b".to_owned()));
        assert_eq!(
            key("/old/a?v=1&token=x", "old"),
            Some("/old/a?…".to_owned())
        );
        for (text, origin) in [
            ("/lib/a", "lib"),
            ("/older/a", "old"),
            ("/old", "old"),
            ("https://h/a", ""),
            ("a", ""),
        ] {
            assert_eq!(key(text, origin), None, "{text} at {origin:?}");
        }
    }

    #[test]
    fn named_and_unnamed_origins_exclude_each_other() {
        let url = || OriginUrl::parse("http://h/").unwrap();
        let both = vec![Origin::plain("", url()), Origin::plain("a", url())];
        assert!(
            Mounts::new(both)
                .unwrap_err()
                .message()
                .contains("name each of them")
        );
        let twice = vec![Origin::plain("a", url()), Origin::plain("a", url())];
        assert!(
            Mounts::new(twice)
                .unwrap_err()
                .message()
                .contains("one name")
        );
    }
}
