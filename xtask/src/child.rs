//! Programs that run beside us, ended when their guard goes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often something outside of our process is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A running program. Dropping the guard kills it, and nothing else.
#[derive(Debug)]
pub(crate) struct Guard {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Guard {
    /// Starts a program whose output goes to a file of its own.
    pub(crate) fn start(name: &str, command: &mut Command, log: PathBuf) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until somebody listens at the address.
    pub(crate) fn wait_for_listener(&mut self, address: SocketAddr, limit: Duration) -> Result<()> {
        let listens = wait_until(limit, || {
            Ok(TcpStream::connect(address).is_ok() || self.child.try_wait()?.is_some())
        })?;
        self.check(listens, "listen")
    }

    /// Waits until the program has said something in particular.
    pub(crate) fn wait_for_words(&mut self, words: &str, limit: Duration) -> Result<()> {
        let said = wait_until(limit, || {
            Ok(fs::read_to_string(&self.log)?.contains(words) || self.child.try_wait()?.is_some())
        })?;
        self.check(said, &format!("say `{words}`"))
    }

    /// An error where the program has ended, or did not do what was waited for.
    fn check(&mut self, does: bool, what: &str) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}: {}", self.name, self.last_words());
        }
        if !does {
            bail!("{} does not {what}: {}", self.name, self.last_words());
        }
        Ok(())
    }

    /// Ends the program at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the program to end (SIGTERM) and waits until it has; what it answers is its own matter.
    pub(crate) fn terminate(&mut self, limit: Duration) -> Result<()> {
        // The shell's own `kill` is there on every machine, the program of that name is not.
        let signal = format!("kill -TERM {}", self.child.id());
        crate::run::run(Command::new("sh").args(["-c", &signal]))?;
        if !wait_until(limit, || Ok(self.child.try_wait()?.is_some()))? {
            bail!("{} does not end within {limit:?} of SIGTERM", self.name);
        }
        Ok(())
    }

    /// The end of what the program wrote.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n    ")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself, which is what we want anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on the loopback that nobody uses at the moment.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Looks again and again until something holds; `false` when it did not within the limit.
pub(crate) fn wait_until(limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<bool> {
    let started = Instant::now();
    while !holds()? {
        if started.elapsed() > limit {
            return Ok(false);
        }
        thread::sleep(LOOK_AGAIN);
    }
    Ok(true)
}

/// An empty folder, whatever was there before.
pub(crate) fn empty_folder(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("cannot empty {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}
