INSERT INTO record (collection, id, type_url, bytes, created_at, updated_at, revision)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (collection, id) DO UPDATE SET
    type_url = excluded.type_url,
    bytes = excluded.bytes,
    updated_at = excluded.updated_at,
    revision = excluded.revision;
