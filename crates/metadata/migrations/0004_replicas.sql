-- What only one of all servers of this database has at a time, and for so long.
CREATE TABLE leases (
    name   {TEXT} NOT NULL PRIMARY KEY,
    holder {TEXT} NOT NULL,
    -- By the clock of the database, in microseconds since 1970. From then on anybody may have it.
    until  BIGINT NOT NULL
);

-- The server with a request that writes to the upload: the name of its lease. '' if there is none,
-- '-' if there was one that may not have stopped.
ALTER TABLE uploads ADD COLUMN holder {TEXT} NOT NULL DEFAULT '';
-- Which of that server's requests it is.
ALTER TABLE uploads ADD COLUMN turn BIGINT NOT NULL DEFAULT 0;
-- What the store calls the upload; '' if it has the name of the session.
ALTER TABLE uploads ADD COLUMN store_id {TEXT} NOT NULL DEFAULT '';
CREATE INDEX uploads_store_id ON uploads (store_id) WHERE store_id <> '';
