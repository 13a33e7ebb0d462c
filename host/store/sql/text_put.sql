INSERT INTO f$ (rowid, text) VALUES (?1, ?2);
