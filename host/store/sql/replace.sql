-- Where the row stays where it is; setting it too would write every index anew.
UPDATE r$ SET
    type_url = ?2, updated_at = ?3, words = ?4, seal = ?5, labels = jsonb(?6), document = jsonb(?7), bytes = ?8
WHERE row = ?1;
