UPDATE revision SET last = last + 1 WHERE only = 1 RETURNING last;
