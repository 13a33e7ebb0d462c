-- What every connection works under. Read before the file is known to be ours: nothing here writes to it.
-- A commit is on disk before it is acknowledged.
PRAGMA synchronous = FULL;
-- A damaged page is an error where it is met, not a wrong answer.
PRAGMA cell_size_check = ON;
-- Reads through the page cache: an I/O error is an error code, not a signal.
PRAGMA mmap_size = 0;
-- Nothing of a tenant's in files that we do not know of.
PRAGMA temp_store = MEMORY;
-- The writer checkpoints on its own, after its answers: a checkpoint inside a commit hides its errors.
PRAGMA wal_autocheckpoint = 0;
-- What a burst leaves behind: 64 MiB.
PRAGMA journal_size_limit = 67108864;
