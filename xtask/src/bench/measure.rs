//! A figure and its target.

use std::fmt;
use std::time::Duration;

/// One line of a table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) case: &'static str,
    pub(super) figures: Vec<Figure>,
}

/// One measured figure.
#[derive(Debug)]
pub(super) struct Figure {
    what: &'static str,
    measured: f64,
    target: f64,
    bound: Bound,
    unit: &'static str,
}

/// What a target is of a figure.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Most,
    Least,
}

impl Row {
    /// Whether every figure of the line is within its target.
    pub(super) fn is_met(&self) -> bool {
        self.figures.iter().all(Figure::is_met)
    }
}

impl Figure {
    /// A time, shown in milliseconds.
    pub(super) fn time(what: &'static str, measured: Duration, target: Duration) -> Self {
        Self {
            what,
            measured: measured.as_secs_f64() * 1e3,
            target: target.as_secs_f64() * 1e3,
            bound: Bound::Most,
            unit: " ms",
        }
    }

    /// A number of things, such as requests or bytes.
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    pub(super) fn count(what: &'static str, measured: u64, target: u64) -> Self {
        Self {
            what,
            measured: measured as f64,
            target: target as f64,
            bound: Bound::Most,
            unit: "",
        }
    }

    /// How many times a number of bytes was sent.
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    pub(super) fn copies(what: &'static str, sent: u64, wanted: u64) -> Self {
        Self {
            what,
            measured: sent as f64 / wanted as f64,
            target: 1.0,
            bound: Bound::Most,
            unit: " copies",
        }
    }

    /// How much of a processor's core was in use.
    pub(super) const fn cores(what: &'static str, measured: f64, target: f64) -> Self {
        Self {
            what,
            measured,
            target,
            bound: Bound::Most,
            unit: " cores",
        }
    }

    /// A number of things in a second, of which there are to be many.
    pub(super) const fn rate(what: &'static str, measured: f64, target: f64) -> Self {
        Self {
            what,
            measured,
            target,
            bound: Bound::Least,
            unit: "",
        }
    }

    /// The measured figure, as text.
    pub(super) fn measured(&self) -> String {
        format!("{} {}", self.what, self.number(self.measured))
    }

    /// The target, as text.
    pub(super) fn target(&self) -> String {
        format!("{} {}", self.what, self.bound())
    }

    fn is_met(&self) -> bool {
        match self.bound {
            Bound::Most => self.measured <= self.target,
            Bound::Least => self.measured >= self.target,
        }
    }

    fn bound(&self) -> String {
        let sign = match self.bound {
            Bound::Most => "≤",
            Bound::Least => "≥",
        };
        format!("{sign} {}", self.number(self.target))
    }

    fn number(&self, number: f64) -> String {
        match self.unit {
            " ms" => format!("{number:.1} ms"),
            " copies" => format!("{number:.3}"),
            " cores" => format!("{number:.2} cores"),
            _ => format!("{number:.0}"),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_met() { "ok" } else { "MISSED" };
        write!(f, "{verdict} {}:", self.case)?;
        for figure in &self.figures {
            write!(f, " {} ({});", figure.measured(), figure.bound())?;
        }
        Ok(())
    }
}

/// The middle one of some durations, or zero of none.
pub(super) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
