-- Names this file as a store of ours: "cllc".
PRAGMA application_id = 1668050019;

-- Ids and collections compare byte for byte, so that case twins and unicode twins are different records.
CREATE TABLE record (
    collection TEXT NOT NULL COLLATE BINARY,
    id TEXT NOT NULL COLLATE BINARY,
    type_url TEXT NOT NULL,
    bytes BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (collection, id)
) STRICT;

-- The last revision given out. One for the whole database, so that no revision is ever given twice, not even to a record
-- that was deleted and made again.
CREATE TABLE revision (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    last INTEGER NOT NULL
) STRICT;
INSERT INTO revision (only, last) VALUES (1, 0);

PRAGMA user_version = 1;
