DELETE FROM once WHERE at < ?1;
