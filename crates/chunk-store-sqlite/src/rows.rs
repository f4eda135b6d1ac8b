//! Between SQLite's rows and the port's types.

use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use chunk_core::{
    BlockMap, ByteRange, CacheKey, ETag, EntryId, GenerationId, LastModified, Priority,
    Representation,
};
use chunk_ports::{
    ChunkStoreError, EntryRecord, Freshness, GenerationRecord, JobRange, JobRecord, SegmentRecord,
    SegmentSummary, Tally,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, Type, query};

use crate::connection::Query;
use crate::error::{classify, damaged};
use crate::statements;

/// An id as SQLite keeps it. One beyond 2⁶³ − 1 was never given, and neither was −1.
pub(crate) fn id(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(-1)
}

/// A number as SQLite keeps it.
pub(crate) fn number(number: u64) -> Result<i64, ChunkStoreError> {
    i64::try_from(number).map_err(|_| {
        ChunkStoreError::refused(format!(
            "{number} is beyond the largest number the index keeps, {}",
            i64::MAX
        ))
    })
}

/// Segments as the JSON list that a statement unfolds.
pub(crate) fn list(segments: impl IntoIterator<Item = u32>) -> String {
    let mut list = String::from("[");
    for segment in segments {
        if list.len() > 1 {
            list.push(',');
        }
        // Writing into a text cannot fail.
        let _ = write!(list, "{segment}");
    }
    list.push(']');
    list
}

/// Checksums as SQLite keeps them: four bytes each, little-endian.
pub(crate) fn checksum_bytes(checksums: &[u32]) -> Vec<u8> {
    let bytes: Vec<[u8; 4]> = checksums.iter().map(|sum| sum.to_le_bytes()).collect();
    bytes.into_flattened()
}

/// An entry with its current generation.
pub(crate) fn entry(row: &SqliteRow) -> Result<EntryRecord, ChunkStoreError> {
    let current = match column::<Option<i64>>(row, "generation_id")? {
        Some(_) => Some(generation(row)?),
        None => None,
    };
    Ok(EntryRecord {
        id: EntryId::new(unsigned(row, "entry_id")?),
        key: Arc::new(key(row)?),
        pinned: column(row, "pinned")?,
        accessed_unix: column(row, "accessed_unix")?,
        current,
    })
}

/// A generation.
pub(crate) fn generation(row: &SqliteRow) -> Result<GenerationRecord, ChunkStoreError> {
    Ok(GenerationRecord {
        id: GenerationId::new(unsigned(row, "generation_id")?),
        entry: EntryId::new(unsigned(row, "entry_id")?),
        representation: representation(row)?,
        accepts_ranges: column(row, "accepts_ranges")?,
        segment_size: unsigned(row, "segment_size")?,
        nonce: unsigned(row, "nonce")?,
        freshness: Freshness {
            validated_unix: column(row, "validated_unix")?,
            fresh_until_unix: column(row, "fresh_until_unix")?,
            must_revalidate: column(row, "must_revalidate")?,
        },
        recorded_bytes: unsigned(row, "recorded_bytes")?,
    })
}

/// What was counted.
pub(crate) fn tally(row: &SqliteRow) -> Result<Tally, ChunkStoreError> {
    Ok(Tally {
        bytes_served: unsigned(row, "bytes_served")?,
        bytes_served_from_cache: unsigned(row, "bytes_served_from_cache")?,
        bytes_from_origin: unsigned(row, "bytes_from_origin")?,
        bytes_wasted: unsigned(row, "bytes_wasted")?,
        hits: unsigned(row, "hits")?,
        misses: unsigned(row, "misses")?,
        origin_requests: unsigned(row, "origin_requests")?,
        evicted_bytes: unsigned(row, "evicted_bytes")?,
        checksum_failures: unsigned(row, "checksum_failures")?,
    })
}

/// The statement that keeps what was counted.
pub(crate) fn keep_tally(tally: &Tally) -> Query {
    // A sum is never a reason to refuse.
    let sum = |sum: u64| i64::try_from(sum).unwrap_or(i64::MAX);
    query(statements::KEEP_TALLY)
        .bind(sum(tally.bytes_served))
        .bind(sum(tally.bytes_served_from_cache))
        .bind(sum(tally.bytes_from_origin))
        .bind(sum(tally.bytes_wasted))
        .bind(sum(tally.hits))
        .bind(sum(tally.misses))
        .bind(sum(tally.origin_requests))
        .bind(sum(tally.evicted_bytes))
        .bind(sum(tally.checksum_failures))
}

/// Segments without their checksums, in order, from the one row that has them as lists.
pub(crate) fn summaries(row: &SqliteRow) -> Result<Vec<SegmentSummary>, ChunkStoreError> {
    let segments = numbers(row, "segment_indices")?;
    let mut epochs = numbers(row, "epochs")?;
    let mut blocks = words(row, "blocks")?;
    let mut recorded_bytes = numbers(row, "recorded_bytes")?;
    let mut accessed_unix = numbers(row, "accessed_unix")?;
    let mut summaries = Vec::new();
    for segment in segments {
        summaries.push(SegmentSummary {
            segment: segment?,
            epoch: of_same_row(epochs.next())??,
            blocks: bitmap(of_same_row(blocks.next())?)?,
            recorded_bytes: of_same_row(recorded_bytes.next())??,
            accessed_unix: of_same_row(accessed_unix.next())??,
        });
    }
    let is_longer = epochs.next().is_some()
        || blocks.next().is_some()
        || recorded_bytes.next().is_some()
        || accessed_unix.next().is_some();
    if is_longer {
        return Err(damaged("a chunk lacks its number"));
    }
    summaries.sort_by_key(|summary| summary.segment);
    Ok(summaries)
}

/// The words of a list; none where the list has no row.
fn words<'r>(
    row: &'r SqliteRow,
    name: &'static str,
) -> Result<impl Iterator<Item = &'r str>, ChunkStoreError> {
    let list = column::<Option<&str>>(row, name)?;
    Ok(list.into_iter().flat_map(|list| list.split(' ')))
}

fn numbers<'r, T: FromStr + 'r>(
    row: &'r SqliteRow,
    name: &'static str,
) -> Result<impl Iterator<Item = Result<T, ChunkStoreError>> + 'r, ChunkStoreError> {
    let number = |word: &str| {
        word.parse()
            .map_err(|_| damaged("a number is out of range"))
    };
    Ok(words(row, name)?.map(number))
}

fn of_same_row<T>(found: Option<T>) -> Result<T, ChunkStoreError> {
    found.ok_or_else(|| damaged("a chunk lacks a column"))
}

/// The bitmap that SQLite gave in hexadecimal digits.
fn bitmap(digits: &str) -> Result<BlockMap, ChunkStoreError> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(damaged("a bitmap is malformed"));
    }
    let mut bytes = Vec::with_capacity(pairs.len());
    for &[high, low] in pairs {
        match (digit(high), digit(low)) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err(damaged("a bitmap is malformed")),
        }
    }
    Ok(BlockMap::from(bytes))
}

const fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

/// A segment's row but for its checksums.
fn summary(row: &SqliteRow) -> Result<SegmentSummary, ChunkStoreError> {
    Ok(SegmentSummary {
        segment: column(row, "segment_index")?,
        epoch: column(row, "epoch")?,
        blocks: BlockMap::from_bytes(column(row, "blocks")?),
        recorded_bytes: unsigned(row, "recorded_bytes")?,
        accessed_unix: column(row, "accessed_unix")?,
    })
}

/// A segment with its checksums.
pub(crate) fn segment(row: &SqliteRow) -> Result<SegmentRecord, ChunkStoreError> {
    let summary = summary(row)?;
    let (checksums, rest) = column::<&[u8]>(row, "checksums")?.as_chunks();
    if !rest.is_empty() || checksums.len() != summary.blocks.count() {
        return Err(damaged("a chunk's checksums do not match its blocks"));
    }
    Ok(SegmentRecord {
        generation: GenerationId::new(unsigned(row, "generation_id")?),
        segment: summary.segment,
        epoch: summary.epoch,
        extent: range(row)?,
        blocks: summary.blocks,
        checksums: checksums.iter().copied().map(u32::from_le_bytes).collect(),
        recorded_bytes: summary.recorded_bytes,
        accessed_unix: summary.accessed_unix,
    })
}

/// A row of the durable queue.
pub(crate) fn job(row: &SqliteRow) -> Result<JobRecord, ChunkStoreError> {
    Ok(JobRecord {
        entry: EntryId::new(unsigned(row, "entry_id")?),
        key: Arc::new(key(row)?),
        job: JobRange {
            range: range(row)?,
            priority: Priority::from_u8(column(row, "priority")?)
                .ok_or_else(|| damaged("a queued range has no such level"))?,
            sequence: unsigned(row, "sequence")?,
        },
    })
}

/// What a batch has to know of a generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) entry: EntryId,
    pub(crate) segment_size: u64,
    pub(crate) total_len: Option<u64>,
}

/// A generation's shape.
pub(crate) fn shape(row: &SqliteRow) -> Result<Shape, ChunkStoreError> {
    Ok(Shape {
        entry: EntryId::new(unsigned(row, "entry_id")?),
        segment_size: unsigned(row, "segment_size")?,
        total_len: optional_unsigned(row, "total_len")?,
    })
}

/// A column whose number is not negative.
pub(crate) fn unsigned(row: &SqliteRow, name: &'static str) -> Result<u64, ChunkStoreError> {
    u64::try_from(column::<i64>(row, name)?).map_err(|_| damaged("a number is negative"))
}

fn optional_unsigned(row: &SqliteRow, name: &'static str) -> Result<Option<u64>, ChunkStoreError> {
    column::<Option<i64>>(row, name)?
        .map(|found| u64::try_from(found).map_err(|_| damaged("a number is negative")))
        .transpose()
}

fn column<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T, ChunkStoreError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(name).map_err(classify)
}

fn key(row: &SqliteRow) -> Result<CacheKey, ChunkStoreError> {
    Ok(CacheKey::from_parts(
        column(row, "origin")?,
        column(row, "path")?,
        column(row, "query")?,
        column(row, "partition")?,
    ))
}

fn range(row: &SqliteRow) -> Result<ByteRange, ChunkStoreError> {
    ByteRange::from_inclusive(unsigned(row, "start_byte")?, unsigned(row, "end_byte")?)
        .map_err(|_| damaged("a range ends before it starts"))
}

fn representation(row: &SqliteRow) -> Result<Representation, ChunkStoreError> {
    let mut representation = Representation::with_len(optional_unsigned(row, "total_len")?);
    representation.etag = column::<Option<&str>>(row, "etag")?
        .map(|text| ETag::parse(text).ok_or_else(|| damaged("an entity tag is malformed")))
        .transpose()?;
    representation.last_modified = column::<Option<i64>>(row, "last_modified_unix")?
        .map(|unix| {
            column::<bool>(row, "last_modified_strong")
                .map(|is_strong| LastModified::new(unix, is_strong))
        })
        .transpose()?;
    representation.content_type = column::<Option<&str>>(row, "content_type")?.map(Box::from);
    Ok(representation)
}

/// What an integrity check said: `ok`, or the first thing that is wrong.
pub(crate) fn verdict(rows: &[SqliteRow]) -> Result<(), ChunkStoreError> {
    let sound = match rows.first() {
        Some(row) => row.try_get::<&str, _>(0).map_err(classify)? == "ok",
        None => false,
    };
    if sound {
        Ok(())
    } else {
        Err(damaged("the integrity check failed"))
    }
}

/// The number in the first column of the first row.
pub(crate) fn first_number(rows: &[SqliteRow]) -> Result<i64, ChunkStoreError> {
    rows.first()
        .ok_or_else(|| damaged("a count gave no row"))?
        .try_get(0)
        .map_err(classify)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;

    #[test]
    fn a_bitmap_is_two_digits_for_each_byte() {
        let map = bitmap("0FA0").expect("well-formed");
        assert_eq!(map.as_bytes(), [0x0F, 0xA0]);
        for malformed in ["F", "0G", "0x", "ab"] {
            assert!(bitmap(malformed).is_err(), "{malformed}");
        }
    }

    /// What a damaged page gives: lists of which one has fewer words, or a word that is no such number.
    #[tokio::test]
    async fn lists_that_do_not_fit_together_are_damage() {
        let inner = <sqlx::SqliteConnection as sqlx::Connection>::connect(":memory:")
            .await
            .expect("a database in memory");
        let mut connection = Connection::new(inner, Arc::default());
        let lists = [
            ("'1 0'", "'0 0'", "'FF 01'", Some(vec![0, 1])),
            ("NULL", "NULL", "NULL", Some(vec![])),
            ("'0 1'", "'0'", "'FF FF'", None),
            ("'0 1'", "'0 0'", "'FF'", None),
            ("'1'", "'0 0'", "'FF 01'", None),
            ("'1'", "'0'", "'FF 01'", None),
            ("'-1'", "'0'", "'FF'", None),
            ("'0'", "'4294967296'", "'FF'", None),
        ];
        for (segments, epochs, blocks, expected) in lists {
            let ask = format!(
                "SELECT {segments} AS segment_indices, {epochs} AS epochs, {blocks} AS blocks, \
                 {epochs} AS recorded_bytes, {epochs} AS accessed_unix"
            );
            let ask = query(sqlx::AssertSqlSafe(ask));
            let rows = connection.fetch(ask).await.expect("a row");
            let found = summaries(&rows[0])
                .map(|found| found.iter().map(|summary| summary.segment).collect());
            assert_eq!(found.ok(), expected, "{segments} {epochs} {blocks}");
        }
    }
}
