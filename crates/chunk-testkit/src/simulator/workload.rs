//! Random workloads that replay, and how the scheduler does on them.
//!
//! A [`Workload`] is a script: a link whose rate changes, now and then to nothing for a moment, and players that
//! come, seek, pause and go, perhaps beside copies and files asked for in advance. The script is all that chance
//! decides; the players' part of it is also what the [`optimum`](super::optimum) is computed from.
//!
//! ```
//! use chunk_core::scheduler::Config;
//! use chunk_testkit::simulator::workload::Workload;
//!
//! let result = Workload::random(7).play(Config::default());
//! assert!(result.lower_bound <= result.optimum && result.optimum <= result.waited);
//! assert_eq!(result, Workload::random(7).play(Config::default()));
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chunk_core::Priority;
use chunk_core::scheduler::{Config, ReaderId};

use super::optimum::{Rates, Session, optimum, shared_lower_bound, shared_optimum};
use super::random::Random;
use super::{Link, Player, Report, Simulation};

/// What happens on a link, from the first to the last moment.
#[derive(Debug)]
pub struct Workload {
    seed: u64,
    round_trip: Duration,
    rate: u64,
    steps: Vec<(Duration, u64)>,
    watchers: Vec<Watcher>,
    others: Vec<(Duration, Other)>,
    are_rates_told: bool,
}

/// How a workload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// For how long players had no picture: starts, seeks and stalls.
    pub waited: Duration,
    /// The part of it that the slowest of them had beyond its own optimum alone on the link.
    pub worst_excess: Duration,
    /// The least it can be where seeks are not known in advance.
    pub optimum: Duration,
    /// The least it can be where they are.
    pub lower_bound: Duration,
    /// What the simulation came to.
    pub report: Report,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Rate(u64),
    Joins(usize),
    Seeks(usize, u64),
    Pauses(usize),
    Resumes(usize),
    Leaves(usize),
    Comes(Other),
}

/// Who is not a player.
#[derive(Clone, Copy, Debug)]
enum Other {
    Copy(u64),
    Precache(u64, Priority),
}

/// A player's part.
#[derive(Debug)]
struct Watcher {
    rate: u64,
    len: u64,
    buffer: Duration,
    joins: Duration,
    leaves: Duration,
    seeks: Vec<(Duration, u64)>,
    pauses: Vec<(Duration, Duration)>,
}

/// What a workload takes.
const TIME: Duration = Duration::from_secs(60);
/// 1 Mbit/s, in bytes.
const MBIT: u64 = 125_000;

impl Workload {
    /// The workload of that number.
    ///
    /// One to four players of 2 to 25 Mbit/s on a link, 5 to 150 ms away, of 0.8 to 4 times what they need in
    /// all.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let players = 1 + random.below(4);
        let watchers: Vec<Watcher> = (0..players).map(|_| Watcher::random(&mut random)).collect();
        let needed: u64 = watchers.iter().map(|watcher| watcher.rate).sum();
        let rate = needed * (80 + random.below(320)) / 100;
        let mut others = Vec::new();
        if random.below(3) == 0 {
            others.push((when(&mut random), Other::Copy(rate * 100)));
        }
        if random.below(3) == 0 {
            let priority = [Priority::Medium, Priority::Low][usize::from(random.below(2) == 1)];
            others.push((when(&mut random), Other::Precache(rate * 100, priority)));
        }
        Self {
            seed,
            round_trip: Duration::from_millis(5 + random.below(146)),
            rate,
            steps: steps(&mut random, rate),
            watchers,
            others,
            are_rates_told: false,
        }
    }

    /// The same where the scheduler is told each film's rate when it is opened.
    #[must_use]
    pub const fn with_told_rates(mut self) -> Self {
        self.are_rates_told = true;
        self
    }

    /// One player that seeks about every five seconds over a link that it nearly fills: the hardest line of the
    /// benchmark, where waiting cannot be helped.
    #[must_use]
    pub fn tight(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let rate = 8 * MBIT;
        let mut watcher = Watcher {
            rate,
            len: rate * 1_200,
            buffer: Duration::from_secs(10),
            joins: Duration::ZERO,
            leaves: TIME,
            seeks: Vec::new(),
            pauses: Vec::new(),
        };
        let mut at = random.around(Duration::from_secs(5));
        while at < TIME {
            watcher.seeks.push((at, random.below(rate * 1_100)));
            at += random.around(Duration::from_secs(5));
        }
        Self {
            seed,
            round_trip: Duration::from_millis(50),
            rate: 84 * MBIT / 10,
            steps: Vec::new(),
            watchers: vec![watcher],
            others: Vec::new(),
            are_rates_told: false,
        }
    }

    /// Plays it all.
    #[must_use]
    pub fn play(&self, config: Config) -> Outcome {
        let link = Link::new(self.round_trip, self.rate);
        let mut simulation = Simulation::new(config, link, self.seed);
        let mut readers: BTreeMap<usize, ReaderId> = BTreeMap::new();
        let mut waits: BTreeMap<usize, Duration> = BTreeMap::new();
        let mut now = Duration::ZERO;
        for (at, event) in self.events() {
            if at > now {
                simulation.run(at - now);
                now = at;
            }
            match event {
                Event::Rate(rate) => simulation.set_rate(rate),
                Event::Joins(number) => {
                    if let Some(watcher) = self.watchers.get(number) {
                        let mut player = watcher.player();
                        if self.are_rates_told {
                            player = player.with_told_rate();
                        }
                        let reader = simulation.add_player(watcher.len, player);
                        readers.insert(number, reader);
                    }
                }
                Event::Comes(Other::Copy(len)) => {
                    simulation.add_copy(len);
                }
                Event::Comes(Other::Precache(len, priority)) => {
                    simulation.add_precache(len, priority);
                }
                Event::Seeks(number, to) => on(&readers, number, |id| simulation.seek(id, to)),
                Event::Pauses(number) => on(&readers, number, |id| simulation.pause(id)),
                Event::Resumes(number) => on(&readers, number, |id| simulation.resume(id)),
                Event::Leaves(number) => on(&readers, number, |id| {
                    waits.insert(number, simulation.leave(id));
                }),
            }
        }
        let report = simulation.run(TIME.saturating_sub(now));
        let (rates, sessions) = (self.rates(), self.sessions());
        let excess = sessions.iter().enumerate().map(|(number, session)| {
            let waited = waits.get(&number).copied().unwrap_or_default();
            waited.saturating_sub(optimum(&rates, session))
        });
        Outcome {
            waited: waits.values().sum(),
            worst_excess: excess.max().unwrap_or_default(),
            optimum: shared_optimum(&rates, &sessions),
            lower_bound: shared_lower_bound(&rates, &sessions),
            report,
        }
    }

    /// How many players there are.
    #[must_use]
    pub const fn players(&self) -> usize {
        self.watchers.len()
    }

    /// What is lost if every seek and every departure throws away a second of film.
    #[must_use]
    pub fn second_a_jump(&self) -> u64 {
        self.watchers
            .iter()
            .map(|watcher| watcher.rate * (watcher.seeks.len() as u64 + 1))
            .sum()
    }

    /// In order; what happens at one instant happens in the order of this function.
    fn events(&self) -> Vec<(Duration, Event)> {
        let mut events: Vec<(Duration, Event)> = self
            .steps
            .iter()
            .map(|&(at, rate)| (at, Event::Rate(rate)))
            .collect();
        for (number, watcher) in self.watchers.iter().enumerate() {
            events.push((watcher.joins, Event::Joins(number)));
            for &(at, to) in &watcher.seeks {
                events.push((at, Event::Seeks(number, to)));
            }
            for &(from, until) in &watcher.pauses {
                events.push((from, Event::Pauses(number)));
                events.push((until, Event::Resumes(number)));
            }
            events.push((watcher.leaves, Event::Leaves(number)));
        }
        for &(at, other) in &self.others {
            events.push((at, Event::Comes(other)));
        }
        // The sort is stable.
        events.sort_by_key(|&(at, _)| at);
        events
    }

    fn rates(&self) -> Rates {
        let rates = Rates::new(self.round_trip, self.rate);
        self.steps
            .iter()
            .fold(rates, |rates, &(at, rate)| rates.then(at, rate))
    }

    fn sessions(&self) -> Vec<Session> {
        self.watchers.iter().map(Watcher::session).collect()
    }
}

/// Enough to judge a seed by.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} away, {} Mbit/s, {} steps;",
            self.round_trip,
            self.rate / MBIT,
            self.steps.len()
        )?;
        for watcher in &self.watchers {
            write!(
                f,
                " {} Mbit/s {:.0?}..{:.0?} {} seeks {} pauses;",
                watcher.rate / MBIT,
                watcher.joins,
                watcher.leaves,
                watcher.seeks.len(),
                watcher.pauses.len()
            )?;
        }
        for (at, other) in &self.others {
            match other {
                Other::Copy(_) => write!(f, " copy from {at:.0?};")?,
                Other::Precache(_, priority) => write!(f, " {priority:?} from {at:.0?};")?,
            }
        }
        Ok(())
    }
}

impl Watcher {
    fn random(random: &mut Random) -> Self {
        let rate = (2 + random.below(24)) * MBIT;
        let joins = match random.below(2) {
            0 => Duration::ZERO,
            _ => Duration::from_millis(random.below(20_000)),
        };
        let leaves = match random.below(3) {
            0 => joins + Duration::from_millis(10_000 + random.below(30_000)),
            _ => TIME,
        };
        let mut watcher = Self {
            rate,
            // Nobody comes to the end.
            len: rate * 1_200,
            buffer: Duration::from_millis(1_000 + random.below(14_000)),
            joins,
            leaves,
            seeks: Vec::new(),
            pauses: Vec::new(),
        };
        if random.below(3) > 0 {
            let mean = Duration::from_millis(1_000 + random.below(29_000));
            let mut at = joins + random.around(mean);
            while at < leaves {
                watcher.seeks.push((at, random.below(rate * 1_100)));
                at += random.around(mean);
            }
        }
        if random.below(3) == 0 {
            let from = joins + Duration::from_millis(random.below(8_000));
            let until = from + Duration::from_millis(500 + random.below(20_000));
            watcher.pauses.push((from, until.min(leaves)));
        }
        watcher
    }

    const fn player(&self) -> Player {
        Player::new(self.rate).with_buffer(self.buffer)
    }

    fn session(&self) -> Session {
        let start = self.player().start_bytes();
        let mut session = Session::new(self.rate, start, self.len, self.joins, self.leaves);
        for &(at, position) in &self.seeks {
            session = session.seek(at, position);
        }
        for &(from, until) in &self.pauses {
            session = session.pause(from, until);
        }
        session
    }
}

fn on(readers: &BTreeMap<usize, ReaderId>, number: usize, act: impl FnOnce(ReaderId)) {
    if let Some(&reader) = readers.get(&number) {
        act(reader);
    }
}

fn when(random: &mut Random) -> Duration {
    Duration::from_millis(random.below(30_000))
}

/// Up to three new rates, from half to one and a half times the first one, and up to four moments of nothing.
fn steps(random: &mut Random, rate: u64) -> Vec<(Duration, u64)> {
    let mut changes: Vec<(Duration, u64)> = (0..random.below(4))
        .map(|_| {
            let at = Duration::from_millis(random.below(60_000));
            (at, rate * (50 + random.below(100)) / 100)
        })
        .collect();
    changes.sort_unstable();
    let mut steps = changes.clone();
    for _ in 0..random.below(5) {
        let from = Duration::from_millis(random.below(58_000));
        let until = from + Duration::from_millis(50 + random.below(751));
        // Changes in the gap come into force at its end.
        let last = changes.iter().rev().find(|&&(at, _)| at <= until);
        steps.retain(|&(at, _)| at < from || at > until);
        let back = last.map_or(rate, |&(_, rate)| rate);
        steps.push((from, 0));
        steps.push((until, back));
        steps.sort_by_key(|&(at, _)| at);
    }
    steps
}
