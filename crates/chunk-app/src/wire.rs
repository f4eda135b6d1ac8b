//! What commands and the process that holds the cache say to each other: JSON over the socket, and the
//! same JSON for scripts.

use std::time::Duration;

use chunk_manager::{EntryState, EntryStatus, Moment, Statistics, Timeline};
use chunk_ports::Tally;
use serde::{Deserialize, Serialize};

/// The number that changes when a script would have to.
pub(crate) const SCHEMA: u32 = 1;

/// What holds the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// A server for players.
    Serve,
    /// A fetch on its own; hands over to a server.
    Fetch,
    /// A short command; fetches nothing.
    Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) role: Role,
    pub(crate) pid: u32,
}

/// The answer of `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusReport {
    pub(crate) schema: u32,
    pub(crate) origins: Vec<OriginReport>,
    pub(crate) entries: Vec<EntryReport>,
    pub(crate) stored_bytes: u64,
    pub(crate) queue: QueueReport,
    pub(crate) activity: ActivityReport,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OriginReport {
    pub(crate) name: String,
    pub(crate) mount: String,
    pub(crate) url: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EntryReport {
    /// As players ask for it, the values of its query hidden.
    pub(crate) path: String,
    pub(crate) state: String,
    /// Why it failed, if it did, or why it waits for the line.
    pub(crate) reason: Option<String>,
    pub(crate) total_bytes: Option<u64>,
    pub(crate) recorded_bytes: u64,
    pub(crate) readable_bytes: u64,
    /// Nothing where a file is queued whose length nobody knows yet.
    pub(crate) queued_bytes: Option<u64>,
    /// Recorded bytes in per cent of all, rounded down to a tenth: 100 only when nothing is missing.
    pub(crate) coverage_percent: Option<f64>,
    pub(crate) pinned: bool,
    pub(crate) readers: usize,
    pub(crate) content_type: Option<String>,
    pub(crate) accessed_unix: i64,
    pub(crate) download_bytes_per_second: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueReport {
    pub(crate) entries: u64,
    /// Of files of known length.
    pub(crate) bytes: u64,
    pub(crate) transfers: u64,
}

/// What was counted since the cache was made, by whichever process, and how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ActivityReport {
    pub(crate) readers: u64,
    pub(crate) bytes_served: u64,
    pub(crate) bytes_served_from_cache: u64,
    pub(crate) bytes_from_origin: u64,
    pub(crate) bytes_wasted: u64,
    pub(crate) origin_requests: u64,
    pub(crate) evicted_bytes: u64,
    pub(crate) checksum_failures: u64,
    pub(crate) download_bytes_per_second: u64,
    /// Reads that found their bytes, of all; nothing before the first read.
    pub(crate) hit_ratio: Option<f64>,
    pub(crate) store_failing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FetchOrder {
    pub(crate) targets: Vec<String>,
    /// Those that the command was given, so that one which whoever carries it out does not have is told.
    #[serde(default)]
    pub(crate) origins: Vec<OrderedOrigin>,
}

/// An origin as a command names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderedOrigin {
    pub(crate) name: String,
    /// Without credentials.
    pub(crate) url: String,
}

/// One line of the answer to a fetch. Every file gets one `done` or `failed`, and an `end` follows the last
/// of them, unless whoever answers ends first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum FetchEvent {
    Progress {
        path: String,
        /// None of a file whose length nobody knows yet: it is recorded when it ends.
        recorded_bytes: u64,
        /// What has come, recorded or not.
        #[serde(default)]
        readable_bytes: u64,
        total_bytes: Option<u64>,
        bytes_per_second: Option<u64>,
        /// Whether nothing is fetched of it for as long as the line is metered.
        #[serde(default)]
        waits_for_line: bool,
    },
    Done {
        path: String,
        total_bytes: u64,
    },
    Failed {
        path: String,
        reason: String,
    },
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VerifyOrder {
    pub(crate) repair: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VerifyAnswer {
    pub(crate) entries: u64,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) bad: Vec<BadBlockReport>,
    pub(crate) repaired: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BadBlockReport {
    pub(crate) path: String,
    pub(crate) start_byte: u64,
    /// Inclusive.
    pub(crate) end_byte: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WhyOrder {
    pub(crate) path: String,
    pub(crate) offset: u64,
}

/// One report for each variant of the file that the path names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WhyAnswer {
    pub(crate) schema: u32,
    pub(crate) files: Vec<WhyReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WhyReport {
    pub(crate) path: String,
    pub(crate) offset: u64,
    /// In one word.
    pub(crate) place: String,
    /// The same as a sentence.
    pub(crate) verdict: String,
    pub(crate) history: History,
    /// What happened before is forgotten: in milliseconds since the answering process started.
    pub(crate) remembered_from_ms: u64,
    pub(crate) moments: Vec<MomentReport>,
}

/// How much is known of how the byte came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum History {
    /// All since the answering process started.
    Known,
    /// What happened first is forgotten.
    Expired,
    /// Nothing: whoever answers has had nothing to do with it.
    None,
    /// Nothing, because nobody runs who would have fetched it.
    Unheld,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MomentReport {
    /// Since the answering process started.
    pub(crate) at_ms: u64,
    pub(crate) at_unix: i64,
    pub(crate) event: String,
    pub(crate) run: Option<u64>,
    pub(crate) reader: Option<u64>,
    pub(crate) text: String,
}

/// `None` stands for everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EvictOrder {
    pub(crate) path: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EvictAnswer {
    pub(crate) freed_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinOrder {
    pub(crate) path: String,
    pub(crate) pinned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinAnswer {
    pub(crate) path: String,
    pub(crate) pinned: bool,
}

/// What a refused order is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Whether the order made no sense as it stood.
    pub(crate) usage: bool,
    pub(crate) error: String,
}

/// A durable job, as `/v1/jobs` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobReport {
    pub(crate) path: String,
    pub(crate) state: String,
    /// Nothing where a file is queued whose length nobody knows yet.
    pub(crate) queued_bytes: Option<u64>,
    pub(crate) recorded_bytes: u64,
    pub(crate) total_bytes: Option<u64>,
}

/// How many bytes of a file are queued; an order for a whole file of unknown length has no number of them.
pub(crate) fn queued_bytes(entry: &EntryStatus) -> Option<u64> {
    (entry.queued_bytes == 0 || entry.total_len.is_some()).then_some(entry.queued_bytes)
}

/// Whether what is queued of a file waits because the line is metered: it is wanted in the background alone, and
/// nothing comes.
pub(crate) const fn waits_for_line(entry: &EntryStatus, is_metered: bool) -> bool {
    let is_wanted = matches!(
        entry.state,
        EntryState::Downloading | EntryState::Paused | EntryState::NotStarted
    );
    is_metered && is_wanted && entry.queued_bytes > 0 && entry.download_rate.is_none()
}

impl EntryReport {
    /// What is told of `entry`, which may wait for a line that is not metered.
    pub(crate) fn new(entry: &EntryStatus, is_metered: bool) -> Self {
        let (state, reason) = state_and_reason(entry, is_metered);
        Self {
            path: entry.key.to_string(),
            state: state.to_owned(),
            reason,
            total_bytes: entry.total_len,
            recorded_bytes: entry.recorded_bytes,
            readable_bytes: entry.readable_bytes,
            queued_bytes: queued_bytes(entry),
            coverage_percent: entry
                .total_len
                .map(|total| percent(entry.recorded_bytes, total)),
            pinned: entry.pinned,
            readers: entry.readers,
            content_type: entry.content_type.as_deref().map(str::to_owned),
            accessed_unix: entry.accessed_unix,
            download_bytes_per_second: entry.download_rate,
        }
    }
}

impl WhyReport {
    /// What a process in `role` says.
    pub(crate) fn new(timeline: &Timeline, role: Role) -> Self {
        let history = if timeline.expired {
            History::Expired
        } else if !timeline.moments.is_empty() {
            History::Known
        } else if role == Role::Command {
            History::Unheld
        } else {
            History::None
        };
        Self {
            path: timeline.key.to_string(),
            offset: timeline.offset,
            place: timeline.place.name().to_owned(),
            verdict: timeline.verdict(),
            history,
            remembered_from_ms: millis(timeline.remembered_from),
            moments: timeline.moments.iter().map(MomentReport::from).collect(),
        }
    }
}

impl From<&Moment> for MomentReport {
    fn from(moment: &Moment) -> Self {
        Self {
            at_ms: millis(moment.at),
            at_unix: moment.at_unix,
            event: moment.what.name().to_owned(),
            run: moment.what.run(),
            reader: moment.what.reader(),
            text: moment.what.to_string(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl ActivityReport {
    pub(crate) fn new(statistics: &Statistics, tally: &Tally, entries: &[EntryStatus]) -> Self {
        Self {
            readers: statistics.readers,
            bytes_served: tally.bytes_served,
            bytes_served_from_cache: tally.bytes_served_from_cache,
            bytes_from_origin: tally.bytes_from_origin,
            bytes_wasted: tally.bytes_wasted,
            origin_requests: tally.origin_requests,
            evicted_bytes: tally.evicted_bytes,
            checksum_failures: tally.checksum_failures,
            // An average of the last moments outlives the transfer.
            download_bytes_per_second: match statistics.active_runs {
                0 => 0,
                _ => entries.iter().filter_map(|e| e.download_rate).sum(),
            },
            hit_ratio: ratio(tally.hits, tally.misses),
            store_failing: statistics.store_failing,
        }
    }
}

/// The name of a state in JSON and tables, and why it failed or waits for the line.
pub(crate) fn state_and_reason(
    entry: &EntryStatus,
    is_metered: bool,
) -> (&'static str, Option<String>) {
    // What a player needs comes whatever the line is.
    if entry.readers == 0 && waits_for_line(entry, is_metered) {
        let reason = "the line is metered: nothing is fetched in the background";
        return ("waiting_for_line", Some(reason.to_owned()));
    }
    match &entry.state {
        EntryState::NotStarted => ("not_started", None),
        EntryState::Probing => ("probing", None),
        EntryState::Downloading => ("downloading", None),
        EntryState::Paused => ("paused", None),
        EntryState::WaitingForRoom => ("waiting_for_room", None),
        EntryState::WaitingForOrigin => ("waiting_for_origin", None),
        EntryState::Complete => ("complete", None),
        EntryState::Failed(reason) => ("failed", Some(reason.to_string())),
        _ => ("unknown", None),
    }
}

/// Rounded down to a tenth, so that 99.99 % is never shown as all.
fn percent(part: u64, whole: u64) -> f64 {
    if part >= whole {
        return 100.0;
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    u32::try_from(tenths).map_or(100.0, |tenths| f64::from(tenths) / 10.0)
}

/// Hits of all, to a thousandth.
fn ratio(hits: u64, misses: u64) -> Option<f64> {
    let all = u128::from(hits) + u128::from(misses);
    let thousandths = (u128::from(hits) * 1000).checked_div(all)?;
    u32::try_from(thousandths)
        .ok()
        .map(|thousandths| f64::from(thousandths) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap07_coverage_is_whole_only_when_nothing_is_missing() {
        assert!((percent(0, 10) - 0.0).abs() < 1e-9);
        assert!((percent(999_999, 1_000_000) - 99.9).abs() < 1e-9);
        assert!((percent(10, 10) - 100.0).abs() < 1e-9);
        assert!((percent(0, 0) - 100.0).abs() < 1e-9);
        assert!((percent(u64::MAX - 1, u64::MAX) - 99.9).abs() < 1e-9);
    }

    #[test]
    fn there_is_no_hit_ratio_before_the_first_read() {
        assert_eq!(ratio(0, 0), None);
        assert_eq!(ratio(1, 0), Some(1.0));
        assert_eq!(ratio(1, 3), Some(0.25));
        assert_eq!(ratio(u64::MAX, u64::MAX), Some(0.5));
    }

    #[test]
    fn events_have_the_form_that_scripts_read() {
        let event = FetchEvent::Progress {
            path: "/a".to_owned(),
            recorded_bytes: 1,
            readable_bytes: 2,
            total_bytes: None,
            bytes_per_second: None,
            waits_for_line: false,
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"progress","path":"/a","recorded_bytes":1,"readable_bytes":2,"total_bytes":null,"bytes_per_second":null,"waits_for_line":false}"#
        );
    }
}
