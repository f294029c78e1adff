-- 1 while link files of another registry say more about the repository than these tables.
ALTER TABLE repositories ADD COLUMN links_unread BIGINT NOT NULL DEFAULT 0;
CREATE INDEX repositories_links_unread ON repositories (id) WHERE links_unread = 1;

-- What was odd in the link files, for the operator.
CREATE TABLE adoption_findings (
    id      {ID},
    -- The repository's name, or '' for what belongs to none.
    place   {TEXT} NOT NULL,
    problem {TEXT} NOT NULL
);
CREATE INDEX adoption_findings_place ON adoption_findings (place);
