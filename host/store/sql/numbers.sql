SELECT no FROM collection;
