//! The films that are played, made by ffmpeg and kept between runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::output;

/// One film on the disk.
#[derive(Debug)]
pub(crate) struct Film {
    /// Its name below the origin.
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) seconds: u64,
}

/// Name, length in seconds, and how the container is written.
const FILMS: [(&str, u64, &[&str]); 3] = [
    // The index comes last, as ffmpeg and most cameras write it: a player must seek to the end first.
    ("index-at-the-end.mp4", 90, &["-f", "mp4"]),
    (
        "faststart.mp4",
        75,
        &["-f", "mp4", "-movflags", "+faststart"],
    ),
    ("matroska.mkv", 60, &["-f", "matroska"]),
];

/// Makes the films that are not there yet and reads all of them.
pub(crate) fn make(ffmpeg: &Path, folder: &Path) -> Result<Vec<Film>> {
    fs::create_dir_all(folder)?;
    let mut source = None;
    let mut films = Vec::new();
    for (name, seconds, container) in FILMS {
        let path = folder.join(name);
        if !path.exists() {
            if source.is_none() {
                source = Some(encode(ffmpeg, folder)?);
            }
            let source = source.as_deref().context("no source film")?;
            let mut command = quiet(ffmpeg);
            command
                .arg("-i")
                .arg(source)
                .args(["-t", &seconds.to_string(), "-c", "copy"])
                .args(container);
            into_file(command, &path)?;
        }
        films.push(Film {
            name,
            bytes: fs::read(&path)?,
            seconds,
        });
    }
    if let Some(source) = source {
        fs::remove_file(source)?;
    }
    Ok(films)
}

/// The source of all films: encoded once, because that is what takes time.
fn encode(ffmpeg: &Path, folder: &Path) -> Result<PathBuf> {
    println!("making the films, once");
    let path = folder.join("source.mkv");
    let mut command = quiet(ffmpeg);
    command
        .args(["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4"])
        .args([
            "-t",
            "92",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "50",
        ])
        // A constant rate: some tens of megabytes in all, spread evenly over the film.
        .args([
            "-b:v", "3500k", "-minrate", "3500k", "-maxrate", "3500k", "-bufsize", "3500k",
        ])
        .args(["-x264-params", "nal-hrd=cbr", "-pix_fmt", "yuv420p"])
        .args(["-c:a", "aac", "-b:a", "128k", "-f", "matroska"]);
    into_file(command, &path)?;
    Ok(path)
}

fn quiet(ffmpeg: &Path) -> Command {
    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-v", "error", "-y"]);
    command
}

/// Writes beside the file and renames, so that a run that was broken off leaves no half film behind.
fn into_file(mut command: Command, path: &Path) -> Result<()> {
    let partial = path.with_extension("partial");
    output(command.arg(&partial))?;
    fs::rename(&partial, path)?;
    Ok(())
}
