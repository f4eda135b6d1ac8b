//! How many files and connections there may be, shared out at the start.
//!
//! A process without descriptors can neither accept a player nor ask an origin nor open a file, and each of these looks
//! like something else that is wrong. So each gets a part of what the system allows, and keeps to it.

use std::num::NonZeroUsize;

use chunk_proxy::ProxyConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::{Failure, Outcome};

/// What is open besides players, segments and origins: standard streams, the runtime, signals, listeners, the index
/// with its log, locks, a few commands on the socket, and what a look-up of names opens for a moment. Measured: 21 at
/// rest.
const RESERVED: usize = 32;

/// More than these are of no use: the defaults of each part.
const MOST_SEGMENTS: usize = 256;
const MOST_CONNECTIONS: usize = 16;

/// Connections to an origin besides those that bring files: questions whether a file is still the same, and requests
/// that are passed on.
const QUESTIONS: usize = 2;

/// The least that is of use.
const LEAST: usize = 64;

/// The parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Players at once: as many as there is room for, of which `max_connections` allows a part.
    pub(crate) clients: usize,
    /// Files of the byte store that stay open.
    pub(crate) segments: NonZeroUsize,
    /// Connections to one origin that bring files.
    pub(crate) connections: usize,
}

impl Descriptors {
    /// The parts of what the system allows this process, with so many origins.
    pub(crate) fn of_this_process(origins: usize) -> Outcome<Self> {
        Self::share(allowed(), origins)
    }

    fn share(allowed: usize, origins: usize) -> Outcome<Self> {
        if allowed < LEAST {
            return Err(Failure::failed(format!(
                "this process may have {allowed} files and connections open at once (ulimit -n), and needs {LEAST}"
            )));
        }
        let spare = allowed - RESERVED;
        let origins = origins.max(1);
        let connections = (spare / 4 / origins)
            .saturating_sub(QUESTIONS)
            .clamp(1, MOST_CONNECTIONS);
        // While files are being opened, there are half as many more.
        let segments = (spare / 6).clamp(1, MOST_SEGMENTS);
        let others = origins * (connections + QUESTIONS)
            + segments
            + segments.div_ceil(2)
            + ProxyConfig::BEYOND;
        Ok(Self {
            clients: spare.saturating_sub(others).max(1),
            segments: NonZeroUsize::MIN.saturating_add(segments - 1),
            connections,
        })
    }

    /// Requests to one origin that may be under way.
    pub(crate) const fn requests(&self) -> usize {
        self.connections + QUESTIONS
    }
}

/// Takes what the system grants for the asking. Where it does not, what there is has to do.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let all = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, all) {
            tracing::debug!(%error, "the limit of open files cannot be raised");
        }
    }
}

fn allowed() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_together_are_within_what_is_allowed() {
        for allowed in (LEAST..2_000).chain([4_096, 65_536, 1 << 20, usize::MAX]) {
            for origins in [0, 1, 2, 3] {
                let parts = Descriptors::share(allowed, origins).unwrap();
                let segments = parts.segments.get() + parts.segments.get().div_ceil(2);
                let all = RESERVED
                    + parts.clients
                    + ProxyConfig::BEYOND
                    + segments
                    + origins.max(1) * parts.requests();
                assert!(all <= allowed, "{allowed}, {origins}: {parts:?}");
                assert!(parts.clients >= 1 && parts.connections >= 1);
            }
        }
    }

    #[test]
    fn with_plenty_each_part_has_what_it_can_use_and_with_few_each_has_some() {
        let plenty = Descriptors::share(1 << 20, 3).unwrap();
        let parts = (plenty.segments.get(), plenty.connections);
        assert_eq!(parts, (MOST_SEGMENTS, MOST_CONNECTIONS));
        assert!(plenty.clients > 1_000_000, "what is left is the players'");
        let few = Descriptors::share(80, 1).unwrap();
        assert_eq!(
            (few.clients, few.segments.get(), few.connections),
            (19, 8, 10)
        );
    }

    #[test]
    fn too_few_are_refused_with_what_would_do() {
        let failure = Descriptors::share(40, 1).unwrap_err();
        assert!(failure.message().contains("ulimit -n"), "{failure:?}");
        assert!(failure.message().contains("64"), "{failure:?}");
    }
}
