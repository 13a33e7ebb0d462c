SELECT no, full_text, indexes, last_index, records, words, sequence FROM collection WHERE name = ?1;
