//! Stores of Orlop that have grown very large. A million pushes would take longer than everything
//! else, so the rows are written into the database of a server that is stopped, as the schema in
//! `crates/metadata/migrations` has them. The bytes of the blobs among them are not there: only
//! what is asked for was pushed.

use anyhow::Context as _;
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::http::Sink;
use crate::registry;
use crate::seed::tag_name;
use crate::server::Server;

/// The repository that has the tags.
pub(crate) const MANY: &str = "grown/tags";

/// Repositories of a store with many blobs.
const SHELVES: u64 = 100;

/// A running server with a large store, which is removed with it.
pub(crate) struct Grown {
    pub(crate) server: Server,
    _folder: TempDir,
}

impl Grown {
    /// So many tags of one repository, and so many repositories.
    pub(crate) fn with_names(like: &Server, count: u64) -> anyhow::Result<Self> {
        Self::new(like, |database| add_names(database, count))
    }

    /// So many manifests, and so many blobs that they list.
    pub(crate) fn with_blobs(like: &Server, blobs: u64, manifests: u64) -> anyhow::Result<Self> {
        Self::new(like, |database| add_blobs(database, blobs, manifests))
    }

    fn new(
        like: &Server,
        write: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(like.folder())?;
        let mut server = like.fresh(&folder.path().join("grown"))?;
        server.start()?;
        // The one manifest that is really there, and the first tag.
        let index = registry::empty_index();
        let put = registry::index_put(server.address(), MANY, &tag_name(0), &index);
        server.client().send(&put, Sink::Discard)?.expect(201, "PUT of an index")?;
        server.stop()?;

        let path = server.data().join("orlop/metadata.sqlite");
        let mut database =
            Connection::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let transaction = database.transaction()?;
        write(&transaction).context("cannot write into the database")?;
        transaction.commit()?;
        database.close().map_err(|(_, error)| error)?;
        server.start()?;
        Ok(Self { server, _folder: folder })
    }
}

fn add_names(database: &Connection, count: u64) -> rusqlite::Result<()> {
    database.execute(
        "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?1)
         INSERT INTO tags (repository_id, name, manifest_id, created_at, updated_at)
         SELECT tags.repository_id, printf('v%06d', n), manifest_id, created_at, updated_at
         FROM number, tags WHERE tags.name = ?2",
        (count.cast_signed(), tag_name(0)),
    )?;
    let first = largest_id(database, "repositories")?;
    // One repository less: the one with the tags is in the catalogue too.
    database.execute(
        "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?1)
         INSERT INTO repositories (id, name, listed, created_at)
         SELECT ?2 + n, printf('catalog/r%06d', n), 1, 0 FROM number",
        (count.cast_signed(), first),
    )?;
    database.execute(
        "INSERT INTO manifests (repository_id, digest, blob_id, media_type, created_at)
         SELECT repositories.id, digest, blob_id, media_type, 0
         FROM repositories, manifests WHERE repositories.id > ?1",
        [first],
    )?;
    database.execute(
        "INSERT INTO repository_blobs (repository_id, blob_id, created_at)
         SELECT repository_id, blob_id, 0 FROM manifests WHERE repository_id > ?1
         ON CONFLICT DO NOTHING",
        [first],
    )?;
    Ok(())
}

fn add_blobs(database: &Connection, blobs: u64, manifests: u64) -> rusqlite::Result<()> {
    let first = largest_id(database, "blobs")?;
    let mut insert = database
        .prepare("INSERT INTO blobs (id, digest, size, created_at) VALUES (?1, ?2, 4096, 0)")?;
    for number in 1..=(blobs + manifests).cast_signed() {
        // One byte for the algorithm before the hash.
        let digest = [&[1], Sha256::digest(number.to_le_bytes()).as_slice()].concat();
        insert.execute((first + number, digest))?;
    }
    let repository = largest_id(database, "repositories")?;
    database.execute(
        "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
         INSERT INTO repositories (id, name, listed, created_at)
         SELECT ?2 + n, printf('grown/r%03d', n), 1, 0 FROM number",
        (SHELVES.cast_signed(), repository),
    )?;
    // The last ones are manifests. Everything lies in one of the repositories in turn.
    let first_manifest = first + blobs.cast_signed();
    database.execute(
        "INSERT INTO repository_blobs (repository_id, blob_id, created_at)
         SELECT ?1 + 1 + id % ?2, id, 0 FROM blobs WHERE id > ?3",
        (repository, SHELVES.cast_signed(), first),
    )?;
    let manifest = largest_id(database, "manifests")?;
    database.execute(
        "INSERT INTO manifests (id, repository_id, digest, blob_id, media_type, created_at)
         SELECT ?1 + id - ?2, ?3 + 1 + id % ?4, digest, id,
                'application/vnd.oci.image.manifest.v1+json', 0
         FROM blobs WHERE id > ?2",
        (manifest, first_manifest, repository, SHELVES.cast_signed()),
    )?;
    database.execute(
        "INSERT INTO manifest_references (manifest_id, digest, kind)
         SELECT ?1 + 1 + (blobs.id - ?2 - 1) % ?3, digest, 2
         FROM blobs WHERE id > ?2 AND id <= ?4",
        (manifest, first, manifests.cast_signed(), first_manifest),
    )?;
    database.execute(
        "INSERT INTO tags (repository_id, name, manifest_id, created_at, updated_at)
         SELECT repository_id, 't' || id, id, 0, 0 FROM manifests WHERE id > ?1",
        [manifest],
    )?;
    Ok(())
}

fn largest_id(database: &Connection, table: &str) -> rusqlite::Result<i64> {
    database.query_row(&format!("SELECT COALESCE(MAX(id), 0) FROM {table}"), [], |row| row.get(0))
}
