//! How the caches of others are set up: as their manuals advise for large files, without tuning to this line.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

/// What the document says about each of them.
pub(super) const CONFIGURATIONS: &str = "nginx: `slice 1m`, `proxy_cache_lock on`, upstream connections kept alive. \
Varnish: `-s malloc,2G`, otherwise as it comes. rclone: `serve http` over an `http` remote, \
`--vfs-cache-mode full`, the listing read beforehand.";

/// One process in the foreground: what we start is what we end.
pub(super) fn nginx(
    command: &mut Command,
    address: SocketAddr,
    origin: SocketAddr,
    folder: &Path,
) -> Result<()> {
    let configuration = folder.join("nginx.conf");
    let place = folder.display();
    fs::write(
        &configuration,
        format!(
            r#"daemon off;
master_process off;
pid "{place}/nginx.pid";
events {{ worker_connections 1024; }}
http {{
    access_log off;
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
            slice 1m;
            proxy_cache films;
            proxy_cache_key $uri$is_args$args$slice_range;
            proxy_set_header Range $slice_range;
            proxy_set_header Connection "";
            proxy_http_version 1.1;
            proxy_cache_valid 200 206 1h;
            proxy_cache_lock on;
            proxy_pass http://origin;
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

pub(super) fn rclone(
    command: &mut Command,
    address: SocketAddr,
    origin: SocketAddr,
    folder: &Path,
) {
    command
        .args(["serve", "http", ":http:"])
        .args(["--http-url", &format!("http://{origin}/")])
        .args(["--addr", &address.to_string()])
        .args(["--vfs-cache-mode", "full"])
        .arg("--cache-dir")
        .arg(folder.join("cache"))
        // No settings file of this machine takes part.
        .args(["--config", "/dev/null"]);
}
