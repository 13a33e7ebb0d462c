SELECT id, type_url, bytes, created_at, updated_at, revision FROM record WHERE collection = ?1 AND id = ?2;
