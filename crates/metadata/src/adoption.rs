//! Adoption: facts that are taken over from the link files of another registry.
//!
//! A repository whose links are still to be read is *unread*. What is adopted of it adds to what
//! the database knows, and is safe to add again: an adoption that was cut short is repeated.

use oci::{Digest, RepositoryName, Tag};

use crate::manifests::{self, NewManifest};
use crate::repositories::{self, RepositoryId};
use crate::{Error, Tx, blobs, tags};

/// A link to a blob.
#[derive(Clone, Debug)]
pub struct FoundBlob {
    /// Names the content in the store.
    pub sha256: Digest,
    /// Set if the link had this name.
    pub sha512: Option<Digest>,
    /// Bytes.
    pub size: u64,
    /// When the link was written.
    pub linked_at: i64,
}

/// A link to a manifest that could be read.
#[derive(Clone, Debug)]
pub struct FoundManifest {
    /// What it is.
    pub manifest: NewManifest,
    /// Names its content in the store.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// When the link was written.
    pub linked_at: i64,
}

/// A tag that leads to a manifest.
#[derive(Clone, Debug)]
pub struct FoundTag {
    /// The tag.
    pub tag: Tag,
    /// Where it points.
    pub digest: Digest,
    /// When the link was written.
    pub linked_at: i64,
}

/// Which of the two is right about a tag that the database knows already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Precedence {
    /// The database.
    Database,
    /// The link.
    Link,
    /// What was written later.
    Later,
}

/// Makes every repository unread.
pub async fn mark_all_unread(tx: &mut Tx) -> Result<(), Error> {
    tx.execute("UPDATE repositories SET links_unread = 1 WHERE links_unread = 0", &[]).await?;
    Ok(())
}

/// Notes that there are links of a repository; one that is known already stays as it is. It is in
/// the catalogue from then on, if it is `listed`.
pub async fn expect(
    tx: &mut Tx,
    name: &RepositoryName,
    listed: bool,
    now: i64,
) -> Result<(), Error> {
    let sql = "INSERT INTO repositories (name, listed, links_unread, created_at) \
               VALUES ($1, $2, 1, $3) ON CONFLICT (name) DO NOTHING";
    tx.execute(sql, &[name.as_str().into(), i64::from(listed).into(), now.into()]).await?;
    Ok(())
}

/// Whether the repository is unread; `None` if it is not known.
pub async fn is_unread(tx: &mut Tx, name: &RepositoryName) -> Result<Option<bool>, Error> {
    let sql = "SELECT links_unread FROM repositories WHERE name = $1";
    let row = tx.query_one(sql, &[name.as_str().into()]).await?;
    row.map(|row| Ok(row.integer(0)? != 0)).transpose()
}

/// Up to `limit` unread repositories after `last`.
pub async fn list_unread(
    tx: &mut Tx,
    last: Option<RepositoryId>,
    limit: u64,
) -> Result<Vec<(RepositoryId, RepositoryName)>, Error> {
    let sql = "SELECT id, name FROM repositories WHERE links_unread = 1 AND id > $1 \
               ORDER BY id LIMIT $2";
    let rows = tx.query(sql, &[last.map_or(0, |id| id.0).into(), crate::sql_size(limit)]).await?;
    rows.iter().map(|row| Ok((RepositoryId(row.integer(0)?), row.parse(1)?))).collect()
}

/// How many repositories are unread.
pub async fn count_unread(tx: &mut Tx) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM repositories WHERE links_unread = 1";
    let row = tx.query_one(sql, &[]).await?;
    row.map_or(Ok(0), |row| row.unsigned(0))
}

/// The end of a repository's adoption: it is in the catalogue exactly if it has a manifest.
pub async fn mark_read(tx: &mut Tx, repository: RepositoryId) -> Result<(), Error> {
    let sql = "SELECT 1 FROM manifests WHERE repository_id = $1 LIMIT 1";
    let listed = tx.query_one(sql, &[repository.0.into()]).await?.is_some();
    repositories::set_listed(tx, repository, listed).await?;
    let sql = "UPDATE repositories SET links_unread = 0 WHERE id = $1";
    tx.execute(sql, &[repository.0.into()]).await?;
    Ok(())
}

/// Lets the repository serve a blob. False if another blob has its sha512 digest, which is then
/// not learned.
pub async fn adopt_blob(
    tx: &mut Tx,
    repository: RepositoryId,
    blob: &FoundBlob,
) -> Result<bool, Error> {
    insert_blob(tx, &blob.sha256, blob.size, blob.linked_at).await?;
    let sql = "INSERT INTO repository_blobs (repository_id, blob_id, created_at) \
               SELECT CAST($1 AS BIGINT), id, CAST($3 AS BIGINT) FROM blobs WHERE digest = $2 \
               ON CONFLICT (repository_id, blob_id) DO NOTHING";
    let parameters = [repository.0.into(), (&blob.sha256).into(), blob.linked_at.into()];
    tx.execute(sql, &parameters).await?;
    match &blob.sha512 {
        Some(sha512) => learn_sha512(tx, &blob.sha256, sha512).await,
        None => Ok(true),
    }
}

/// Writes a manifest down. One that the repository has already stays as it is.
pub async fn adopt_manifest(
    tx: &mut Tx,
    repository: RepositoryId,
    found: &FoundManifest,
) -> Result<(), Error> {
    if manifests::exists(tx, repository, &found.manifest.digest).await? {
        return Ok(());
    }
    insert_blob(tx, &found.sha256, found.size, found.linked_at).await?;
    if found.manifest.digest != found.sha256 {
        learn_sha512(tx, &found.sha256, &found.manifest.digest).await?;
    }
    if let Some(blob) = blobs::find_id(tx, &found.sha256).await? {
        manifests::put(tx, repository, blob, &found.manifest, found.linked_at).await?;
    }
    Ok(())
}

/// Points a tag at a manifest. False if the repository has no such manifest.
pub async fn adopt_tag(
    tx: &mut Tx,
    repository: RepositoryId,
    found: &FoundTag,
    precedence: Precedence,
) -> Result<bool, Error> {
    let Some(manifest) = manifests::find_id(tx, repository, &found.digest).await? else {
        return Ok(false);
    };
    let sql = "SELECT manifest_id, updated_at FROM tags WHERE repository_id = $1 AND name = $2";
    let known = tx.query_one(sql, &[repository.0.into(), found.tag.as_str().into()]).await?;
    let adopt = match (known, precedence) {
        (None, _) => true,
        (Some(_), Precedence::Database) => false,
        (Some(row), Precedence::Link) => row.integer(0)? != manifest.0,
        (Some(row), Precedence::Later) => {
            row.integer(0)? != manifest.0 && row.integer(1)? < found.linked_at
        }
    };
    if adopt {
        tags::set(tx, repository, &found.tag, manifest, found.linked_at).await?;
    }
    Ok(true)
}

async fn insert_blob(tx: &mut Tx, sha256: &Digest, size: u64, now: i64) -> Result<(), Error> {
    let sql = "INSERT INTO blobs (digest, size, created_at) VALUES ($1, $2, $3) \
               ON CONFLICT (digest) DO NOTHING";
    tx.execute(sql, &[sha256.into(), crate::sql_size(size), now.into()]).await?;
    Ok(())
}

async fn learn_sha512(tx: &mut Tx, sha256: &Digest, sha512: &Digest) -> Result<bool, Error> {
    match blobs::find_id(tx, sha512).await? {
        None => {
            let sql = "UPDATE blobs SET sha512 = $2 WHERE digest = $1 AND sha512 IS NULL";
            Ok(tx.execute(sql, &[sha256.into(), sha512.into()]).await? > 0)
        }
        Some(known) => Ok(blobs::find_id(tx, sha256).await? == Some(known)),
    }
}

/// Something odd that was found in `place`: a repository's name, or nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The repository's name, or nothing.
    pub place: String,
    /// What is odd.
    pub problem: String,
}

/// Writes findings down.
pub async fn note(tx: &mut Tx, findings: &[Finding]) -> Result<(), Error> {
    let sql = "INSERT INTO adoption_findings (place, problem) VALUES ($1, $2)";
    for finding in findings {
        let parameters = [finding.place.as_str().into(), finding.problem.as_str().into()];
        tx.execute(sql, &parameters).await?;
    }
    Ok(())
}

/// The number of the newest finding; 0 if there is none.
pub async fn last_finding(tx: &mut Tx) -> Result<i64, Error> {
    let row = tx.query_one("SELECT coalesce(max(id), 0) FROM adoption_findings", &[]).await?;
    row.map_or(Ok(0), |row| row.integer(0))
}

/// Forgets what was found in `place`, up to the finding numbered `last`.
pub async fn forget_findings(tx: &mut Tx, place: &str, last: i64) -> Result<(), Error> {
    let sql = "DELETE FROM adoption_findings WHERE place = $1 AND id <= $2";
    tx.execute(sql, &[place.into(), last.into()]).await?;
    Ok(())
}

/// Forgets all findings.
pub async fn forget_all_findings(tx: &mut Tx) -> Result<(), Error> {
    tx.execute("DELETE FROM adoption_findings", &[]).await?;
    Ok(())
}

/// Up to `limit` findings after the one numbered `last` (0: from the first), each with its number.
pub async fn list_findings(
    tx: &mut Tx,
    last: i64,
    limit: u64,
) -> Result<Vec<(i64, Finding)>, Error> {
    let sql = "SELECT id, place, problem FROM adoption_findings WHERE id > $1 ORDER BY id LIMIT $2";
    let rows = tx.query(sql, &[last.into(), crate::sql_size(limit)]).await?;
    rows.iter()
        .map(|row| Ok((row.integer(0)?, Finding { place: row.text(1)?, problem: row.text(2)? })))
        .collect()
}

/// How many findings there are.
pub async fn count_findings(tx: &mut Tx) -> Result<u64, Error> {
    let row = tx.query_one("SELECT count(*) FROM adoption_findings", &[]).await?;
    row.map_or(Ok(0), |row| row.unsigned(0))
}
