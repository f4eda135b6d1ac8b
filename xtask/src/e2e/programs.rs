//! The programs that the end-to-end run drives.

use std::path::PathBuf;

/// All of them, found.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) curl: PathBuf,
    pub(crate) ffmpeg: PathBuf,
    pub(crate) mpv: PathBuf,
    pub(crate) nginx: PathBuf,
}

impl Programs {
    /// Finds the programs, or says which are missing.
    pub(crate) fn find() -> Result<Self, Vec<&'static str>> {
        let mut missing = Vec::new();
        let mut find = |name| {
            find_program(name).unwrap_or_else(|| {
                missing.push(name);
                PathBuf::new()
            })
        };
        let found = Self {
            curl: find("curl"),
            ffmpeg: find("ffmpeg"),
            mpv: find("mpv"),
            nginx: find("nginx"),
        };
        if missing.is_empty() {
            Ok(found)
        } else {
            Err(missing)
        }
    }
}

/// Looks in `PATH` and in the folders of system programs, which `PATH` often leaves out.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}
