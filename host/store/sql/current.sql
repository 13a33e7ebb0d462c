SELECT revision, created_at FROM record WHERE collection = ?1 AND id = ?2;
