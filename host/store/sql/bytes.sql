-- A row of `dbstat` is a page: the deadline is looked at between them.
SELECT ifnull(sum(page.pgsize), 0)
FROM sqlite_schema AS thing JOIN dbstat AS page ON page.name = thing.name
WHERE thing.tbl_name IN ('r$', 'v$', 'f$_data', 'f$_idx', 'f$_content', 'f$_docsize', 'f$_config');
