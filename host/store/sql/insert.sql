INSERT INTO r$ (row, id, type_url, created_at, updated_at, words, seal, labels, document, bytes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, jsonb(?8), jsonb(?9), ?10);
