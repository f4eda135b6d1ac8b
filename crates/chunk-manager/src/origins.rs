//! The numbers that origins go by.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chunk_core::scheduler::{Input, OriginId};

/// Each name that was ever asked for has a number of its own.
#[derive(Debug, Default)]
pub(crate) struct Origins(Mutex<HashMap<Box<str>, OriginId>>);

impl Origins {
    /// With a limit for the background work of some, and what the scheduler is to be told of it.
    pub(crate) fn limited(rates: impl IntoIterator<Item = (String, u64)>) -> (Self, Vec<Input>) {
        let origins = Self::default();
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
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = known.get(name) {
            return id;
        }
        let id = OriginId::new(known.len() as u64);
        known.insert(name.into(), id);
        id
    }
}
