//! Statistics in the Prometheus text format, version 0.0.4.
//!
//! Labels are a status class, a level and a histogram's bound, so that neither a path nor a secret can ever become one.

use std::fmt::Write as _;
use std::time::Duration;

use chunk_manager::{Priority, Statistics};
use chunk_proxy::{LatencyHistogram, ProxyStatistics};

/// The media type of the text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The statistics as text; those of the server for players where there is one.
pub(crate) fn render(statistics: &Statistics, players: Option<&ProxyStatistics>) -> String {
    let s = statistics;
    let mut text = Text::default();
    text.counter(
        "bytes_served_total",
        "Payload bytes given to readers.",
        s.bytes_served,
    );
    text.counter(
        "bytes_served_from_cache_total",
        "Payload bytes given to readers that were there before they were asked for.",
        s.bytes_served_from_cache,
    );
    text.counter(
        "origin_bytes_total",
        "Payload bytes received from origins.",
        s.bytes_from_origin,
    );
    text.counter(
        "wasted_bytes_total",
        "Payload bytes received that were there already or were thrown away.",
        s.bytes_wasted,
    );
    text.counter("read_hits_total", "Reads that found their bytes.", s.hits);
    text.counter("read_misses_total", "Reads that had to wait.", s.misses);
    text.counter(
        "origin_requests_total",
        "Requests made to origins.",
        s.origin_requests,
    );
    text.counter(
        "origin_stripes_total",
        "Requests made to origins for a later piece, over a connection of its own.",
        s.stripes,
    );
    text.counter(
        "origin_hedges_total",
        "Requests made to origins anew because an answer was late.",
        s.hedges,
    );
    text.counter(
        "hedge_wasted_bytes_total",
        "Payload bytes received twice because of such requests.",
        s.hedge_bytes_wasted,
    );
    text.counter(
        "origin_retries_total",
        "Requests that failed and were made again.",
        s.retries,
    );
    text.counter(
        "evicted_bytes_total",
        "Bytes removed to make room.",
        s.evicted_bytes,
    );
    text.counter(
        "checksum_failures_total",
        "Blocks whose checksum did not match.",
        s.checksum_failures,
    );
    text.counter("commits_total", "Commits to the index.", s.commits);
    text.gauge(
        "transfers",
        "Transfers from origins in flight.",
        s.active_runs,
    );
    text.gauge(
        "held_transfers",
        "Transfers held back by their readers.",
        s.held_runs,
    );
    text.gauge(
        "queued_ranges",
        "Ranges waiting in the queue of explicit requests.",
        s.queued_ranges,
    );
    text.gauge("readers", "Readers now open.", s.readers);
    text.gauge("stored_bytes", "Recorded bytes now stored.", s.stored_bytes);
    text.gauge(
        "store_failing",
        "1 while the store cannot be written to and bytes are only passed through.",
        u64::from(s.store_failing),
    );
    text.summary(
        "read_wait_seconds",
        "How long readers that had to wait waited for a byte.",
        s.first_byte_nanos,
        s.first_byte_count,
    );
    text.summary(
        "stall_seconds",
        "How long readers that were being served waited, where it was more than 100 ms.",
        s.stall_nanos,
        s.stalls,
    );
    text.levels(s);
    if let Some(players) = players {
        text.players(players);
    }
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn levels(&mut self, s: &Statistics) {
        let levels = || Priority::ALL.into_iter().zip(&s.levels);
        let name = "origin_first_byte_seconds";
        let help = "From asking the origin to the first byte, by level.";
        self.head(name, help, "summary");
        for (level, of_level) in levels() {
            let sum = seconds(Duration::from_nanos(of_level.first_byte_nanos));
            let count = of_level.first_byte_count;
            self.line(format_args!("chunkd_{name}_sum{{level=\"{level}\"}} {sum}"));
            self.line(format_args!(
                "chunkd_{name}_count{{level=\"{level}\"}} {count}"
            ));
        }
        let name = "origin_bytes_by_level_total";
        let help =
            "Payload bytes received from origins, by the level at which they were asked for.";
        self.head(name, help, "counter");
        for (level, of_level) in levels() {
            let bytes = of_level.bytes_from_origin;
            self.line(format_args!("chunkd_{name}{{level=\"{level}\"}} {bytes}"));
        }
        let name = "wasted_bytes_by_level_total";
        let help = "Payload bytes received that were there already or were thrown away, by level.";
        self.head(name, help, "counter");
        for (level, of_level) in levels() {
            let bytes = of_level.bytes_wasted;
            self.line(format_args!("chunkd_{name}{{level=\"{level}\"}} {bytes}"));
        }
        let name = "stall_by_level_seconds";
        let help = "Stalls, by the level at which the byte that ended them was asked for.";
        self.head(name, help, "summary");
        for (level, of_level) in levels() {
            let sum = seconds(Duration::from_nanos(of_level.stall_nanos));
            let count = of_level.stalls;
            self.line(format_args!("chunkd_{name}_sum{{level=\"{level}\"}} {sum}"));
            self.line(format_args!(
                "chunkd_{name}_count{{level=\"{level}\"}} {count}"
            ));
        }
    }

    fn players(&mut self, p: &ProxyStatistics) {
        self.head(
            "http_answers_total",
            "Answers to players, by status class.",
            "counter",
        );
        for (class, count) in (1..).zip(p.answers) {
            self.line(format_args!(
                "chunkd_http_answers_total{{class=\"{class}xx\"}} {count}"
            ));
        }
        self.counter(
            "http_sent_bytes_total",
            "Body bytes handed to sockets.",
            p.bytes_sent,
        );
        self.counter(
            "http_accepted_total",
            "Connections ever accepted.",
            p.accepted,
        );
        self.counter(
            "http_abandoned_total",
            "Answers that the player left before their end.",
            p.abandoned,
        );
        self.counter(
            "http_broken_total",
            "Answers that were cut because their bytes could not be had.",
            p.broken,
        );
        self.gauge("http_connections", "Connections open now.", p.connections);
        self.histogram(
            "http_first_byte_seconds",
            "From a request's head to the first byte of its body.",
            &p.first_byte,
        );
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &LatencyHistogram) {
        self.head(name, help, "histogram");
        let mut cumulative = 0_u64;
        for (bound, count) in &histogram.buckets {
            cumulative = cumulative.saturating_add(*count);
            // The last bound stands for all there is.
            let bound = if *bound == Duration::MAX {
                "+Inf".to_owned()
            } else {
                seconds(*bound)
            };
            self.line(format_args!(
                "chunkd_{name}_bucket{{le=\"{bound}\"}} {cumulative}"
            ));
        }
        self.line(format_args!("chunkd_{name}_sum {}", seconds(histogram.sum)));
        self.line(format_args!("chunkd_{name}_count {cumulative}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.line(format_args!("chunkd_{name} {value}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.line(format_args!("chunkd_{name} {value}"));
    }

    fn summary(&mut self, name: &str, help: &str, nanos: u64, count: u64) {
        self.head(name, help, "summary");
        let sum = seconds(Duration::from_nanos(nanos));
        self.line(format_args!("chunkd_{name}_sum {sum}"));
        self.line(format_args!("chunkd_{name}_count {count}"));
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP chunkd_{name} {help}"));
        self.line(format_args!("# TYPE chunkd_{name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

fn seconds(duration: Duration) -> String {
    format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_help_and_type_and_a_bounded_name() {
        let mut statistics = Statistics::default();
        statistics.bytes_served = 7;
        statistics.first_byte_nanos = 1_500_000_000;
        statistics.first_byte_count = 2;
        statistics.stalls = 3;
        statistics.levels[0].first_byte_count = 4;
        statistics.levels[3].bytes_from_origin = 5;
        statistics.levels[3].bytes_wasted = 2;
        statistics.levels[1].stalls = 6;
        statistics.levels[1].stall_nanos = 2_500_000_000;
        let mut players = ProxyStatistics::default();
        players.answers = [0, 5, 0, 0, 1];
        players.first_byte.buckets = vec![(Duration::from_millis(5), 3), (Duration::MAX, 4)];
        let text = render(&statistics, Some(&players));
        for line in [
            "chunkd_bytes_served_total 7",
            "chunkd_read_wait_seconds_sum 1.500000000",
            "chunkd_read_wait_seconds_count 2",
            "chunkd_stall_seconds_count 3",
            "chunkd_origin_first_byte_seconds_count{level=\"critical\"} 4",
            "chunkd_origin_bytes_by_level_total{level=\"low\"} 5",
            "chunkd_http_answers_total{class=\"2xx\"} 5",
            "chunkd_wasted_bytes_by_level_total{level=\"low\"} 2",
            "chunkd_stall_by_level_seconds_sum{level=\"high\"} 2.500000000",
            "chunkd_stall_by_level_seconds_count{level=\"high\"} 6",
            "chunkd_http_first_byte_seconds_bucket{le=\"0.005000000\"} 3",
            "chunkd_http_first_byte_seconds_bucket{le=\"+Inf\"} 7",
            "chunkd_http_first_byte_seconds_count 7",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in:\n{text}"
            );
        }
        let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!(count("# HELP "), count("# TYPE "));
        for sample in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = sample.rsplit_once(' ').unwrap();
            assert!(name.starts_with("chunkd_"), "{name}");
            assert!(value.parse::<f64>().is_ok(), "{value}");
        }
    }

    #[test]
    fn without_a_server_for_players_there_is_nothing_of_it() {
        assert!(!render(&Statistics::default(), None).contains("chunkd_http_"));
    }
}
