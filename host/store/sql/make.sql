INSERT INTO collection (name, full_text, indexes, last_index, records, words, sequence, stamp)
VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0)
RETURNING no;
