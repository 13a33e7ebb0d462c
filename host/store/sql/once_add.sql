INSERT INTO once (at, key, fingerprint, outcomes) VALUES (?1, ?2, ?3, ?4);
