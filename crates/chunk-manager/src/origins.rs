//! The numbers that origins go by, and what the operator says of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use chunk_core::scheduler::{Input, OriginId};

/// Each name that was ever asked for has a number of its own.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    ids: Mutex<HashMap<Box<str>, OriginId>>,
    /// Those whose files never change.
    immutable: BTreeSet<String>,
}

impl Origins {
    /// With those whose files never change, and with a limit for the background work of some; and what the scheduler
    /// is to be told of that.
    pub(crate) fn new(
        immutable: BTreeSet<String>,
        rates: impl IntoIterator<Item = (String, u64)>,
    ) -> (Self, Vec<Input>) {
        let origins = Self {
            immutable,
            ..Self::default()
        };
        let told = rates
            .into_iter()
            .map(|(name, rate)| Input::OriginLimited {
                origin: origins.id(&name),
                background_rate: Some(rate),
            })
            .collect();
        (origins, told)
    }

    pub(crate) fn id(&self, name: &str) -> OriginId {
        let mut known = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = known.get(name) {
            return id;
        }
        let id = OriginId::new(known.len() as u64);
        known.insert(name.into(), id);
        id
    }

    /// Whether the files of the origin named `name` never change.
    pub(crate) fn is_immutable(&self, name: &str) -> bool {
        self.immutable.contains(name)
    }
}
