-- A collection has tables of its own, made with it: r<no>, v<no> (collection.sql) and f<no> (text.sql). What stands here
-- is what all of them share. The migration moves the rows of version 1's table `record` into them.

-- The collections of the namespace.
CREATE TABLE collection (
    -- Names the tables; never given twice.
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE COLLATE BINARY,
    -- 1: f<no> exists.
    full_text INTEGER NOT NULL,
    -- JSON: [[index number, path], ...]; index x<no>_<index number>.
    indexes TEXT NOT NULL,
    -- Last number given to an index; never given twice.
    last_index INTEGER NOT NULL,
    -- Records, and words in their texts, exactly.
    records INTEGER NOT NULL,
    words INTEGER NOT NULL,
    -- Last place given in the order of creation.
    sequence INTEGER NOT NULL,
    -- Last moment given out in it: a commit writes it with the counters, so that it need not touch `stamp`.
    stamp INTEGER NOT NULL
) STRICT;

-- The last moment given out, in microseconds: revisions and times. One for the whole database, so that none is ever given
-- twice, not even to a record that was deleted and made again, or in a collection that was dropped and made again. It is
-- the latest of this one and of those in `collection` and `once`.
CREATE TABLE stamp (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    last INTEGER NOT NULL
) STRICT;
INSERT INTO stamp (only, last) VALUES (1, 0);

-- Writes that are not to be made twice.
CREATE TABLE once (
    -- A moment as in `stamp`, so that there are no two of it.
    at INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE COLLATE BINARY,
    fingerprint BLOB NOT NULL,
    -- JSON: what became of each change.
    outcomes BLOB NOT NULL
) STRICT;

PRAGMA user_version = 2;
