UPDATE r$ SET
    type_url = ?2, updated_at = ?3, words = ?4, seal = ?5, labels = jsonb(?6), document = jsonb(?7), bytes = ?8, row = ?9
WHERE row = ?1;
