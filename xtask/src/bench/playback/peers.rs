//! How the caches of others are set up: as their manuals advise for large files, without tuning to this line.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// What the document says about each of them.
pub(super) const CONFIGURATIONS: &str = "nginx: `slice 1m`, `proxy_cache_lock on`, upstream connections kept alive. \
Varnish: `-s malloc,2G`, otherwise as it comes. rclone: `serve http` over an `http` remote, \
`--vfs-cache-mode full`, the listing read beforehand.";

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
