//! The program under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::child::{Guard, free_address};
use crate::run::{cargo, run};
use crate::workspace;

/// Where the program is, and where it keeps its cache.
#[derive(Debug)]
pub(crate) struct Chunkd {
    pub(crate) program: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) log: PathBuf,
}

/// A running `chunkd serve`.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) guard: Guard,
}

/// How the program is built.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Profile {
    Debug,
    Release,
}

/// Builds the program and says where it is.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let mut command = cargo(["build", "--package", "chunk-app"]);
    let folder = match profile {
        Profile::Debug => "debug",
        Profile::Release => {
            command.arg("--release");
            "release"
        }
    };
    run(&mut command)?;
    Ok(target_folder()?.join(folder).join("chunkd"))
}

/// Cargo's target folder.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = workspace::metadata()?;
    let folder = metadata["target_directory"].as_str();
    Ok(folder
        .context("cargo metadata has no target folder")?
        .into())
}

impl Serving {
    /// Waits until it serves. It listens before that, so that nobody is refused while the index is opened; who
    /// measures what comes after is not to measure the start.
    pub(crate) fn started(mut self) -> Result<Self> {
        let address = self.address.to_string();
        self.guard
            .wait_for_words(&address, Duration::from_secs(20))?;
        Ok(self)
    }
}

impl Chunkd {
    /// A program with an own cache and log below `folder`.
    pub(crate) fn new(program: &Path, folder: &Path) -> Self {
        Self {
            program: program.to_owned(),
            cache: folder.join("cache"),
            log: folder.join("chunkd.log"),
        }
    }

    /// Serves one origin at `/` and returns as soon as it listens.
    pub(crate) fn serve(&self, origin: SocketAddr) -> Result<Serving> {
        self.serve_with(origin, &[])
    }

    /// The same with further arguments.
    pub(crate) fn serve_with(&self, origin: SocketAddr, args: &[&str]) -> Result<Serving> {
        let address = free_address()?;
        let mut command = self.command();
        command
            .args(["serve", "--origin", &format!("http://{origin}/")])
            .args(["--listen", &address.to_string()])
            .args(args);
        let mut guard = Guard::start("chunkd serve", &mut command, self.log.clone())?;
        guard.wait_for_listener(address, Duration::from_secs(20))?;
        Ok(Serving { address, guard })
    }

    /// Runs one of the other commands to its end.
    pub(crate) fn call(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.command();
        command.args(args).stdin(Stdio::null());
        command
            .output()
            .with_context(|| format!("cannot run chunkd {}", args.join(" ")))
    }

    /// The program with its cache, without arguments yet.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("CHUNKD_CACHE_DIR", &self.cache)
            // The floor that suits a disk of media would refuse to cache on a small machine.
            .env("CHUNKD_MIN_FREE", "64MiB");
        command
    }
}
