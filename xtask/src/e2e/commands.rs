//! The other commands, beside a running `serve` and without one.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::films::Film;
use super::origin::Origin;
use super::playback::whole_file;
use crate::chunkd::Chunkd;

/// The commands in an order in which each is visible in the next.
#[derive(Debug)]
pub(crate) struct Commands<'a> {
    pub(crate) chunkd: &'a Chunkd,
    pub(crate) origin: &'a Origin,
    pub(crate) curl: &'a Path,
    pub(crate) films: &'a [Film],
    /// The one that is pinned, evicted and fetched.
    pub(crate) film: &'a Film,
}

impl Commands<'_> {
    /// `fetch` makes a film that is not cached ready to be played without the origin.
    pub(crate) fn fetch(&self, server: SocketAddr) -> Result<String> {
        self.succeeds(&["evict", &self.path()])?;
        self.succeeds(&["fetch", &self.path(), "--json"])?;
        let before = self.origin.sent()?;
        whole_file(self.curl, server, &self.path(), self.film)?;
        let sent = self.origin.sent_since(before)?;
        if sent.bodies > 0 {
            bail!(
                "after the fetch, playing made the origin send {} bytes",
                sent.bytes
            );
        }
        Ok("afterwards the origin sent nothing".to_owned())
    }

    /// `status --json` is JSON and knows the film.
    pub(crate) fn status(&self) -> Result<String> {
        let output = self.succeeds(&["status", "--json"])?;
        let status: Value = serde_json::from_str(&output).context("not JSON")?;
        if !output.contains(self.film.name) {
            bail!("{} is not in the status", self.film.name);
        }
        let keys = status.as_object().context("not an object")?.keys();
        Ok(keys.cloned().collect::<Vec<_>>().join(", "))
    }

    /// `status` names the same films without a running `serve` as it did beside one.
    pub(crate) fn status_is_the_same(&self, beside: &[&str]) -> Result<String> {
        let alone = self.films_in_status()?;
        if alone != beside {
            bail!("{alone:?} instead of {beside:?}");
        }
        Ok(alone.join(", "))
    }

    /// The films that `status --json` knows.
    pub(crate) fn films_in_status(&self) -> Result<Vec<&'static str>> {
        let output = self.succeeds(&["status", "--json"])?;
        let names = self.films.iter().map(|film| film.name);
        Ok(names.filter(|name| output.contains(name)).collect())
    }

    /// `verify` finds nothing wrong with what it finds.
    pub(crate) fn verify(&self) -> Result<String> {
        let output = self.succeeds(&["verify"])?;
        Ok(output.lines().last().unwrap_or("silent").trim().to_owned())
    }

    /// A pinned film outlives `evict --all`, an unpinned one does not.
    pub(crate) fn pin_and_evict(&self, server: SocketAddr) -> Result<String> {
        self.succeeds(&["pin", &self.path()])?;
        self.succeeds(&["evict", "--all"])?;
        let before = self.origin.sent()?;
        whole_file(self.curl, server, &self.path(), self.film)?;
        let while_pinned = self.origin.sent_since(before)?;
        if while_pinned.bodies > 0 {
            bail!(
                "evicted although pinned: {} bytes came again",
                while_pinned.bytes
            );
        }
        self.succeeds(&["unpin", &self.path()])?;
        self.succeeds(&["evict", &self.path()])?;
        whole_file(self.curl, server, &self.path(), self.film)?;
        let total = self.film.bytes.len() as u64;
        let after = self.origin.sent_since(before)?;
        if after.bytes < total {
            bail!(
                "still there after evict: only {} of {total} bytes came again",
                after.bytes
            );
        }
        Ok(format!(
            "kept while pinned, {} bytes came again after evict",
            after.bytes
        ))
    }

    fn path(&self) -> String {
        format!("/{}", self.film.name)
    }

    fn succeeds(&self, args: &[&str]) -> Result<String> {
        let output = self.chunkd.call(args)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            bail!(
                "chunkd {} ended with {}: {} (its last line of output: {})",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim(),
                said.lines().last().unwrap_or_default()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
