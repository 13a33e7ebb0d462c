-- The tables of one collection; $ is its number. Version 2's: the migration to it reads this file too.
CREATE TABLE r$ (
    -- place in the order of creation << 8 | length of the texts in one byte (norm.rs): text search ranks by it without
    -- looking anything up. An update keeps the place; where the length changes, the row moves.
    row INTEGER PRIMARY KEY,
    -- Compares byte for byte, so that case twins and unicode twins are different records.
    id TEXT NOT NULL COLLATE BINARY,
    type_url TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- The revision, too.
    updated_at INTEGER NOT NULL,
    -- In its texts, exactly; 0 without full text.
    words INTEGER NOT NULL,
    -- What tells that the record is as it was written (row.rs).
    seal INTEGER NOT NULL,
    -- JSONB object of text, or NULL where there are none.
    labels BLOB,
    -- What queries see: JSONB, or NULL where they see nothing. Before the content, which may be large: a search through the
    -- documents reads only what comes before their end.
    document BLOB,
    bytes BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX r$_id ON r$ (id);

-- Vectors, apart from the rows that scans read: little-endian f32.
CREATE TABLE v$ (row INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT;

-- For each index of the shape: x$_<number>, see select.
