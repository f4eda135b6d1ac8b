//! What must hold between any two inputs.

use chunk_core::scheduler::{SourceId, Start};
use chunk_core::{ByteRange, RangeSet};

use crate::driver::{Request, World};

impl World {
    /// Panics where a rule is broken.
    pub(crate) fn check(&self) {
        assert_eq!(self.scheduler.active_runs(), self.in_slots(), "{self:#?}");
        assert_eq!(
            self.scheduler.active_runs()
                + self.scheduler.stripes_in_flight()
                + self.scheduler.hedges_in_flight(),
            self.in_flight(),
            "{self:#?}"
        );
        let others = self.fetches - self.hedges;
        assert!(
            20 * self.hedges <= others + 20,
            "{} hedges, {others} others",
            self.hedges
        );
        // Held ones and those that are being given up included, whatever files they are of.
        for origin in 0..self.origins {
            // Of a file that is closed, nobody knows any more where it came from.
            let is_there = |run: &&Request| {
                run.source.get() % self.origins == origin && self.files.contains_key(&run.source)
            };
            let connections = self.requests.values().filter(is_there).count();
            assert!(
                connections <= self.config.max_connections,
                "{connections} connections to {origin}, {self:#?}"
            );
        }
        for run in self.requests.values() {
            let is_stuck = run.until <= run.head && run.head < run.end;
            assert!(
                !is_stuck || run.is_held || run.is_aborted,
                "{run:?} has a slot and may not read"
            );
        }
        // The ledger is compared byte by byte, which takes its time over long queues.
        let is_short = self.scheduler.queue().len() < 200;
        for (id, open) in self.files.iter().filter(|_| is_short) {
            let queued: RangeSet = self
                .scheduler
                .queue()
                .demands(*id)
                .map(|demand| demand.range)
                .collect();
            assert_eq!(queued, open.outstanding, "the ledger of {id}");
            if open.file.has_ranges {
                self.check_claims(*id);
            }
        }
        self.check_critical();
        self.check_reasons();
    }

    /// Nobody waits without a run that is to bring the byte, or a reason why there is none; and no run stands still
    /// without one.
    fn check_reasons(&self) {
        for (id, run) in &self.requests {
            let is_halted = run.is_held || run.is_aborted;
            let has_reason = self.scheduler.why_halted(*id).is_some();
            let is_of_old = !self.files.contains_key(&run.source);
            assert!(
                has_reason || !is_halted || is_of_old,
                "{run:?} stands still without a reason"
            );
        }
        for (id, (of, start, end)) in &self.readers {
            let (Some(open), Start::At(at)) = (self.files.get(of), *start) else {
                continue;
            };
            let is_over = at >= end.unwrap_or(u64::MAX).min(open.file.len);
            if is_over || open.present.contains(at) || self.disappointed.contains(id) {
                continue;
            }
            let is_alone = !open.file.has_ranges || !open.knows_length;
            let is_coming = self.requests.values().any(|run| {
                let claims = ByteRange::try_new(run.head, run.end);
                run.source == *of && (is_alone || claims.is_some_and(|range| range.contains(at)))
            });
            let mut put_back = self.scheduler.put_back().iter();
            assert!(
                is_coming || put_back.any(|one| one.reader == Some(*id)),
                "{id:?} waits for {at} of {of:?} for no reason: {self:#?}"
            );
        }
    }

    /// No byte is asked for twice, but by a hedge of the run that asks for it as well, and by one only. Where bytes
    /// cannot be kept, none is read twice: runs follow each other.
    fn check_claims(&self, id: SourceId) {
        let is_capped = self.files.get(&id).is_some_and(|open| open.is_capped);
        let mut claimed = RangeSet::new();
        let mut hedges = Vec::new();
        for (run, request) in self.requests.iter().filter(|(_, run)| run.source == id) {
            let is_known = matches!(request.asked, Start::At(_)) || request.is_answered;
            let claims = request.claims().filter(|_| is_known);
            let read = |claims: ByteRange| claims.before(request.until);
            let Some(claims) = claims.and_then(|claims| {
                if is_capped {
                    read(claims)
                } else {
                    Some(claims)
                }
            }) else {
                continue;
            };
            if claimed.intersects(claims) {
                let rival = request.hedges.and_then(|of| self.requests.get(&of));
                let rival = rival.and_then(Request::claims);
                let besides = rival.map_or(claims.len(), |rival| {
                    let mut rest: RangeSet = [claims].into_iter().collect();
                    rest.remove(rival);
                    rest.iter().filter(|&gap| claimed.intersects(gap)).count() as u64
                });
                assert_eq!(besides, 0, "two runs at one byte of {run}: {self:#?}");
                hedges.push(request.hedges);
            }
            claimed.insert(claims);
        }
        hedges.sort_unstable();
        let count = hedges.len();
        hedges.dedup();
        assert_eq!(hedges.len(), count, "two hedges of one run: {self:#?}");
    }

    /// What is critical has a run, or every slot serves something critical or is being given up for it.
    fn check_critical(&self) {
        let waiting = self
            .files
            .iter()
            .filter(|(_, open)| !open.is_troubled && open.knows_length && open.file.has_ranges)
            .filter(|(id, open)| {
                let mut critical = open.critical.iter();
                critical.any(|wanted| !self.is_served(**id, wanted.start()))
            })
            .count();
        if waiting == 0 {
            return;
        }
        let runs = self.requests.values().filter(|run| run.is_in_flight());
        let given_up = runs.clone().filter(|run| run.is_aborted).count();
        let lower = runs.filter(|run| !self.may_be_critical(run)).count();
        assert!(
            self.in_slots() == self.config.max_runs && (lower == 0 || waiting <= given_up),
            "something critical waits behind lower work: {self:#?}"
        );
    }

    fn is_served(&self, id: SourceId, at: u64) -> bool {
        self.requests
            .values()
            .filter(|run| run.source == id)
            .any(|run| {
                let is_ending =
                    run.is_aborted && run.claims().is_some_and(|claims| claims.contains(at));
                let is_coming = run.is_in_flight()
                    && run.head <= at
                    && at < run.until.min(run.end)
                    && at - run.head <= self.config.skip;
                is_ending || is_coming
            })
    }

    /// Whether a run serves something critical, as far as a driver can tell: readers keep their needs to
    /// the scheduler.
    fn may_be_critical(&self, run: &Request) -> bool {
        run.is_aborted
            || run.head >= run.end
            || self.readers.values().any(|(of, ..)| *of == run.source)
            || self.files.get(&run.source).is_none_or(|open| {
                !open.file.has_ranges
                    || !open.knows_length
                    || run
                        .claims()
                        .is_some_and(|claims| open.critical.intersects(claims))
            })
    }
}
