-- Whether the origin forbids giving a generation out unconfirmed once its time is up. What was recorded before is taken
-- not to forbid it, until its origin says otherwise.
ALTER TABLE cache_generations
    ADD COLUMN must_revalidate INTEGER NOT NULL DEFAULT 0 CHECK (must_revalidate IN (0, 1));
