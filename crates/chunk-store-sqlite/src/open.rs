//! Opening: a private file, a schema brought up to date, and damage moved out of the way.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chunk_ports::{ChunkStore, ChunkStoreError};
use sqlx::ConnectOptions as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::query;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::connection::{Connection, Counters};
use crate::error::{OpenError, classify};
use crate::options::{Location, SqliteOptions};
use crate::reserve::{For, Reserve};
use crate::store::SqliteChunkStore;
use crate::{rows, statements};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The writer moves the log into the main file itself where it has got this long, 16 MiB, because the readers are busy or
/// writes never end.
const PAGES_OF_LOG: u32 = 4_000;

/// An index that is open.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The index.
    pub store: SqliteChunkStore,
    /// Where a malformed file was moved, if the index that was found is one. `store` is empty then.
    pub set_aside: Option<PathBuf>,
}

impl SqliteChunkStore {
    /// Opens the index in the file `path`, making it if there is none.
    ///
    /// # Errors
    /// See [`OpenError`]. A malformed file is none: it is renamed to `<name>.damaged-1`, or the next
    /// free number, and the index begins empty.
    pub async fn open(path: impl AsRef<Path>) -> Result<Opened, OpenError> {
        Self::open_with(SqliteOptions::new(path)).await
    }

    /// Opens an index in memory, gone with its store.
    ///
    /// # Errors
    /// [`OpenError::Database`] where there is no memory or thread for it.
    pub async fn in_memory() -> Result<Self, OpenError> {
        Self::open_with(SqliteOptions::in_memory())
            .await
            .map(|opened| opened.store)
    }

    /// Opens an index as `options` say.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(options: SqliteOptions) -> Result<Opened, OpenError> {
        let path = match &options.location {
            Location::Memory => PathBuf::from(":memory:"),
            Location::File(path) => {
                open_private(path).map_err(|source| OpenError::File {
                    path: path.clone(),
                    source,
                })?;
                path.clone()
            }
        };
        let damage = match attempt_with_reserve(&options, &path).await {
            Ok(store) => {
                return Ok(Opened {
                    store,
                    set_aside: None,
                });
            }
            Err(Failure::Newer { found, known }) => {
                return Err(OpenError::NewerSchema { path, found, known });
            }
            Err(Failure::Database(source)) => source,
        };
        let is_file = matches!(options.location, Location::File(_));
        if !(is_file && matches!(damage, ChunkStoreError::Corrupt(_))) {
            return Err(OpenError::Database {
                path,
                source: damage,
            });
        }
        let aside = set_aside(&path)
            .and_then(|aside| open_private(&path).map(|_| aside))
            .map_err(|source| OpenError::SetAside {
                path: path.clone(),
                source,
            })?;
        match attempt_with_reserve(&options, &path).await {
            Ok(store) => Ok(Opened {
                store,
                set_aside: Some(aside),
            }),
            Err(Failure::Newer { found, known }) => {
                Err(OpenError::NewerSchema { path, found, known })
            }
            Err(Failure::Database(source)) => Err(OpenError::Database { path, source }),
        }
    }
}

enum Failure {
    Newer { found: i64, known: i64 },
    Database(ChunkStoreError),
}

impl From<ChunkStoreError> for Failure {
    fn from(error: ChunkStoreError) -> Self {
        Self::Database(error)
    }
}

/// Opens the file as it is; on a full disk with the room that is kept for removals, for else nothing could
/// ever be removed.
async fn attempt_with_reserve(
    options: &SqliteOptions,
    path: &Path,
) -> Result<SqliteChunkStore, Failure> {
    let mut reserve = Reserve::find(match options.location {
        Location::File(_) => Some(path.to_path_buf()),
        Location::Memory => None,
    });
    loop {
        match attempt(options, path).await {
            Err(Failure::Database(ChunkStoreError::Full(_))) if reserve.give(For::Removals) => {}
            Ok(store) => {
                reserve.fill();
                return Ok(store.with_reserve(reserve));
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Opens the file as it is. After a failure nothing holds it open any more.
async fn attempt(options: &SqliteOptions, path: &Path) -> Result<SqliteChunkStore, Failure> {
    let counters = Arc::new(Counters::default());
    let mut writer = connect(options, path, Role::Writer, &counters).await?;
    let suspicion = match options.location {
        Location::File(_) => Some(beside(path, ".suspect")),
        Location::Memory => None,
    };
    let readers = match prepare(&mut writer, suspicion.as_deref()).await {
        Ok(()) => connect_readers(options, path, &counters).await,
        Err(failure) => Err(failure),
    };
    let readers = match readers {
        Ok(readers) => readers,
        Err(failure) => {
            // The error that led here is the one to report.
            let _ = writer.close().await;
            return Err(failure);
        }
    };
    let store = SqliteChunkStore::new(writer, readers, counters, options.durability, suspicion);
    if let Err(error) = probe(&store).await {
        let _ = store.close().await;
        return Err(error.into());
    }
    Ok(store)
}

async fn connect_readers(
    options: &SqliteOptions,
    path: &Path,
    counters: &Arc<Counters>,
) -> Result<Vec<Connection>, Failure> {
    let mut readers = Vec::new();
    if matches!(options.location, Location::File(_)) {
        for _ in 0..options.readers {
            readers.push(connect(options, path, Role::Reader, counters).await?);
        }
    }
    Ok(readers)
}

#[derive(Clone, Copy)]
enum Role {
    Writer,
    Reader,
}

async fn connect(
    options: &SqliteOptions,
    path: &Path,
    role: Role,
    counters: &Arc<Counters>,
) -> Result<Connection, ChunkStoreError> {
    let mut sqlite = SqliteConnectOptions::new()
        .filename(path)
        .in_memory(matches!(options.location, Location::Memory))
        .busy_timeout(options.busy_timeout)
        .foreign_keys(true)
        .disable_statement_logging();
    match role {
        Role::Writer => {
            sqlite = sqlite
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Normal);
            if options.readers > 0 {
                sqlite = sqlite.pragma("wal_autocheckpoint", PAGES_OF_LOG.to_string());
            }
            if let Some(pages) = options.max_pages {
                sqlite = sqlite.pragma("max_page_count", pages.to_string());
            }
        }
        Role::Reader => sqlite = sqlite.pragma("query_only", "on"),
    }
    let inner = sqlite.connect().await.map_err(classify)?;
    Ok(Connection::new(inner, Arc::clone(counters)))
}

/// Brings the schema up to date and, where an earlier run met damage, checks everything.
async fn prepare(writer: &mut Connection, suspicion: Option<&Path>) -> Result<(), Failure> {
    let known = MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    let tables = writer.fetch(query(statements::HAS_SCHEMA)).await?;
    if rows::first_number(&tables)? > 0 {
        let newest = writer.fetch(query(statements::SCHEMA_VERSION)).await?;
        let found = rows::first_number(&newest)?;
        if found > known {
            return Err(Failure::Newer { found, known });
        }
    }
    // Each migration is one transaction with its own entry in the list: a kill between two leaves the
    // former, and the next start goes on from there.
    // `run_direct` is what `run` calls; the future of `run` itself cannot be sent between threads.
    MIGRATIONS
        .run_direct(None, writer.inner(), false)
        .await
        .map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                classify(error)
            }
            other => ChunkStoreError::Unavailable(Box::new(other)),
        })?;
    if let Some(suspicion) = suspicion.filter(|suspicion| suspicion.exists()) {
        let verdict = writer.fetch(query(statements::CHECK_EVERYTHING)).await?;
        rows::verdict(&verdict)?;
        // If it stays, the next start checks once more.
        let _ = fs::remove_file(suspicion);
    }
    Ok(())
}

/// Reads what every start reads, so that damage there is met now, when the file can be moved away.
async fn probe(store: &SqliteChunkStore) -> Result<(), ChunkStoreError> {
    store.entries().await?;
    store.jobs().await?;
    store.retired_generations().await.map(drop)
}

/// Opens the file for appending; makes it if there is none, readable by its owner alone. SQLite gives the
/// files it keeps beside the index the same mode.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        let file = options.mode(0o600).open(path)?;
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// Renames the file, and those SQLite keeps beside it, to the first name that is free.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut number = 1_u32;
    let aside = loop {
        let name = beside(path, &format!(".damaged-{number}"));
        if !name.try_exists()? {
            break name;
        }
        number = number
            .checked_add(1)
            .ok_or_else(|| io::Error::other("every name is taken"))?;
    };
    fs::rename(path, &aside)?;
    for suffix in ["-wal", "-shm"] {
        move_if_there(&beside(path, suffix), &beside(&aside, suffix))?;
    }
    match fs::remove_file(beside(path, ".suspect")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(aside),
    }
}

fn move_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The path with `suffix` after its last name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_can_be_spawned() {
        fn spawnable<T: Send>(_: &T) {}
        spawnable(&SqliteChunkStore::open("never polled"));
    }
}
