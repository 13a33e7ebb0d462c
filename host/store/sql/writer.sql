-- 8 MiB: the upper pages of its indexes, and what one commit changes.
PRAGMA cache_size = -8192;
