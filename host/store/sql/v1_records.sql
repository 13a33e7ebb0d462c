-- What version 1 knows of its records, but for what they hold.
SELECT rowid, collection, created_at, updated_at, revision FROM record;
