//! What `serve` shows to players that connect with TLS, and where that is.

use std::fs;
use std::path::{Path, PathBuf};

use chunk_proxy::{TlsError, TlsIdentity};

use crate::access::beside;
use crate::cli;
use crate::config::ConfigFile;
use crate::failure::{Failure, Outcome};

/// The files with a certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdentityFiles {
    chain: PathBuf,
    key: PathBuf,
}

impl IdentityFiles {
    /// Those that flags or the settings file in `settings` name, if any.
    pub(crate) fn of(
        flags: &cli::Serve,
        file: &ConfigFile,
        settings: &Path,
    ) -> Outcome<Option<Self>> {
        let of_file = |path: &Option<PathBuf>| path.as_ref().map(|path| beside(settings, path));
        let chain = flags.tls_cert.clone().or_else(|| of_file(&file.tls_cert));
        let key = flags.tls_key.clone().or_else(|| of_file(&file.tls_key));
        match (chain, key) {
            (Some(chain), Some(key)) => Ok(Some(Self { chain, key })),
            (None, None) => Ok(None),
            (Some(chain), None) => Err(Failure::usage(format!(
                "tls_cert is given without tls_key; say --tls-key FILE, which may be {} where it holds both",
                chain.display()
            ))),
            (None, Some(_)) => Err(Failure::usage(
                "tls_key is given without tls_cert; say --tls-cert FILE with the certificate that the key belongs to",
            )),
        }
    }

    /// What is in them.
    pub(crate) fn read(&self) -> Outcome<TlsIdentity> {
        let read = |name: &str, path: &Path, what: &str| {
            fs::read(path).map_err(|error| {
                Failure::usage(format!(
                    "{name}: cannot read {}: {error}; it must hold {what} in PEM",
                    path.display()
                ))
            })
        };
        let chain = read("tls_cert", &self.chain, "the server's certificate")?;
        let key = read("tls_key", &self.key, "the certificate's private key")?;
        TlsIdentity::from_pem(&chain, &key).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &TlsError) -> Failure {
        let (chain, key) = (self.chain.display(), self.key.display());
        Failure::usage(match error {
            TlsError::OtherKey => format!(
                "tls_key: the private key in {key} is not that of the first certificate in {chain}; the key must be the \
                 one that the certificate was made for, and the server's own certificate must be the first"
            ),
            TlsError::NoKey | TlsError::BadKey => format!(
                "tls_key: {key}: {error}; it must hold the certificate's private key in PEM, which is not encrypted: \
                 `-----BEGIN PRIVATE KEY-----`"
            ),
            _ => format!(
                "tls_cert: {chain}: {error}; it must hold the server's certificate in PEM, and after it those that lead \
                 to one that players trust: `-----BEGIN CERTIFICATE-----`"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn files(line: &str, file: &str) -> Outcome<Option<IdentityFiles>> {
        let line = format!("chunkd serve {line}");
        let cli = cli::Cli::try_parse_from(line.split_whitespace()).unwrap();
        let cli::Command::Serve(flags) = cli.command else {
            panic!("it is serve");
        };
        let file = ConfigFile::parse(file).unwrap();
        IdentityFiles::of(&flags, &file, Path::new("/etc/chunkd/config.toml"))
    }

    fn both(chain: &str, key: &str) -> Outcome<Option<IdentityFiles>> {
        Ok(Some(IdentityFiles {
            chain: chain.into(),
            key: key.into(),
        }))
    }

    #[test]
    fn flags_win_and_paths_of_the_file_begin_at_its_folder() {
        let file = "tls_cert = \"a.pem\"\ntls_key = \"/k.pem\"";
        assert_eq!(files("", file), both("/etc/chunkd/a.pem", "/k.pem"));
        assert_eq!(files("--tls-cert b.pem", file), both("b.pem", "/k.pem"));
        assert_eq!(files("", ""), Ok(None));
    }

    #[test]
    fn one_without_the_other_says_what_is_missing() {
        let error = |line: &str| files(line, "").unwrap_err().to_string();
        assert_eq!(
            error("--tls-cert a.pem"),
            "tls_cert is given without tls_key; say --tls-key FILE, which may be a.pem where it holds both"
        );
        assert_eq!(
            error("--tls-key a.pem"),
            "tls_key is given without tls_cert; say --tls-cert FILE with the certificate that the key belongs to"
        );
    }
}
