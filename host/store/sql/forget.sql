DELETE FROM collection WHERE no = ?1;
