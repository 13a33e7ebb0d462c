PRAGMA integrity_check(r$);
