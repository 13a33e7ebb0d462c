SELECT count(*) FROM once;
