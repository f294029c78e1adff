//! The file system passes the suite, and does what only a file system can be asked.

use std::os::unix::fs::PermissionsExt;

use blobs::{Blobs, FileSystem, Resumed, Traced, UploadId};
use bytes::Bytes;
use oci::Digest;

#[tokio::test]
async fn passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileSystem::open(folder.path()).unwrap();
    blobs::conformance::run(&store).await.unwrap();
}

#[tokio::test]
async fn passes_it_when_it_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let store = Traced::new(FileSystem::open(folder.path()).unwrap());
    blobs::conformance::run(&store).await.unwrap();
}

#[tokio::test]
async fn content_lies_in_the_layout_of_distribution() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileSystem::open(folder.path()).unwrap();
    let digest = Digest::sha256(b"hello");
    store.put(&digest, Bytes::from_static(b"hello")).await.unwrap();
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
    drop(upload.append(vec![Bytes::from_static(b"abc")]).await.unwrap());
    let resumed = store.resume(id, 3, "another boot").await.unwrap();
    assert!(matches!(resumed, Resumed::Unsure(_)));
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
