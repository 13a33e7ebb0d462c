SELECT count(*) FROM f$ WHERE f$ MATCH ?1;
