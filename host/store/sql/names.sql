SELECT name FROM collection ORDER BY name;
