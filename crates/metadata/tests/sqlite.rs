//! SQLite passes the suite, and does what only SQLite can be asked.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metadata::{Durability, Error, ErrorKind, Metadata, repositories};

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = Metadata::open_sqlite(&folder.path().join("db")).await.unwrap();
    metadata::conformance::run(&metadata).await.unwrap();
    assert_eq!(metadata.check_structure().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let metadata = Metadata::open_sqlite(&path).await.unwrap();
    for durability in [Durability::Process, Durability::Power] {
        let name = format!("a/{durability:?}").to_lowercase();
        metadata
            .write(durability, name.parse::<oci::RepositoryName>().unwrap(), |tx, name| {
                Box::pin(repositories::ensure(tx, name, 1))
            })
            .await
            .unwrap();
    }
    drop(metadata);
    let metadata = Metadata::open_sqlite(&path).await.unwrap();
    for name in ["a/process", "a/power"] {
        let name = name.parse::<oci::RepositoryName>().unwrap();
        let found = metadata.read(&name, |tx, name| Box::pin(repositories::find(tx, name))).await;
        assert!(found.unwrap().is_some(), "{name}");
    }
}

/// Most of them share a commit with others.
#[tokio::test]
async fn a_write_that_fails_takes_nothing_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = Metadata::open_sqlite(&folder.path().join("db")).await.unwrap();
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..60 {
        let metadata = metadata.clone();
        writes.spawn(async move {
            let name = format!("a/{number}").parse::<oci::RepositoryName>().unwrap();
            let written = metadata
                .write(Durability::Power, (number, name), |tx, (number, name)| {
                    Box::pin(async move {
                        repositories::find(tx, name).await?;
                        assert!(number % 6 != 1, "before it writes");
                        repositories::ensure(tx, name, 1).await?;
                        assert!(number % 6 != 2, "after it wrote");
                        match number % 6 {
                            3 => Err(Error::new(ErrorKind::Other, "on purpose")),
                            _ => Ok(()),
                        }
                    })
                })
                .await;
            (number, written.is_ok())
        });
    }
    for (number, succeeded) in writes.join_all().await {
        assert_eq!(succeeded, !matches!(number % 6, 1..=3), "{number}");
        let name = format!("a/{number}").parse::<oci::RepositoryName>().unwrap();
        let found = metadata.read(&name, |tx, name| Box::pin(repositories::find(tx, name))).await;
        assert_eq!(found.unwrap().is_some(), succeeded, "{number}");
    }
    assert_eq!(metadata.check_structure().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_write_is_run_again_only_if_it_failed_after_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = Metadata::open_sqlite(&folder.path().join("db")).await.unwrap();
    for (changes, expected) in [(false, 1), (true, 2)] {
        let runs = Arc::new(AtomicUsize::new(0));
        let refused: Result<(), Error> = metadata
            .write(Durability::Power, (changes, Arc::clone(&runs)), |tx, (changes, runs)| {
                Box::pin(async move {
                    runs.fetch_add(1, Ordering::Relaxed);
                    let name = "a/b".parse::<oci::RepositoryName>().unwrap();
                    if *changes {
                        repositories::ensure(tx, &name, 1).await?;
                    }
                    metadata::uploads::delete(tx, "none", &metadata::uploads::Turn::default())
                        .await?;
                    Err(Error::new(ErrorKind::Other, "there is no such upload"))
                })
            })
            .await;
        assert!(refused.is_err());
        assert_eq!(runs.load(Ordering::Relaxed), expected, "{changes}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_start_that_was_cut_short_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    for leftover in ["db", "db.new", "db.new-wal", "db.new-journal", "db-wal"] {
        let rubbish = if leftover == "db" { vec![] } else { vec![7; 5000] };
        std::fs::write(folder.path().join(leftover), rubbish).unwrap();
    }
    let metadata = Metadata::open_sqlite(&path).await.unwrap();
    metadata::conformance::run(&metadata).await.unwrap();
    drop(metadata);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!folder.path().join("db.new").exists());
}

#[tokio::test]
async fn only_its_owner_may_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let _metadata = Metadata::open_sqlite(&path).await.unwrap();
    for file in ["db", "db-wal", "db-shm"] {
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_file_that_was_removed_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let metadata = Metadata::open_sqlite(&path).await.unwrap();
    metadata.ping().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(metadata.ping().await.unwrap_err().kind(), ErrorKind::Damaged);
    drop(Metadata::open_sqlite(&path).await.unwrap());
    assert_eq!(metadata.ping().await.unwrap_err().kind(), ErrorKind::Damaged);
}

#[tokio::test]
async fn what_is_not_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    std::fs::write(&path, b"This is not a database, but a letter of some length.".repeat(100))
        .unwrap();
    let error = open_error(&path).await;
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let expected = format!("{} is damaged or not a database of Orlop", path.display());
    assert!(error.to_string().contains(&expected), "{error}");
}

#[tokio::test]
async fn a_newer_schema_is_used_unless_it_is_for_newer_programs_only() {
    let (_folder, path) = changed_by("INSERT INTO migrations (version) VALUES (1000)").await;
    drop(Metadata::open_sqlite_read_only(&path).await.unwrap());
    drop(Metadata::open_sqlite(&path).await.unwrap());

    let newer = "UPDATE settings SET value = '1000' WHERE name = 'compatible'";
    let (_folder, path) = changed_by(newer).await;
    let error = open_error(&path).await;
    assert!(error.to_string().contains("newer version of Orlop"), "{error}");
}

#[tokio::test]
async fn an_older_schema_is_not_looked_at() {
    let (_folder, path) = changed_by("DELETE FROM migrations WHERE version > 1").await;
    let error = Metadata::open_sqlite_read_only(&path).await.err().unwrap();
    assert!(error.to_string().contains("`orlop serve` brings it up to date"), "{error}");
}

#[tokio::test]
async fn the_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    drop(connection);
    let error = open_error(&path).await;
    assert!(error.to_string().contains("is the database of another program"), "{error}");
}

/// They are of a moment, and plans that are made by them last.
#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_statistics() {
    let (_folder, path) = changed_by("ANALYZE").await;
    let statistics = |path: &PathBuf| {
        let connection = rusqlite::Connection::open(path).unwrap();
        let count = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'sqlite_stat%'";
        connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert!(statistics(&path) > 0);
    let metadata = Metadata::open_sqlite(&path).await.unwrap();
    metadata::conformance::run(&metadata).await.unwrap();
    drop(metadata);
    assert_eq!(statistics(&path), 0);
}

#[tokio::test]
async fn a_database_opened_for_reading_takes_no_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let _server = Metadata::open_sqlite(&path).await.unwrap();
    let reader = Metadata::open_sqlite_read_only(&path).await.unwrap();
    reader.ping().await.unwrap();
    let written: Result<_, Error> = reader
        .write(Durability::Power, "a".parse::<oci::RepositoryName>().unwrap(), |tx, name| {
            Box::pin(repositories::ensure(tx, name, 1))
        })
        .await;
    assert_eq!(written.unwrap_err().kind(), ErrorKind::ReadOnly);
}

/// A database that somebody has run this statement on.
async fn changed_by(statement: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    drop(Metadata::open_sqlite(&path).await.unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute(statement, []).unwrap();
    (folder, path)
}

/// Why it can be opened neither for work nor for a look.
async fn open_error(path: &std::path::Path) -> Error {
    let (Err(looked), Err(error)) =
        (Metadata::open_sqlite_read_only(path).await, Metadata::open_sqlite(path).await)
    else {
        panic!("it was opened");
    };
    assert_eq!(error.to_string(), looked.to_string());
    error
}
