//! Those who serve: chunkd, nginx with plain files, nginx with its slice cache, Varnish.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::Advice;

use super::client::Client;
use super::session::{Certificate, Trust};
use super::{FILES, LENGTH, SERVER_CORE};
use crate::bench::origin::fill;
use crate::bench::peers::{self, Nginx};
use crate::bench::process::{Process, pin};
use crate::child::{Guard, free_address};
use crate::chunkd::Chunkd;
use crate::e2e::programs::find_program;

/// The sorts of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Chunkd,
    NginxStatic,
    NginxSlice,
    Varnish,
}

/// A running server, which ends with this value.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    pub(super) process: Process,
    program: PathBuf,
    /// Everything that it keeps on disk.
    folder: PathBuf,
    _guard: Guard,
}

impl Kind {
    /// Whom chunkd is compared with; it is nginx with plain files that sets the targets.
    pub(super) const PEERS: [Self; 3] = [Self::NginxStatic, Self::NginxSlice, Self::Varnish];

    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::PEERS.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Chunkd => "chunkd",
            Self::NginxStatic => "nginx-static",
            Self::NginxSlice => "nginx-slice",
            Self::Varnish => "varnish",
        }
    }
}

/// A certificate and its key, in a server's folder.
const CHAIN: &str = "chain.pem";
const KEY: &str = "key.pem";

/// What is smaller is an index, a log, or the like.
const FILM: u64 = 8 << 20;

/// The path of one of the files.
pub(super) fn path(file: u64) -> String {
    format!("/film-{file}.mp4")
}

impl Server {
    /// Starts it on its core; `None` where it is not installed.
    ///
    /// With a certificate it is one for clients with TLS.
    pub(super) fn start(
        kind: Kind,
        chunkd: &Path,
        origin: SocketAddr,
        folder: &Path,
        certificate: Option<&Certificate>,
    ) -> Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        if let Some(certificate) = certificate {
            fs::write(folder.join(CHAIN), &certificate.chain)?;
            fs::write(folder.join(KEY), &certificate.key)?;
        }
        let is_secure = certificate.is_some();
        let program = match kind {
            Kind::Chunkd => Some(chunkd.to_owned()),
            Kind::NginxStatic | Kind::NginxSlice => find_program("nginx"),
            Kind::Varnish => find_program("varnishd"),
        };
        let Some(program) = program else {
            return Ok(None);
        };
        // What is started inherits the core, and chunkd makes as many workers as it has cores.
        let before = rustix::thread::sched_getaffinity(None)?;
        pin(SERVER_CORE)?;
        let started = Self::launch(kind, &program, origin, folder, is_secure);
        rustix::thread::sched_setaffinity(None, &before)?;
        let (address, guard) = started?;
        Ok(Some(Self {
            kind,
            address,
            process: Process { id: guard.id() },
            program,
            folder: folder.to_owned(),
            _guard: guard,
        }))
    }

    fn launch(
        kind: Kind,
        program: &Path,
        origin: SocketAddr,
        folder: &Path,
        is_secure: bool,
    ) -> Result<(SocketAddr, Guard)> {
        let mut command = Command::new(program);
        let address = match kind {
            Kind::Chunkd => {
                let files = [CHAIN, KEY].map(|name| folder.join(name).display().to_string());
                let secure = ["--tls-cert", &files[0], "--tls-key", &files[1]];
                let args: &[&str] = if is_secure { &secure } else { &[] };
                let serving = Chunkd::new(program, folder).serve_with(origin, args)?;
                let serving = serving.started()?;
                return Ok((serving.address, serving.guard));
            }
            Kind::NginxStatic | Kind::NginxSlice | Kind::Varnish => free_address()?,
        };
        match kind {
            Kind::NginxStatic | Kind::NginxSlice => {
                let place = folder.display().to_string();
                let files = STATIC.replace("FOLDER", &place);
                Nginx {
                    address,
                    origin,
                    folder,
                    settings: SETTINGS,
                    secure: is_secure.then_some((CHAIN, KEY)),
                    location: if kind == Kind::NginxStatic {
                        &files
                    } else {
                        peers::SLICE
                    },
                }
                .configure(&mut command)?;
            }
            Kind::Chunkd | Kind::Varnish => {
                peers::varnish(&mut command, address, origin, folder);
                // Half of a case's first turn would go by in starting threads.
                command.args(["-p", "thread_pool_min=80"]);
            }
        }
        let mut guard = Guard::start(kind.name(), &mut command, folder.join("log"))?;
        guard.wait_for_listener(address, Duration::from_secs(20))?;
        Ok((address, guard))
    }

    /// The version, as the program says it, and how it is set up.
    pub(super) fn version(&self) -> String {
        let (argument, settings) = match self.kind {
            Kind::Chunkd => ("--version", ""),
            Kind::NginxStatic => ("-v", " with plain files and `sendfile on`"),
            Kind::NginxSlice => ("-v", " with `slice 1m` and `sendfile on`"),
            Kind::Varnish => ("-V", " with `-s malloc,2G`"),
        };
        format!("{}{settings}", peers::version(&self.program, argument))
    }

    /// Brings all files into the cache, and compares every byte that comes through.
    pub(super) fn fill(&self, trust: Option<&Trust>) -> Result<()> {
        if self.kind == Kind::NginxStatic {
            return write_files(&self.folder.join("files"));
        }
        let mut client = Client::connect(self.address, trust)?;
        (0..FILES).try_for_each(|file| client.get_whole(file))
    }

    /// Takes the pages of everything that it keeps on disk out of the page cache.
    pub(super) fn drop_pages(&self) -> Result<()> {
        // A page that is not on disk yet stays.
        rustix::fs::sync();
        for path in files_below(&self.folder)? {
            // A file that was removed meanwhile has no pages.
            let Ok(file) = fs::File::open(path) else {
                continue;
            };
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    /// Those files of it that are mostly films.
    pub(super) fn films(&self) -> Result<Vec<PathBuf>> {
        let mut files = files_below(&self.folder)?;
        files.retain(|path| fs::metadata(path).is_ok_and(|found| found.len() >= FILM));
        Ok(files)
    }
}

/// All files below a folder.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// What the others get from the origin.
fn write_files(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let first = folder.join(path(0).trim_start_matches('/'));
    let mut file = fs::File::create(&first)?;
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    while at < LENGTH {
        fill(&mut piece, at);
        std::io::Write::write_all(&mut file, &piece)?;
        at += piece.len() as u64;
    }
    for number in 1..FILES {
        let copy = folder.join(path(number).trim_start_matches('/'));
        fs::copy(&first, copy).context("copying a film")?;
    }
    Ok(())
}

const STATIC: &str = "root FOLDER/files;";

/// Files are kept open, and connections for as long as a turn takes.
const SETTINGS: &str = "sendfile on; open_file_cache max=4096; keepalive_requests 100000000;";
