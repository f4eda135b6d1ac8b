//! What it takes to ask an origin: where its secrets come from, and reading them when they are needed.
//!
//! A source names a place, never a value, so that it can be written down. Only who asks origins reads what is
//! there: a command that only looks at the cache needs no token.

use std::path::{Path, PathBuf};

use chunk_ports::Secret;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigFile, HeaderValue, OriginTable};
use crate::failure::{Failure, Outcome};
use crate::origin::Origin;
use crate::origin_url::OriginUrl;

/// Where the value of a request field comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum HeaderSource {
    /// An environment variable.
    Env { env: String },
    /// A file's content, without the line break at its end.
    File { file: PathBuf },
    /// It is written out in a settings file.
    Settings {
        settings: PathBuf,
        /// What stands there, where this process has read it. May be a secret all the same.
        #[serde(skip)]
        text: Option<Secret>,
    },
}

/// Where the user name and the password in an origin's URL come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoginSource {
    /// The command line, or the variable that stands for it.
    CommandLine,
    /// A settings file.
    Settings(PathBuf),
}

/// Everything that is needed to ask an origin.
#[derive(Debug)]
pub(crate) struct Access {
    /// With user name and password.
    pub(crate) url: Secret,
    pub(crate) headers: Vec<(String, Secret)>,
    /// A PEM file's content.
    pub(crate) ca: Option<Vec<u8>>,
    /// A PEM file's content: certificate and key.
    pub(crate) client_cert: Option<Secret>,
}

impl HeaderSource {
    /// The source that `value` in the settings file `settings` names.
    pub(crate) fn of(value: &HeaderValue, settings: &Path) -> Self {
        match value {
            HeaderValue::Plain(text) => Self::Settings {
                settings: settings.to_owned(),
                text: Some(text.0.clone()),
            },
            HeaderValue::Env { env } => Self::Env { env: env.clone() },
            HeaderValue::File { file } => Self::File {
                file: beside(settings, file),
            },
        }
    }
}

impl Origin {
    /// Reads what is needed to ask it, from `env` and from files.
    pub(crate) fn access(&self, env: &dyn Fn(&str) -> Option<String>) -> Outcome<Access> {
        let wrong = |message: String| Failure::usage(format!("{}: {message}", self.place()));
        let read = |what: &str, file: &Path| {
            std::fs::read(file).map_err(|error| {
                wrong(format!(
                    "cannot read the {what} {}: {error}",
                    file.display()
                ))
            })
        };
        let mut headers = Vec::new();
        for (header, source) in &self.headers {
            let value = match source {
                HeaderSource::Env { env: variable } => Secret::new(env(variable).ok_or_else(|| {
                    wrong(format!(
                        "the header {header} is to come from the environment variable {variable}, which is \
                         not set; set it{}",
                        self.or_say_otherwise()
                    ))
                })?),
                HeaderSource::File { file } => {
                    let content = read(&format!("header {header} from"), file)?;
                    let text = String::from_utf8(content)
                        .map_err(|_| wrong(format!("the file for header {header} is not text")))?;
                    Secret::new(text.trim_end_matches(['\r', '\n']))
                }
                HeaderSource::Settings {
                    text: Some(text), ..
                } => text.clone(),
                HeaderSource::Settings { settings, .. } => {
                    let table = self.table_in(settings)?;
                    match table.headers.get(header) {
                        Some(HeaderValue::Plain(text)) => text.0.clone(),
                        _ => {
                            return Err(wrong(format!(
                                "the header {header} was written out in {}, where it is no more{}",
                                settings.display(),
                                self.or_say_otherwise()
                            )));
                        }
                    }
                }
            };
            headers.push((header.clone(), value));
        }
        let ca = match &self.ca_file {
            Some(file) => Some(read("certificates", file)?),
            None => None,
        };
        let client_cert = match &self.client_cert {
            Some(file) => {
                let pem = String::from_utf8(read("client certificate", file)?)
                    .map_err(|_| wrong("the client certificate is not PEM text".to_owned()))?;
                Some(Secret::new(pem))
            }
            None => None,
        };
        Ok(Access {
            url: self.url_with_login()?,
            headers,
            ca,
            client_cert,
        })
    }

    fn url_with_login(&self) -> Outcome<Secret> {
        if self.url.has_login() {
            return Ok(self.url.to_secret());
        }
        match &self.login {
            None => Ok(self.url.to_secret()),
            Some(LoginSource::CommandLine) => Err(Failure::usage(format!(
                "{}: its URL was given with a user name and a password, which are kept nowhere; say --origin \
                 with them again",
                self.place()
            ))),
            Some(LoginSource::Settings(settings)) => {
                let written = self.table_in(settings)?.parsed_url();
                let written = written.filter(OriginUrl::has_login).ok_or_else(|| {
                    Failure::usage(format!(
                        "{}: the user name and the password of its URL were written in {}, where they are no \
                         more{}",
                        self.place(),
                        settings.display(),
                        self.or_say_otherwise()
                    ))
                })?;
                Ok(self.url.with_login_of(&written).to_secret())
            }
        }
    }

    /// What the settings file says of this origin, as long as it says it of this server: a secret must not
    /// reach another one.
    fn table_in(&self, settings: &Path) -> Outcome<OriginTable> {
        let mut file = ConfigFile::read(settings)?;
        let table = match self.name.as_str() {
            "" => file.origin,
            name => file.origins.remove(name),
        };
        table
            .filter(|table| table.may_be_of(&self.url))
            .ok_or_else(|| {
                Failure::usage(format!(
                    "{}: what it takes to ask it was written in {}, which says nothing of it any more{}",
                    self.place(),
                    settings.display(),
                    self.or_say_otherwise()
                ))
            })
    }

    /// What a message calls it.
    fn place(&self) -> String {
        match self.name.as_str() {
            _ if self.is_recorded => {
                format!("the origin at {}, as it was last used", self.mount())
            }
            "" => "[origin]".to_owned(),
            name => format!("[origins.{name}]"),
        }
    }

    /// The way out besides, where this process was told nothing of the origin.
    const fn or_say_otherwise(&self) -> &'static str {
        if self.is_recorded {
            "; or say with --config FILE how to ask it"
        } else {
            ""
        }
    }
}

/// A path as the settings file `settings` means it, from wherever this process or another runs.
pub(crate) fn beside(settings: &Path, path: &Path) -> PathBuf {
    let folder = settings.parent().unwrap_or(Path::new(""));
    let joined = folder.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(table: &str, settings: &Path) -> Origin {
        std::fs::write(settings, table).unwrap();
        let file = ConfigFile::read(settings).unwrap();
        let table = file.origin.unwrap();
        let url = OriginUrl::parse(table.url.as_ref().unwrap().0.expose()).unwrap();
        Origin::from_table("", url, &table, settings).unwrap()
    }

    fn no_env(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("c.toml");
        let text = "[origin]\nurl = \"http://h/\"\nheaders = { A = { env = \"TOKEN\" } }";
        let mut origin = origin(text, &settings);
        let message = |origin: &Origin| origin.access(&no_env).unwrap_err().message().to_owned();
        assert_eq!(
            message(&origin),
            "[origin]: the header A is to come from the environment variable TOKEN, which is not set; set it"
        );
        origin.is_recorded = true;
        assert_eq!(
            message(&origin),
            "the origin at /, as it was last used: the header A is to come from the environment variable \
             TOKEN, which is not set; set it; or say with --config FILE how to ask it"
        );
        let set = |name: &str| (name == "TOKEN").then(|| "v".to_owned());
        let access = origin.access(&set).unwrap();
        assert_eq!(access.headers[0].1.expose(), "v");
    }

    #[test]
    fn files_are_read_when_they_are_needed_and_found_from_any_folder() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("c.toml");
        let text = "[origin]\nurl = \"http://h/\"\nca_file = \"ca.pem\"\nclient_cert = \"me.pem\"\n\
                    headers = { A = { file = \"key\" } }";
        let origin = origin(text, &settings);
        let error = origin.access(&no_env).unwrap_err();
        let key = folder.path().join("key");
        assert!(
            error.message().contains(&key.display().to_string()),
            "{error}"
        );
        for (name, content) in [("ca.pem", "ca"), ("me.pem", "me"), ("key", "secret\r\n")] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let access = origin.access(&no_env).unwrap();
        assert_eq!(access.headers[0].1.expose(), "secret");
        assert_eq!(access.ca.as_deref(), Some(&b"ca"[..]));
        assert_eq!(access.client_cert.unwrap().expose(), "me");
    }

    #[test]
    fn fault48_what_is_written_out_is_read_again_and_for_the_same_server_only() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("c.toml");
        let text = "[origin]\nurl = \"http://u:hunter2@h/x/\"\nheaders = { A = \"hunter3\" }";
        let mut origin = origin(text, &settings);
        let access = origin.access(&no_env).unwrap();
        assert_eq!(access.url.expose(), "http://u:hunter2@h/x/");
        assert_eq!(access.headers[0].1.expose(), "hunter3");
        // As another process knows it.
        let forget = |origin: &mut Origin, url: &str| {
            origin.url = OriginUrl::parse(url).unwrap();
            for (_, source) in &mut origin.headers {
                if let HeaderSource::Settings { text, .. } = source {
                    *text = None;
                }
            }
        };
        forget(&mut origin, "http://h/x/");
        let access = origin.access(&no_env).unwrap();
        assert_eq!(access.url.expose(), "http://u:hunter2@h/x/");
        assert_eq!(access.headers[0].1.expose(), "hunter3");
        forget(&mut origin, "http://other/x/");
        let error = origin.access(&no_env).unwrap_err();
        assert!(
            error.message().contains("says nothing of it any more"),
            "{error}"
        );
        origin.login = Some(LoginSource::CommandLine);
        origin.headers.clear();
        let error = origin.access(&no_env).unwrap_err();
        assert!(
            error.message().contains("say --origin with them again"),
            "{error}"
        );
    }
}
