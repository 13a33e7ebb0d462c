DELETE FROM f$ WHERE rowid = ?1;
