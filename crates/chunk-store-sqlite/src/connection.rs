//! One connection: transactions that survive a dropped future, and the count of what was asked of SQLite.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chunk_ports::ChunkStoreError;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Connection as _, Sqlite, SqliteConnection};

use crate::error::classify;
use crate::options::Durability;
use crate::statements;

/// A statement with its parameters.
pub(crate) type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// What a store has asked of SQLite since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Statements run, the ones that begin and end transactions included.
    pub statements: u64,
    /// Rows that statements inserted, changed or deleted, without those that triggers did.
    pub rows: u64,
    /// Write transactions begun.
    pub transactions: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    statements: AtomicU64,
    rows: AtomicU64,
    transactions: AtomicU64,
}

impl Counters {
    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            statements: self.statements.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            transactions: self.transactions.load(Ordering::Relaxed),
        }
    }
}

/// A connection with its own thread, which runs statements in the order they were sent.
#[derive(Debug)]
pub(crate) struct Connection {
    inner: SqliteConnection,
    counters: Arc<Counters>,
    /// Whether a transaction may be open that nobody will end: its future was dropped, or its end failed.
    in_doubt: bool,
    /// The statement that set when commits are synced, empty where that is not known.
    level: &'static str,
}

impl Connection {
    pub(crate) const fn new(inner: SqliteConnection, counters: Arc<Counters>) -> Self {
        Self {
            inner,
            counters,
            in_doubt: false,
            level: "",
        }
    }

    /// The connection itself, for migrations.
    pub(crate) const fn inner(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }

    /// Runs a statement that changes rows; returns how many it inserted, changed or deleted itself.
    pub(crate) async fn change(&mut self, query: Query) -> Result<u64, ChunkStoreError> {
        let rows = self.run(query).await?;
        self.counters.rows.fetch_add(rows, Ordering::Relaxed);
        Ok(rows)
    }

    /// Runs a statement that gives rows.
    pub(crate) async fn fetch(&mut self, query: Query) -> Result<Vec<SqliteRow>, ChunkStoreError> {
        self.counters.statements.fetch_add(1, Ordering::Relaxed);
        query.fetch_all(&mut self.inner).await.map_err(classify)
    }

    /// Ends a transaction that was left open. SQLite may have ended it itself, after a full disk for
    /// one; then there is nothing to roll back, and saying so is its only answer.
    pub(crate) async fn settle(&mut self) {
        if self.in_doubt {
            let _ = self.run(sqlx::query(statements::ROLLBACK)).await;
            self.in_doubt = false;
        }
    }

    /// Begins a write transaction that survives what `durability` says.
    ///
    /// Not sqlx's own transaction: that one counts depth, and a transaction that SQLite ended by itself
    /// would leave the count wrong for good.
    pub(crate) async fn begin(&mut self, durability: Durability) -> Result<(), ChunkStoreError> {
        self.settle().await;
        let level = match durability {
            Durability::ProcessCrash => statements::SYNC_AT_CHECKPOINTS,
            Durability::PowerCut => statements::SYNC_AT_COMMITS,
        };
        if self.level != level {
            self.level = "";
            self.run(sqlx::query(level).persistent(false)).await?;
            self.level = level;
        }
        self.counters.transactions.fetch_add(1, Ordering::Relaxed);
        self.in_doubt = true;
        let begun = self.run(sqlx::query(statements::BEGIN)).await;
        if begun.is_err() {
            self.in_doubt = false;
        }
        begun.map(drop)
    }

    /// Ends the transaction: commits after a good outcome, rolls back after a bad one.
    pub(crate) async fn end<T>(
        &mut self,
        outcome: Result<T, ChunkStoreError>,
    ) -> Result<T, ChunkStoreError> {
        let outcome = match outcome {
            Ok(answer) => self
                .run(sqlx::query(statements::COMMIT))
                .await
                .map(|_| answer),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(answer) => {
                self.in_doubt = false;
                Ok(answer)
            }
            Err(error) => {
                self.settle().await;
                Err(error)
            }
        }
    }

    /// Closes the connection and waits until its thread has let go of the file.
    pub(crate) async fn close(self) -> Result<(), ChunkStoreError> {
        self.inner.close().await.map_err(classify)
    }

    /// Runs a statement. After one that changes no rows by its nature, SQLite still tells the number of
    /// the one before.
    async fn run(&mut self, query: Query) -> Result<u64, ChunkStoreError> {
        self.counters.statements.fetch_add(1, Ordering::Relaxed);
        let done = query.execute(&mut self.inner).await.map_err(classify)?;
        Ok(done.rows_affected())
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::*;

    /// SQLite runs such pragmas while it compiles them: one that came from the statement cache would do
    /// nothing, and numbers that name files would not be synced.
    #[tokio::test]
    async fn durability_is_set_each_time_it_changes() {
        let inner = SqliteConnection::connect(":memory:")
            .await
            .expect("a database in memory");
        let mut connection = Connection::new(inner, Arc::default());
        let (crash, cut) = (Durability::ProcessCrash, Durability::PowerCut);
        for (durability, expected) in [(crash, 1), (cut, 2), (cut, 2), (crash, 1), (cut, 2)] {
            connection.begin(durability).await.expect("begun");
            let rows = connection
                .fetch(sqlx::query("PRAGMA synchronous").persistent(false))
                .await
                .expect("a level");
            assert_eq!(rows[0].get::<i64, _>(0), expected);
            connection.end(Ok(())).await.expect("ended");
        }
    }

    #[tokio::test]
    async fn a_transaction_left_open_is_rolled_back_by_the_next() {
        let inner = SqliteConnection::connect(":memory:")
            .await
            .expect("a database in memory");
        let mut connection = Connection::new(inner, Arc::default());
        let table = sqlx::query("CREATE TABLE kept (number INTEGER)");
        connection.change(table).await.expect("a table");
        connection
            .begin(Durability::ProcessCrash)
            .await
            .expect("begun");
        let row = sqlx::query("INSERT INTO kept VALUES (1)");
        connection.change(row).await.expect("a row");
        // Nobody ends it, as when its future is dropped.
        connection
            .begin(Durability::ProcessCrash)
            .await
            .expect("begun again");
        connection.end(Ok(())).await.expect("ended");
        let rows = connection.fetch(sqlx::query("SELECT * FROM kept")).await;
        assert_eq!(rows.expect("rows").len(), 0);
    }
}
