SELECT fingerprint, outcomes FROM once WHERE key = ?1;
