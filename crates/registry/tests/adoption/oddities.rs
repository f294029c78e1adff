//! What real stores have in them after years: all of it is told, none of it stops anything.

use std::fs;

use oci::Digest;
use oci::media_type::DOCKER_SCHEMA1;

use crate::store::{Store, image, index, write};
use crate::{catalogue, export, findings, pull, serves, tags, target};

/// One of each.
fn odd_store() -> Store {
    let store = Store::new();
    let digest = store.image("app", "good", "good");
    let missing = Digest::sha256(b"not in the store");
    let layer = |seed: &str| store.layer("app", seed.as_bytes());

    // Links of blobs.
    store.link("app", "_layers", &Digest::sha256(b"empty"), "");
    store.link("app", "_layers", &missing, &missing.to_string());
    store.link("app", "_layers", &Digest::sha256(b"text"), "not a digest\n");
    store.link("app", "_layers", &Digest::sha256(b"cross"), &layer("target").to_string());
    fs::create_dir_all(store.path("app", &format!("_layers/sha256/{}", missing.hex()))).unwrap();
    fs::create_dir_all(store.path("app", &format!("_layers/sha256/{:064}/link", 5))).unwrap();
    // What a delete of registry:2 leaves is not odd.
    fs::create_dir_all(store.path("app", &format!("_layers/sha256/{:064}", 7))).unwrap();

    // Manifests.
    store.link("app", "_manifests/revisions", &missing, &missing.to_string());
    store.manifest("app", "no JSON at all");
    let altered = store.manifest("app", &image(&layer("a"), &[]));
    fs::write(store.data(&altered), image(&layer("b"), &[])).unwrap();
    store.manifest("app", &image(&layer("c"), &[missing]));
    let lacking = store.manifest("app", &index(&[missing]));
    store.tag("app", "lacking", &lacking);
    let blob_sum = layer("d");
    let schema1 = format!(r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{blob_sum}"}}]}}"#);
    let schema1 = store.manifest("app", &schema1);
    store.tag("app", "schema1", &schema1);
    let twice = format!(r#"{{"schemaVersion":2,{}"#, &image(&layer("e"), &[])[1..]);
    let twice = store.manifest("app", &twice);
    store.tag("app", "twice", &twice);
    // Only a layer to later versions of registry:2, but it serves it.
    let only_layer = store.layer("app", image(&layer("f"), &[]).as_bytes());
    store.tag("app", "old", &only_layer);

    // Tags.
    store.tag("app", "nowhere", &missing);
    store.tag("app", "altered", &altered);
    write(&store.path("app", "_manifests/tags/empty/current/link"), b"");
    fs::create_dir_all(store.path("app", "_manifests/tags/gone/index")).unwrap();
    store.tag("app", ".hidden", &digest);

    // Files and folders that nobody asked for.
    write(&store.path("app", "_layers/sha256/.DS_Store"), b"?");
    write(&store.path("app", "_layers/md5/0/link"), b"?");
    write(&store.path("app", "_manifests/notes"), b"?");
    write(&store.path("app", "README"), b"?");
    write(&store.path("Upper/Case", "_layers/sha256/x/link"), b"?");
    fs::create_dir_all(store.path("hollow", "more")).unwrap();
    write(&store.repositories().join("stray"), b"?");
    store
}

#[tokio::test]
async fn everything_odd_is_told_and_the_rest_served() {
    let store = odd_store();
    let registry = store.adopt().await;
    let found = findings(&registry).await;
    let missing = Digest::sha256(b"not in the store");
    let expected = [
        format!("app: layer {}: its link is empty", Digest::sha256(b"empty")),
        format!("app: layer {missing}: its content is not in the store"),
        format!("app: layer {}: its link holds \"not a digest\\n\"", Digest::sha256(b"text")),
        format!("app: layer {}: its link leads to sha256:", Digest::sha256(b"cross")),
        format!("app: layer sha256:{:064}: its link can not be read", 5),
        format!("app: manifest {missing}: its content is not in the store"),
        format!("app: manifest {}: it is corrupt", Digest::sha256(b"no JSON at all")),
        ": its content has the digest sha256:".to_owned(),
        format!("adopted, although its layer {missing} is not in the repository"),
        format!("adopted, although its manifest {missing} is not in the repository"),
        "adopted, although Docker image manifests of schema 1".to_owned(),
        "adopted, although the manifest has the key schemaVersion twice".to_owned(),
        "app: tag nowhere: the repository has no usable manifest".to_owned(),
        "app: tag altered: the repository has no usable manifest".to_owned(),
        "app: tag empty: its link is empty".to_owned(),
        "app: tag gone: its link is missing".to_owned(),
        "app: _manifests/tags/.hidden: not part of the layout".to_owned(),
        "app: _layers/sha256/.DS_Store: not part of the layout".to_owned(),
        "app: _layers/md5: not part of the layout".to_owned(),
        "app: _manifests/notes: not part of the layout".to_owned(),
        ": app/README: it is not part of the layout".to_owned(),
        ": Upper/Case: the repository name contains 'U'".to_owned(),
        ": hollow/more: the folder is empty".to_owned(),
        ": stray: it is not part of the layout".to_owned(),
    ];
    for line in &expected {
        assert!(found.iter().any(|found| found.contains(line)), "{line} is not in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");

    assert_eq!(catalogue(&registry).await, ["app"]);
    assert_eq!(tags(&registry, "app").await, ["good", "lacking", "old", "schema1", "twice"]);
    for tag in ["good", "lacking", "old", "twice"] {
        assert!(target(&registry, "app", tag).await.is_some(), "{tag}");
    }
    let schema1 = pull(&registry, "app", "schema1").await.unwrap();
    assert_eq!(schema1.media_type, DOCKER_SCHEMA1);
    assert!(!serves(&registry, "app", &missing).await);
}

#[tokio::test]
async fn an_export_leaves_what_is_odd_alone() {
    let store = odd_store();
    let mut before = store.links();
    let registry = store.adopt().await;
    export(&registry).await;
    let after = store.links();
    // The one manifest that was linked as a layer only is linked as a manifest now.
    let old = target(&registry, "app", "old").await.unwrap();
    let link = format!("app/_manifests/revisions/sha256/{}/link", old.hex());
    before.insert(link.into(), old.to_string().into_bytes());
    assert_eq!(after, before);
}
