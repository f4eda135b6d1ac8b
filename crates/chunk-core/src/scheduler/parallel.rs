//! How many connections an origin is read over.
//!
//! One, while one fills the line. Only trying shows whether it does: some origins limit each connection,
//! and on a long path a single one never gets going. So once bytes arrive evenly the number is doubled, and
//! kept where the total grew; where it did not, the line is full, which is remembered for a while.
//!
//! ```text
//! rate   the bytes of two successive spells of 60 ms ÷ their time, once the second is at most 5/4 of the
//!        first (still rising means that the connection is still getting going); of one spell, where it
//!        shows three quarters of what a gain in proportion would be
//! keep   total after ≥ 5/4 · total before (for the second connection), ≥ 9/8 (for further ones)
//! down   half as many, once the memory of a failed trial has passed: kept where the total is ≥ 15/16
//! level  where the gain is not in proportion: ⌈total after ÷ what one brought before⌉ + 1
//! ```

use core::time::Duration;

use crate::Tick;

/// What has been found out about one line.
#[derive(Debug)]
pub(super) struct Parallel {
    /// How many connections it is read over while one want has the line.
    level: usize,
    trial: Option<Trial>,
    /// How many times as many the next trial takes.
    factor: usize,
    /// No trial before then, unless the rate has become another one than `full_rate`.
    full_until: Tick,
    full_rate: u64,
    /// Whether a trial has ever failed, so that trying is no more than looking for a change.
    is_limit_known: bool,
    /// What was found to be of use is left alone until then.
    kept_until: Tick,
    /// How long the next failed trial is remembered.
    memory: Duration,
    /// Whether the next trial is one with half as many: lines change, and each connection costs both ends.
    is_down_next: bool,
    meter: Meter,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The level before.
    from: usize,
    /// The total before, in bytes a second.
    before: u64,
    since: Tick,
    /// Whether all its connections have been seen to deliver.
    is_flowing: bool,
    /// How many connections find something to do at present.
    reach: usize,
    /// Whether it has been judged once and found of no use.
    is_doubtful: bool,
}

/// The total rate, over spells that are long enough to mean something.
#[derive(Debug, Default)]
struct Meter {
    since: Option<Tick>,
    bytes: u64,
    /// The largest arrival.
    largest: u64,
    last: Option<(u64, Duration)>,
}

impl Parallel {
    /// How long a failed trial is remembered at first; each further one doubles it, up to [`Self::LONGEST`].
    const MEMORY: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(320);
    /// A trial whose connections do not all answer in this time has failed.
    const PATIENCE: Duration = Duration::from_secs(2);
    /// How long after a step down the next one is tried.
    const DOWN_AGAIN: Duration = Duration::from_secs(1);
    /// When to try again where there was too little to fetch for a trial.
    const AGAIN: Duration = Duration::from_millis(100);

    pub(super) const fn new() -> Self {
        Self {
            level: 1,
            trial: None,
            factor: 2,
            full_until: Tick::ZERO,
            full_rate: 0,
            is_limit_known: false,
            kept_until: Tick::ZERO,
            memory: Self::MEMORY,
            is_down_next: false,
            meter: Meter::new(),
        }
    }

    pub(super) const fn level(&self) -> usize {
        self.level
    }

    /// What a connection brought when a trial was last judged, in bytes a second; 0 while nobody knows.
    pub(super) const fn known_single(&self) -> u64 {
        match self.full_rate.checked_div(self.level as u64) {
            Some(rate) => rate,
            None => 0,
        }
    }

    /// Whether more connections than these have been tried in vain.
    pub(super) const fn is_limit_known(&self) -> bool {
        self.is_limit_known
    }

    pub(super) fn arrived(&mut self, bytes: u64) {
        self.meter.bytes = self.meter.bytes.saturating_add(bytes);
        self.meter.largest = self.meter.largest.max(bytes);
    }

    /// Something else shares the line from now on, or nothing is read: what was measured so far says
    /// nothing, and a trial under way is off.
    pub(super) fn disturbed(&mut self) {
        self.meter = Meter::new();
        if let Some(trial) = self.trial.take() {
            self.level = trial.from;
        }
    }

    /// What is read now began at `since`: a trial for what was read before would hold that up.
    pub(super) fn turned(&mut self, since: Tick) {
        if self.trial.is_some_and(|trial| trial.since < since) {
            self.disturbed();
        }
    }

    /// `count` connections find something to do, the level or fewer.
    pub(super) fn bounded(&mut self, now: Tick, count: usize) {
        let Some(trial) = &mut self.trial else {
            return;
        };
        if trial.from > self.level {
            return;
        }
        trial.reach = count.min(self.level);
        if count <= trial.from {
            self.level = trial.from;
            self.trial = None;
            self.meter = Meter::new();
            self.full_until = now + Self::AGAIN;
        }
    }

    /// A connection beyond the first was refused: `left` are left, and are enough.
    pub(super) fn refused(&mut self, now: Tick, left: usize, retry_after: Option<Duration>) {
        self.trial = None;
        self.meter = Meter::new();
        self.level = left.max(1);
        self.full_rate = 0;
        self.memory = Self::LONGEST;
        self.full_until = now + retry_after.unwrap_or_default().max(Self::LONGEST);
    }

    /// Judges what has arrived. `flowing` connections deliver; up to `most` may be tried, 1 where there is
    /// no call for more.
    pub(super) fn judge(&mut self, now: Tick, flowing: usize, most: usize, spell: Duration) {
        if let Some(trial) = &mut self.trial
            && !trial.is_flowing
        {
            if flowing >= trial.reach {
                trial.is_flowing = true;
                self.meter = Meter::new();
            } else if now.since(trial.since) > Self::PATIENCE {
                self.fail(now);
                return;
            }
        }
        let clear = match self.trial {
            Some(trial) if trial.is_flowing && trial.from == 1 => trial.clear_gain(),
            _ => u64::MAX,
        };
        let Some(rate) = self.meter.rate(now, flowing, spell, clear) else {
            return;
        };
        match self.trial {
            Some(trial) if trial.is_flowing => self.conclude(now, trial, rate),
            Some(_) => return,
            None => {}
        }
        let is_another = self.full_rate == 0
            || rate > self.full_rate.saturating_mul(3) / 2
            || rate < self.full_rate / 3 * 2;
        let may_try = now >= self.full_until || is_another && self.full_rate > 0;
        let is_worth_more = self.is_worth_trying(most);
        // Where there can be no more, fewer are tried now and then all the same.
        let is_at_cap = most > 1 && !is_worth_more && (now >= self.kept_until || is_another);
        let may_step_down = may_try && (self.is_down_next || is_at_cap);
        if self.trial.is_none() && may_step_down && self.level > 1 {
            self.trial = Some(Trial {
                from: self.level,
                before: rate,
                since: now,
                is_flowing: true,
                reach: self.level,
                is_doubtful: false,
            });
            self.level = self.level.div_ceil(2);
            self.meter = Meter::new();
        } else if self.trial.is_none() && may_try && is_worth_more {
            let level = self.level.saturating_mul(self.factor).min(most);
            self.trial = Some(Trial {
                from: self.level,
                before: rate,
                since: now,
                is_flowing: false,
                reach: level,
                is_doubtful: false,
            });
            self.level = level;
            self.meter = Meter::new();
        }
    }

    /// Whether so many connections can bring so much more that they would be kept.
    const fn is_worth_trying(&self, most: usize) -> bool {
        most > self.level
            && (self.level == 1 || most.saturating_mul(8) >= self.level.saturating_mul(9))
    }

    fn conclude(&mut self, now: Tick, trial: Trial, after: u64) {
        if trial.from > self.level {
            self.conclude_down(now, trial, after);
            return;
        }
        let (numerator, denominator) = if trial.from == 1 { (5, 4) } else { (9, 8) };
        if u128::from(after) * denominator < u128::from(trial.before) * numerator {
            // Between pieces a connection may have nothing to do, which costs a trial of many its due: they are
            // judged twice.
            if trial.from == 1 || trial.is_doubtful {
                self.fail(now);
            } else if let Some(trial) = &mut self.trial {
                trial.is_doubtful = true;
                self.meter = Meter::new();
            }
            return;
        }
        self.trial = None;
        self.memory = Self::MEMORY;
        self.full_rate = after;
        self.kept_until = now + Self::MEMORY;
        let (from, level) = (trial.from as u64, trial.reach.max(1) as u64);
        let single = (trial.before / from).max(1);
        let needed = after.div_ceil(single).saturating_add(1);
        // In proportion, but for a fifth: then the connections were the limit, and the next step may be longer.
        if after / level >= single - single / 5 {
            self.factor = 4;
        } else {
            // Trying goes on until it fails: what was measured while pieces began and ended is uncertain.
            self.factor = 2;
            self.level = usize::try_from(needed.min(level))
                .unwrap_or(trial.from)
                .max(trial.from);
        }
    }

    /// Fewer stay where they lose no more than a sixteenth.
    fn conclude_down(&mut self, now: Tick, trial: Trial, after: u64) {
        let is_enough = u128::from(after) * 16 >= u128::from(trial.before) * 15;
        if !is_enough {
            self.fail(now);
            return;
        }
        self.trial = None;
        self.full_rate = after;
        self.full_until = now + Self::DOWN_AGAIN;
        self.memory = Self::MEMORY;
        self.is_down_next = self.level > 1;
    }

    fn fail(&mut self, now: Tick) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        self.is_down_next = self.level > trial.from && trial.from > 1;
        self.level = trial.from;
        self.meter = Meter::new();
        self.factor = 2;
        self.is_limit_known = true;
        self.full_rate = trial.before;
        self.full_until = now + self.memory;
        self.memory = (self.memory * 2).min(Self::LONGEST);
    }
}

impl Trial {
    /// A total at which one spell is enough to see the gain: three quarters of what proportion would bring.
    fn clear_gain(&self) -> u64 {
        let more = (self.reach.saturating_sub(self.from)) as u64;
        let single = self.before / self.from.max(1) as u64;
        self.before
            .saturating_add(single.saturating_mul(more) / 4 * 3)
    }
}

impl Meter {
    const fn new() -> Self {
        Self {
            since: None,
            bytes: 0,
            largest: 0,
            last: None,
        }
    }

    /// A spell has at least so many arrivals on each connection, since one more or less of them is chance: two
    /// spells of 8 are right to a sixteenth.
    const ARRIVALS: u64 = 8;

    /// Bytes a second over the last two spells, once they are even; over one of them, where that is `clear` or
    /// more.
    fn rate(&mut self, now: Tick, flowing: usize, spell: Duration, clear: u64) -> Option<u64> {
        let Some(since) = self.since else {
            self.since = Some(now);
            self.bytes = 0;
            return None;
        };
        let time = now.since(since);
        let least = (flowing as u64)
            .saturating_mul(Self::ARRIVALS)
            .saturating_mul(self.largest);
        if time < spell || time.is_zero() || self.bytes < least {
            return None;
        }
        let bytes = core::mem::take(&mut self.bytes);
        self.since = Some(now);
        if per_second(bytes, time) >= clear {
            return Some(per_second(bytes, time));
        }
        let (before, earlier) = self.last.replace((bytes, time))?;
        let is_even = per_second(bytes, time) <= per_second(before, earlier).saturating_mul(5) / 4;
        is_even.then(|| per_second(bytes.saturating_add(before), time.saturating_add(earlier)))
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}
