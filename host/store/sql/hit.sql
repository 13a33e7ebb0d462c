SELECT id, type_url, bytes, json(labels), created_at, updated_at, seal FROM r$ WHERE row = ?1;
