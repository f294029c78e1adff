//! What nothing needs any more.

use oci::{Digest, RepositoryName};

use crate::blobs::{Blob, BlobId};
use crate::{Error, Tx};

/// All manifests that no tag leads to, that no such manifest lists, and that say nothing about one.
pub async fn untagged(tx: &mut Tx) -> Result<Vec<(RepositoryName, Digest)>, Error> {
    let sql = "WITH RECURSIVE kept (id) AS ( \
                   SELECT manifest_id FROM tags \
                   UNION \
                   SELECT m.id FROM kept \
                   JOIN manifests p ON p.id = kept.id \
                   JOIN manifests m ON m.repository_id = p.repository_id \
                   AND (m.subject = p.digest OR m.digest IN \
                       (SELECT digest FROM manifest_references \
                        WHERE manifest_id = p.id AND kind = 4))) \
               SELECT r.name, m.digest FROM manifests m \
               JOIN repositories r ON r.id = m.repository_id \
               WHERE m.id NOT IN (SELECT id FROM kept) ORDER BY r.name, m.digest";
    let rows = tx.query(sql, &[]).await?;
    rows.iter().map(|row| Ok((row.parse(0)?, row.digest(1)?))).collect()
}

/// How many blobs there are.
pub async fn count_blobs(tx: &mut Tx) -> Result<u64, Error> {
    let row = tx.query_one("SELECT count(*) FROM blobs", &[]).await?;
    row.map_or(Ok(0), |row| row.unsigned(0))
}

/// Up to `limit` blobs that are no manifest, and that no manifest names.
pub async fn unused(tx: &mut Tx, limit: u64) -> Result<Vec<(BlobId, Blob)>, Error> {
    let sql = "SELECT b.id, b.digest, b.size, b.location FROM blobs b \
               WHERE NOT EXISTS (SELECT 1 FROM manifests m WHERE m.blob_id = b.id) \
               AND NOT EXISTS (SELECT 1 FROM manifest_references f WHERE f.digest = b.digest) \
               AND NOT EXISTS (SELECT 1 FROM manifest_references f WHERE f.digest = b.sha512) \
               ORDER BY b.digest LIMIT $1";
    let rows = tx.query(sql, &[crate::sql_size(limit)]).await?;
    rows.iter()
        .map(|row| {
            let blob = Blob {
                digest: row.digest(1)?,
                size: row.unsigned(2)?,
                location: row.optional_text(3)?,
            };
            Ok((BlobId(row.integer(0)?), blob))
        })
        .collect()
}

/// Forgets a blob, and that any repository could serve it.
pub async fn forget(tx: &mut Tx, blob: BlobId) -> Result<(), Error> {
    tx.execute("DELETE FROM repository_blobs WHERE blob_id = $1", &[blob.0.into()]).await?;
    tx.execute("DELETE FROM blobs WHERE id = $1", &[blob.0.into()]).await?;
    Ok(())
}
