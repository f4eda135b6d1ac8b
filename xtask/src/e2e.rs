//! `cargo xtask e2e`: chunkd between a real media server and real players.
//!
//! nginx serves three films made by ffmpeg; curl, ffmpeg and mpv play them through chunkd; what the origin sent is
//! counted in its log. Nothing is installed: what is missing is named. Everything lies below cargo's target folder,
//! listens on ports that the system chose, and ends with the run.

mod commands;
mod crash;
mod damage;
mod films;
mod origin;
mod playback;
pub(crate) mod programs;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use self::commands::Commands;
use self::films::Film;
use self::origin::Origin;
use self::programs::Programs;
use self::report::Report;
use crate::child::empty_folder;
use crate::chunkd::{self, Chunkd, Profile, Serving};

/// The exit code that says: programs are missing, nothing was done.
const MISSING: u8 = 3;

const USAGE: &str = "usage: cargo xtask e2e [--direct] [--debug | --chunkd PROGRAM] [--seed NUMBER]
  --direct   leaves chunkd out and checks the harness itself against nginx
  --debug    a debug build of chunkd instead of a release build
  --chunkd   a program that is there already";

#[derive(Debug)]
struct Options {
    direct: bool,
    profile: Profile,
    program: Option<PathBuf>,
    seed: u64,
}

/// Runs everything; the exit code is 0, 1 (a check failed) or 3 (a program is missing).
pub(crate) fn main(args: &[&str]) -> Result<ExitCode> {
    let options = Options::parse(args)?;
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(missing) => {
            eprintln!("e2e: these programs are missing: {}", missing.join(", "));
            return Ok(ExitCode::from(MISSING));
        }
    };
    let folder = chunkd::target_folder()?.join("e2e");
    let film_folder = folder.join("films");
    let films = films::make(&programs.ffmpeg, &film_folder)?;
    let work = folder.join("run");
    empty_folder(&work)?;
    let origin = Origin::start(&programs.nginx, &film_folder, &work)?;
    let run = Run {
        programs,
        films,
        origin,
        work,
        seed: options.seed,
        report: Report::default(),
    };
    let went_well = if options.direct {
        run.direct()
    } else {
        let program = match options.program {
            Some(program) => program,
            None => chunkd::build(options.profile)?,
        };
        run.through(&program)?
    };
    Ok(if went_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Options {
    fn parse(args: &[&str]) -> Result<Self> {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let mut options = Self {
            direct: false,
            profile: Profile::Release,
            program: None,
            seed: clock.as_secs(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().context(USAGE);
            match *arg {
                "--direct" => options.direct = true,
                "--debug" => options.profile = Profile::Debug,
                "--chunkd" => options.program = Some(std::path::absolute(value()?)?),
                "--seed" => options.seed = value()?.parse().context(USAGE)?,
                _ => bail!("{USAGE}"),
            }
        }
        Ok(options)
    }
}

#[derive(Debug)]
struct Run {
    programs: Programs,
    films: Vec<Film>,
    origin: Origin,
    work: PathBuf,
    seed: u64,
    report: Report,
}

impl Run {
    /// The harness against itself.
    fn direct(mut self) -> bool {
        let server = self.origin.address;
        self.players(server);
        self.report.check("counting", || {
            let before = self.origin.sent()?;
            let film = self.films.first().context("no films")?;
            playback::whole_file(
                &self.programs.curl,
                server,
                &format!("/slow/{}", film.name),
                film,
            )?;
            let sent = self.origin.sent_since(before)?;
            if sent.bodies != 1 || sent.bytes != film.bytes.len() as u64 {
                bail!("{sent:?} instead of one body of {} bytes", film.bytes.len());
            }
            Ok(format!("{} bytes in one body", sent.bytes))
        });
        self.report.close()
    }

    fn through(mut self, program: &Path) -> Result<bool> {
        let folder = self.work.join("play");
        std::fs::create_dir(&folder)?;
        let chunkd = Chunkd::new(program, &folder);
        let mut serving = chunkd.serve(self.origin.address)?;
        // Seeks come first, so that they find the cache cold.
        self.players(serving.address);
        self.second_pass("second-pass", serving.address);
        self.report.check("sigterm", || {
            serving.guard.terminate(Duration::from_secs(15))?;
            Ok("drained and ended".to_owned())
        });
        drop(serving);

        let serving = chunkd.serve(self.origin.address)?;
        self.second_pass("after-restart", serving.address);
        self.commands(&chunkd, serving);

        let folder = self.work.join("crash");
        std::fs::create_dir(&folder)?;
        let crashing = Chunkd::new(program, &folder);
        self.report.check("kill-9", || {
            let film = self.films.first().context("no films")?;
            crash::kill_and_restart(&crashing, &self.origin, &self.programs.curl, film)
        });
        Ok(self.report.close())
    }

    /// What any server of these films must pass.
    fn players(&mut self, server: std::net::SocketAddr) {
        self.report.check("seeks", || {
            playback::random_seeks(server, &self.films, self.seed)
        });
        for film in &self.films {
            self.report.check(&format!("frames {}", film.name), || {
                playback::frames(&self.programs.ffmpeg, server, self.origin.address, film)
            });
            self.report.check(&format!("mpv {}", film.name), || {
                playback::mpv(&self.programs, server, film)
            });
            self.report.check(&format!("whole {}", film.name), || {
                let path = format!("/{}", film.name);
                playback::whole_file(&self.programs.curl, server, &path, film)
            });
        }
    }

    /// Everything once more: the origin sends no body.
    fn second_pass(&mut self, name: &str, server: std::net::SocketAddr) {
        self.report.check(name, || {
            let before = self.origin.sent()?;
            for film in &self.films {
                let path = format!("/{}", film.name);
                playback::whole_file(&self.programs.curl, server, &path, film)?;
                playback::mpv(&self.programs, server, film)?;
            }
            playback::random_seeks(server, &self.films, self.seed + 1)?;
            let sent = self.origin.sent_since(before)?;
            if sent.bodies > 0 {
                bail!(
                    "the origin sent {} bodies with {} bytes",
                    sent.bodies,
                    sent.bytes
                );
            }
            Ok("the origin sent no body".to_owned())
        });
    }

    fn commands(&mut self, chunkd: &Chunkd, mut serving: Serving) {
        let Some(film) = self.films.last() else {
            return;
        };
        let commands = Commands {
            chunkd,
            origin: &self.origin,
            curl: &self.programs.curl,
            films: &self.films,
            film,
        };
        let report = &mut self.report;
        report.check("status", || commands.status());
        report.check("verify", || commands.verify());
        report.check("pin-evict", || commands.pin_and_evict(serving.address));
        report.check("evict-fetch", || commands.fetch(serving.address));
        report.check("same-answers", || {
            let beside = commands.films_in_status()?;
            serving.guard.terminate(Duration::from_secs(15))?;
            commands.verify()?;
            commands.status_is_the_same(&beside)
        });
        // The others were evicted above, so that the largest file belongs to the film that is fetched here.
        // Nobody may hold the folder when its files are damaged, however the checks before went.
        drop(serving);
        report.check("damage", || damage::found_and_refetched(&commands));
    }
}
