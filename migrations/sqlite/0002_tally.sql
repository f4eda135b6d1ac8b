-- Sums over the life of the cache, whichever processes counted them. One row, which is replaced.
CREATE TABLE cache_tally (
    tally_id INTEGER PRIMARY KEY CHECK (tally_id = 1),
    bytes_served INTEGER NOT NULL CHECK (bytes_served >= 0),
    bytes_served_from_cache INTEGER NOT NULL CHECK (bytes_served_from_cache >= 0),
    bytes_from_origin INTEGER NOT NULL CHECK (bytes_from_origin >= 0),
    bytes_wasted INTEGER NOT NULL CHECK (bytes_wasted >= 0),
    hits INTEGER NOT NULL CHECK (hits >= 0),
    misses INTEGER NOT NULL CHECK (misses >= 0),
    origin_requests INTEGER NOT NULL CHECK (origin_requests >= 0),
    evicted_bytes INTEGER NOT NULL CHECK (evicted_bytes >= 0),
    checksum_failures INTEGER NOT NULL CHECK (checksum_failures >= 0)
) STRICT;
