-- The texts of one collection; $ is its number. Keeps what finds them, not the texts.
CREATE VIRTUAL TABLE f$ USING fts5 (
    text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
