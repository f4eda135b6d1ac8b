//! One connection: transactions that survive a dropped future, and the count of what was asked of SQLite.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chunk_core::GenerationId;
use chunk_ports::ChunkStoreError;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Connection as _, Sqlite, SqliteConnection};

use crate::error::classify;
use crate::options::Durability;
use crate::rows::Shape;
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

    /// About how many pages the log has got: one for each row that was changed, unless several lie beside each other,
    /// and what is above them.
    pub(crate) fn changes(&self) -> u64 {
        let found = self.statistics();
        found.rows + 3 * found.transactions
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
    /// Generations as the last batch found them, those whose length is known: what is known of them stays as it is.
    pub(crate) shapes: BTreeMap<GenerationId, Shape>,
}

impl Connection {
    pub(crate) const fn new(inner: SqliteConnection, counters: Arc<Counters>) -> Self {
        Self {
            inner,
            counters,
            in_doubt: false,
            level: "",
            shapes: BTreeMap::new(),
        }
    }

    /// The connection itself, for migrations.
    pub(crate) const fn inner(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }

    /// Runs a statement that changes rows; returns how many it inserted, changed or deleted itself.
    pub(crate) async fn change(&mut self, query: Query) -> Result<u64, ChunkStoreError> {
        self.change_in(query, 1).await
    }

    /// Runs a text of so many statements that change rows.
    pub(crate) async fn change_in(
        &mut self,
        query: Query,
        statements: u64,
    ) -> Result<u64, ChunkStoreError> {
        let rows = self.run(query, statements).await?;
        self.counters.rows.fetch_add(rows, Ordering::Relaxed);
        Ok(rows)
    }

    /// Runs a statement that gives rows.
    pub(crate) async fn fetch(&mut self, query: Query) -> Result<Vec<SqliteRow>, ChunkStoreError> {
        self.fetch_in(query, 1).await
    }

    async fn fetch_in(
        &mut self,
        query: Query,
        statements: u64,
    ) -> Result<Vec<SqliteRow>, ChunkStoreError> {
        self.counters
            .statements
            .fetch_add(statements, Ordering::Relaxed);
        query.fetch_all(&mut self.inner).await.map_err(classify)
    }

    /// Ends a transaction that was left open. SQLite may have ended it itself, after a full disk for
    /// one; then there is nothing to roll back, and saying so is its only answer.
    pub(crate) async fn settle(&mut self) {
        if self.in_doubt {
            // What was learned in it may not have come to be.
            self.shapes.clear();
            let _ = self.run(sqlx::query(statements::ROLLBACK), 1).await;
            self.in_doubt = false;
        }
    }

    /// Begins a write transaction that survives what `durability` says.
    ///
    /// Not sqlx's own transaction: that one counts depth, and a transaction that SQLite ended by itself
    /// would leave the count wrong for good.
    pub(crate) async fn begin(&mut self, durability: Durability) -> Result<(), ChunkStoreError> {
        self.prepare(durability).await?;
        let begun = self.run(sqlx::query(statements::BEGIN), 1).await;
        if begun.is_err() {
            self.in_doubt = false;
        }
        begun.map(drop)
    }

    /// Begins a write transaction with a text whose first statement does that and whose second one gives rows. Each
    /// journey to SQLite's thread takes as long as writing some ten rows there.
    pub(crate) async fn begin_with(
        &mut self,
        durability: Durability,
        query: Query,
    ) -> Result<Vec<SqliteRow>, ChunkStoreError> {
        self.prepare(durability).await?;
        self.fetch_in(query, 2).await
    }

    /// Runs a whole transaction that survives the end of the process: a text of so many statements, of which the first one
    /// is [`statements::SYNC_AT_CHECKPOINTS`], one gives rows and one changes a row. Afterwards [`Self::end`] is to be told
    /// the outcome.
    pub(crate) async fn fetch_at_once(
        &mut self,
        query: Query,
        statements: u64,
    ) -> Result<Vec<SqliteRow>, ChunkStoreError> {
        self.settle().await;
        self.counters.transactions.fetch_add(1, Ordering::Relaxed);
        self.level = "";
        self.in_doubt = true;
        let rows = self.fetch_in(query.persistent(false), statements).await?;
        self.in_doubt = false;
        self.level = statements::SYNC_AT_CHECKPOINTS;
        self.counters.rows.fetch_add(1, Ordering::Relaxed);
        Ok(rows)
    }

    /// From here on a transaction may be open.
    async fn prepare(&mut self, durability: Durability) -> Result<(), ChunkStoreError> {
        self.settle().await;
        let level = match durability {
            Durability::ProcessCrash => statements::SYNC_AT_CHECKPOINTS,
            Durability::PowerCut => statements::SYNC_AT_COMMITS,
        };
        if self.level != level {
            self.level = "";
            self.run(sqlx::query(level).persistent(false), 1).await?;
            self.level = level;
        }
        self.counters.transactions.fetch_add(1, Ordering::Relaxed);
        self.in_doubt = true;
        Ok(())
    }

    /// Runs a text of so many statements that change `rows` rows and commit, after which [`Self::end`] has nothing left
    /// to do.
    pub(crate) async fn change_and_commit(
        &mut self,
        query: Query,
        statements: u64,
        rows: u64,
    ) -> Result<(), ChunkStoreError> {
        // SQLite tells once more for the commit what it told for the statement before.
        self.run(query, statements).await?;
        self.in_doubt = false;
        self.counters.rows.fetch_add(rows, Ordering::Relaxed);
        Ok(())
    }

    /// The same with a text that begins the transaction as well.
    pub(crate) async fn change_at_once(
        &mut self,
        durability: Durability,
        query: Query,
        statements: u64,
        rows: u64,
    ) -> Result<(), ChunkStoreError> {
        self.prepare(durability).await?;
        self.change_and_commit(query, statements, rows).await
    }

    /// Ends the transaction: commits after a good outcome, rolls back after a bad one.
    pub(crate) async fn end<T>(
        &mut self,
        outcome: Result<T, ChunkStoreError>,
    ) -> Result<T, ChunkStoreError> {
        let outcome = match outcome {
            Ok(answer) if self.in_doubt => self
                .run(sqlx::query(statements::COMMIT), 1)
                .await
                .map(|_| answer),
            other => other,
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

    /// Runs a text of so many statements. After one that changes no rows by its nature, SQLite still tells the number
    /// of the one before.
    async fn run(&mut self, query: Query, statements: u64) -> Result<u64, ChunkStoreError> {
        self.counters
            .statements
            .fetch_add(statements, Ordering::Relaxed);
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
