//! `cargo xtask bench hit`: how fast cached bytes are served, side by side with others that serve them.
//!
//! Server and load generator have one core each. The servers take turns, round by round, so that whatever else the
//! machine does falls upon all of them; every figure of speed is a median of rounds, and the ratios are medians of the
//! ratios within a round.

mod client;
mod disk;
mod frames;
mod load;
mod server;
mod session;
mod table;
mod waits;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::load::{Load, Sample};
use self::server::{Kind, Server};
use self::session::{Certificate, Trust};
use super::options::{self, load_average, named};
use super::origin::{Origin, Rate};
use super::{process, record};
use crate::child::empty_folder;
use crate::chunkd;

const USAGE: &str = "usage: cargo xtask bench hit [--only TEXT] [--peers NAME,NAME | none] [--rounds N] [--seconds S] \
[--debug | --chunkd PROGRAM] [--no-record]
  --only       the cases whose name contains this; docs/benchmarks.md stays as it is
  --peers      of nginx-static, nginx-slice, varnish: those to measure as well; all that are installed unless told
  --rounds     how often each server has its turn, 7 unless told
  --seconds    how long a turn takes, 1 unless told";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Four files of 256 MiB: a page cache holds them easily, a processor's cache does not.
pub(super) const FILES: u64 = 4;
pub(super) const LENGTH: u64 = 256 * MIB;

/// The cores of the server and of the load generator.
pub(super) const SERVER_CORE: usize = 0;
pub(super) const CLIENT_CORE: usize = 1;

/// What is asked for, by how many at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    size: Size,
    connections: usize,
    pages: Pages,
    over: Over,
}

/// What a client and a server speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Plain,
    Tls,
    Http2,
}

/// How much is asked for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Range(u64),
    Whole,
}

/// Whether the pages of the files are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    Cached,
    /// Dropped from the page cache before each turn.
    Dropped,
}

impl Case {
    fn all() -> Vec<Self> {
        let sizes = [
            Size::Range(64 * KIB),
            Size::Range(MIB),
            Size::Range(8 * MIB),
            Size::Whole,
        ];
        let mut cases = Vec::new();
        for connections in [8, 64] {
            for size in sizes {
                cases.push(Self {
                    size,
                    connections,
                    pages: Pages::Cached,
                    over: Over::Plain,
                });
            }
        }
        cases.push(Self {
            size: Size::Range(64 * KIB),
            connections: 8,
            pages: Pages::Dropped,
            over: Over::Plain,
        });
        cases
    }

    /// Those for servers that have a certificate.
    fn secure() -> [Self; 2] {
        [Over::Tls, Over::Http2].map(|over| Self {
            size: Size::Range(MIB),
            connections: 8,
            pages: Pages::Cached,
            over,
        })
    }

    /// What the table calls it.
    pub(super) fn name(self) -> String {
        let size = match self.size {
            Size::Range(length) if length < MIB => format!("{} KiB", length / KIB),
            Size::Range(length) => format!("{} MiB", length / MIB),
            Size::Whole => "whole files".to_owned(),
        };
        let pages = match self.pages {
            Pages::Cached => "",
            Pages::Dropped => ", not in the page cache",
        };
        let over = match self.over {
            Over::Plain => "",
            Over::Tls => ", TLS",
            Over::Http2 => ", TLS and HTTP/2",
        };
        format!("{size}, {} connections{pages}{over}", self.connections)
    }
}

struct Options<'a> {
    only: &'a str,
    peers: Vec<Kind>,
    rounds: usize,
    turn: Duration,
    common: options::Options,
}

/// Runs the table; the exit code is 1 when a target is missed.
pub(super) fn main(args: &[&str]) -> Result<ExitCode> {
    let options = Options::parse(args)?;
    let program = options.common.program()?;
    // Of this run alone: somebody may be measuring something else.
    let folder = chunkd::target_folder()?.join(format!("bench-hit-{}", std::process::id()));
    empty_folder(&folder)?;
    let outcome = run(&options, &program, &folder);
    std::fs::remove_dir_all(&folder)?;
    let (text, verdicts) = outcome?;
    if options.common.is_recorded {
        let circumstances = options.common.circumstances("hit", &program)?;
        record::put("hit", &format!("{circumstances}\n{text}"))?;
    }
    let all = verdicts.met + verdicts.missed;
    println!("bench hit: {} of {all} targets met", verdicts.met);
    Ok(if verdicts.missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run(options: &Options<'_>, program: &Path, folder: &Path) -> Result<(String, table::Verdicts)> {
    let origin = Origin::start(LENGTH, Duration::ZERO, Rate::Shared(1 << 40))?;
    let is_wanted = |case: &Case| case.name().contains(options.only);
    let (mut text, mut verdicts) = (String::new(), table::Verdicts::default());
    let mut add = |(lines, judged): (String, table::Verdicts)| {
        text.push_str(&lines);
        verdicts.add(judged);
    };
    if Case::all().iter().any(is_wanted) {
        add(run_plain(options, program, origin.address, folder)?);
    }
    if Case::secure().iter().any(is_wanted) {
        add(run_secure(options, program, origin.address, folder)?);
    }
    Ok((text, verdicts))
}

/// The cases without TLS, of all servers.
fn run_plain(
    options: &Options<'_>,
    program: &Path,
    origin: SocketAddr,
    folder: &Path,
) -> Result<(String, table::Verdicts)> {
    let kinds = std::iter::once(Kind::Chunkd).chain(options.peers.iter().copied());
    let servers = start_filled(kinds, None, program, origin, folder)?;
    let load_before = load_average();
    let mut text = format!(
        "Medians of {} rounds of {:.1} s, the servers one after the other in each; load average {load_before} before; the \
         system's congestion control is {}. Beside it: {}.\n\n",
        options.rounds,
        options.turn.as_secs_f64(),
        congestion_control(),
        servers[1..]
            .iter()
            .map(Server::version)
            .collect::<Vec<_>>()
            .join("; "),
    );
    let heading = table::heading(&servers);
    print!("{heading}");
    text.push_str(&heading);
    let mut verdicts = table::Verdicts::default();
    process::pin(CLIENT_CORE)?;
    for case in Case::all() {
        if !case.name().contains(options.only) {
            continue;
        }
        let (samples, disk) = measure(case, &servers, None, options)?;
        let (lines, judged) = table::lines(case, &servers, &samples, disk);
        print!("{lines}");
        text.push_str(&lines);
        verdicts.add(judged);
    }
    let (lines, judged) = table::memory(&servers)?;
    print!("{lines}");
    text.push_str(&lines);
    verdicts.add(judged);
    Ok((text, verdicts))
}

/// The cases with TLS, of chunkd and of nginx with plain files, each with the same certificate.
fn run_secure(
    options: &Options<'_>,
    program: &Path,
    origin: SocketAddr,
    folder: &Path,
) -> Result<(String, table::Verdicts)> {
    let (mut text, mut verdicts) = (String::new(), table::Verdicts::default());
    let certificate = Certificate::make()?;
    let is_asked = |kind: &Kind| *kind == Kind::Chunkd || options.peers.contains(kind);
    let kinds = [Kind::Chunkd, Kind::NginxStatic]
        .into_iter()
        .filter(is_asked);
    let folder = folder.join("secure");
    let servers = start_filled(kinds, Some(&certificate), program, origin, &folder)?;
    process::pin(CLIENT_CORE)?;
    text.push_str("\nWith a certificate; all use TLS 1.3 with TLS_AES_128_GCM_SHA256.\n\n");
    text.push_str(&table::heading(&servers));
    print!("{text}");
    for case in Case::secure() {
        if !case.name().contains(options.only) {
            continue;
        }
        let trust = certificate.trusted(match case.over {
            Over::Http2 => "h2",
            Over::Plain | Over::Tls => "http/1.1",
        })?;
        let (samples, disk) = measure(case, &servers, Some(&trust), options)?;
        let (lines, judged) = table::lines(case, &servers, &samples, disk);
        print!("{lines}");
        text.push_str(&lines);
        verdicts.add(judged);
    }
    Ok((text, verdicts))
}

/// Those servers that are installed, each with all of the origin's files.
fn start_filled(
    kinds: impl Iterator<Item = Kind>,
    certificate: Option<&Certificate>,
    program: &Path,
    origin: SocketAddr,
    folder: &Path,
) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for kind in kinds {
        let folder = folder.join(kind.name());
        match Server::start(kind, program, origin, &folder, certificate)? {
            Some(server) => servers.push(server),
            None => println!("{} is not installed and is left out", kind.name()),
        }
    }
    let trust = certificate.map(|certificate| certificate.trusted("http/1.1"));
    let trust = trust.transpose()?;
    for server in &servers {
        server
            .fill(trust.as_ref())
            .with_context(|| format!("filling {}", server.kind.name()))?;
    }
    // What is still on its way to the disk would take the servers' time.
    rustix::fs::sync();
    Ok(servers)
}

/// What servers get that do not choose: one that keeps a pace takes processor time for it.
fn congestion_control() -> String {
    let chosen = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    chosen.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// What each server did in each round; and how long the disk took by itself, where it is needed.
fn measure(
    case: Case,
    servers: &[Server],
    trust: Option<&Trust>,
    options: &Options<'_>,
) -> Result<(Vec<Vec<Sample>>, Vec<Duration>)> {
    let mut samples: Vec<Vec<Sample>> = servers.iter().map(|_| Vec::new()).collect();
    let mut disk = Vec::new();
    for round in 0..options.rounds {
        for (server, samples) in servers.iter().zip(&mut samples) {
            if case.pages == Pages::Dropped {
                server.drop_pages()?;
            }
            let sample = Load::new(server.address, trust, case, round as u64)
                .and_then(|load| load.run(&server.process, options.turn))
                .with_context(|| format!("{} at `{}`", server.kind.name(), case.name()))?;
            samples.push(sample);
        }
        if let (Pages::Dropped, Size::Range(piece), Some(first)) =
            (case.pages, case.size, servers.first())
        {
            first.drop_pages()?;
            let (files, at_once) = (first.films()?, case.connections);
            disk.extend(disk::read(
                &files,
                at_once,
                piece,
                options.turn,
                round as u64,
            )?);
        }
    }
    Ok((samples, disk))
}

impl<'a> Options<'a> {
    fn parse(args: &[&'a str]) -> Result<Self> {
        let mut options = Options {
            only: "",
            peers: Kind::PEERS.into(),
            rounds: 7,
            turn: Duration::from_secs(1),
            common: options::Options::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if options.common.take(arg, &mut args)? {
                continue;
            }
            let mut value = || args.next().copied().with_context(usage);
            match *arg {
                "--only" => {
                    options.only = value()?;
                    options.common.is_recorded = false;
                }
                "--peers" => options.peers = named(value()?, Kind::by_name).with_context(usage)?,
                "--rounds" => {
                    options.rounds = value()?.parse().context("--rounds takes a number")?
                }
                "--seconds" => {
                    let seconds: f64 = value()?.parse().context("--seconds takes a number")?;
                    options.turn = Duration::try_from_secs_f64(seconds)?;
                }
                _ => bail!(usage()),
            }
        }
        if options.rounds == 0 {
            bail!("--rounds takes at least 1");
        }
        Ok(options)
    }
}

fn usage() -> String {
    format!("{USAGE}\n{}", options::USAGE)
}
