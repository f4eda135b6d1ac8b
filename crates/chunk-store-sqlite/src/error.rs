//! What SQLite's errors mean to a caller.

use std::path::PathBuf;

use chunk_ports::{BackendError, ChunkStoreError};
use sqlx::error::DatabaseError;

/// Why an index could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A newer program wrote the index. Nothing was changed.
    #[error(
        "{}: the index has schema version {found}, this program knows versions up to {known}; \
         use the newer program, or another cache folder",
        path.display()
    )]
    NewerSchema {
        /// The index.
        path: PathBuf,
        /// Its schema's version.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// The file cannot be made, opened or given its mode.
    #[error("{}: the index cannot be opened", path.display())]
    File {
        /// The index.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A malformed index cannot be moved out of the way.
    #[error("{}: the index is malformed and cannot be set aside", path.display())]
    SetAside {
        /// The index.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database does not open or its schema cannot be brought up to date.
    #[error("{}: the index cannot be opened", path.display())]
    Database {
        /// The index.
        path: PathBuf,
        /// What the database said.
        source: ChunkStoreError,
    },
}

/// What an error of the database means to the caller of the port. SQLite's texts name tables, columns and
/// rules, never values, so nothing secret travels in the source.
pub(crate) fn classify(error: sqlx::Error) -> ChunkStoreError {
    match meaning(&error) {
        Meaning::Full => ChunkStoreError::Full(boxed(error)),
        Meaning::Corrupt => ChunkStoreError::Corrupt(boxed(error)),
        Meaning::Unavailable => ChunkStoreError::Unavailable(boxed(error)),
        Meaning::NoParent => ChunkStoreError::Missing {
            what: "entry or generation",
        },
        Meaning::Rule(rule) => ChunkStoreError::refused(rule),
    }
}

/// The error of a row that no write of ours can have made.
pub(crate) fn damaged(what: &'static str) -> ChunkStoreError {
    ChunkStoreError::Corrupt(what.into())
}

/// The error of a store that was closed.
pub(crate) fn closed() -> ChunkStoreError {
    ChunkStoreError::Unavailable("the index was closed".into())
}

enum Meaning {
    Full,
    Corrupt,
    Unavailable,
    NoParent,
    Rule(String),
}

fn meaning(error: &sqlx::Error) -> Meaning {
    match error {
        sqlx::Error::Database(error) => of_code(error.as_ref()),
        // A column of another type than the schema's: the page is not what was written.
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_) => Meaning::Corrupt,
        _ => Meaning::Unavailable,
    }
}

/// By the result codes of sqlite.org/rescode.html; the low byte is the primary code.
fn of_code(error: &dyn DatabaseError) -> Meaning {
    // No room for the file of the log's index.
    const IOERR_SHMSIZE: i32 = 4874;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const TOO_BIG: i32 = 18;
    const CONSTRAINT: i32 = 19;
    const CONSTRAINT_FOREIGN_KEY: i32 = 787;
    const NOT_A_DATABASE: i32 = 26;
    let code = error
        .code()
        .and_then(|code| code.parse::<i32>().ok())
        .unwrap_or(0);
    match (code & 0xff, code) {
        (FULL, _) | (_, IOERR_SHMSIZE) => Meaning::Full,
        (CORRUPT | NOT_A_DATABASE, _) => Meaning::Corrupt,
        (_, CONSTRAINT_FOREIGN_KEY) => Meaning::NoParent,
        (CONSTRAINT | TOO_BIG, _) => Meaning::Rule(error.message().to_owned()),
        // Busy, locked, I/O, read-only, cannot open, out of memory: later it may go well.
        _ => Meaning::Unavailable,
    }
}

fn boxed(error: sqlx::Error) -> BackendError {
    Box::new(error)
}
