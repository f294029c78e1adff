//! Manifests: what a repository's tags and digests lead to.

use oci::{Algorithm, Digest, Reference, RepositoryName};

use crate::blobs::{Blob, BlobId};
use crate::repositories::{self, RepositoryId};
use crate::{Error, ErrorKind, Tx};

/// A manifest's identity inside the database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ManifestId(pub(crate) i64);

/// A manifest as a pull needs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The digest that the client gave it.
    pub digest: Digest,
    /// Its content type.
    pub media_type: String,
    /// Its bytes.
    pub blob: Blob,
}

/// A manifest that is being pushed, its bytes already stored.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// The digest that the client gave it.
    pub digest: Digest,
    /// Its content type.
    pub media_type: String,
    /// See the referrers API.
    pub artifact_type: Option<String>,
    /// The manifest that it says something about.
    pub subject: Option<Digest>,
    /// A JSON object; kept when there is a subject.
    pub annotations: Option<String>,
    /// What it names.
    pub references: Vec<(Digest, ReferenceKind)>,
}

/// Why a manifest names a digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReferenceKind {
    /// The image's configuration.
    Config,
    /// A layer of the image.
    Layer,
    /// A layer that may be somewhere else ("foreign", non-distributable).
    ForeignLayer,
    /// A manifest of an index.
    Child,
}

impl ReferenceKind {
    fn code(self) -> i64 {
        match self {
            Self::Config => 1,
            Self::Layer => 2,
            Self::ForeignLayer => 3,
            Self::Child => 4,
        }
    }

    fn from_code(code: i64) -> Result<Self, Error> {
        match code {
            1 => Ok(Self::Config),
            2 => Ok(Self::Layer),
            3 => Ok(Self::ForeignLayer),
            4 => Ok(Self::Child),
            _ => Err(Error::new(ErrorKind::Damaged, format!("unknown reference kind {code}"))),
        }
    }
}

/// A manifest that says something about another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its content type.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
    /// The kind of statement, such as a signature's media type.
    pub artifact_type: Option<String>,
    /// A JSON object.
    pub annotations: Option<String>,
}

/// The manifest that `reference` leads to.
pub async fn find(
    tx: &mut Tx,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Option<Manifest>, Error> {
    let row = match reference {
        Reference::Tag(tag) => {
            let sql = "SELECT m.digest, m.media_type, b.digest, b.size, b.location \
                       FROM repositories r \
                       JOIN tags t ON t.repository_id = r.id AND t.name = $2 \
                       JOIN manifests m ON m.id = t.manifest_id \
                       JOIN blobs b ON b.id = m.blob_id WHERE r.name = $1";
            tx.query_one(sql, &[repository.as_str().into(), tag.as_str().into()]).await?
        }
        Reference::Digest(digest) => {
            let sql = "SELECT m.digest, m.media_type, b.digest, b.size, b.location \
                       FROM repositories r \
                       JOIN manifests m ON m.repository_id = r.id AND m.digest = $2 \
                       JOIN blobs b ON b.id = m.blob_id WHERE r.name = $1";
            tx.query_one(sql, &[repository.as_str().into(), digest.into()]).await?
        }
    };
    row.map(|row| {
        Ok(Manifest {
            digest: row.digest(0)?,
            media_type: row.text(1)?,
            blob: Blob {
                digest: row.digest(2)?,
                size: row.unsigned(3)?,
                location: row.optional_text(4)?,
            },
        })
    })
    .transpose()
}

/// Whether the repository has the manifest.
pub async fn exists(tx: &mut Tx, repository: RepositoryId, digest: &Digest) -> Result<bool, Error> {
    Ok(find_id(tx, repository, digest).await?.is_some())
}

/// Which of `wanted` the repository has not: manifests, where it is a child, or else blobs.
pub async fn missing(
    tx: &mut Tx,
    repository: &RepositoryName,
    wanted: &[(Digest, ReferenceKind)],
) -> Result<Vec<Digest>, Error> {
    // Subqueries as in `blobs::find`.
    let queries = wanted.iter().map(|(digest, kind)| {
        let sql = match (kind, digest.algorithm()) {
            (ReferenceKind::Child, _) => {
                "SELECT 1 FROM manifests WHERE digest = $2 \
                 AND repository_id = (SELECT id FROM repositories WHERE name = $1)"
            }
            (_, Algorithm::Sha256) => {
                "SELECT 1 FROM repository_blobs \
                 WHERE repository_id = (SELECT id FROM repositories WHERE name = $1) \
                 AND blob_id = (SELECT id FROM blobs WHERE digest = $2)"
            }
            (_, Algorithm::Sha512) => {
                "SELECT 1 FROM repository_blobs \
                 WHERE repository_id = (SELECT id FROM repositories WHERE name = $1) \
                 AND blob_id = (SELECT id FROM blobs WHERE sha512 = $2)"
            }
        };
        (sql, vec![repository.as_str().into(), digest.into()])
    });
    let found = tx.query_all(&queries.collect::<Vec<_>>()).await?;
    let found = wanted.iter().zip(found).filter(|(_, rows)| rows.is_empty());
    Ok(found.map(|((digest, _), _)| *digest).collect())
}

/// The identity of the manifest that the repository calls `digest`.
pub async fn find_id(
    tx: &mut Tx,
    repository: RepositoryId,
    digest: &Digest,
) -> Result<Option<ManifestId>, Error> {
    let sql = "SELECT id FROM manifests WHERE repository_id = $1 AND digest = $2";
    let row = tx.query_one(sql, &[repository.0.into(), digest.into()]).await?;
    row.map(|row| row.integer(0).map(ManifestId)).transpose()
}

/// Writes the manifest down. One that is there already stays what it is: its type, which may come
/// from the header of a request, is that of all its tags.
pub async fn put(
    tx: &mut Tx,
    repository: RepositoryId,
    blob: BlobId,
    manifest: &NewManifest,
    now: i64,
) -> Result<ManifestId, Error> {
    let sql = "INSERT INTO manifests (repository_id, digest, blob_id, media_type, artifact_type, \
               subject, annotations, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
               ON CONFLICT (repository_id, digest) DO UPDATE SET media_type = manifests.media_type \
               RETURNING id";
    let parameters = [
        repository.0.into(),
        (&manifest.digest).into(),
        blob.0.into(),
        manifest.media_type.as_str().into(),
        manifest.artifact_type.as_deref().into(),
        manifest.subject.as_ref().into(),
        manifest.annotations.as_deref().into(),
        now.into(),
    ];
    let id = match tx.query_one(sql, &parameters).await? {
        Some(row) => row.integer(0)?,
        None => return Err(Error::new(ErrorKind::Other, "the new manifest has no id")),
    };
    let sql = "INSERT INTO manifest_references (manifest_id, digest, kind) VALUES ($1, $2, $3) \
               ON CONFLICT (manifest_id, digest, kind) DO NOTHING";
    let references = manifest.references.iter();
    let mut inserts = references
        .map(|(digest, kind)| (sql, vec![id.into(), digest.into(), kind.code().into()]))
        .collect::<Vec<_>>();
    inserts.push(repositories::listing(repository, true));
    tx.query_all(&inserts).await?;
    Ok(ManifestId(id))
}

/// Removes the manifest and the tags that point to it. False if it is not there.
pub async fn delete(tx: &mut Tx, repository: RepositoryId, digest: &Digest) -> Result<bool, Error> {
    let sql = "DELETE FROM manifests WHERE repository_id = $1 AND digest = $2";
    let deleted = tx.execute(sql, &[repository.0.into(), digest.into()]).await? > 0;
    if deleted {
        let sql = "SELECT 1 FROM manifests WHERE repository_id = $1 LIMIT 1";
        if tx.query_one(sql, &[repository.0.into()]).await?.is_none() {
            repositories::set_listed(tx, repository, false).await?;
        }
    }
    Ok(deleted)
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Only what comes after this one.
    pub last: Option<Digest>,
    /// How many at most.
    pub limit: u64,
    /// About how many bytes all of them may have. The first is taken whatever it has.
    pub bytes: u64,
}

impl Page {
    /// What a row counts beside its annotations, in bytes.
    pub const ROW_BYTES: u64 = 300;
}

/// Referrers of one manifest.
#[derive(Clone, Debug)]
pub struct Referrers {
    /// In the order of their digests.
    pub list: Vec<Referrer>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// A page of the manifests whose subject is `subject`. Only those of `artifact_type`, if it is
/// given.
pub async fn referrers(
    tx: &mut Tx,
    repository: &RepositoryName,
    subject: &Digest,
    artifact_type: Option<&str>,
    page: Page,
) -> Result<Referrers, Error> {
    let last = page.last.map_or_else(Vec::new, |last| last.to_bytes());
    let of = |limit| {
        [
            repository.as_str().into(),
            subject.into(),
            last.as_slice().into(),
            artifact_type.unwrap_or("").into(),
            crate::sql_size(limit),
        ]
    };
    // Sizes first: what is not taken is not read.
    let sql = "SELECT COALESCE(octet_length(m.annotations), 0) \
               FROM repositories r JOIN manifests m ON m.repository_id = r.id \
               WHERE r.name = $1 AND m.subject = $2 AND m.digest > $3 \
               AND (m.artifact_type = $4 OR $4 = '') ORDER BY m.digest LIMIT $5";
    let sizes = tx.query(sql, &of(page.limit.saturating_add(1))).await?;
    let mut bytes = 0;
    let mut count = 0;
    for row in &sizes {
        bytes += Page::ROW_BYTES + row.unsigned(0)?;
        if count == page.limit || (bytes > page.bytes && count > 0) {
            break;
        }
        count += 1;
    }
    let sql = "SELECT m.digest, m.media_type, b.size, m.artifact_type, m.annotations \
               FROM repositories r JOIN manifests m ON m.repository_id = r.id \
               JOIN blobs b ON b.id = m.blob_id \
               WHERE r.name = $1 AND m.subject = $2 AND m.digest > $3 \
               AND (m.artifact_type = $4 OR $4 = '') ORDER BY m.digest LIMIT $5";
    let rows = tx.query(sql, &of(count)).await?;
    let list = rows.iter().map(|row| {
        Ok(Referrer {
            digest: row.digest(0)?,
            media_type: row.text(1)?,
            size: row.unsigned(2)?,
            artifact_type: row.optional_text(3)?,
            annotations: row.optional_text(4)?,
        })
    });
    Ok(Referrers { list: list.collect::<Result<_, Error>>()?, more: sizes.len() as u64 > count })
}

/// A manifest and what it names, for going through everything.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Where to go on from.
    pub id: ManifestId,
    /// Whose it is.
    pub repository: RepositoryName,
    /// Its name.
    pub digest: Digest,
    /// What it names.
    pub references: Vec<(Digest, ReferenceKind)>,
}

/// Up to `limit` manifests after `last`, of all repositories.
pub async fn list(tx: &mut Tx, last: Option<ManifestId>, limit: u64) -> Result<Vec<Listed>, Error> {
    let sql = "SELECT m.id, r.name, m.digest FROM manifests m \
               JOIN repositories r ON r.id = m.repository_id \
               WHERE m.id > $1 ORDER BY m.id LIMIT $2";
    let rows = tx.query(sql, &[last.map_or(0, |id| id.0).into(), crate::sql_size(limit)]).await?;
    let mut manifests = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.integer(0)?;
        let sql =
            "SELECT digest, kind FROM manifest_references WHERE manifest_id = $1 ORDER BY digest";
        let references = tx
            .query(sql, &[id.into()])
            .await?
            .iter()
            .map(|row| Ok((row.digest(0)?, ReferenceKind::from_code(row.integer(1)?)?)))
            .collect::<Result<_, Error>>()?;
        manifests.push(Listed {
            id: ManifestId(id),
            repository: row.parse(1)?,
            digest: row.digest(2)?,
            references,
        });
    }
    Ok(manifests)
}

/// A manifest of one repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub blob: Blob,
    /// Whether it says something about another one.
    pub is_referrer: bool,
}

/// Up to `limit` manifests of the repository, after `last` in the order of their digests.
pub async fn list_of(
    tx: &mut Tx,
    repository: RepositoryId,
    last: Option<&Digest>,
    limit: u64,
) -> Result<Vec<Held>, Error> {
    let sql = "SELECT m.digest, b.digest, b.size, b.location, m.subject FROM manifests m \
               JOIN blobs b ON b.id = m.blob_id \
               WHERE m.repository_id = $1 AND m.digest > $2 ORDER BY m.digest LIMIT $3";
    let last = last.map_or_else(Vec::new, Digest::to_bytes);
    let parameters = [repository.0.into(), last.as_slice().into(), crate::sql_size(limit)];
    let rows = tx.query(sql, &parameters).await?;
    rows.iter()
        .map(|row| {
            Ok(Held {
                digest: row.digest(0)?,
                blob: Blob {
                    digest: row.digest(1)?,
                    size: row.unsigned(2)?,
                    location: row.optional_text(3)?,
                },
                is_referrer: !row.is_null(4),
            })
        })
        .collect()
}

/// Up to `limit` manifests of the repository that neither a tag nor an index leads to, after `last`
/// in the order of their digests.
pub async fn list_roots(
    tx: &mut Tx,
    repository: RepositoryId,
    last: Option<&Digest>,
    limit: u64,
) -> Result<Vec<Digest>, Error> {
    let sql = "SELECT m.digest FROM manifests m \
               WHERE m.repository_id = $1 AND m.digest > $2 \
               AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest_id = m.id) \
               AND NOT EXISTS (SELECT 1 FROM manifest_references f \
                   JOIN manifests p ON p.id = f.manifest_id \
                   WHERE f.digest = m.digest AND f.kind = 4 \
                   AND p.repository_id = m.repository_id) \
               ORDER BY m.digest LIMIT $3";
    let last = last.map_or_else(Vec::new, Digest::to_bytes);
    let parameters = [repository.0.into(), last.as_slice().into(), crate::sql_size(limit)];
    let rows = tx.query(sql, &parameters).await?;
    rows.iter().map(|row| row.digest(0)).collect()
}
