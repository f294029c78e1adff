use std::path::Path;

use oci::media_type::{OCI_INDEX, OCI_LAYER_TAR, OCI_MANIFEST};
use oci::{Descriptor, Digest};
use registry::{Children, Config};
use serde_json::json;

use super::{Layout, Side, layer_of, selection};

/// A registry with images of several kinds.
async fn filled() -> (Side, Vec<Digest>) {
    let mut layout = Layout::new();
    let (one, two, loose) = (layout.image("one"), layout.image("two"), layout.image("loose"));
    let index = layout.list(&[&one, &two]);
    let signature = layout.image_about("signature", Some(&two));
    let about_that = layout.image_about("about the signature", Some(&signature));
    let cosign = layout.image("cosign");
    layout.add(&one, "app:v1");
    layout.add(&index, "app:multi");
    // What looks like a host is left out where it stands first.
    layout.add(&two, "localhost/my.host/app:v2");
    for unnamed in [&loose, &signature, &about_that] {
        layout.add(unnamed, &format!("app@{}", unnamed.digest));
    }
    layout.add(&cosign, &format!("app:{}.sig", index.digest.referrers_tag()));
    let layout = layout.finish();
    let side = Side::new().await;
    let (refused, _) = side.import(layout.path(), None).await;
    assert!(refused.is_empty(), "{refused:?}");
    side.check().await;
    let digests = [one, two, loose, index, signature, about_that, cosign];
    (side, digests.into_iter().map(|descriptor| descriptor.digest).collect())
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[tokio::test]
async fn everything_goes_out_and_comes_back() {
    let (here, digests) = filled().await;
    let folder = tempfile::tempdir().unwrap();
    let [tar, again, copy] = ["a.tar", "b.tar", "c.tar"].map(|name| folder.path().join(name));
    for path in [&tar, &again] {
        let (refused, counts) = here.export(path, Vec::new(), None).await;
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(counts.manifests, 7);
    }
    assert!(bytes(&tar) == bytes(&again), "two exports differ");

    let there = Side::new().await;
    let (refused, _) = there.import(&tar, None).await;
    assert!(refused.is_empty(), "{refused:?}");
    for digest in &digests {
        assert_eq!(there.target("app", &digest.to_string()).await, Some(*digest));
    }
    assert!(there.target("my.host/app", "v2").await.is_some());
    there.check().await;
    there.export(&copy, Vec::new(), None).await;
    assert!(bytes(&tar) == bytes(&copy), "the other side has something else");
}

#[tokio::test]
async fn what_refers_to_an_image_goes_with_it() {
    let (here, digests) = filled().await;
    let [one, two, loose, index, signature, about_that, cosign] = digests.as_slice() else {
        panic!("{digests:?}")
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let wanted = vec![selection("app", Some("multi")), selection("absent", None)];
    let (refused, _) = here.export(&path, wanted, None).await;
    assert_eq!(refused, ["absent: there is no such repository"]);
    let there = Side::new().await;
    let (refused, _) = there.import(&path, None).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(there.target("app", "multi").await, Some(*index));
    let sig = format!("{}.sig", index.referrers_tag());
    assert_eq!(there.target("app", &sig).await, Some(*cosign));
    for digest in [one, two, signature, about_that] {
        assert_eq!(there.target("app", &digest.to_string()).await, Some(*digest));
    }
    assert_eq!(there.target("app", &loose.to_string()).await, None);
    assert_eq!(there.target("app", "v1").await, None);
    there.check().await;
}

#[tokio::test]
async fn what_the_other_side_has_is_left_out() {
    let (here, _) = filled().await;
    let folder = tempfile::tempdir().unwrap();
    let [first, lean, list] =
        ["first.tar", "lean.tar", "list"].map(|name| folder.path().join(name));
    here.export(&first, vec![selection("app", Some("v1"))], None).await;
    let there = Side::new().await;
    there.import(&first, None).await;
    // A configuration, two layers and a manifest.
    assert_eq!(there.inventory(&list).await, 4);
    let (refused, counts) = here.export(&lean, Vec::new(), Some(&list)).await;
    assert!(refused.is_empty(), "{refused:?}");
    // What many images share is left out each time.
    assert_eq!(counts.left_out, 3 + 6);
    assert!(!String::from_utf8_lossy(&bytes(&lean)).contains("layer of one"));
    assert!(!String::from_utf8_lossy(&bytes(&lean)).contains("RepoTags"));

    let nowhere = Side::new().await;
    let (refused, counts) = nowhere.import(&lean, None).await;
    assert_eq!(counts.images, 0, "all images share a layer that was left out");
    assert!(refused.iter().all(|line| line.contains("nor in this registry: sha256:")));
    assert_eq!(nowhere.target("app", "v1").await, None);

    let (refused, _) = there.import(&lean, None).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert!(there.target("app", "multi").await.is_some());
    there.check().await;
}

#[tokio::test]
async fn what_is_damaged_here_stays_here() {
    let (here, _) = filled().await;
    let same_size = "LAYER OF ONE";
    std::fs::write(here.blob_path(&layer_of("one")), same_size).unwrap();
    std::fs::remove_file(here.blob_path(&layer_of("loose"))).unwrap();
    let here = here.reopened(Config::default()).await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.tar", "a"] {
        let path = folder.path().join(name);
        let (mut refused, _) = here.export(&path, Vec::new(), None).await;
        refused.sort();
        let [multi, v1, loose] = refused.as_slice() else { panic!("{refused:?}") };
        assert!(loose.starts_with("app@sha256:") && loose.contains("no blob sha256:"), "{loose}");
        let problem = format!("{}: its bytes have the digest", layer_of("one"));
        assert!(multi.starts_with("app:multi") && multi.contains(&problem), "{multi}");
        assert!(v1.starts_with("app:v1") && v1.contains(&problem), "{v1}");
        let there = Side::new().await;
        let (refused, counts) = there.import(&path, None).await;
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(counts.images, 4);
        there.check().await;
    }
}

#[tokio::test]
async fn an_index_with_a_damaged_manifest_is_not_taken_for_a_sparse_one() {
    let mut layout = Layout::new();
    let (one, two) = (layout.image("one"), layout.image("two"));
    let index = layout.list(&[&one, &two]);
    let about = layout.image_about("signature", Some(&one));
    layout.add(&index, "app:v1");
    layout.add(&about, &format!("app:{}.sig", one.digest.referrers_tag()));
    let layout = layout.finish();
    let folder = tempfile::tempdir().unwrap();
    for damage in ["gone", "damaged"] {
        let side = Side::new().await;
        side.import(layout.path(), None).await;
        for digest in [&two.digest, &about.digest] {
            match damage {
                "gone" => std::fs::remove_file(side.blob_path(digest)).unwrap(),
                _ => std::fs::write(side.blob_path(digest), "{}").unwrap(),
            }
        }
        let side = side.reopened(Config::default()).await;
        let path = folder.path().join(damage);
        let wanted = vec![selection("app", Some("v1")), selection("app", None)];
        let (refused, counts) = side.export(&path, wanted, None).await;
        let problem = "are gone or damaged: push it again";
        assert!(refused.iter().all(|line| line.ends_with(problem)), "{refused:?}");
        let named = |line: &String| line.contains(&two.digest.to_string());
        assert!(refused.iter().any(named), "{refused:?}");
        assert_eq!(counts.images, 0);

        let wanted = vec![selection("app", Some(&one.digest.to_string()))];
        let (refused, counts) = side.export(&path, wanted, None).await;
        assert_eq!(refused.len(), 2, "by its subject and by its tag: {refused:?}");
        assert_eq!(counts.images, 1);
    }
}

#[tokio::test]
async fn a_chain_of_referrers_may_be_long() {
    const LENGTH: usize = 300;
    let mut layout = Layout::new();
    let first = layout.image("first");
    layout.add(&first, "app:v1");
    let layout = layout.finish();
    let side = Side::new().await;
    side.import(layout.path(), None).await;
    let mut subject = first;
    for number in 0..LENGTH {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [],
            "subject": subject,
            "annotations": {"number": number.to_string()},
        });
        let bytes = manifest.to_string();
        let digest = Digest::sha256(bytes.as_bytes());
        side.push("app", &digest.to_string(), &manifest).await;
        subject = Descriptor::new(OCI_INDEX, digest, bytes.len() as u64);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let (refused, counts) = side.export(&path, vec![selection("app", Some("v1"))], None).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(counts.images, LENGTH as u64 + 1);
    // The image with the tag is last.
    let index = std::fs::read_to_string(path.join("index.json")).unwrap();
    let last = index.rfind("sha256:").map(|start| index.split_at(start).1).unwrap();
    assert!(last.contains("app:v1"), "{last}");
}

#[tokio::test]
async fn what_is_listed_often_is_read_once() {
    let mut layout = Layout::new();
    let mut listed = layout.image("one");
    layout.add(&listed, "app:v1");
    for _ in 0..7 {
        let often = vec![&listed; 300];
        listed = layout.list(&often);
    }
    layout.add(&listed, "app:often");
    let layout = layout.finish();
    let side = Side::new().await;
    let (refused, _) = side.import(layout.path(), None).await;
    assert!(refused.is_empty(), "{refused:?}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let (refused, counts) = side.export(&path, vec![selection("app", Some("often"))], None).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!((counts.images, counts.manifests, counts.blobs), (1, 8, 3));
    assert!(String::from_utf8_lossy(&bytes(&path)).contains("RepoTags"), "it is one image");
}

/// Two repositories have the same manifest, but only the second has its foreign layer.
#[tokio::test]
async fn what_one_repository_lacks_comes_from_another() {
    let mut layout = Layout::new();
    let mut foreign = layout.blob(OCI_LAYER_TAR, b"foreign layer");
    foreign.urls.push("https://elsewhere.example/layer".to_owned());
    let image = layout.image_of("one", &[&foreign], None);
    layout.add(&image, "app:v1");
    let layout = layout.finish();
    let file = layout.file(&foreign.digest);
    let content = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let side = Side::new().await;
    side.import(layout.path(), Some("a")).await;
    std::fs::write(&file, content).unwrap();
    side.import(layout.path(), Some("b")).await;
    assert!(!side.serves("a", &foreign.digest).await);
    assert!(side.serves("b", &foreign.digest).await);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let (refused, counts) = side.export(&path, Vec::new(), None).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(counts.blobs, 2);
    let there = Side::new().await;
    there.import(&path, None).await;
    assert!(there.serves("b", &foreign.digest).await);
}

/// The registry serves what the other side would refuse: that is said here.
#[tokio::test]
async fn a_wrong_size_is_said_at_once() {
    let mut layout = Layout::new();
    let one = layout.image("one");
    layout.add(&one, "app:v1");
    let config = layout.blob(oci::media_type::OCI_CONFIG, br#"{"name":"one"}"#);
    let layout = layout.finish();
    let side = Side::new().await;
    side.import(layout.path(), None).await;
    let layer = Descriptor::new(OCI_LAYER_TAR, layer_of("one"), 7);
    let image = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer],
    });
    side.push("app", "layer", &image).await;
    let child = Descriptor::new(OCI_MANIFEST, one.digest, 8);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]});
    side.push("app", "child", &index).await;

    let folder = tempfile::tempdir().unwrap();
    let (refused, counts) = side.export(&folder.path().join("a"), Vec::new(), None).await;
    let expected = [
        format!("app:child: {}: expected 8 bytes, found {}", one.digest, one.size),
        format!("app:layer: {}: expected 7 bytes, found 12", layer_of("one")),
    ];
    assert_eq!(refused, expected);
    assert_eq!(counts.images, 1);
}

#[tokio::test]
async fn a_sparse_index_goes_out_as_it_is() {
    let mut layout = Layout::new();
    let (here, gone) = (layout.image("here"), layout.image("gone"));
    let index = layout.list(&[&here, &gone]);
    layout.add(&index, "app:v1");
    let layout = layout.finish();
    std::fs::remove_file(layout.file(&gone.digest)).unwrap();
    let config = Config { require_children: Children::None, ..Config::default() };
    let side = Side::with(config).await;
    side.import(layout.path(), None).await;
    let folder = tempfile::tempdir().unwrap();
    let (refused, counts) = side.export(&folder.path().join("a"), Vec::new(), None).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!((counts.images, counts.manifests), (1, 2));
}
