-- The index of a chunk cache: what is cached and what is wanted. Offsets are inclusive on both sides,
-- times are seconds since 1970, and nothing here is a secret: a key is kept without the parameters that
-- sign its URL.

-- One row per cache key. AUTOINCREMENT, because a number that is reused would name other bytes.
CREATE TABLE cache_entries (
    entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
    origin TEXT NOT NULL,
    path TEXT NOT NULL,
    query TEXT NOT NULL,
    -- A keyed hash of forwarded credentials, empty where none are forwarded.
    partition TEXT NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    accessed_unix INTEGER NOT NULL,
    UNIQUE (origin, path, query, partition)
) STRICT;

-- One row per representation of an entry.
CREATE TABLE cache_generations (
    generation_id INTEGER PRIMARY KEY AUTOINCREMENT,
    entry_id INTEGER NOT NULL REFERENCES cache_entries (entry_id) ON DELETE CASCADE,
    is_current INTEGER NOT NULL CHECK (is_current IN (0, 1)),
    nonce INTEGER NOT NULL UNIQUE CHECK (nonce >= 0),
    -- Unknown while the generation is provisional; then nothing is recorded of it.
    total_len INTEGER CHECK (total_len >= 0),
    etag TEXT,
    last_modified_unix INTEGER,
    last_modified_strong INTEGER CHECK (last_modified_strong IN (0, 1)),
    content_type TEXT,
    accepts_ranges INTEGER NOT NULL CHECK (accepts_ranges IN (0, 1)),
    segment_size INTEGER NOT NULL CHECK (segment_size > 0 AND segment_size % 65536 = 0),
    validated_unix INTEGER NOT NULL,
    fresh_until_unix INTEGER NOT NULL,
    -- The sum over its chunks, kept by triggers, so that a start reads no chunk.
    recorded_bytes INTEGER NOT NULL DEFAULT 0,
    CHECK ((last_modified_unix IS NULL) = (last_modified_strong IS NULL)),
    CHECK (recorded_bytes BETWEEN 0 AND coalesce(total_len, 0))
) STRICT;

CREATE INDEX cache_generations_of_entry ON cache_generations (entry_id);
CREATE UNIQUE INDEX cache_generations_current ON cache_generations (entry_id) WHERE is_current = 1;
CREATE INDEX cache_generations_retired ON cache_generations (generation_id) WHERE is_current = 0;

-- One row per segment of a generation of which a block is recorded. The key makes two rows for the
-- same bytes impossible.
CREATE TABLE cache_chunks (
    generation_id INTEGER NOT NULL REFERENCES cache_generations (generation_id) ON DELETE CASCADE,
    segment_index INTEGER NOT NULL CHECK (segment_index BETWEEN 0 AND 4294967295),
    epoch INTEGER NOT NULL CHECK (epoch BETWEEN 0 AND 4294967295),
    start_byte INTEGER NOT NULL CHECK (start_byte >= 0),
    end_byte INTEGER NOT NULL CHECK (end_byte >= start_byte),
    recorded_bytes INTEGER NOT NULL CHECK (recorded_bytes BETWEEN 1 AND end_byte - start_byte + 1),
    accessed_unix INTEGER NOT NULL,
    -- One bit per 64 KiB block, lowest bit first, without trailing zero bytes.
    blocks BLOB NOT NULL CHECK (length(blocks) > 0),
    -- CRC32C of each recorded block, four bytes each, little-endian.
    checksums BLOB NOT NULL CHECK (length(checksums) > 0 AND length(checksums) % 4 = 0),
    PRIMARY KEY (generation_id, segment_index)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER cache_chunks_inside BEFORE INSERT ON cache_chunks
WHEN NOT EXISTS (
    SELECT 1 FROM cache_generations AS generation
    WHERE generation.generation_id = NEW.generation_id
        AND NEW.start_byte >= NEW.segment_index * generation.segment_size
        AND NEW.end_byte < (NEW.segment_index + 1) * generation.segment_size
        AND NEW.end_byte < generation.total_len
)
BEGIN
    SELECT RAISE(ABORT, 'a chunk lies inside its segment and its file');
END;

CREATE TRIGGER cache_chunks_added AFTER INSERT ON cache_chunks
BEGIN
    UPDATE cache_generations SET recorded_bytes = recorded_bytes + NEW.recorded_bytes
    WHERE generation_id = NEW.generation_id;
END;

CREATE TRIGGER cache_chunks_changed AFTER UPDATE OF recorded_bytes ON cache_chunks
WHEN NEW.recorded_bytes <> OLD.recorded_bytes
BEGIN
    UPDATE cache_generations
    SET recorded_bytes = recorded_bytes + NEW.recorded_bytes - OLD.recorded_bytes
    WHERE generation_id = NEW.generation_id;
END;

CREATE TRIGGER cache_chunks_removed AFTER DELETE ON cache_chunks
BEGIN
    UPDATE cache_generations SET recorded_bytes = recorded_bytes - OLD.recorded_bytes
    WHERE generation_id = OLD.generation_id;
END;

-- One row per range that was asked for durably: medium (2) or low (3).
CREATE TABLE cache_download_queue (
    entry_id INTEGER NOT NULL REFERENCES cache_entries (entry_id) ON DELETE CASCADE,
    start_byte INTEGER NOT NULL CHECK (start_byte >= 0),
    end_byte INTEGER NOT NULL CHECK (end_byte >= start_byte),
    priority INTEGER NOT NULL CHECK (priority IN (2, 3)),
    -- The order of arrival.
    sequence INTEGER NOT NULL CHECK (sequence >= 0),
    PRIMARY KEY (entry_id, start_byte)
) STRICT, WITHOUT ROWID;

-- Rows of one entry never overlap, hence the one that starts last at or before the new one's end is the
-- only one that can reach into it.
CREATE TRIGGER cache_download_queue_disjoint BEFORE INSERT ON cache_download_queue
WHEN NEW.start_byte <= (
    SELECT queued.end_byte FROM cache_download_queue AS queued
    WHERE queued.entry_id = NEW.entry_id AND queued.start_byte <= NEW.end_byte
    ORDER BY queued.start_byte DESC LIMIT 1
)
BEGIN
    SELECT RAISE(ABORT, 'ranges of one entry do not overlap');
END;

CREATE TRIGGER cache_download_queue_fixed BEFORE UPDATE OF entry_id, start_byte, end_byte ON cache_download_queue
BEGIN
    SELECT RAISE(ABORT, 'a queued range is replaced, not changed');
END;
