//! Repositories: names, and the integer ids that everything else refers to.

use oci::RepositoryName;

use crate::{Error, Query, Tx};

/// A repository's identity. A repository that is deleted and made again has a new one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RepositoryId(pub(crate) i64);

/// The id of the repository called `name`, if there is one.
pub async fn find(tx: &mut Tx, name: &RepositoryName) -> Result<Option<RepositoryId>, Error> {
    let sql = "SELECT id FROM repositories WHERE name = $1";
    let row = tx.query_one(sql, &[name.as_str().into()]).await?;
    row.map(|row| row.integer(0).map(RepositoryId)).transpose()
}

/// The id of the repository called `name`, which is made if it does not exist.
pub async fn ensure(tx: &mut Tx, name: &RepositoryName, now: i64) -> Result<RepositoryId, Error> {
    if let Some(id) = find(tx, name).await? {
        return Ok(id);
    }
    let sql = "INSERT INTO repositories (name, created_at) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id";
    let row = tx.query_one(sql, &[name.as_str().into(), now.into()]).await?;
    row.map_or_else(
        || Err(Error::new(crate::ErrorKind::Other, "the new repository has no id")),
        |row| row.integer(0).map(RepositoryId),
    )
}

/// Whether the repository is in the catalogue: whether it has a manifest.
pub async fn is_listed(tx: &mut Tx, name: &RepositoryName) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM repositories WHERE name = $1 AND listed = 1";
    Ok(tx.query_one(sql, &[name.as_str().into()]).await?.is_some())
}

/// Up to `limit` names of the catalogue after `last`, in byte order.
pub async fn list(
    tx: &mut Tx,
    last: Option<&str>,
    limit: u64,
) -> Result<Vec<RepositoryName>, Error> {
    let sql = "SELECT name FROM repositories WHERE listed = 1 AND name > $1 ORDER BY name LIMIT $2";
    let rows = tx.query(sql, &[last.unwrap_or("").into(), crate::sql_size(limit)]).await?;
    rows.iter().map(|row| row.parse(0)).collect()
}

/// Up to `limit` names of the catalogue that contain `term`, in byte order, `skip` left out.
pub async fn search(
    tx: &mut Tx,
    term: &str,
    skip: u64,
    limit: u64,
) -> Result<Vec<RepositoryName>, Error> {
    let sql = "SELECT name FROM repositories WHERE listed = 1 AND name LIKE $1 ESCAPE '!' \
               ORDER BY name LIMIT $2 OFFSET $3";
    let parameters = [pattern(term).into(), crate::sql_size(limit), crate::sql_size(skip)];
    let rows = tx.query(sql, &parameters).await?;
    rows.iter().map(|row| row.parse(0)).collect()
}

/// How many names of the catalogue contain `term`.
pub async fn count_matches(tx: &mut Tx, term: &str) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM repositories WHERE listed = 1 AND name LIKE $1 ESCAPE '!'";
    let row = tx.query_one(sql, &[pattern(term).into()]).await?;
    row.map_or(Ok(0), |row| row.unsigned(0))
}

/// Up to `limit` repositories after `last`, whether they are in the catalogue or not.
pub async fn list_all(
    tx: &mut Tx,
    last: Option<RepositoryId>,
    limit: u64,
) -> Result<Vec<(RepositoryId, RepositoryName)>, Error> {
    let sql = "SELECT id, name FROM repositories WHERE id > $1 ORDER BY id LIMIT $2";
    let rows = tx.query(sql, &[last.map_or(0, |id| id.0).into(), crate::sql_size(limit)]).await?;
    rows.iter().map(|row| Ok((RepositoryId(row.integer(0)?), row.parse(1)?))).collect()
}

/// How many repositories there are, in the catalogue or not.
pub async fn count(tx: &mut Tx) -> Result<u64, Error> {
    let row = tx.query_one("SELECT count(*) FROM repositories", &[]).await?;
    row.map_or(Ok(0), |row| row.unsigned(0))
}

/// Puts the repository into the catalogue.
pub(crate) async fn set_listed(tx: &mut Tx, id: RepositoryId, listed: bool) -> Result<(), Error> {
    let (sql, values) = listing(id, listed);
    tx.execute(sql, &values).await?;
    Ok(())
}

/// The statement that does it.
pub(crate) fn listing(id: RepositoryId, listed: bool) -> Query {
    let sql = "UPDATE repositories SET listed = $2 WHERE id = $1 AND listed <> $2";
    (sql, vec![id.0.into(), i64::from(listed).into()])
}

/// A LIKE pattern for "contains"; `!` escapes, because `_` is common in names.
fn pattern(term: &str) -> String {
    let escaped = term.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}
