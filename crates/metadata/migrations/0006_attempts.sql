-- Wrong passwords, and whatever else is allowed only so often at all servers of this database.
CREATE TABLE attempts (
    -- Who has tried what.
    name      {TEXT} NOT NULL PRIMARY KEY,
    -- By the clock of the database, in microseconds since 1970. From then on nothing is known of it.
    forgotten BIGINT NOT NULL
);
CREATE INDEX attempts_forgotten ON attempts (forgotten);
