UPDATE collection SET indexes = ?2, last_index = ?3 WHERE no = ?1;
