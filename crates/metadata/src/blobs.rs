//! Content, and which repository may serve it.

use bytes::Bytes;
use oci::{Algorithm, Digest, RepositoryName};

use crate::repositories::RepositoryId;
use crate::sql::Row;
use crate::{Error, ErrorKind, Tx, journal};

/// Content that the store holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blob {
    /// The sha256 digest, which names it in the store.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Where the bytes are; `None`: at the layout's key.
    pub location: Option<String>,
}

/// A blob's identity inside the database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlobId(pub(crate) i64);

/// Content that has just been stored.
#[derive(Clone, Debug)]
pub struct NewBlob {
    /// Always sha256.
    pub sha256: Digest,
    /// Set when the client named the content so.
    pub sha512: Option<Digest>,
    /// Bytes.
    pub size: u64,
    /// Where the bytes are; `None`: at the layout's key.
    pub location: Option<String>,
    /// Whether what was recorded of the bytes before is wrong.
    pub replaces: bool,
    /// The bytes, if they might not survive the loss of power where they are.
    pub unsynced: Option<Bytes>,
}

/// Content that has just been recorded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recorded {
    /// The blob.
    pub id: BlobId,
    /// Where its bytes are: not where they were just stored, if it was known before and had not
    /// to be replaced.
    pub location: Option<String>,
}

/// The blob that `repository` serves as `digest`.
pub async fn find(
    tx: &mut Tx,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<Blob>, Error> {
    // Subqueries, not joins: PostgreSQL would go through all blobs of a repository if it believed
    // that there are few.
    let sql = match digest.algorithm() {
        Algorithm::Sha256 => {
            "SELECT b.digest, b.size, b.location FROM blobs b WHERE b.digest = $2 AND 1 = \
             (SELECT 1 FROM repository_blobs WHERE blob_id = b.id \
              AND repository_id = (SELECT id FROM repositories WHERE name = $1))"
        }
        Algorithm::Sha512 => {
            "SELECT b.digest, b.size, b.location FROM blobs b WHERE b.sha512 = $2 AND 1 = \
             (SELECT 1 FROM repository_blobs WHERE blob_id = b.id \
              AND repository_id = (SELECT id FROM repositories WHERE name = $1))"
        }
    };
    let row = tx.query_one(sql, &[repository.as_str().into(), digest.into()]).await?;
    row.as_ref().map(read).transpose()
}

/// Notes that the store holds this content. What is known already stays; a new name of it is
/// learned. What may still be lost with the power goes into the [`journal`].
pub async fn record(tx: &mut Tx, blob: &NewBlob, now: i64) -> Result<Recorded, Error> {
    if let Some(content) = &blob.unsynced {
        journal::add(tx, &blob.sha256, content).await?;
    }
    let sql = "INSERT INTO blobs (digest, sha512, size, location, created_at) \
               VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (digest) DO UPDATE SET sha512 = coalesce(blobs.sha512, excluded.sha512), \
               location = CASE WHEN CAST($6 AS BIGINT) = 1 \
               THEN excluded.location ELSE blobs.location END, \
               size = CASE WHEN CAST($6 AS BIGINT) = 1 THEN excluded.size ELSE blobs.size END \
               RETURNING id, location";
    let parameters = [
        (&blob.sha256).into(),
        blob.sha512.as_ref().into(),
        crate::sql_size(blob.size),
        blob.location.as_deref().into(),
        now.into(),
        i64::from(blob.replaces).into(),
    ];
    match tx.query_one(sql, &parameters).await? {
        Some(row) => Ok(Recorded { id: BlobId(row.integer(0)?), location: row.optional_text(1)? }),
        None => Err(Error::new(ErrorKind::Other, "the new blob has no id")),
    }
}

/// Lets the repository serve the blob.
pub async fn link(
    tx: &mut Tx,
    repository: RepositoryId,
    blob: BlobId,
    now: i64,
) -> Result<(), Error> {
    let sql = "INSERT INTO repository_blobs (repository_id, blob_id, created_at) \
               VALUES ($1, $2, $3) ON CONFLICT (repository_id, blob_id) DO NOTHING";
    tx.execute(sql, &[repository.0.into(), blob.0.into(), now.into()]).await?;
    Ok(())
}

/// Takes the blob from the repository. The content stays. False if the repository had it not.
pub async fn unlink(tx: &mut Tx, repository: RepositoryId, digest: &Digest) -> Result<bool, Error> {
    let Some(blob) = find_id(tx, digest).await? else {
        return Ok(false);
    };
    let sql = "DELETE FROM repository_blobs WHERE repository_id = $1 AND blob_id = $2";
    Ok(tx.execute(sql, &[repository.0.into(), blob.0.into()]).await? > 0)
}

/// The identity of the content called `digest`, whoever may serve it.
pub async fn find_id(tx: &mut Tx, digest: &Digest) -> Result<Option<BlobId>, Error> {
    let sql = match digest.algorithm() {
        Algorithm::Sha256 => "SELECT id FROM blobs WHERE digest = $1",
        Algorithm::Sha512 => "SELECT id FROM blobs WHERE sha512 = $1",
    };
    let row = tx.query_one(sql, &[digest.into()]).await?;
    row.map(|row| row.integer(0).map(BlobId)).transpose()
}

/// The content called `digest`, whoever may serve it.
pub async fn find_stored(tx: &mut Tx, digest: &Digest) -> Result<Option<Blob>, Error> {
    let sql = match digest.algorithm() {
        Algorithm::Sha256 => "SELECT digest, size, location FROM blobs WHERE digest = $1",
        Algorithm::Sha512 => "SELECT digest, size, location FROM blobs WHERE sha512 = $1",
    };
    let row = tx.query_one(sql, &[digest.into()]).await?;
    row.as_ref().map(read).transpose()
}

/// Whether the bytes of a blob are there, for each of `locations`.
pub async fn are_located(tx: &mut Tx, locations: &[&str]) -> Result<Vec<bool>, Error> {
    let sql = "SELECT 1 FROM blobs WHERE location = $1";
    let queries = locations.iter().map(|location| (sql, vec![(*location).into()]));
    let found = tx.query_all(&queries.collect::<Vec<_>>()).await?;
    Ok(found.iter().map(|rows| !rows.is_empty()).collect())
}

/// Up to `limit` blobs that lie at locations after `last`, in byte order.
pub async fn list_located(tx: &mut Tx, last: &str, limit: u64) -> Result<Vec<Blob>, Error> {
    let sql = "SELECT digest, size, location FROM blobs WHERE location > $1 \
               ORDER BY location LIMIT $2";
    let rows = tx.query(sql, &[last.into(), crate::sql_size(limit)]).await?;
    rows.iter().map(read).collect()
}

/// Notes that the bytes of the blob are at the layout's key now.
pub async fn relocate(tx: &mut Tx, digest: &Digest) -> Result<(), Error> {
    tx.execute("UPDATE blobs SET location = NULL WHERE digest = $1", &[digest.into()]).await?;
    Ok(())
}

/// Whether the repository serves the blob called `digest`.
pub async fn is_served(
    tx: &mut Tx,
    repository: RepositoryId,
    digest: &Digest,
) -> Result<bool, Error> {
    let sql = match digest.algorithm() {
        Algorithm::Sha256 => {
            "SELECT 1 FROM repository_blobs \
             WHERE repository_id = $1 AND blob_id = (SELECT id FROM blobs WHERE digest = $2)"
        }
        Algorithm::Sha512 => {
            "SELECT 1 FROM repository_blobs \
             WHERE repository_id = $1 AND blob_id = (SELECT id FROM blobs WHERE sha512 = $2)"
        }
    };
    Ok(tx.query_one(sql, &[repository.0.into(), digest.into()]).await?.is_some())
}

/// Up to `limit` repositories, after `last` in byte order, that serve the blob.
pub async fn holders(
    tx: &mut Tx,
    digest: &Digest,
    last: Option<&str>,
    limit: u64,
) -> Result<Vec<RepositoryName>, Error> {
    let Some(blob) = find_id(tx, digest).await? else {
        return Ok(Vec::new());
    };
    let sql = "SELECT r.name FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id \
               WHERE rb.blob_id = $1 AND r.name > $2 ORDER BY r.name LIMIT $3";
    let parameters = [blob.0.into(), last.unwrap_or("").into(), crate::sql_size(limit)];
    let rows = tx.query(sql, &parameters).await?;
    rows.iter().map(|row| row.parse(0)).collect()
}

/// Up to `limit` blobs after the one called `last`, in the order of their sha256 digests: for
/// going through everything.
pub async fn list(tx: &mut Tx, last: Option<&Digest>, limit: u64) -> Result<Vec<Blob>, Error> {
    let sql = "SELECT digest, size, location FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2";
    let last = last.map_or_else(Vec::new, Digest::to_bytes);
    let rows = tx.query(sql, &[last.as_slice().into(), crate::sql_size(limit)]).await?;
    rows.iter().map(read).collect()
}

/// A blob whose digest, size and location are the first columns.
fn read(row: &Row) -> Result<Blob, Error> {
    Ok(Blob { digest: row.digest(0)?, size: row.unsigned(1)?, location: row.optional_text(2)? })
}

/// A blob that a repository serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Linked {
    /// Where to go on from.
    pub id: BlobId,
    /// The content.
    pub blob: Blob,
    /// Its other name, if it is known.
    pub sha512: Option<Digest>,
}

/// Up to `limit` blobs that the repository serves, after `last`.
pub async fn list_of(
    tx: &mut Tx,
    repository: RepositoryId,
    last: Option<BlobId>,
    limit: u64,
) -> Result<Vec<Linked>, Error> {
    let sql = "SELECT b.id, b.digest, b.size, b.location, b.sha512 FROM repository_blobs rb \
               JOIN blobs b ON b.id = rb.blob_id \
               WHERE rb.repository_id = $1 AND rb.blob_id > $2 ORDER BY rb.blob_id LIMIT $3";
    let last = last.map_or(0, |id| id.0);
    let rows = tx.query(sql, &[repository.0.into(), last.into(), crate::sql_size(limit)]).await?;
    rows.iter()
        .map(|row| {
            Ok(Linked {
                id: BlobId(row.integer(0)?),
                blob: Blob {
                    digest: row.digest(1)?,
                    size: row.unsigned(2)?,
                    location: row.optional_text(3)?,
                },
                sha512: if row.is_null(4) { None } else { Some(row.digest(4)?) },
            })
        })
        .collect()
}
