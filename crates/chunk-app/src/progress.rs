//! What `fetch` shows: bars on a terminal, a line per file elsewhere, JSON lines for scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::failure::{Failure, Outcome};
use crate::output;
use crate::units::approximate_size;
use crate::wire::FetchEvent;

const BAR: &str = "{msg} [{bar:30}] {percent:>3} %  {bytes}/{total_bytes}{prefix}";
const BAR_OF_UNKNOWN_LENGTH: &str = "{msg}  {bytes}{prefix}";

/// Collects what is told of each file. The last word on a file counts, since an order may change hands
/// and be told of twice.
#[derive(Debug)]
pub(crate) struct Progress {
    json: bool,
    bars: MultiProgress,
    files: BTreeMap<String, File>,
}

#[derive(Debug, Default)]
struct File {
    bar: Option<ProgressBar>,
    /// Whether it was said that it waits for the line.
    is_waiting_told: bool,
    end: Option<FetchEvent>,
}

impl Progress {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            // Draws on standard error, and only where that is a terminal.
            bars: MultiProgress::new(),
            files: BTreeMap::new(),
        }
    }

    pub(crate) fn tell(&mut self, event: FetchEvent) -> Outcome<()> {
        let path = match &event {
            FetchEvent::Progress { path, .. }
            | FetchEvent::Done { path, .. }
            | FetchEvent::Failed { path, .. } => path.clone(),
            FetchEvent::End => return Ok(()),
        };
        let file = self.files.entry(path.clone()).or_default();
        if file.end.as_ref() == Some(&event) {
            return Ok(());
        }
        if self.json {
            output::json(&event)?;
        }
        match &event {
            FetchEvent::Progress {
                recorded_bytes,
                readable_bytes,
                total_bytes,
                bytes_per_second,
                waits_for_line,
                ..
            } if !self.json => {
                if *waits_for_line && !std::mem::replace(&mut file.is_waiting_told, true) {
                    self.bars.suspend(|| output::note(&waiting(&path)));
                }
                let bars = &self.bars;
                let bar = file.bar.get_or_insert_with(|| new_bar(bars, path));
                // Of a file whose length nobody knows yet nothing is recorded before it ends.
                let here = *recorded_bytes.max(readable_bytes);
                show(bar, here, *total_bytes);
                bar.set_prefix(pace(here, *total_bytes, *bytes_per_second));
            }
            FetchEvent::Done { total_bytes, .. } => {
                self.finish(
                    &path,
                    format!("{}, complete", approximate_size(*total_bytes)),
                )?;
                self.end(&path, event);
            }
            FetchEvent::Failed { reason, .. } => {
                self.finish(&path, format!("failed: {reason}"))?;
                self.end(&path, event);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether all that was told of ended well.
    pub(crate) fn verdict(&self) -> Outcome<()> {
        let failed = |file: &&File| matches!(file.end, Some(FetchEvent::Failed { .. }) | None);
        match self.files.values().filter(failed).count() {
            0 => Ok(()),
            failed => Err(Failure::failed(format!(
                "{failed} of {} files could not be fetched in whole",
                self.files.len()
            ))),
        }
    }

    fn end(&mut self, path: &str, event: FetchEvent) {
        if let Some(file) = self.files.get_mut(path) {
            file.end = Some(event);
        }
    }

    fn finish(&mut self, path: &str, text: String) -> Outcome<()> {
        if let Some(bar) = self.files.get_mut(path).and_then(|file| file.bar.take()) {
            bar.finish_and_clear();
        }
        if self.json {
            return Ok(());
        }
        self.bars
            .suspend(|| output::line(format!("{path}: {text}")))
    }
}

fn new_bar(bars: &MultiProgress, path: String) -> ProgressBar {
    let bar = bars.add(ProgressBar::no_length().with_message(path));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

fn show(bar: &ProgressBar, here: u64, total: Option<u64>) {
    if bar.length() != total || bar.position() == 0 {
        let template = total.map_or(BAR_OF_UNKNOWN_LENGTH, |_| BAR);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        if let Some(total) = total {
            bar.set_length(total);
        }
    }
    bar.set_position(here);
}

/// How fast it comes and how long it takes; nothing while nobody knows.
fn pace(here: u64, total: Option<u64>, rate: Option<u64>) -> String {
    let Some(rate) = rate.filter(|rate| *rate > 0) else {
        return String::new();
    };
    let speed = format!("  {}/s", approximate_size(rate));
    match total {
        Some(total) => {
            let left = total.saturating_sub(here).div_ceil(rate);
            format!("{speed}  {} left", span(left))
        }
        None => speed,
    }
}

/// So many seconds, in two units at most.
fn span(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{hours} h {} min", minutes % 60),
    }
}

/// What is said once of a file of which nothing comes.
fn waiting(path: &str) -> String {
    format!(
        "{path} waits: the line is metered, so that nothing is fetched in the background; the order stays in its queue \
         and goes on when chunkd runs without --metered"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> FetchEvent {
        FetchEvent::Done {
            path: "/a".to_owned(),
            total_bytes: 3,
        }
    }

    fn failed() -> FetchEvent {
        FetchEvent::Failed {
            path: "/a".to_owned(),
            reason: "r".to_owned(),
        }
    }

    #[test]
    fn both_templates_are_well_formed() {
        for template in [BAR, BAR_OF_UNKNOWN_LENGTH] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }

    #[test]
    fn the_last_word_on_a_file_counts() {
        let mut progress = Progress::new(false);
        progress.tell(failed()).unwrap();
        assert!(progress.verdict().is_err());
        progress.tell(done()).unwrap();
        assert_eq!(progress.verdict(), Ok(()));
    }

    #[test]
    fn a_file_without_an_end_is_not_there() {
        let mut progress = Progress::new(false);
        progress
            .tell(FetchEvent::Progress {
                path: "/a".to_owned(),
                recorded_bytes: 3,
                readable_bytes: 3,
                total_bytes: Some(3),
                bytes_per_second: None,
                waits_for_line: false,
            })
            .unwrap();
        assert_eq!(
            progress.verdict().unwrap_err().message(),
            "1 of 1 files could not be fetched in whole"
        );
    }

    #[test]
    fn nothing_is_said_of_time_before_a_rate_is_known() {
        for rate in [None, Some(0)] {
            assert_eq!(pace(0, Some(3 << 20), rate), "");
        }
        assert_eq!(
            pace(0, Some(3 << 20), Some(1 << 20)),
            "  1.0 MiB/s  3 s left"
        );
        assert_eq!(pace(5, None, Some(1 << 20)), "  1.0 MiB/s");
        assert_eq!(
            [0, 59, 60, 3599, 3600, 90_000].map(span),
            [
                "0 s",
                "59 s",
                "1 min 0 s",
                "59 min 59 s",
                "1 h 0 min",
                "25 h 0 min"
            ]
        );
    }

    #[test]
    fn a_file_of_unknown_length_grows_as_it_comes_and_waiting_is_told_once() {
        let mut progress = Progress::new(false);
        let mut event = |readable_bytes, total_bytes| {
            progress
                .tell(FetchEvent::Progress {
                    path: "/a".to_owned(),
                    recorded_bytes: 0,
                    readable_bytes,
                    total_bytes,
                    bytes_per_second: None,
                    waits_for_line: true,
                })
                .unwrap();
            let file = &progress.files["/a"];
            assert!(file.is_waiting_told);
            file.bar.as_ref().unwrap().position()
        };
        assert_eq!(event(5, None), 5);
        assert_eq!(event(9, None), 9);
        assert_eq!(event(9, Some(20)), 9);
    }
}
