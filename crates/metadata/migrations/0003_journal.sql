-- Small content that lies in the store, but may not have reached the disk there. After a loss of
-- power it is put back from here.
CREATE TABLE journal (
    id      {ID},
    digest  {BYTES} NOT NULL,
    content {BYTES} NOT NULL
);
