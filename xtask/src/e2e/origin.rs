//! A real media server as origin: nginx with a configuration, ports and a log of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::child::{Guard, free_address, wait_until};
use crate::http::Get;

/// Bytes per second and connection below `/slow/`.
pub(crate) const SLOW_RATE: u64 = 1 << 20;

/// The origin, with a log in which bodies are counted.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    log: PathBuf,
    _guard: Guard,
}

/// What the origin sent since some moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Requests whose answer had a body.
    pub(crate) bodies: u64,
    pub(crate) bytes: u64,
}

impl Origin {
    /// Serves the films at `/`, and slowly at `/slow/`.
    pub(crate) fn start(nginx: &Path, films: &Path, folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let log = folder.join("access.log");
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, configure(address, films, folder, &log))?;
        let mut command = Command::new(nginx);
        command
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&configuration)
            .arg("-e")
            .arg(folder.join("nginx-error.log"));
        let mut guard = Guard::start("nginx", &mut command, folder.join("nginx.log"))?;
        guard.wait_for_listener(address, Duration::from_secs(5))?;
        Ok(Self {
            address,
            log,
            _guard: guard,
        })
    }

    /// Everything sent so far, once no answer is on its way any more: nginx logs an answer when it ends.
    pub(crate) fn sent(&self) -> Result<Sent> {
        let settled = wait_until(Duration::from_secs(30), || {
            Ok(self.answers_under_way()? == 0)
        })?;
        if !settled {
            bail!("the origin does not come to rest");
        }
        let log = fs::read_to_string(&self.log)?;
        let mut sent = Sent::default();
        for line in log.lines() {
            let bytes = line
                .split('|')
                .nth(3)
                .context("a strange line in the log")?;
            let bytes: u64 = bytes.parse().context("a strange count in the log")?;
            sent.bytes += bytes;
            sent.bodies += u64::from(bytes > 0);
        }
        Ok(sent)
    }

    /// What was sent since an earlier count.
    pub(crate) fn sent_since(&self, before: Sent) -> Result<Sent> {
        let now = self.sent()?;
        Ok(Sent {
            bodies: now.bodies - before.bodies,
            bytes: now.bytes - before.bytes,
        })
    }

    fn answers_under_way(&self) -> Result<u64> {
        let get = Get {
            server: self.address,
            path: "/-/status",
            range: None,
        };
        let (page, _) = get.fetch(200)?;
        let page = String::from_utf8_lossy(&page).into_owned();
        let writing = page
            .split("Writing:")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .context("nginx has no status page")?;
        // One of them is the answer we are reading.
        Ok(writing.saturating_sub(1))
    }
}

fn configure(address: SocketAddr, films: &Path, folder: &Path, log: &Path) -> String {
    let (films, folder, log) = (films.display(), folder.display(), log.display());
    format!(
        r#"# One process in the foreground: what we start is what we end.
daemon off;
master_process off;
pid "{folder}/nginx.pid";
events {{ worker_connections 512; }}
http {{
    types {{ video/mp4 mp4; video/x-matroska mkv; }}
    log_format counting '$request_method|$uri|$status|$body_bytes_sent|$http_range';
    access_log "{log}" counting;
    client_body_temp_path "{folder}/temp-body";
    proxy_temp_path "{folder}/temp-proxy";
    fastcgi_temp_path "{folder}/temp-fastcgi";
    uwsgi_temp_path "{folder}/temp-uwsgi";
    scgi_temp_path "{folder}/temp-scgi";
    sendfile on;
    server {{
        # A small send buffer, so that what is counted as sent is nearly what was received.
        listen {address} sndbuf=64k;
        root "{films}";
        location /slow/ {{ alias "{films}/"; limit_rate {SLOW_RATE}; }}
        location = /-/status {{ stub_status; access_log off; }}
    }}
}}
"#
    )
}
