SELECT max(
    (SELECT last FROM stamp),
    (SELECT ifnull(max(stamp), 0) FROM collection),
    (SELECT ifnull(max(at), 0) FROM once)
);
