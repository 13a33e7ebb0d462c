PRAGMA query_only = ON;
-- 4 MiB per connection.
PRAGMA cache_size = -4096;
