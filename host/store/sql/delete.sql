DELETE FROM record WHERE collection = ?1 AND id = ?2;
