-- Rows of chunks are written a hundred in a statement. A trigger on their insertion made each of them cost twice as
-- much, because SQLite then copies all rows of a statement into a table of its own first. The sums that they kept are
-- moved by the statements that add and remove rows, in the same transaction; that a chunk lies inside its segment and
-- its file is looked at before it is written. The key of the table still makes two rows for one segment impossible.
DROP TRIGGER cache_chunks_inside;
DROP TRIGGER cache_chunks_added;
DROP TRIGGER cache_chunks_changed;
DROP TRIGGER cache_chunks_removed;
