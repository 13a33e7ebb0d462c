-- Records of all collections, as of the last commit; bytes of the pages that hold something.
SELECT
    (SELECT ifnull(sum(records), 0) FROM collection),
    (SELECT page_count FROM pragma_page_count()) - (SELECT freelist_count FROM pragma_freelist_count()),
    (SELECT page_size FROM pragma_page_size());
