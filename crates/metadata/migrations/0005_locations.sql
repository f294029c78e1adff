-- Whether a blob is there.
CREATE INDEX blobs_location ON blobs (location) WHERE location IS NOT NULL;
