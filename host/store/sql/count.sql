UPDATE collection SET records = ?2, words = ?3, sequence = ?4, stamp = max(stamp, ?5) WHERE no = ?1;
