-- Digests are one byte of algorithm (1 sha256, 2 sha512) and the raw hash.

CREATE TABLE repositories (
    id          {ID},
    name        {TEXT} NOT NULL UNIQUE,
    -- 1 while the repository has a manifest: only then it is in the catalogue.
    listed      BIGINT NOT NULL DEFAULT 0,
    created_at  BIGINT NOT NULL
);
CREATE INDEX repositories_listed ON repositories (name) WHERE listed = 1;

-- Content, whoever it belongs to. Manifests are content too.
CREATE TABLE blobs (
    id          {ID},
    -- Always sha256: it names the file in the layout.
    digest      {BYTES} NOT NULL UNIQUE,
    -- Set when somebody pushed or asked for it under this name.
    sha512      {BYTES} UNIQUE,
    size        BIGINT NOT NULL,
    -- Where the bytes are; NULL: at the layout's key of the digest.
    location    {TEXT},
    created_at  BIGINT NOT NULL
);

-- Which repository may serve which blob.
CREATE TABLE repository_blobs (
    repository_id BIGINT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    blob_id       BIGINT NOT NULL REFERENCES blobs (id),
    created_at    BIGINT NOT NULL,
    PRIMARY KEY (repository_id, blob_id)
);
CREATE INDEX repository_blobs_blob ON repository_blobs (blob_id);

CREATE TABLE manifests (
    id            {ID},
    repository_id BIGINT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    -- The name that the client gave it: the same bytes may be here as sha256 and as sha512.
    digest        {BYTES} NOT NULL,
    blob_id       BIGINT NOT NULL REFERENCES blobs (id),
    media_type    {TEXT} NOT NULL,
    artifact_type {TEXT},
    -- The manifest that this one says something about (it need not exist).
    subject       {BYTES},
    -- JSON, kept only for referrers, whose listing shows them.
    annotations   {TEXT},
    created_at    BIGINT NOT NULL,
    UNIQUE (repository_id, digest)
);
CREATE INDEX manifests_blob ON manifests (blob_id);
CREATE INDEX manifests_subject ON manifests (repository_id, subject, digest) WHERE subject IS NOT NULL;

-- What a manifest names. kind: 1 config, 2 layer, 3 layer kept elsewhere, 4 child manifest.
CREATE TABLE manifest_references (
    manifest_id BIGINT NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    digest      {BYTES} NOT NULL,
    kind        BIGINT NOT NULL,
    PRIMARY KEY (manifest_id, digest, kind)
);
CREATE INDEX manifest_references_digest ON manifest_references (digest);

CREATE TABLE tags (
    repository_id BIGINT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    name          {TEXT} NOT NULL,
    manifest_id   BIGINT NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    PRIMARY KEY (repository_id, name)
);
CREATE INDEX tags_manifest ON tags (manifest_id);

CREATE TABLE uploads (
    id            {TEXT} NOT NULL PRIMARY KEY,
    repository_id BIGINT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    -- Bytes received and hashed so far, and the hash's state after them.
    received      BIGINT NOT NULL,
    hash_state    {BYTES} NOT NULL,
    -- What the blob store needs to go on.
    store_state   {TEXT} NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);
CREATE INDEX uploads_updated_at ON uploads (updated_at);

CREATE TABLE settings (
    name  {TEXT} NOT NULL PRIMARY KEY,
    value {TEXT} NOT NULL
);
