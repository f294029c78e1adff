use std::path::Path;

use oci::Digest;

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
    assert_eq!(counts.left_out, 3 + 5);
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
