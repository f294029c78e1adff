//! Tags: names that point to manifests and may move.

use oci::{Digest, Tag};

use crate::manifests::ManifestId;
use crate::repositories::RepositoryId;
use crate::{Error, Tx};

/// Points the tag at the manifest.
pub async fn set(
    tx: &mut Tx,
    repository: RepositoryId,
    tag: &Tag,
    manifest: ManifestId,
    now: i64,
) -> Result<(), Error> {
    let sql = "INSERT INTO tags (repository_id, name, manifest_id, created_at, updated_at) \
               VALUES ($1, $2, $3, $4, $4) ON CONFLICT (repository_id, name) \
               DO UPDATE SET manifest_id = excluded.manifest_id, updated_at = excluded.updated_at";
    let parameters = [repository.0.into(), tag.as_str().into(), manifest.0.into(), now.into()];
    tx.execute(sql, &parameters).await?;
    Ok(())
}

/// Removes the tag; the manifest stays. False if there was none.
pub async fn delete(tx: &mut Tx, repository: RepositoryId, tag: &Tag) -> Result<bool, Error> {
    let sql = "DELETE FROM tags WHERE repository_id = $1 AND name = $2";
    Ok(tx.execute(sql, &[repository.0.into(), tag.as_str().into()]).await? > 0)
}

/// Up to `limit` tags after `last`, in byte order.
pub async fn list(
    tx: &mut Tx,
    repository: RepositoryId,
    last: Option<&str>,
    limit: u64,
) -> Result<Vec<Tag>, Error> {
    let sql = "SELECT name FROM tags WHERE repository_id = $1 AND name > $2 ORDER BY name LIMIT $3";
    let parameters = [repository.0.into(), last.unwrap_or("").into(), crate::sql_size(limit)];
    let rows = tx.query(sql, &parameters).await?;
    rows.iter().map(|row| row.parse(0)).collect()
}

/// Up to `limit` tags after `last`, in byte order, each with the manifest that it points to.
pub async fn list_targets(
    tx: &mut Tx,
    repository: RepositoryId,
    last: Option<&str>,
    limit: u64,
) -> Result<Vec<(Tag, Digest)>, Error> {
    let sql = "SELECT t.name, m.digest FROM tags t JOIN manifests m ON m.id = t.manifest_id \
               WHERE t.repository_id = $1 AND t.name > $2 ORDER BY t.name LIMIT $3";
    let parameters = [repository.0.into(), last.unwrap_or("").into(), crate::sql_size(limit)];
    let rows = tx.query(sql, &parameters).await?;
    rows.iter().map(|row| Ok((row.parse(0)?, row.digest(1)?))).collect()
}
