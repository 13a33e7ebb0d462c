-- busy, pages in the log, pages of them already in the database. Does nothing.
PRAGMA wal_checkpoint(NOOP);
