//! How the caches of others are set up that several tables compare with.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

/// What makes nginx a cache of ranges.
pub(super) const SLICE: &str = r#"slice 1m;
            proxy_cache films;
            proxy_cache_key $uri$is_args$args$slice_range;
            proxy_set_header Range $slice_range;
            proxy_set_header Connection "";
            proxy_http_version 1.1;
            proxy_cache_valid 200 206 1h;
            proxy_cache_lock on;
            proxy_pass http://origin;"#;

/// Where an nginx stands, and what it does.
#[derive(Debug)]
pub(super) struct Nginx<'a> {
    pub(super) address: SocketAddr,
    pub(super) origin: SocketAddr,
    pub(super) folder: &'a Path,
    /// What stands in `http` besides what each needs; each line ends with a semicolon.
    pub(super) settings: &'a str,
    /// What `/` is.
    pub(super) location: &'a str,
    /// The files in the folder with a certificate and its key, where clients come with TLS.
    pub(super) secure: Option<(&'a str, &'a str)>,
}

impl Nginx<'_> {
    /// One process in the foreground: what we start is what we end.
    pub(super) fn configure(&self, command: &mut Command) -> Result<()> {
        let Self {
            address,
            origin,
            folder,
            settings,
            location,
            secure,
        } = self;
        let configuration = folder.join("nginx.conf");
        let place = folder.display();
        let (with, certificate) = match secure {
            Some((chain, key)) => (
                " ssl http2",
                format!(
                    r#"ssl_certificate "{place}/{chain}"; ssl_certificate_key "{place}/{key}"; ssl_protocols TLSv1.2 TLSv1.3;"#
                ),
            ),
            None => ("", String::new()),
        };
        // As root it would serve files as somebody else, who may not see this folder.
        let user = if rustix::process::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        fs::write(
            &configuration,
            format!(
                r#"daemon off;
master_process off;
{user}
pid "{place}/nginx.pid";
events {{ worker_connections 1024; }}
http {{
    access_log off;
    {settings}
    client_body_temp_path "{place}/temp-body";
    proxy_temp_path "{place}/temp-proxy";
    fastcgi_temp_path "{place}/temp-fastcgi";
    uwsgi_temp_path "{place}/temp-uwsgi";
    scgi_temp_path "{place}/temp-scgi";
    proxy_cache_path "{place}/cache" levels=1:2 keys_zone=films:10m max_size=10g use_temp_path=off;
    upstream origin {{ server {origin}; keepalive 64; }}
    server {{
        listen {address}{with};
        {certificate}
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
}

/// As it comes, but for where it keeps its bytes.
pub(super) fn varnish(
    command: &mut Command,
    address: SocketAddr,
    origin: SocketAddr,
    folder: &Path,
) {
    command
        .args(["-F", "-j", "none"])
        .args(["-a", &address.to_string()])
        .args(["-b", &origin.to_string()])
        .args(["-s", "malloc,2G"])
        .arg("-n")
        .arg(folder.join("varnish"));
}

/// The first line of what a program says when it is asked for its version.
pub(super) fn version(program: &Path, argument: &str) -> String {
    let said = Command::new(program).arg(argument).output();
    let said = said.map_or_else(|_| Vec::new(), |said| [said.stdout, said.stderr].concat());
    let said = String::from_utf8_lossy(&said).into_owned();
    said.lines().next().unwrap_or_default().to_owned()
}
