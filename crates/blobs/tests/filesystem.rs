//! The file system passes the suite, and does what only a file system can be asked.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use blobs::{Action, Blobs, FileSystem, Observed, Resumed, UploadId};
use bytes::Bytes;
use oci::Digest;

#[tokio::test]
async fn passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileSystem::open(folder.path()).unwrap();
    blobs::conformance::run(&store).await.unwrap();
}

#[tokio::test]
async fn passes_the_suite_while_somebody_watches() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let store = Observed::new(FileSystem::open(folder.path()).unwrap(), move |action, _| {
        note.lock().unwrap().push(action);
    });
    blobs::conformance::run(&store).await.unwrap();
    seen.lock().unwrap().clear();

    let upload = store.begin(UploadId::now_v7()).await.unwrap();
    let upload = upload.append(vec![Bytes::from_static(b"abc")]).await.unwrap();
    let digest = Digest::sha256(b"abc");
    let _ = upload.commit(digest).await.unwrap();
    store.open(&digest, None, 0).await.unwrap();
    store.open(&Digest::sha256(b"nothing"), None, 0).await.unwrap_err();
    let expected = [Action::Write, Action::Commit, Action::Open, Action::Open];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn content_lies_in_the_layout_of_distribution() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileSystem::open(folder.path()).unwrap();
    let digest = Digest::sha256(b"hello");
    let _ = store.put(&digest, Bytes::from_static(b"hello")).await.unwrap();
    let path = folder.path().join(format!(
        "docker/registry/v2/blobs/sha256/{}/{}/data",
        &digest.hex()[..2],
        digest.hex()
    ));
    assert_eq!(std::fs::read(path).unwrap(), b"hello");
}

#[tokio::test]
async fn bytes_from_before_a_reboot_are_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileSystem::open(folder.path()).unwrap();
    let id = UploadId::now_v7();
    let upload = store.begin(id).await.unwrap();
    let upload = upload.append(vec![Bytes::from_static(b"abc")]).await.unwrap();
    drop(upload.flush().await.unwrap());
    let resumed = store.resume(id, 3, "another boot").await.unwrap();
    assert!(matches!(resumed, Resumed::Unsure(_)));
}

#[tokio::test]
async fn small_content_does_not_replace_what_is_there_but_heals_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileSystem::open(folder.path()).unwrap();
    let content = Bytes::from_static(b"hello");
    let digest = Digest::sha256(&content);
    let stored = store.put(&digest, content.clone()).await.unwrap();
    let syncs_later = stored.unsynced.is_some();
    let path = folder.path().join(format!(
        "docker/registry/v2/blobs/sha256/{}/{}/data",
        &digest.hex()[..2],
        digest.hex()
    ));
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
    let first = inode();
    let _ = store.put(&digest, content.clone()).await.unwrap();
    assert_eq!(inode() == first, syncs_later, "the same bytes stay, if they may not be synced");
    for damage in [b"hellO".as_slice(), b"", b"hello, world"] {
        std::fs::write(&path, damage).unwrap();
        let stored = store.put(&digest, content.clone()).await.unwrap();
        assert_eq!(stored.unsynced, None, "what replaces something is synced");
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    }
    assert_eq!(std::fs::read_dir(folder.path().join("orlop/uploads")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_folder_that_can_not_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"in the way").unwrap();
    let error = FileSystem::open(&file).unwrap_err();
    assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
}

#[tokio::test]
async fn uploads_in_progress_are_private() {
    let folder = tempfile::tempdir().unwrap();
    FileSystem::open(folder.path()).unwrap();
    let mode = std::fs::metadata(folder.path().join("orlop/uploads")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_shared_store_leaves_nothing_for_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileSystem::open_shared(folder.path()).unwrap();
    blobs::conformance::run(&store).await.unwrap();
    let content = bytes::Bytes::from_static(b"small");
    let digest = oci::Digest::sha256(&content);
    let stored = store.put(&digest, content.clone()).await.unwrap();
    assert!(stored.unsynced.is_none());
    let restored = store.restore(&digest, content).await.unwrap();
    assert!(restored.unsynced.is_none());
}
