//! The record of what the cache folder was last used with, kept in it: a command that finds nobody there does
//! what that process would have done.
//!
//! Everything stands in it in source form: names of variables and paths of files, never what they hold.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::access::{HeaderSource, LoginSource};
use crate::origin::{Mounts, Origin};
use crate::origin_url::OriginUrl;
use crate::settings::Settings;

const FILE: &str = "origins.json";

/// The version written now. The first one had none, and of an origin only its URL and its rules for queries.
const VERSION: u32 = 2;

/// What was recorded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(default)]
    version: u32,
    /// Of the last server; a fetch leaves it alone.
    #[serde(default)]
    pub(crate) shape: Option<Shape>,
    origins: Vec<RecordedOrigin>,
    /// Those that were served earlier and are not in use now. Their entries are still there.
    #[serde(default)]
    former: Vec<RecordedOrigin>,
}

/// Those settings of a server which decide what becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) chunk_size: u64,
    pub(crate) max_downloads: usize,
    /// No cap where `None`.
    pub(crate) max_size: Option<u64>,
    pub(crate) min_free: u64,
    /// In bytes a second; no limit where `None`.
    pub(crate) background_rate: Option<u64>,
    pub(crate) metered: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct RecordedOrigin {
    name: String,
    /// Without user name and password.
    url: String,
    #[serde(default)]
    login: Option<LoginSource>,
    #[serde(default)]
    headers: BTreeMap<String, HeaderSource>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    client_cert: Option<PathBuf>,
    #[serde(default)]
    allow_private: bool,
    #[serde(default)]
    immutable: bool,
    #[serde(default)]
    private_cache: bool,
    #[serde(default)]
    forward_auth: bool,
    /// What a query's identity leaves out, so that a later command names the same entries and keeps no more.
    #[serde(default)]
    signature_parameters: Option<Vec<String>>,
    #[serde(default)]
    background_rate: Option<u64>,
    #[serde(default)]
    hides_queries: bool,
}

impl Record {
    /// What is recorded in `folder`. A record that cannot be read is none.
    pub(crate) fn read(folder: &Path) -> Self {
        std::fs::read(folder.join(FILE))
            .ok()
            .and_then(|json| serde_json::from_slice::<Self>(&json).ok())
            .filter(|record| record.version <= VERSION)
            .unwrap_or_default()
    }

    /// The origins in use.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        let origins = self.origins.iter().filter_map(RecordedOrigin::origin);
        // What somebody has edited into nonsense is no record either.
        match Mounts::new(origins.clone().collect()) {
            Ok(_) => origins.collect(),
            Err(_) => Vec::new(),
        }
    }

    /// The names in `mounts` that stood for another URL until now.
    pub(crate) fn moved(&self, mounts: &Mounts) -> Vec<String> {
        mounts
            .iter()
            .filter(|origin| {
                // What is no URL any more is another one.
                let is_same = |known: &RecordedOrigin| {
                    OriginUrl::parse(&known.url).is_ok_and(|url| url.is_same_place(&origin.url))
                };
                self.all()
                    .any(|known| known.name == origin.name && !is_same(known))
            })
            .map(|origin| origin.name.clone())
            .collect()
    }

    /// The record of a process that uses `mounts` now. What was recorded of others stays known to
    /// [`Self::moved`], since its entries stay too.
    pub(crate) fn with(&self, mounts: &Mounts) -> Self {
        let origins: Vec<_> = mounts.iter().map(RecordedOrigin::of).collect();
        let in_use = |former: &&RecordedOrigin| origins.iter().any(|now| now.name == former.name);
        Self {
            version: VERSION,
            shape: self.shape,
            former: self
                .all()
                .filter(|former| !in_use(former))
                .cloned()
                .collect(),
            origins,
        }
    }

    /// The same, with what shapes the cache.
    pub(crate) const fn shaped(mut self, shape: Shape) -> Self {
        self.shape = Some(shape);
        self
    }

    /// Writes it to `folder`, if it is not what stands there.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        let file = folder.join(FILE);
        if std::fs::read(&file).is_ok_and(|there| there == json) {
            return Ok(());
        }
        // Written beside and renamed, so that a crash leaves the old record or the new one.
        let beside = folder.join("origins.json.new");
        let mut new = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        new.write_all(&json)?;
        new.sync_all()?;
        std::fs::rename(&beside, file)
    }

    fn all(&self) -> impl Iterator<Item = &RecordedOrigin> {
        self.origins.iter().chain(&self.former)
    }
}

impl Shape {
    pub(crate) const fn of(settings: &Settings) -> Self {
        let limits = &settings.limits;
        Self {
            chunk_size: settings.chunk_size.get(),
            max_downloads: limits.max_downloads,
            max_size: limits.max_size,
            min_free: limits.min_free,
            background_rate: limits.background_rate,
            metered: limits.metered,
        }
    }
}

impl RecordedOrigin {
    fn of(origin: &Origin) -> Self {
        Self {
            name: origin.name.clone(),
            url: origin.url.to_string(),
            login: origin.login.clone(),
            headers: origin.headers.iter().cloned().collect(),
            ca_file: origin.ca_file.clone(),
            client_cert: origin.client_cert.clone(),
            allow_private: origin.allow_private,
            immutable: origin.immutable,
            private_cache: origin.private_cache,
            forward_auth: origin.forward_auth,
            signature_parameters: Some(origin.signature_parameters.clone()),
            background_rate: origin.background_rate,
            hides_queries: origin.hides_queries,
        }
    }

    fn origin(&self) -> Option<Origin> {
        let url = OriginUrl::parse(&self.url).ok()?;
        let mut origin = Origin::plain(&self.name, url);
        origin.is_recorded = true;
        origin.login.clone_from(&self.login);
        origin.headers = self.headers.clone().into_iter().collect();
        origin.ca_file.clone_from(&self.ca_file);
        origin.client_cert.clone_from(&self.client_cert);
        origin.allow_private = self.allow_private;
        origin.immutable = self.immutable;
        origin.private_cache = self.private_cache;
        origin.forward_auth = self.forward_auth;
        if let Some(parameters) = &self.signature_parameters {
            origin.signature_parameters.clone_from(parameters);
        }
        origin.background_rate = self.background_rate;
        origin.hides_queries = self.hides_queries;
        Some(origin)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::ConfigFile;

    fn mounts(origins: &[(&str, &str)]) -> Mounts {
        let origins = origins
            .iter()
            .map(|(name, url)| Origin::plain(name, OriginUrl::parse(url).unwrap()));
        Mounts::new(origins.collect()).unwrap()
    }

    fn used(folder: &Path, origins: &[(&str, &str)]) {
        let mounts = mounts(origins);
        Record::read(folder).with(&mounts).write(folder).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let origins = Record::read(folder).origins();
        origins.iter().map(Origin::mount).collect()
    }

    #[test]
    fn mounts_are_known_later_without_credentials() {
        let folder = tempfile::tempdir().unwrap();
        used(
            folder.path(),
            &[("a", "https://u:hunter2@h/x/"), ("b", "http://i/")],
        );
        let file = folder.path().join(FILE);
        assert!(!std::fs::read_to_string(&file).unwrap().contains("hunter2"));
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let known = Record::read(folder.path()).origins();
        let urls: Vec<_> = known.iter().map(|origin| origin.url.to_string()).collect();
        assert_eq!(urls, ["https://h/x/", "http://i/"]);
        // That they are lacking is known, so that nobody asks without them.
        assert_eq!(known[0].login, Some(LoginSource::CommandLine));
        assert_eq!(known[1].login, None);
    }

    #[test]
    fn fault48_everything_that_can_be_set_is_recorded_by_where_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("c.toml");
        let text = "[origins.library]\nurl = \"https://u:hunter2@h/x/\"\n\
            headers = { A = { env = \"TOKEN\" }, B = { file = \"key\" }, C = \"hunter2\" }\n\
            ca_file = \"ca.pem\"\nclient_cert = \"client.pem\"\nallow_private = true\nimmutable = true\n\
            private_cache = true\nauth = \"forward\"\nsignature_parameters = [\"sig\"]\n\
            secret_query = \"all\"\nbackground_rate = \"8Mbit/s\"";
        let file = ConfigFile::parse(text).unwrap();
        let table = &file.origins["library"];
        let url = OriginUrl::parse(table.url.as_ref().unwrap().0.expose()).unwrap();
        let origin = Origin::from_table("library", url, table, &settings).unwrap();
        let given = Mounts::new(vec![origin.clone()]).unwrap();
        Record::default().with(&given).write(folder.path()).unwrap();
        let written = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(!written.contains("hunter2"), "{written}");
        let known = Record::read(folder.path()).origins().remove(0);
        let absolute = |name: &str| Some(folder.path().join(name));
        assert_eq!(known.ca_file, absolute("ca.pem"));
        assert_eq!(known.client_cert, absolute("client.pem"));
        assert_eq!(known.login, Some(LoginSource::Settings(settings.clone())));
        let sources: Vec<_> = known.headers.iter().map(|(_, source)| source).collect();
        assert_eq!(
            sources,
            [
                &HeaderSource::Env {
                    env: "TOKEN".to_owned()
                },
                &HeaderSource::File {
                    file: folder.path().join("key")
                },
                &HeaderSource::Settings {
                    settings,
                    text: None
                },
            ]
        );
        // All but the secrets themselves is as it was, whatever is added to an origin later.
        let mut expected = origin;
        expected.is_recorded = true;
        expected.url = known.url.clone();
        expected.headers.clone_from(&known.headers);
        assert_eq!(format!("{known:?}"), format!("{expected:?}"));
    }

    #[test]
    fn a_record_of_the_first_version_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let first = r#"{"origins": [{"name": "", "url": "http://h/", "signature_parameters": ["sig"],
            "hides_queries": true}], "former": [{"name": "a", "url": "http://i/"}]}"#;
        std::fs::write(folder.path().join(FILE), first).unwrap();
        let record = Record::read(folder.path());
        let known = record.origins().remove(0);
        assert_eq!(known.signature_parameters, ["sig"]);
        assert!(known.hides_queries && !known.allow_private);
        assert_eq!(record.shape, None);
        assert_eq!(record.moved(&mounts(&[("a", "http://j/")])), ["a"]);
    }

    #[test]
    fn a_record_of_a_later_version_or_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        for content in [
            "{",
            r#"{"version": 3, "origins": [{"name": "", "url": "http://h/"}]}"#,
        ] {
            std::fs::write(folder.path().join(FILE), content).unwrap();
            assert!(
                Record::read(folder.path()).origins().is_empty(),
                "{content}"
            );
        }
    }

    #[test]
    fn fault45_a_name_that_stands_for_another_server_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let moved = |origins: &[(&str, &str)]| -> Vec<String> {
            Record::read(folder).moved(&mounts(origins))
        };
        used(folder, &[("", "http://one/")]);
        assert!(moved(&[("", "http://one")]).is_empty());
        assert!(moved(&[("", "http://ONE:80/")]).is_empty());
        for other in ["https://one/", "http://one:81/", "http://one/films/"] {
            assert_eq!(moved(&[("", other)]), [""], "{other}");
        }
        assert_eq!(moved(&[("", "http://two/")]), [""]);
        assert!(moved(&[("a", "http://two/")]).is_empty());
        // A time under other names does not make it forgotten.
        used(folder, &[("a", "http://two/")]);
        assert_eq!(moved(&[("", "http://two/")]), [""]);
        // In use is what was used last.
        used(folder, &[("b", "http://b/")]);
        assert_eq!(names(folder), ["/b/"]);
        used(folder, &[("", "http://one/")]);
        assert_eq!(names(folder), ["/"]);
        assert_eq!(moved(&[("b", "http://c/")]), ["b"]);
        assert_eq!(moved(&[("a", "http://c/")]), ["a"]);
    }

    #[test]
    fn what_shapes_the_cache_stays_what_the_last_server_said() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let shape = Shape {
            chunk_size: 1 << 20,
            max_downloads: 2,
            max_size: None,
            min_free: 7,
            background_rate: Some(9),
            metered: true,
        };
        let served = Record::default().with(&mounts(&[("", "http://one/")]));
        served.shaped(shape).write(folder).unwrap();
        used(folder, &[("", "http://one/")]);
        assert_eq!(Record::read(folder).shape, Some(shape));
    }
}
