//! What registry:2 finds after an export, and what it has done to it when Orlop comes back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use oci::Digest;
use registry::{Adoption, AdoptionProgress, ExportError, ExportProgress, Exported};

use crate::store::{Store, image};
use crate::{catalogue, delete, export, findings, name, pull, push, serves, tags, target};

#[tokio::test]
async fn an_untouched_store_stays_byte_for_byte() {
    let store = Store::new();
    let one = store.image("app", "v1", "one");
    let two = store.image("app", "v1", "two");
    store.image("team/other", "latest", "three");
    let layer = store.layer("app", b"by both names");
    store.link("app", "_layers", &Digest::sha512(b"by both names"), &layer.to_string());
    fs::create_dir_all(store.path("app", "_uploads")).unwrap();
    let before = store.links();
    let registry = store.adopt().await;
    let notes = export(&registry).await;
    assert_eq!(store.links(), before);
    assert!(notes.len() == 1 && notes[0].contains("sha512"), "{notes:?}");
    let history = format!("_manifests/tags/v1/index/sha256/{}/link", one.hex());
    assert!(store.path("app", &history).exists(), "the history of tags is kept");
    assert_eq!(target(&registry, "app", "v1").await, Some(two));
}

#[tokio::test]
async fn pushes_and_deletes_are_written_back() {
    let store = Store::new();
    let kept = store.image("app", "kept", "kept");
    let gone = store.image("app", "gone", "gone");
    let registry = store.adopt().await;
    delete(&registry, "app", &gone.to_string()).await;
    let blob = Digest::sha256(b"layer of gone");
    registry.delete_blob(&name("app"), &blob).await.unwrap();
    let moved = push(&registry, "app", "kept", &image(&kept, &[])).await;
    let new = push(&registry, "new/one", "v1", &image(&kept, &[kept])).await;
    let config = Digest::sha256(b"{\"seed\":\"kept\"}");
    assert!(
        registry.mount_blob(&name("new/one"), &config, Some(&name("app")), |_| true).await.unwrap()
    );

    let dry = Arc::new(ExportProgress::default());
    let before = store.links();
    registry.export_links(2, true, &dry).await.unwrap();
    assert_eq!(store.links(), before, "a dry run changes nothing");
    // A revision, a tag and its history; the same, and a layer, in the new repository.
    assert_eq!(dry.written.load(Ordering::Relaxed), 3 + 4);
    assert_eq!(dry.removed.load(Ordering::Relaxed), 3);

    assert_eq!(export(&registry).await, Vec::<String>::new());
    let links = store.links();
    let link = |path: &str| links.get(std::path::Path::new(path)).map(|link| &**link);
    assert_eq!(link("app/_manifests/tags/kept/current/link"), Some(moved.to_string().as_bytes()));
    let revision = format!("new/one/_manifests/revisions/sha256/{}/link", new.hex());
    assert_eq!(link(&revision), Some(new.to_string().as_bytes()));
    assert!(!store.path("app", "_manifests/tags/gone").exists());
    let revision = format!("app/_manifests/revisions/sha256/{}/link", gone.hex());
    assert_eq!(link(&revision), None);
    assert_eq!(link(&format!("app/_layers/sha256/{}/link", blob.hex())), None);
    let written = store.path("new/one", "_manifests/tags/v1/current/link");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&written), mode(written.parent().unwrap())), (0o644, 0o755));
    assert!(links.keys().all(|path| path.ends_with("link")), "nothing else is left");

    // Again: there is nothing to do.
    let progress = Arc::new(ExportProgress::default());
    let again = registry.export_links(2, false, &progress).await.unwrap();
    assert!(matches!(again, Exported::Before(_)));
}

#[tokio::test]
async fn what_an_export_cut_short_has_left_of_a_tag_goes() {
    let store = Store::new();
    let kept = store.image("app", "kept", "kept");
    store.tag("app", "gone", &kept);
    store.tag("app", "odd", &kept);
    fs::remove_file(store.path("app", "_manifests/tags/odd/current/link")).unwrap();
    let registry = store.adopt().await;
    delete(&registry, "app", "gone").await;
    fs::remove_file(store.path("app", "_manifests/tags/gone/current/link")).unwrap();
    export(&registry).await;
    assert!(!store.path("app", "_manifests/tags/gone").exists(), "registry:2 would list it");
    assert!(store.path("app", "_manifests/tags/odd").exists(), "it was so before");
}

#[tokio::test]
async fn links_go_although_the_content_is_collected() {
    for again in [false, true] {
        let store = Store::new();
        let kept = store.image("app", "kept", "kept");
        let gone = store.image("app", "gone", "gone");
        let missing = Digest::sha256(b"was never here");
        store.link("app", "_manifests/revisions", &missing, &missing.to_string());
        store.tag("app", "odd", &missing);
        let before = store.links();
        let registry = store.adopt().await;
        let odd = findings(&registry).await.into_iter().collect::<BTreeSet<_>>();
        delete(&registry, "app", &gone.to_string()).await;
        registry.collect_garbage(false, false).await.unwrap();
        assert!(!store.data(&gone).exists());
        if again {
            registry.begin_adoption(true).await.unwrap();
            registry.adopt_all(4, &Arc::new(AdoptionProgress::default())).await.unwrap();
            let found = findings(&registry).await.into_iter().collect::<BTreeSet<_>>();
            assert_eq!(found, odd, "what was deleted is not odd");
        }
        export(&registry).await;
        let is_of_gone = |path: &std::path::Path, link: &[u8]| {
            let blobs = [b"layer of gone".as_slice(), b"{\"seed\":\"gone\"}"];
            path.starts_with("app/_manifests/tags/gone")
                || link == gone.to_string().as_bytes()
                || blobs.iter().any(|blob| link == Digest::sha256(blob).to_string().as_bytes())
        };
        let mut expected = before;
        expected.retain(|path, link| !is_of_gone(path, link));
        assert_eq!(store.links(), expected);
        assert_eq!(target(&registry, "app", "kept").await, Some(kept));
    }
}

#[tokio::test]
async fn after_an_export_the_links_count() {
    let store = Store::new();
    store.image("app", "kept", "kept");
    store.image("app", "gone", "gone");
    store.image("removed", "v1", "removed");
    let registry = store.adopt().await;
    let own = push(&registry, "own", "v1", &image(&Digest::sha256(b""), &[])).await;
    export(&registry).await;
    drop(registry);

    // registry:2 deletes a tag, a blob's link and a whole repository, and pushes.
    fs::remove_dir_all(store.path("app", "_manifests/tags/gone")).unwrap();
    let blob = Digest::sha256(b"layer of gone");
    let link = format!("_layers/sha256/{}/link", blob.hex());
    fs::remove_file(store.path("app", &link)).unwrap();
    fs::remove_dir_all(store.repositories().join("removed")).unwrap();
    let new = store.image("app", "kept", "moved");

    let registry = store.open().await;
    let begun = registry.begin_adoption(false).await.unwrap();
    assert_eq!(begun, Adoption::Begun { resumed: false });
    // At the first touch, too.
    assert_eq!(target(&registry, "app", "gone").await, None);
    assert_eq!(target(&registry, "removed", "v1").await, None);
    drop(registry);
    let registry = store.adopt().await;
    assert_eq!(target(&registry, "app", "kept").await, Some(new));
    assert_eq!(tags(&registry, "app").await, ["kept"]);
    assert!(!serves(&registry, "app", &blob).await);
    assert_eq!(target(&registry, "own", "v1").await, Some(own));
    assert_eq!(catalogue(&registry).await, ["app", "own"]);
}

#[tokio::test]
async fn what_is_pushed_after_an_export_is_not_taken_for_deleted() {
    let store = Store::new();
    store.image("app", "v1", "one");
    let registry = store.adopt().await;
    export(&registry).await;
    assert!(!registry.skip_adoption().await.unwrap(), "the database knows them all");
    let pushed = push(&registry, "app", "v2", &image(&Digest::sha256(b""), &[])).await;
    drop(registry);
    let registry = store.open().await;
    assert!(matches!(registry.begin_adoption(false).await.unwrap(), Adoption::Done(_)));
    assert_eq!(target(&registry, "app", "v2").await, Some(pushed));
}

#[tokio::test]
async fn what_is_pushed_at_a_server_that_leaves_links_aside_is_not_taken_for_deleted() {
    let store = Store::new();
    store.image("app", "v1", "one");
    export(&store.adopt().await).await;
    let adopting = store.open().await;
    adopting.begin_adoption(false).await.unwrap();
    let beside = store.open().await;
    beside.skip_adoption().await.unwrap();
    let pushed = push(&beside, "app", "v2", &image(&Digest::sha256(b""), &[])).await;
    adopting.adopt_all(1, &Arc::default()).await.unwrap();
    assert_eq!(target(&adopting, "app", "v2").await, Some(pushed));
    assert!(!adopting.awaits_adoption().await.unwrap());
}

#[tokio::test]
async fn links_that_were_never_read_are_not_removed() {
    let store = Store::new();
    let digest = store.image("app", "v1", "one");
    let registry = store.open().await;
    let progress = Arc::new(ExportProgress::default());
    let refused = registry.export_links(2, false, &progress).await;
    assert!(matches!(refused, Err(ExportError::NotImported)), "{refused:?}");
    registry.begin_adoption(false).await.unwrap();
    let refused = registry.export_links(2, false, &progress).await;
    assert!(matches!(refused, Err(ExportError::NotImported)), "{refused:?}");
    drop(registry);

    // registry:2 was started after the import, although nothing was exported.
    let registry = store.adopt().await;
    let new = store.image("app", "v2", "two");
    for path in [
        format!("_manifests/revisions/sha256/{}/link", new.hex()),
        format!("_layers/sha256/{}/link", Digest::sha256(b"layer of two").hex()),
        format!("_layers/sha256/{}/link", Digest::sha256(b"{\"seed\":\"two\"}").hex()),
        "_manifests/tags/v2/current/link".to_owned(),
    ] {
        store.date_later("app", &path);
    }
    store.image("newer", "v1", "two");
    let before = store.links();
    let notes = export(&registry).await;
    assert_eq!(notes.iter().filter(|note| note.contains("--again")).count(), 5, "{notes:#?}");
    assert_eq!(store.links(), before);
    assert!(pull(&registry, "app", &digest.to_string()).await.is_some());
}

#[tokio::test]
async fn an_empty_folder_after_an_export_is_no_mass_delete() {
    let store = Store::new();
    store.image("app", "v1", "one");
    let registry = store.adopt().await;
    export(&registry).await;
    fs::rename(store.repositories(), store.root().join("elsewhere")).unwrap();
    assert_eq!(registry.begin_adoption(false).await.unwrap(), Adoption::LinksGone);
    assert!(target(&registry, "app", "v1").await.is_some());
}
