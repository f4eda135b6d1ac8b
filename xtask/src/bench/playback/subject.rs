//! What is measured: chunkd, a direct client, and the caches of others that are installed.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::peers;
use crate::bench::peers::{Nginx, SLICE, varnish, version};
use crate::child::{Guard, free_address};
use crate::chunkd::Chunkd;
use crate::http::Get;

/// One column of the table.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    program: PathBuf,
}

/// The sorts of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Chunkd,
    Nginx,
    Varnish,
    Rclone,
    /// The clients, straight to the origin: what the line and this machine do to any measurement.
    Direct,
}

impl Kind {
    /// Everything chunkd is compared with.
    pub(super) const OTHERS: [Self; 4] = [Self::Direct, Self::Nginx, Self::Varnish, Self::Rclone];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Chunkd => "chunkd",
            Self::Nginx => "nginx",
            Self::Varnish => "varnish",
            Self::Rclone => "rclone",
            Self::Direct => "direct",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::OTHERS.into_iter().find(|kind| kind.name() == name)
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Varnish => "varnishd",
            other => other.name(),
        }
    }
}

/// A subject at work; it ends with this value.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) address: SocketAddr,
    chunkd: Option<Chunkd>,
    _guard: Option<Guard>,
}

impl Subject {
    pub(super) fn chunkd(program: &Path) -> Self {
        Self {
            kind: Kind::Chunkd,
            program: program.to_owned(),
        }
    }

    /// One of the others, if it is installed.
    pub(super) fn find(kind: Kind) -> Option<Self> {
        let program = if kind == Kind::Direct {
            PathBuf::new()
        } else {
            crate::e2e::programs::find_program(kind.program())?
        };
        Some(Self { kind, program })
    }

    /// The version, as the program says it.
    pub(super) fn version(&self) -> String {
        let argument = match self.kind {
            Kind::Direct => return "a direct client".to_owned(),
            Kind::Chunkd => "--version",
            Kind::Nginx => "-v",
            Kind::Varnish => "-V",
            Kind::Rclone => "version",
        };
        version(&self.program, argument)
    }

    /// Starts it in front of an origin, with nothing cached, in an empty folder.
    pub(super) fn serve(
        &self,
        origin: SocketAddr,
        folder: &Path,
        chunk_size: &str,
    ) -> Result<Serving> {
        fs::create_dir_all(folder)?;
        let mut command = match self.kind {
            Kind::Direct => {
                return Ok(Serving {
                    address: origin,
                    chunkd: None,
                    _guard: None,
                });
            }
            Kind::Chunkd => {
                let chunkd = Chunkd::new(&self.program, folder);
                let serving = chunkd
                    .serve_with(origin, &["--chunk-size", chunk_size])?
                    .started()?;
                return Ok(Serving {
                    address: serving.address,
                    chunkd: Some(chunkd),
                    _guard: Some(serving.guard),
                });
            }
            Kind::Nginx | Kind::Varnish | Kind::Rclone => Command::new(&self.program),
        };
        let address = free_address()?;
        match self.kind {
            Kind::Nginx => Nginx {
                address,
                origin,
                folder,
                settings: "",
                location: SLICE,
                secure: None,
            }
            .configure(&mut command)?,
            Kind::Varnish => varnish(&mut command, address, origin, folder),
            _ => peers::rclone(&mut command, address, origin, folder),
        }
        let name = self.kind.name();
        let mut guard = Guard::start(name, &mut command, folder.join("log"))?;
        guard.wait_for_listener(address, Duration::from_secs(20))?;
        if self.kind == Kind::Rclone {
            // It reads the folder's listing and the size of every file in it first; that is not what is measured.
            let listing = Get {
                server: address,
                path: "/",
                range: None,
            };
            listing.send()?.expect(200).context("rclone's listing")?;
        }
        Ok(Serving {
            address,
            chunkd: None,
            _guard: Some(guard),
        })
    }
}

impl Serving {
    /// How many bytes the cache holds, where it says so.
    pub(super) fn held(&self) -> Result<Option<u64>> {
        let Some(chunkd) = &self.chunkd else {
            return Ok(None);
        };
        let said = chunkd.call(&["status", "--json"])?;
        let status: serde_json::Value =
            serde_json::from_slice(&said.stdout).context("chunkd status --json")?;
        let entries = status["entries"]
            .as_array()
            .context("a status without entries")?;
        Ok(Some(
            entries
                .iter()
                .filter_map(|entry| entry["readable_bytes"].as_u64())
                .sum(),
        ))
    }

    /// Begins to fetch a whole file into the cache that is being served; ends with the guard.
    pub(super) fn fetch(&self, url: &str, folder: &Path) -> Result<Guard> {
        let chunkd = self.chunkd.as_ref().context("only chunkd can pre-cache")?;
        let mut command = chunkd.command();
        command.args(["fetch", "--json", url]);
        Guard::start("chunkd fetch", &mut command, folder.join("fetch.log"))
    }
}
