//! The table: speed, processor time, and the wait for the first byte, each beside those of the others.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use super::load::Sample;
use super::server::{Kind, Server};
use super::{Case, Over, Pages, Size};

/// How many times faster than nginx with plain files.
const FASTER: f64 = 1.1;
/// The same for clients with TLS.
const SECURE: f64 = 0.9;
/// The wait for a first byte that is not in the page cache.
const COLD_FIRST_BYTE: Duration = Duration::from_micros(600);
/// How often a thread that serves may be found waiting for a disk.
const WAITING: f64 = 0.001;
/// Anonymous memory with 64 connections at work.
const MEMORY: u64 = 24 << 20;

/// How many targets were met.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Verdicts {
    pub(super) met: usize,
    pub(super) missed: usize,
}

impl Verdicts {
    pub(super) const fn add(&mut self, other: Self) {
        self.met += other.met;
        self.missed += other.missed;
    }

    const fn judge(&mut self, is_met: bool) -> &'static str {
        if is_met {
            self.met += 1;
            "met"
        } else {
            self.missed += 1;
            "MISSED"
        }
    }
}

/// The heading of a table with these servers.
pub(super) fn heading(servers: &[Server]) -> String {
    let mut text = String::from("| case | figure | target | | ratio |");
    for server in servers {
        let _ = write!(text, " {} |", server.kind.name());
    }
    text.push_str("\n|---|---|---|---|---|");
    text.push_str(&"---|".repeat(servers.len()));
    text.push('\n');
    text
}

/// The lines of one case, and how many of its targets were met. The first server is the one that counts. `disk` is how
/// long the disk took by itself.
pub(super) fn lines(
    case: Case,
    servers: &[Server],
    samples: &[Vec<Sample>],
    disk: Vec<Duration>,
) -> (String, Verdicts) {
    let mut text = String::new();
    let mut verdicts = Verdicts::default();
    let is_cold = case.pages == Pages::Dropped;
    let basis = servers
        .iter()
        .position(|server| server.kind == Kind::NginxStatic);
    let each = |show: &dyn Fn(&[Sample]) -> String| {
        let cells = samples.iter().map(|samples| show(samples));
        cells.collect::<Vec<_>>().join(" | ")
    };

    // Varnish keeps its bytes in its own memory, so that nothing of it can be dropped.
    let rivals = servers.iter().zip(samples).skip(1);
    let best_rival = rivals
        .filter(|(server, _)| server.kind != Kind::NginxStatic)
        .filter(|(server, _)| !is_cold || server.kind != Kind::Varnish)
        .map(|(_, samples)| speed(samples))
        .fold(0.0, f64::max);
    let is_plain = case.over == Over::Plain;
    let least = match case.over {
        Over::Plain if is_cold => 1.0,
        Over::Plain => FASTER,
        Over::Tls | Over::Http2 => SECURE,
    };
    let ratio = basis.map(|basis| median_ratio(&samples[0], &samples[basis], Sample::speed));
    let is_met = ratio.is_none_or(|ratio| ratio >= least) && speed(&samples[0]) >= best_rival;
    let _ = writeln!(
        text,
        "| {} | GB/s | ≥ {least} × nginx-static, ≥ the others | {} | {} | {} |",
        case.name(),
        verdicts.judge(is_met),
        shown(ratio),
        each(&|samples| format!("{:.2}", speed(samples))),
    );

    let ratio = basis.map(|basis| cpu(&samples[0]) / cpu(&samples[basis]));
    let (target, verdict) = if is_cold || !is_plain {
        ("", "")
    } else {
        let is_met = ratio.is_none_or(|ratio| ratio <= 1.0);
        ("≤ 1 × nginx-static", verdicts.judge(is_met))
    };
    let _ = writeln!(
        text,
        "|  | CPU seconds per GB | {target} | {verdict} | {} | {} |",
        shown(ratio),
        each(&|samples| format!("{:.3}", cpu(samples))),
    );

    let p99 = percentile(first_bytes(&samples[0]), 99);
    let [disk_middle, disk_late] = [50, 99].map(|part| percentile(disk.clone(), part));
    let (target, verdict) = if is_cold {
        let limit = COLD_FIRST_BYTE.max(disk_late * 11 / 10);
        (
            "p99 ≤ 0.6 ms or 1.1 × the disk's",
            verdicts.judge(p99 <= limit),
        )
    } else {
        ("", "")
    };
    let _ = writeln!(
        text,
        "|  | first byte, p50 / p99 | {target} | {verdict} |  | {} |",
        each(&|samples| {
            let [middle, late] = [50, 99].map(|part| percentile(first_bytes(samples), part));
            // Of whole files, few begin within a turn.
            if case.size == Size::Whole {
                return "–".to_owned();
            }
            format!("{} / {}", milliseconds(middle), milliseconds(late))
        }),
    );
    let _ = writeln!(
        text,
        "|  | load generator's core in use |  |  |  | {} |",
        each(&|samples| format!(
            "{:.0} %",
            100.0 * median(samples.iter().map(Sample::client_share))
        )),
    );
    if is_cold {
        let _ = writeln!(
            text,
            "|  | the disk by itself, {} reads at once, p50 / p99 |  |  |  | {} / {} |{}",
            case.connections,
            milliseconds(disk_middle),
            milliseconds(disk_late),
            "  |".repeat(samples.len().saturating_sub(1)),
        );
        let share = waiting(&samples[0]);
        let _ = writeln!(
            text,
            "|  | looks that found a serving thread waiting for a disk | ≤ {:.1} % | {} |  | {} |",
            100.0 * WAITING,
            verdicts.judge(share <= WAITING),
            each(&|samples| format!("{:.2} %", 100.0 * waiting(samples))),
        );
    }
    if case.connections == 64 {
        let most = |samples: &[Sample]| {
            let most = samples.iter().map(|sample| sample.anonymous).max();
            most.unwrap_or_default()
        };
        let _ = writeln!(
            text,
            "|  | anonymous memory | ≤ {} | {} |  | {} |",
            mebibytes(MEMORY),
            verdicts.judge(most(&samples[0]) <= MEMORY),
            each(&|samples| mebibytes(most(samples))),
        );
    }
    (text, verdicts)
}

/// The line about memory when all is over.
pub(super) fn memory(servers: &[Server]) -> Result<(String, Verdicts)> {
    let mut text = String::from("| after all of it | anonymous memory |  |  |  |");
    for server in servers {
        let _ = write!(text, " {} |", mebibytes(server.process.anonymous()?));
    }
    text.push('\n');
    Ok((text, Verdicts::default()))
}

impl Sample {
    /// In gigabytes a second.
    #[expect(clippy::cast_precision_loss, reason = "bytes here are far below 2^52")]
    fn speed(&self) -> f64 {
        self.bytes as f64 / self.elapsed / 1e9
    }

    fn client_share(&self) -> f64 {
        self.client / self.elapsed
    }
}

fn speed(samples: &[Sample]) -> f64 {
    median(samples.iter().map(Sample::speed))
}

/// Over all rounds, since the kernel counts in steps of a hundredth of a second.
#[expect(clippy::cast_precision_loss, reason = "bytes here are far below 2^52")]
fn cpu(samples: &[Sample]) -> f64 {
    let seconds: f64 = samples.iter().map(|sample| sample.server).sum();
    let bytes: u64 = samples.iter().map(|sample| sample.bytes).sum();
    seconds / (bytes.max(1) as f64 / 1e9)
}

/// The share of looks that found somebody waiting.
fn waiting(samples: &[Sample]) -> f64 {
    let looks: u32 = samples.iter().map(|sample| sample.waits.looks).sum();
    let found: u32 = samples.iter().map(|sample| sample.waits.found).sum();
    f64::from(found) / f64::from(looks.max(1))
}

/// Round by round, since both had the same neighbours in a round.
fn median_ratio(of: &[Sample], to: &[Sample], figure: fn(&Sample) -> f64) -> f64 {
    median(of.iter().zip(to).map(|(of, to)| figure(of) / figure(to)))
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

fn first_bytes(samples: &[Sample]) -> Vec<Duration> {
    let each = samples.iter().map(|sample| &sample.first_bytes);
    each.flatten().copied().collect()
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

fn shown(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "bytes here are far below 2^52")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
