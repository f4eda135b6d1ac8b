//! What `fetch` shows: bars on a terminal, a line per file elsewhere, JSON lines for scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::failure::{Failure, Outcome};
use crate::output;
use crate::units::approximate_size;
use crate::wire::FetchEvent;

const BAR: &str =
    "{msg} [{bar:30}] {percent:>3} %  {bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left";
const BAR_OF_UNKNOWN_LENGTH: &str = "{msg}  {bytes}  {binary_bytes_per_sec}";

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
                total_bytes,
                ..
            } if !self.json => {
                let bars = &self.bars;
                let bar = file.bar.get_or_insert_with(|| new_bar(bars, path));
                show(bar, *recorded_bytes, *total_bytes);
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

fn show(bar: &ProgressBar, recorded: u64, total: Option<u64>) {
    if bar.length() != total || bar.position() == 0 {
        let template = total.map_or(BAR_OF_UNKNOWN_LENGTH, |_| BAR);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        if let Some(total) = total {
            bar.set_length(total);
        }
        // What was here before does not count as speed.
        bar.set_position(recorded);
        bar.reset_eta();
    }
    bar.set_position(recorded);
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
                total_bytes: Some(3),
                bytes_per_second: None,
            })
            .unwrap();
        assert_eq!(
            progress.verdict().unwrap_err().message(),
            "1 of 1 files could not be fetched in whole"
        );
    }
}
