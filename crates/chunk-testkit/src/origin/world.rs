//! The objects of an origin and the script of its faults, shared by its two forms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::answer::Answer;
use super::fault::{Fault, When};
use super::journal::Journal;
use super::object::OriginObject;
use super::request::Request;

#[derive(Debug, Default)]
struct Shelf {
    objects: BTreeMap<String, OriginObject>,
    scripts: BTreeMap<String, Script>,
}

#[derive(Debug, Default)]
struct Script {
    asked: u64,
    faults: Vec<(When, Fault)>,
}

/// Objects, faults and the journal. Clones share everything.
#[derive(Clone, Debug)]
pub struct OriginWorld {
    shelf: Arc<Mutex<Shelf>>,
    journal: Journal,
    /// How often the test has released what is stalled.
    releases: Arc<watch::Sender<u64>>,
    line: Arc<Mutex<LineState>>,
}

/// Whether connections can be made, for the form that has none of its own.
#[derive(Debug, Default)]
struct LineState {
    is_cut: bool,
    refused: u64,
}

impl Default for OriginWorld {
    fn default() -> Self {
        Self {
            shelf: Arc::default(),
            journal: Journal::default(),
            releases: Arc::new(watch::Sender::new(0)),
            line: Arc::default(),
        }
    }
}

impl OriginWorld {
    /// No objects, no faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object, or puts it in place of the one with its name.
    pub fn put(&self, object: OriginObject) {
        self.lock().objects.insert(object.name.clone(), object);
    }

    /// Removes an object: it is 404 from now on.
    pub fn remove(&self, object: &str) {
        self.lock().objects.remove(object);
    }

    /// Gives an object another version from now on; answers under way keep theirs.
    pub fn set_version(&self, object: &str, version: u64) {
        if let Some(found) = self.lock().objects.get_mut(object) {
            set_version(found, version);
        }
    }

    /// Scripts a fault of an object, whether or not the object exists.
    pub fn fault(&self, object: &str, when: When, fault: Fault) {
        let mut shelf = self.lock();
        let script = shelf.scripts.entry(object.to_owned()).or_default();
        script.faults.push((when, fault));
    }

    /// Forgets the faults of an object.
    pub fn clear_faults(&self, object: &str) {
        if let Some(script) = self.lock().scripts.get_mut(object) {
            script.faults.clear();
        }
    }

    /// Lets no request of the form without sockets be made from now on: there is no connection. What is under
    /// way goes on. The form with sockets is closed for that.
    pub fn cut_line(&self) {
        self.line().is_cut = true;
    }

    /// Lets requests be made again.
    pub fn mend_line(&self) {
        self.line().is_cut = false;
    }

    /// How many requests found no connection.
    #[must_use]
    pub fn unconnected(&self) -> u64 {
        self.line().refused
    }

    /// Counts a request that finds no connection, if that is so.
    pub(crate) fn is_cut(&self) -> bool {
        let mut line = self.line();
        line.refused += u64::from(line.is_cut);
        line.is_cut
    }

    fn line(&self) -> MutexGuard<'_, LineState> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Lets every request that has arrived go on once, be it stalled now or later.
    pub fn release(&self) {
        self.releases.send_modify(|count| *count += 1);
    }

    /// Where a request that arrives now waits for releases; one is enough for each of its stalls, and
    /// none that comes before the stall is lost.
    pub(crate) fn releases(&self) -> watch::Receiver<u64> {
        self.releases.subscribe()
    }

    /// What to answer, and the object as it was then.
    pub(crate) fn answer(&self, request: &Request) -> (Answer, Option<OriginObject>) {
        let name = object_name(&request.target);
        let mut shelf = self.lock();
        let faults = match shelf.scripts.get_mut(name) {
            Some(script) => script.next_faults(),
            None => {
                shelf.scripts.entry(name.to_owned()).or_default().asked = 1;
                Vec::new()
            }
        };
        if let Some(object) = shelf.objects.get_mut(name) {
            for fault in &faults {
                if let Fault::NewVersion(version) = fault {
                    set_version(object, *version);
                }
            }
        }
        let object = shelf.objects.get(name).cloned();
        drop(shelf);
        let mut answer = Answer::right(object.as_ref(), request);
        for fault in &faults {
            answer.spoil(fault, object.as_ref(), request);
        }
        (answer, object)
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script {
    fn next_faults(&mut self) -> Vec<Fault> {
        self.asked += 1;
        let asked = self.asked;
        let applies = |when: &When| match when {
            When::Always | When::Next => true,
            When::Nth(n) => *n == asked,
            When::From(n) => *n <= asked,
        };
        let mut now: Vec<Fault> = Vec::new();
        let mut spent_next = false;
        self.faults.retain(|(when, fault)| {
            // Faults scripted for the next request queue up: one request takes one of them.
            if *when == When::Next && spent_next {
                return true;
            }
            if applies(when) {
                now.push(fault.clone());
            }
            if *when == When::Next {
                spent_next = true;
                return false;
            }
            true
        });
        now
    }
}

/// The path of a request target without its leading `/`.
pub(crate) fn object_name(target: &str) -> &str {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    path.trim_start_matches('/')
}

/// A later version is also modified later, by a minute each.
fn set_version(object: &mut OriginObject, version: u64) {
    let minutes = i64::try_from(version).unwrap_or(0) - i64::try_from(object.version).unwrap_or(0);
    object.last_modified = object.last_modified.map(|at| at + 60 * minutes);
    object.version = version;
}
