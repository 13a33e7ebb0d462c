SELECT row, words, created_at, updated_at, CASE WHEN ?2 THEN json(labels) END FROM r$ WHERE id = ?1;
