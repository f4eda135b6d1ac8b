//! What can go wrong, by what a caller does about it.

use std::sync::Arc;
use std::time::Duration;

use chunk_core::{EntryId, GeometryError, RangeError};
use chunk_ports::{ByteStoreError, ChunkStoreError, FetchError, RefusalFields};

/// Why the manager could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The index could not be read.
    #[error("the index cannot be read: {0}")]
    Index(#[from] ChunkStoreError),
    /// The byte store could not be read.
    #[error("the byte store cannot be read: {0}")]
    Bytes(#[from] ByteStoreError),
}

/// Why a question or an order could not be carried out.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// No entry has this id or key.
    #[error("there is no such entry")]
    NoSuchEntry,
    /// The entry's length is not known yet, so it has no chunks.
    #[error("the length of entry {0} is not known yet")]
    LengthUnknown(EntryId),
    /// A chunk index or offset is not part of the file.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Two offsets are not a range.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The entry is being read, so that it cannot be removed.
    #[error("the entry is being read")]
    InUse,
    /// The index could not do it.
    #[error("the index cannot do it: {0}")]
    Index(Arc<ChunkStoreError>),
    /// The byte store could not do it.
    #[error("the byte store cannot do it: {0}")]
    Bytes(Arc<ByteStoreError>),
    /// The manager has been shut down.
    #[error("the manager has been shut down")]
    Closed,
}

impl From<ChunkStoreError> for ManagerError {
    fn from(error: ChunkStoreError) -> Self {
        Self::Index(Arc::new(error))
    }
}

impl From<ByteStoreError> for ManagerError {
    fn from(error: ByteStoreError) -> Self {
        Self::Bytes(Arc::new(error))
    }
}

/// Why an entry could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The origin has no such file (404, 410).
    #[error("the origin answered {status}: no such file")]
    NotFound {
        /// The origin's status code.
        status: u16,
    },
    /// The origin wants other credentials (401, 403, 407).
    #[error("the origin answered {status}: it wants other credentials")]
    Denied {
        /// The origin's status code.
        status: u16,
        /// What else it said.
        told: RefusalFields,
    },
    /// The origin refuses the request for another reason (any other 4xx).
    #[error("the origin answered {status}: it refuses the request")]
    Rejected {
        /// The origin's status code.
        status: u16,
        /// What else it said.
        told: RefusalFields,
    },
    /// The file has no bytes in the range asked for (416).
    #[error("the file has no bytes in that range")]
    Unsatisfiable {
        /// The file's length, where known.
        total_len: Option<u64>,
    },
    /// The origin asks for patience or fails (429, 5xx).
    #[error("the origin answered {status}")]
    Busy {
        /// The origin's status code.
        status: u16,
        /// How long to wait at least, where it said.
        retry_after: Option<Duration>,
    },
    /// No connection, or no answer, after every retry.
    #[error("the origin cannot be reached")]
    Unreachable,
    /// No connection lately, so that nothing was tried, or nothing is any more.
    #[error("the origin cannot be reached")]
    Away {
        /// When it may be worth asking again.
        retry_after: Duration,
    },
    /// The origin forbids what is cached to be given out unconfirmed, and does not confirm it.
    #[error("the origin does not confirm what is cached, and forbids it to be used unconfirmed")]
    Unconfirmed {
        /// When it may be worth asking again, where that is known.
        retry_after: Option<Duration>,
    },
    /// The origin's answer cannot be used.
    #[error("the origin's answer is refused: {reason}")]
    Refused {
        /// Which rule it broke, without secrets.
        reason: String,
    },
    /// The request may not be made.
    #[error("not asked for: {reason}")]
    Forbidden {
        /// Why, without secrets.
        reason: String,
    },
    /// No answer within the time allowed.
    #[error("the origin did not answer in time")]
    Timeout,
    /// The whole file was asked for durably, and its origin does not let it be kept.
    #[error("its origin does not let it be kept (Cache-Control or Vary), so it can only be played")]
    NotStorable,
    /// The whole file was asked for durably, and it is larger than what may be kept.
    #[error(
        "its {total_len} bytes do not fit in a cache of {max_size}, of which {pinned} are pinned"
    )]
    TooLarge {
        /// The file's length in bytes.
        total_len: u64,
        /// The most the cache may hold.
        max_size: u64,
        /// How much of that other files take that are pinned.
        pinned: u64,
    },
    /// The manager cannot do it.
    #[error(transparent)]
    Manager(#[from] ManagerError),
}

impl OpenError {
    /// Whether the origin gave no answer that holds for later: what is ordered is worth asking for again.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::Away { .. }
                | Self::Timeout
                | Self::Busy { .. }
                | Self::Unconfirmed { .. }
        )
    }
}

impl From<&FetchError> for OpenError {
    fn from(error: &FetchError) -> Self {
        match error {
            FetchError::NotFound { status } => Self::NotFound { status: *status },
            FetchError::Denied { status, told } => Self::Denied {
                status: *status,
                told: told.clone(),
            },
            FetchError::Rejected { status, told } => Self::Rejected {
                status: *status,
                told: told.clone(),
            },
            FetchError::Unsatisfiable { total_len } => Self::Unsatisfiable {
                total_len: *total_len,
            },
            FetchError::Busy {
                status,
                retry_after,
            } => Self::Busy {
                status: *status,
                retry_after: *retry_after,
            },
            FetchError::Refused { reason } => Self::Refused {
                reason: reason.clone(),
            },
            FetchError::Forbidden { reason } => Self::Forbidden {
                reason: reason.clone(),
            },
            FetchError::Stalled => Self::Timeout,
            _ => Self::Unreachable,
        }
    }
}

/// Why a reader cannot go on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The origin has another version now; the bytes still missing are gone for good.
    #[error("the origin has another version of the file")]
    Changed,
    /// The bytes cannot be had. A later read tries again.
    #[error("{0}")]
    Failed(OpenError),
    /// The manager has been shut down.
    #[error("the manager has been shut down")]
    Closed,
}

impl From<ReadError> for std::io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Failed(OpenError::NotFound { .. }) => std::io::ErrorKind::NotFound,
            ReadError::Failed(
                OpenError::Denied { .. } | OpenError::Rejected { .. } | OpenError::Forbidden { .. },
            ) => std::io::ErrorKind::PermissionDenied,
            ReadError::Failed(OpenError::Timeout) => std::io::ErrorKind::TimedOut,
            ReadError::Closed => std::io::ErrorKind::BrokenPipe,
            ReadError::Changed | ReadError::Failed(_) => std::io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Why a wait ended without the bytes.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time allowed ran out; the bytes may still come.
    #[error("the bytes did not come in time")]
    Timeout,
    /// The bytes cannot be had.
    #[error("{0}")]
    Failed(OpenError),
    /// The origin has another version now.
    #[error("the origin has another version of the file")]
    Changed,
    /// The request that was waited for was cancelled.
    #[error("the request was cancelled")]
    Cancelled,
    /// The manager cannot do it.
    #[error(transparent)]
    Manager(#[from] ManagerError),
}
