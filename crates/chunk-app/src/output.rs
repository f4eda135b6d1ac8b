//! What commands print: tables and lines for people, JSON for scripts.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::units::approximate_size;
use crate::wire::{EntryReport, History, StatusReport, VerifyAnswer, WhyAnswer, WhyReport};

/// Prints one line to standard output. A reader that has gone, such as `head`, is no failure.
pub(crate) fn line(text: impl AsRef<str>) -> Outcome<()> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write the answer: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints `answer` as one line of JSON.
pub(crate) fn json(answer: &impl Serialize) -> Outcome<()> {
    line(serde_json::to_string(answer).map_err(Failure::failed)?)
}

/// Prints an error as its one line.
pub(crate) fn failure(failure: &Failure) {
    // Where standard error cannot be written to there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "chunkd: {failure}");
}

/// Prints one line that is no answer to standard error.
pub(crate) fn note(text: &str) {
    // Where standard error cannot be written to there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "chunkd: {text}");
}

/// The answer of `status` for people.
pub(crate) fn status(report: &StatusReport) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["FILE", "STATE", "HERE", "SIZE", "QUEUED", "RATE", ""]);
    for entry in &report.entries {
        table.add_row(row(entry));
    }
    for column in 2..=5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut lines: Vec<String> = report
        .origins
        .iter()
        .map(|origin| format!("{} is {}", origin.mount, origin.url))
        .collect();
    if report.entries.is_empty() {
        lines.push("nothing is cached".to_owned());
    } else {
        lines.push(table.trim_fmt());
    }
    let activity = &report.activity;
    lines.push(format!(
        "{} of files here, {} queued, {} transfers at {}/s",
        approximate_size(report.stored_bytes),
        queued(report),
        report.queue.transfers,
        approximate_size(activity.download_bytes_per_second),
    ));
    lines.push(format!(
        "served {}, from the origin {}, {}",
        approximate_size(activity.bytes_served),
        approximate_size(activity.bytes_from_origin),
        match activity.hit_ratio {
            Some(ratio) => format!("{:.1} % of reads found their bytes here", ratio * 100.0),
            None => "no reads yet".to_owned(),
        },
    ));
    if activity.store_failing {
        lines.push("THE CACHE CANNOT BE WRITTEN TO; players are served from the origin".to_owned());
    }
    lines.join("\n")
}

/// What is queued in all, as far as lengths are known.
fn queued(report: &StatusReport) -> String {
    let known = approximate_size(report.queue.bytes);
    let unknown = report
        .entries
        .iter()
        .filter(|entry| entry.queued_bytes.is_none());
    match unknown.count() {
        0 => known,
        1 => format!("{known} and a file of unknown length"),
        files => format!("{known} and {files} files of unknown length"),
    }
}

fn row(entry: &EntryReport) -> [String; 7] {
    let mut marks = Vec::new();
    if entry.pinned {
        marks.push("pinned".to_owned());
    }
    if entry.readers > 0 {
        marks.push(format!("{} reading", entry.readers));
    }
    if let Some(reason) = &entry.reason {
        marks.push(reason.clone());
    }
    let absent = || "-".to_owned();
    [
        entry.path.clone(),
        entry.state.replace('_', " "),
        entry
            .coverage_percent
            .map_or_else(absent, |percent| format!("{percent:.1} %")),
        entry.total_bytes.map_or_else(absent, approximate_size),
        match entry.queued_bytes {
            Some(0) => absent(),
            Some(bytes) => approximate_size(bytes),
            None => "all of it".to_owned(),
        },
        entry
            .download_bytes_per_second
            .map_or_else(absent, |rate| format!("{}/s", approximate_size(rate))),
        marks.join(", "),
    ]
}

/// The answer of `why` for people.
pub(crate) fn why(answer: &WhyAnswer) -> String {
    let reports: Vec<String> = answer.files.iter().map(why_of).collect();
    reports.join("\n\n")
}

fn why_of(report: &WhyReport) -> String {
    let seconds = |ms: u64| format!("{}.{:03} s", ms / 1000, ms % 1000);
    let mut lines = Vec::new();
    match report.history {
        History::Known => {}
        History::Expired => lines.push(format!(
            "expired: what happened before {} is forgotten",
            seconds(report.remembered_from_ms)
        )),
        History::None => {
            lines.push("nothing has happened to it since chunkd was started".to_owned());
        }
        History::Unheld => lines.push(
            "nothing is known of its history: no program that fetched it is running".to_owned(),
        ),
    }
    if !report.moments.is_empty() {
        let mut table = Table::new();
        table.load_preset(NOTHING);
        table.set_header(["SINCE START", "WHAT"]);
        for moment in &report.moments {
            table.add_row([seconds(moment.at_ms), moment.text.clone()]);
        }
        if let Some(column) = table.column_mut(0) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        lines.push(table.trim_fmt());
    }
    lines.push(format!(
        "byte {} of {}: {}",
        report.offset, report.path, report.verdict
    ));
    lines.join("\n")
}

/// The answer of `verify` for people.
pub(crate) fn verify(answer: &VerifyAnswer) -> String {
    let mut lines: Vec<String> = answer
        .bad
        .iter()
        .map(|bad| {
            format!(
                "{}: bytes {}-{} are not what was recorded",
                bad.path, bad.start_byte, bad.end_byte
            )
        })
        .collect();
    let checked = format!(
        "{} in {} blocks of {} files checked",
        approximate_size(answer.bytes),
        answer.blocks,
        answer.entries
    );
    lines.push(match (answer.bad.len(), answer.repaired) {
        (0, _) => format!("{checked}: all good"),
        (bad, true) => {
            format!("{checked}: {bad} bad, forgotten; they are fetched again when wanted")
        }
        (bad, false) => format!("{checked}: {bad} bad; `chunkd verify --repair` forgets them"),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ActivityReport, BadBlockReport, MomentReport, QueueReport, SCHEMA};

    fn report(entries: Vec<EntryReport>) -> StatusReport {
        StatusReport {
            schema: SCHEMA,
            origins: Vec::new(),
            entries,
            stored_bytes: 0,
            queue: QueueReport {
                entries: 0,
                bytes: 0,
                transfers: 0,
            },
            activity: ActivityReport {
                readers: 0,
                bytes_served: 0,
                bytes_served_from_cache: 0,
                bytes_from_origin: 0,
                bytes_wasted: 0,
                origin_requests: 0,
                evicted_bytes: 0,
                checksum_failures: 0,
                download_bytes_per_second: 0,
                hit_ratio: None,
                store_failing: false,
            },
        }
    }

    fn film() -> EntryReport {
        EntryReport {
            path: "/film.mkv".to_owned(),
            state: "not_started".to_owned(),
            reason: None,
            total_bytes: Some(3 << 20),
            recorded_bytes: 1 << 20,
            readable_bytes: 1 << 20,
            queued_bytes: Some(0),
            coverage_percent: Some(33.3),
            pinned: true,
            readers: 2,
            content_type: None,
            accessed_unix: 0,
            download_bytes_per_second: None,
        }
    }

    #[test]
    fn an_empty_cache_says_so() {
        let text = status(&report(Vec::new()));
        assert!(text.starts_with("nothing is cached\n"), "{text}");
        assert!(text.ends_with("no reads yet"), "{text}");
    }

    #[test]
    fn what_is_queued_of_a_file_of_unknown_length_is_no_number() {
        let entry = |queued_bytes| EntryReport {
            queued_bytes,
            total_bytes: None,
            ..film()
        };
        let mut report = report(vec![entry(None), entry(Some(0))]);
        report.queue.bytes = 3 << 20;
        let text = status(&report);
        assert!(text.lines().nth(1).unwrap().contains("all of it"), "{text}");
        assert!(
            !text.lines().nth(2).unwrap().contains("all of it"),
            "{text}"
        );
        assert!(
            text.contains("3.0 MiB and a file of unknown length queued"),
            "{text}"
        );
        report.entries.push(entry(None));
        assert!(status(&report).contains("and 2 files of unknown length queued"));
    }

    #[test]
    fn an_entry_is_one_line() {
        let text = status(&report(vec![film()]));
        let line = text.lines().nth(1).unwrap();
        for part in [
            "/film.mkv",
            "not started",
            "33.3 %",
            "3.0 MiB",
            "pinned, 2 reading",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn why_says_where_a_byte_is_and_what_is_not_known() {
        let mut report = WhyReport {
            path: "/a".to_owned(),
            offset: 7,
            place: "recorded".to_owned(),
            verdict: "recorded".to_owned(),
            history: History::Unheld,
            remembered_from_ms: 0,
            moments: Vec::new(),
        };
        let text = why_of(&report);
        assert!(text.starts_with("nothing is known"), "{text}");
        assert!(text.ends_with("\nbyte 7 of /a: recorded"), "{text}");
        report.history = History::Expired;
        report.remembered_from_ms = 61_005;
        report.moments.push(MomentReport {
            at_ms: 61_007,
            at_unix: 0,
            event: "evicted".to_owned(),
            run: None,
            reader: None,
            text: "the bytes are removed".to_owned(),
        });
        let text = why_of(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains("expired") && lines[0].contains("61.005 s"),
            "{text}"
        );
        assert!(
            lines[2].contains("61.007 s") && lines[2].contains("removed"),
            "{text}"
        );
        assert_eq!(lines.len(), 4, "{text}");
    }

    #[test]
    fn verify_names_each_bad_block_and_the_remedy() {
        let mut answer = VerifyAnswer {
            entries: 1,
            blocks: 2,
            bytes: 100_000,
            bad: Vec::new(),
            repaired: false,
        };
        assert!(verify(&answer).ends_with("all good"));
        answer.bad.push(BadBlockReport {
            path: "/a".to_owned(),
            start_byte: 0,
            end_byte: 65_535,
        });
        let text = verify(&answer);
        assert!(text.starts_with("/a: bytes 0-65535 are not"), "{text}");
        assert!(text.contains("--repair"), "{text}");
    }
}
