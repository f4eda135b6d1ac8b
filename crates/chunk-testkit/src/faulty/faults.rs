//! Which calls fail, and how.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rng::Rng;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No room; nothing was done.
    Full,
    /// What is stored cannot be trusted; nothing was done.
    Corrupt,
    /// Not now; nothing was done.
    Unavailable,
    /// The call was carried out, and yet the caller is told that the store is unavailable: the
    /// connection broke after the commit.
    AppliedButUnavailable,
    /// The call is not carried out, and never returns.
    Silent,
}

/// The faults of one store: a handle whose clones are one. `M` names the store's methods.
///
/// Calls are counted per method from 1, from the time the store was made. Where several rules concern one
/// call, the order is: store down, this call, the method, by seed.
#[derive(Debug)]
pub struct Faults<M> {
    state: Arc<Mutex<State<M>>>,
}

#[derive(Debug)]
struct State<M> {
    down: bool,
    by_call: BTreeMap<(M, u64), Fault>,
    by_method: BTreeMap<M, Fault>,
    by_seed: Option<BySeed>,
    calls: BTreeMap<M, u64>,
    failed: u64,
}

#[derive(Debug)]
struct BySeed {
    rng: Rng,
    one_in: u64,
    faults: Vec<Fault>,
}

impl<M: Copy + Ord + Debug> Faults<M> {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                down: false,
                by_call: BTreeMap::new(),
                by_method: BTreeMap::new(),
                by_seed: None,
                calls: BTreeMap::new(),
                failed: 0,
            })),
        }
    }

    /// Switches the whole store off (every call is unavailable) and on again.
    pub fn fail_all(&self, down: bool) {
        self.lock().down = down;
    }

    /// Fails call number `call` of `method`.
    pub fn fail_call(&self, method: M, call: u64, fault: Fault) {
        self.lock().by_call.insert((method, call), fault);
    }

    /// Fails the next call of `method`.
    pub fn fail_next(&self, method: M, fault: Fault) {
        let mut state = self.lock();
        let next = state.calls.get(&method).copied().unwrap_or(0) + 1;
        state.by_call.insert((method, next), fault);
    }

    /// Fails every call of `method` from now on; `None` ends that.
    pub fn fail_every(&self, method: M, fault: Option<Fault>) {
        let mut state = self.lock();
        match fault {
            Some(fault) => state.by_method.insert(method, fault),
            None => state.by_method.remove(&method),
        };
    }

    /// Fails about one call in `one_in`, of any method, with one of `faults`; `seed` decides which. The
    /// same calls in the same order fail alike.
    ///
    /// # Panics
    /// Where `one_in` is 0 or `faults` is empty.
    pub fn fail_by_seed(&self, seed: u64, one_in: u64, faults: &[Fault]) {
        assert!(
            one_in > 0 && !faults.is_empty(),
            "a share and a choice of faults"
        );
        self.lock().by_seed = Some(BySeed {
            rng: Rng::new(seed),
            one_in,
            faults: faults.to_vec(),
        });
    }

    /// Forgets every rule; the counters stay.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.down = false;
        state.by_call.clear();
        state.by_method.clear();
        state.by_seed = None;
    }

    /// How often `method` was called, failed calls included.
    #[must_use]
    pub fn calls(&self, method: M) -> u64 {
        self.lock().calls.get(&method).copied().unwrap_or(0)
    }

    /// How often any method was called.
    #[must_use]
    pub fn all_calls(&self) -> u64 {
        self.lock().calls.values().sum()
    }

    /// How many calls were made to fail.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.lock().failed
    }

    /// Counts a call and says how it fails, if it does.
    pub(super) fn on_call(&self, method: M) -> Option<Fault> {
        let mut state = self.lock();
        let calls = state.calls.entry(method).or_default();
        *calls += 1;
        let this = (method, *calls);
        // Drawn for every call, so that the other rules do not shift which calls the seed chooses.
        let drawn = state.by_seed.as_mut().and_then(BySeed::draw);
        let scripted = state.by_call.remove(&this);
        let fault = if state.down {
            Some(Fault::Unavailable)
        } else {
            scripted
                .or_else(|| state.by_method.get(&method).copied())
                .or(drawn)
        };
        if fault.is_some() {
            state.failed += 1;
        }
        fault
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Clone for Faults<M> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

impl BySeed {
    fn draw(&mut self) -> Option<Fault> {
        let hit = self.rng.below(self.one_in) == 0;
        let choice = self.rng.below(self.faults.len() as u64);
        let choice = usize::try_from(choice).ok()?;
        self.faults.get(choice).copied().filter(|_| hit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(faults: &Faults<u8>, calls: usize) -> Vec<Option<Fault>> {
        (0..calls).map(|_| faults.on_call(0)).collect()
    }

    #[test]
    fn the_named_call_fails_and_no_other() {
        let faults = Faults::new();
        faults.fail_call(0, 2, Fault::Full);
        assert_eq!(trace(&faults, 3), [None, Some(Fault::Full), None]);
        assert_eq!(faults.on_call(1), None);
        assert_eq!((faults.calls(0), faults.calls(1)), (3, 1));
        assert_eq!((faults.all_calls(), faults.failed()), (4, 1));
    }

    #[test]
    fn the_next_call_is_counted_from_now() {
        let faults = Faults::new();
        trace(&faults, 2);
        faults.fail_next(0, Fault::Corrupt);
        assert_eq!(trace(&faults, 2), [Some(Fault::Corrupt), None]);
    }

    #[test]
    fn a_store_that_is_down_comes_back() {
        let faults = Faults::new();
        faults.fail_all(true);
        assert_eq!(trace(&faults, 2), [Some(Fault::Unavailable); 2]);
        faults.fail_all(false);
        assert_eq!(trace(&faults, 1), [None]);
    }

    #[test]
    fn a_method_fails_until_told_otherwise() {
        let faults = Faults::new();
        faults.fail_every(0, Some(Fault::Full));
        assert_eq!(trace(&faults, 2), [Some(Fault::Full); 2]);
        assert_eq!(faults.on_call(1), None);
        faults.fail_every(0, None);
        assert_eq!(trace(&faults, 1), [None]);
    }

    #[test]
    fn equal_seeds_fail_alike_and_other_seeds_differ() {
        let run = |seed| {
            let faults = Faults::new();
            faults.fail_by_seed(seed, 3, &[Fault::Full, Fault::Unavailable]);
            trace(&faults, 200)
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let failed = run(7).iter().flatten().count();
        assert!((40..100).contains(&failed), "{failed} of 200");
    }

    #[test]
    fn clearing_ends_every_rule_and_keeps_the_counters() {
        let faults = Faults::new();
        let handle = faults.clone();
        handle.fail_all(true);
        faults.fail_every(0, Some(Fault::Full));
        faults.fail_by_seed(1, 1, &[Fault::Full]);
        faults.fail_call(0, 1, Fault::Full);
        faults.clear();
        assert_eq!(trace(&faults, 1), [None]);
        assert_eq!(handle.calls(0), 1);
    }
}
