UPDATE stamp SET last = ?1;
