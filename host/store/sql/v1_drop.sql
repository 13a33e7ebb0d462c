DROP TABLE record;
DROP TABLE revision;
