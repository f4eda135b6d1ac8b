//! Those who serve: chunkd, nginx with plain files, nginx with its slice cache, Varnish.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::Advice;

use super::process::{Process, pin};
use super::{FILES, LENGTH, SERVER_CORE};
use crate::bench::cold::check;
use crate::bench::origin::fill;
use crate::child::{Guard, free_address};
use crate::chunkd::Chunkd;
use crate::e2e::programs::find_program;
use crate::http::Get;

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

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Chunkd => "chunkd",
            Self::NginxStatic => "nginx-static",
            Self::NginxSlice => "nginx-slice",
            Self::Varnish => "varnish",
        }
    }
}

/// The path of one of the files.
pub(super) fn path(file: u64) -> String {
    format!("/film-{file}.mp4")
}

impl Server {
    /// Starts it on its core; `None` where it is not installed.
    pub(super) fn start(
        kind: Kind,
        chunkd: &Path,
        origin: SocketAddr,
        folder: &Path,
    ) -> Result<Option<Self>> {
        fs::create_dir_all(folder)?;
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
        let started = Self::launch(kind, &program, origin, folder);
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
    ) -> Result<(SocketAddr, Guard)> {
        let mut command = Command::new(program);
        let address = match kind {
            Kind::Chunkd => {
                let serving = Chunkd::new(program, folder).serve(origin)?;
                return Ok((serving.address, serving.guard));
            }
            Kind::NginxStatic | Kind::NginxSlice | Kind::Varnish => free_address()?,
        };
        match kind {
            Kind::NginxStatic => nginx(&mut command, address, origin, folder, STATIC)?,
            Kind::NginxSlice => nginx(&mut command, address, origin, folder, SLICE)?,
            Kind::Chunkd | Kind::Varnish => {
                command
                    .args(["-F", "-j", "none"])
                    .args(["-a", &address.to_string()])
                    .args(["-b", &origin.to_string()])
                    .args(["-s", "malloc,2G"])
                    // Half of a case's first turn would go by in starting threads.
                    .args(["-p", "thread_pool_min=80"])
                    .arg("-n")
                    .arg(folder.join("varnish"));
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
        let said = Command::new(&self.program).arg(argument).output();
        let said = said.map_or_else(|_| Vec::new(), |said| [said.stdout, said.stderr].concat());
        let said = String::from_utf8_lossy(&said).into_owned();
        format!("{}{settings}", said.lines().next().unwrap_or_default())
    }

    /// Brings all files into the cache, and compares every byte that comes through.
    pub(super) fn fill(&self) -> Result<()> {
        if self.kind == Kind::NginxStatic {
            return write_files(&self.folder.join("files"));
        }
        for file in 0..FILES {
            let path = path(file);
            let get = Get {
                server: self.address,
                path: &path,
                range: None,
            };
            let mut answer = get.send()?;
            answer.expect(200)?;
            let mut piece = vec![0; 1 << 20];
            let mut at = 0;
            while at < LENGTH {
                let count = answer.read_some(&mut piece)?;
                check(&piece[..count], at)?;
                at += count as u64;
            }
        }
        Ok(())
    }

    /// Takes the pages of everything that it keeps on disk out of the page cache.
    pub(super) fn drop_pages(&self) -> Result<()> {
        // A page that is not on disk yet stays.
        rustix::fs::sync();
        drop_below(&self.folder)
    }
}

fn drop_below(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            drop_below(&entry.path())?;
        } else if kind.is_file() {
            // A file that was removed meanwhile has no pages.
            let Ok(file) = fs::File::open(entry.path()) else {
                continue;
            };
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
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

const SLICE: &str = r#"slice 1m;
            proxy_cache films;
            proxy_cache_key $uri$is_args$args$slice_range;
            proxy_set_header Range $slice_range;
            proxy_set_header Connection "";
            proxy_http_version 1.1;
            proxy_cache_valid 200 206 1h;
            proxy_cache_lock on;
            proxy_pass http://origin;"#;

/// One process in the foreground: what we start is what we end.
fn nginx(
    command: &mut Command,
    address: SocketAddr,
    origin: SocketAddr,
    folder: &Path,
    location: &str,
) -> Result<()> {
    let configuration = folder.join("nginx.conf");
    let place = folder.display().to_string();
    let location = location.replace("FOLDER", &place);
    fs::write(
        &configuration,
        format!(
            r#"daemon off;
master_process off;
user root;
pid "{place}/nginx.pid";
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    open_file_cache max=4096;
    keepalive_requests 100000000;
    client_body_temp_path "{place}/temp-body";
    proxy_temp_path "{place}/temp-proxy";
    fastcgi_temp_path "{place}/temp-fastcgi";
    uwsgi_temp_path "{place}/temp-uwsgi";
    scgi_temp_path "{place}/temp-scgi";
    proxy_cache_path "{place}/cache" levels=1:2 keys_zone=films:10m max_size=10g use_temp_path=off;
    upstream origin {{ server {origin}; keepalive 64; }}
    server {{
        listen {address};
        location / {{
            {location}
        }}
    }}
}}
"#
        ),
    )?;
    command
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(&configuration)
        .arg("-e")
        .arg(folder.join("error.log"));
    Ok(())
}
