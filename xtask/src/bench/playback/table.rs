//! Figures with limits and targets, their statistics, and the table of them all.

use std::fmt::Write as _;
use std::time::Duration;

/// A workload: what is done, and what is looked at.
pub(super) struct Workload {
    /// For `--only`.
    pub(super) name: String,
    pub(super) title: String,
    pub(super) figures: Vec<Figure>,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    pub(super) what: &'static str,
    unit: Unit,
    statistic: Statistic,
    /// Which of the workload's samples it is made of.
    pub(super) samples: usize,
    limit: Option<f64>,
    target: Option<Target>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    Megabytes,
    /// How many times something was sent or done.
    Times,
    Percent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statistic {
    Median,
    NinetyFifth,
}

/// One column: a subject's name, and what it measured, figure by figure.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// For each figure its samples over all runs, or why there are none.
    pub(super) samples: Result<Vec<Vec<f64>>, String>,
}

impl Figure {
    const fn new(what: &'static str, unit: Unit, samples: usize) -> Self {
        Self {
            what,
            unit,
            statistic: Statistic::Median,
            samples,
            limit: None,
            target: None,
        }
    }

    pub(super) const fn time(what: &'static str, samples: usize) -> Self {
        Self::new(what, Unit::Milliseconds, samples)
    }

    pub(super) const fn megabytes(what: &'static str, samples: usize) -> Self {
        Self::new(what, Unit::Megabytes, samples)
    }

    pub(super) const fn times(what: &'static str, samples: usize) -> Self {
        Self::new(what, Unit::Times, samples)
    }

    pub(super) const fn percent(what: &'static str, samples: usize) -> Self {
        Self::new(what, Unit::Percent, samples)
    }

    /// The 95th percentile instead of the median.
    pub(super) const fn p95(mut self) -> Self {
        self.statistic = Statistic::NinetyFifth;
        self
    }

    pub(super) const fn limit(mut self, limit: f64) -> Self {
        self.limit = Some(limit);
        self
    }

    pub(super) const fn at_most(mut self, target: f64) -> Self {
        self.target = Some(Target::AtMost(target));
        self
    }

    pub(super) const fn at_least(mut self, target: f64) -> Self {
        self.target = Some(Target::AtLeast(target));
        self
    }

    fn value(&self, column: &Column) -> Option<f64> {
        let samples = column.samples.as_ref().ok()?.get(self.samples)?;
        match self.statistic {
            Statistic::Median => percentile(samples, 50),
            Statistic::NinetyFifth => percentile(samples, 95),
        }
    }

    /// Whether the first column meets the target, and what it comes to in terms of the limit: where no limit is known,
    /// of what a direct client got in the same run.
    fn judge(&self, columns: &[Column]) -> Judgement {
        let measured = columns.first().and_then(|column| self.value(column));
        let direct = columns
            .iter()
            .find(|column| column.name == "direct")
            .and_then(|column| self.value(column));
        let is_met = match (self.target, measured) {
            (None, _) => None,
            (Some(_), None) => Some(false),
            (Some(Target::AtMost(most)), Some(measured)) => Some(measured <= most),
            (Some(Target::AtLeast(least)), Some(measured)) => Some(measured >= least),
        };
        Judgement {
            ratio: measured
                .zip(self.limit.or(direct))
                .filter(|(_, basis)| *basis > 0.0),
            is_met,
        }
    }

    fn show(&self, value: f64) -> String {
        match self.unit {
            Unit::Milliseconds if value >= 1_000.0 => format!("{:.3} s", value / 1e3),
            Unit::Milliseconds => format!("{value:.1} ms"),
            Unit::Megabytes => format!("{value:.3} MB"),
            Unit::Times if value.fract() == 0.0 => format!("{value:.0}"),
            Unit::Times => format!("{value:.2}"),
            Unit::Percent => format!("{value:.1} %"),
        }
    }

    fn show_target(&self) -> String {
        match self.target {
            None => String::new(),
            Some(Target::AtMost(most)) => format!("≤ {}", self.show(most)),
            Some(Target::AtLeast(least)) => format!("≥ {}", self.show(least)),
        }
    }
}

struct Judgement {
    ratio: Option<(f64, f64)>,
    is_met: Option<bool>,
}

/// The heading of a table with these columns.
pub(super) fn heading(names: &[&str]) -> String {
    let mut text = String::from("| workload | figure | limit | target | | ratio |");
    for name in names {
        let _ = write!(text, " {name} |");
    }
    text.push_str("\n|---|---|---|---|---|---|");
    text.push_str(&"---|".repeat(names.len()));
    text.push('\n');
    text
}

/// The lines of one workload, and how many of its targets were missed and met. The first column is the one that counts.
pub(super) fn lines(workload: &Workload, columns: &[Column], names: &[&str]) -> (String, Verdicts) {
    let mut text = String::new();
    let mut verdicts = Verdicts::default();
    for (number, figure) in workload.figures.iter().enumerate() {
        let judgement = figure.judge(columns);
        let verdict = match judgement.is_met {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        verdicts.met += usize::from(judgement.is_met == Some(true));
        verdicts.missed += usize::from(judgement.is_met == Some(false));
        let title = if number == 0 { &workload.title } else { "" };
        let limit = figure
            .limit
            .map_or_else(String::new, |limit| figure.show(limit));
        let ratio = judgement
            .ratio
            .map_or_else(String::new, |(measured, basis)| {
                format!("{:.2}", measured / basis)
            });
        let _ = write!(
            text,
            "| {title} | {} | {limit} | {} | {verdict} | {ratio} |",
            figure.what,
            figure.show_target()
        );
        for name in names {
            let column = columns.iter().find(|column| column.name == *name);
            let cell = match column {
                None => "–".to_owned(),
                Some(column) => match (&column.samples, figure.value(column)) {
                    (Err(_), _) => "failed".to_owned(),
                    (Ok(_), None) => "–".to_owned(),
                    (Ok(_), Some(value)) => figure.show(value),
                },
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    (text, verdicts)
}

/// How many targets were met.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Verdicts {
    pub(super) met: usize,
    pub(super) missed: usize,
}

/// A time as a sample.
pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A number of bytes as a sample.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// One number in terms of another.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// The smallest sample that so many percent of the samples do not exceed.
fn percentile(samples: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::{Column, Figure, Workload, lines, percentile};

    #[test]
    fn percentiles() {
        let samples: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!(percentile(&samples, 50), Some(10.0));
        assert_eq!(percentile(&samples, 95), Some(19.0));
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 50), Some(2.0));
        assert_eq!(percentile(&[7.0], 95), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    fn columns(chunkd: f64, direct: f64) -> Vec<Column> {
        let column = |name, value| Column {
            name,
            samples: Ok(vec![vec![value]]),
        };
        vec![column("chunkd", chunkd), column("direct", direct)]
    }

    fn verdict(figure: Figure, columns: &[Column]) -> (usize, usize) {
        let workload = Workload {
            name: "a".to_owned(),
            title: "a".to_owned(),
            figures: vec![figure],
        };
        let (_, verdicts) = lines(&workload, columns, &["chunkd"]);
        (verdicts.met, verdicts.missed)
    }

    #[test]
    fn targets_bound_from_above_and_from_below() {
        let two = columns(52.0, 50.0);
        let figure = || Figure::time("first byte", 0);
        assert_eq!(verdict(figure(), &two), (0, 0));
        assert_eq!(verdict(figure().at_most(52.0), &two), (1, 0));
        assert_eq!(verdict(figure().at_most(51.9), &two), (0, 1));
        assert_eq!(verdict(figure().at_least(52.0), &two), (1, 0));
        assert_eq!(verdict(figure().at_least(52.1), &two), (0, 1));
        let ratio = |figure: Figure| figure.judge(&two).ratio;
        assert_eq!(ratio(figure().limit(26.0)), Some((52.0, 26.0)));
        assert_eq!(ratio(figure()), Some((52.0, 50.0)));
    }

    #[test]
    fn what_failed_is_missed() {
        let failed = [Column {
            name: "chunkd",
            samples: Err("it did not answer".to_owned()),
        }];
        assert_eq!(verdict(Figure::time("a", 0).at_most(1.0), &failed), (0, 1));
    }
}
