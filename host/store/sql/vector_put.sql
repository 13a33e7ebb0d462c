INSERT INTO v$ (row, vector) VALUES (?1, ?2);
