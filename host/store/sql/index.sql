UPDATE r$ SET row = ?2, words = ?3, document = jsonb(?4) WHERE row = ?1;
