//! The optimum against every schedule there is, where there are few.
//!
//! Time is cut into steps and files into pieces, of which the line brings one or none in a step, so that all schedules
//! can be tried. What the fluid knows as curves is straight within a step.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::{Strategy, any, prop};
use proptest::{prop_assert, proptest};

use super::{Rates, Session, lower_bound, optimum, shared_lower_bound, shared_optimum};

/// A piece, in bytes. The line brings one in a step where it is alive.
const PIECE: u64 = 1_000;
const STEP: Duration = Duration::from_millis(500);
/// What a player plays in a step is counted in halves of a piece.
const HALF: u64 = PIECE / 2;
/// Pieces of a film: so many that nobody comes to its end, where the fluid is not exact.
const LEN: u64 = 24;
/// Where seeks go at most.
const FARTHEST: u64 = 8;

/// One player's part.
#[derive(Clone, Debug)]
struct Film {
    /// Halves of a piece that it plays in a step.
    pace: u64,
    /// Pieces that it starts with.
    least: u64,
    leaves: usize,
    /// When it goes to which piece, its start included.
    jumps: Vec<(usize, u64)>,
    pause: (usize, usize),
}

/// A line and who plays over it.
#[derive(Clone, Debug)]
struct Scene {
    /// How many steps an answer takes. Every later one comes at once.
    round_trip: usize,
    is_alive: Vec<bool>,
    films: Vec<Film>,
}

/// Which schedules are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowing {
    /// Each film in order from its playhead; whose turn it is may be known from the future.
    OwnPlayheads,
    /// The same up to the last jump; from then on whatever lies before the playhead, in any order.
    NoSeeks,
    /// Any piece of a film at any time, once its player is there.
    Everything,
}

/// What there is of one film at the beginning of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    present: u32,
    /// Halves played since the last jump.
    played: u64,
    has_started: bool,
}

fn at(step: usize) -> Duration {
    STEP * u32::try_from(step).unwrap()
}

impl Film {
    fn session(&self) -> Session {
        let rate = self.pace * HALF * 2;
        let joins = self.jumps[0].0;
        let least = self.least * PIECE;
        let mut session = Session::new(rate, least, LEN * PIECE, at(joins), at(self.leaves));
        for &(step, piece) in &self.jumps[1..] {
            session = session.seek(at(step), piece * PIECE);
        }
        session.pause(at(self.pause.0), at(self.pause.1))
    }

    /// The piece it plays from at that step, once it is there.
    fn position(&self, step: usize) -> Option<u64> {
        let jump = self.jumps.iter().rev().find(|&&(from, _)| from <= step)?;
        (step < self.leaves).then_some(jump.1)
    }

    /// The pieces that may be asked for, where the line brings `left` more.
    fn candidates(&self, step: usize, state: State, knowing: Knowing, left: usize) -> Vec<u64> {
        // A piece with more missing ones before it is never played.
        let after = |position: u64| {
            let missing = (position..LEN).filter(move |piece| state.present >> piece & 1 == 0);
            missing.take(left)
        };
        let Some(position) = self.position(step) else {
            return Vec::new();
        };
        let mut ahead = self.jumps.iter().filter(|&&(from, _)| from > step);
        match knowing {
            Knowing::Everything => {
                let later = ahead.map(|&(_, position)| position);
                let mut pieces: Vec<u64> = later.chain([position]).flat_map(after).collect();
                pieces.sort_unstable();
                pieces.dedup();
                pieces
            }
            Knowing::NoSeeks if ahead.next().is_none() => after(position).collect(),
            Knowing::NoSeeks | Knowing::OwnPlayheads => after(position).take(1).collect(),
        }
    }

    /// Plays through a step; returns the halves that it wanted and did not play.
    fn play(&self, step: usize, before: State, state: &mut State) -> u64 {
        let Some(position) = self.position(step) else {
            return 0;
        };
        let contiguous = |present: u32| -> u64 {
            let there = (position..LEN).take_while(|piece| present >> piece & 1 == 1);
            there.count() as u64
        };
        if self.jumps.iter().any(|&(from, _)| from == step) {
            state.played = 0;
            state.has_started = false;
        }
        state.has_started |= contiguous(before.present) >= self.least;
        if (self.pause.0..self.pause.1).contains(&step) {
            return 0;
        }
        let wanted = state.played + self.pace;
        if state.has_started {
            // What lies behind a piece that comes in this step is reached at its end.
            let (there, then) = (contiguous(before.present), contiguous(state.present));
            state.played = wanted.min(2 * then.min(there + 1));
        }
        wanted - state.played
    }
}

impl Scene {
    fn rates(&self) -> Rates {
        let rates = Rates::new(at(self.round_trip), 0);
        let steps = self.is_alive.iter().enumerate();
        steps.fold(rates, |rates, (step, &is_alive)| {
            rates.then(at(step), if is_alive { 2 * PIECE } else { 0 })
        })
    }

    fn sessions(&self) -> Vec<Session> {
        self.films.iter().map(Film::session).collect()
    }

    /// The least nanoseconds of waiting of all schedules of that kind.
    fn tried(&self, knowing: Knowing) -> Duration {
        let mut known = HashMap::new();
        let states = vec![State::default(); self.films.len()];
        Duration::from_nanos(self.least(0, &states, knowing, &mut known))
    }

    fn least(
        &self,
        step: usize,
        states: &[State],
        knowing: Knowing,
        known: &mut HashMap<(usize, Vec<State>), u64>,
    ) -> u64 {
        if step == self.is_alive.len() {
            return 0;
        }
        let key = (step, states.to_vec());
        if let Some(&least) = known.get(&key) {
            return least;
        }
        // Nothing may be asked for as well.
        let mut choices: Vec<Option<(usize, u64)>> = vec![None];
        if self.is_alive[step] {
            let left = self.is_alive[step..].iter().filter(|&&is_alive| is_alive);
            let left = left.count();
            for (number, film) in self.films.iter().enumerate() {
                if step < film.jumps[0].0 + self.round_trip {
                    continue;
                }
                let pieces = film.candidates(step, states[number], knowing, left);
                choices.extend(pieces.into_iter().map(|piece| Some((number, piece))));
            }
        }
        let mut least = u64::MAX;
        for choice in choices {
            let mut after = states.to_vec();
            if let Some((number, piece)) = choice {
                after[number].present |= 1 << piece;
            }
            let mut waited = 0;
            for ((film, &before), after) in self.films.iter().zip(states).zip(&mut after) {
                let missing = film.play(step, before, after);
                waited += missing * nanos(STEP) / film.pace;
            }
            waited += self.least(step + 1, &after, knowing, known);
            least = least.min(waited);
        }
        known.insert(key, least);
        least
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

/// Instants are rounded to nanoseconds, a few of them in each film.
const ROUNDING: Duration = Duration::from_micros(1);

/// A film with up to `jumps` seeks.
fn film(steps: usize, jumps: usize) -> impl Strategy<Value = Film> {
    let jumps = prop::collection::btree_map(1..steps, 0..=FARTHEST, 0..=jumps);
    let shape = (1..=4_u64, 0..=2_u64, 0..steps / 2, 2..=steps);
    let pause = (0..steps, 0..3_usize);
    (shape, jumps, pause).prop_map(|((pace, least, joins, leaves), jumps, (from, time))| {
        let leaves = leaves.max(joins + 1);
        let jumps = jumps
            .into_iter()
            .filter(|&(step, _)| joins < step && step < leaves);
        let from = from.max(joins).min(leaves);
        Film {
            pace,
            least,
            leaves,
            jumps: [(joins, 0)].into_iter().chain(jumps).collect(),
            pause: (from, (from + time).min(leaves)),
        }
    })
}

fn scene(
    steps: usize,
    round_trip: usize,
    films: impl Strategy<Value = Vec<Film>>,
) -> impl Strategy<Value = Scene> {
    let is_alive = prop::collection::vec(any::<bool>(), steps);
    (0..=round_trip, is_alive, films).prop_map(|(round_trip, is_alive, films)| Scene {
        round_trip,
        is_alive,
        films,
    })
}

fn alone(steps: usize, round_trip: usize, jumps: usize) -> impl Strategy<Value = Scene> {
    let films = film(steps, jumps).prop_map(|film| vec![film]);
    scene(steps, round_trip, films)
}

proptest! {
    /// Whoever cannot know the seeks can only see to it that as much as possible of the present film is played by
    /// whenever it ends: none of the schedules does so better than the optimum, and one does so as well.
    #[test]
    fn one_player_waits_as_long_as_in_the_best_schedule_without_a_seek(scene in alone(10, 3, 0)) {
        let least = scene.tried(Knowing::NoSeeks);
        let optimum = optimum(&scene.rates(), &scene.films[0].session());
        prop_assert!(optimum.abs_diff(least) <= ROUNDING, "{optimum:?}, tried {least:?}");
    }

    #[test]
    fn one_player_waits_as_long_as_in_the_best_schedule_after_each_seek(scene in alone(10, 0, 3)) {
        let least = scene.tried(Knowing::NoSeeks);
        let optimum = optimum(&scene.rates(), &scene.films[0].session());
        prop_assert!(optimum.abs_diff(least) <= ROUNDING, "{optimum:?}, tried {least:?}");
    }

    #[test]
    fn no_schedule_of_one_player_is_better_than_the_bound(scene in alone(9, 2, 2)) {
        let least = scene.tried(Knowing::Everything);
        let bound = lower_bound(&scene.rates(), &scene.films[0].session());
        prop_assert!(bound <= least + ROUNDING, "{bound:?}, tried {least:?}");
    }

    #[test]
    fn no_schedule_of_several_players_is_better_than_the_optimum(
        scene in scene(9, 0, prop::collection::vec(film(9, 2), 2..=3)),
    ) {
        let least = scene.tried(Knowing::OwnPlayheads);
        let optimum = shared_optimum(&scene.rates(), &scene.sessions());
        prop_assert!(optimum <= least + ROUNDING, "{optimum:?}, tried {least:?}");
    }

    #[test]
    fn no_schedule_of_several_players_is_better_than_the_bound(
        scene in scene(8, 1, prop::collection::vec(film(8, 2), 2)),
    ) {
        let least = scene.tried(Knowing::Everything);
        let bound = shared_lower_bound(&scene.rates(), &scene.sessions());
        prop_assert!(bound <= least + ROUNDING, "{bound:?}, tried {least:?}");
    }

    /// Without start-ups players of one rate lose no second but those that the line does not bring, and what a piece
    /// cannot be shared.
    #[test]
    fn several_players_that_are_alike_wait_as_long_as_in_the_best_schedule(
        is_alive in prop::collection::vec(any::<bool>(), 8),
        pace in 1..=2_u64,
        count in 1..=3_u32,
    ) {
        let film = Film { pace, least: 0, leaves: 8, jumps: vec![(0, 0)], pause: (8, 8) };
        let films = vec![film; count as usize];
        let scene = Scene { round_trip: 0, is_alive, films };
        let optimum = shared_optimum(&scene.rates(), &scene.sessions());
        let least = scene.tried(Knowing::OwnPlayheads);
        prop_assert!(optimum <= least + ROUNDING, "{optimum:?}, tried {least:?}");
        prop_assert!(least <= optimum + STEP * (count - 1) + ROUNDING, "{optimum:?}, tried {least:?}");
    }
}
