SELECT id, type_url, bytes FROM record WHERE rowid = ?1;
