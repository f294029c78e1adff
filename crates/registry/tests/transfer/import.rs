use oci::Digest;
use registry::{Children, Class, Config, LayerUrls};

use super::{Counts, Layout, Side, layer_of};

const NOTHING: Counts = Counts { images: 0, manifests: 0, blobs: 0, present: 0, left_out: 0 };

#[tokio::test]
async fn images_come_in_once() {
    let mut layout = Layout::new();
    let (one, two) = (layout.image("one"), layout.image("two"));
    let index = layout.list(&[&one, &two]);
    layout.add(&one, "team/app:v1");
    layout.add(&index, "localhost:5000/team/multi:v2");
    let layout = layout.finish();
    let side = Side::new().await;

    let (refused, counts) = side.run_import(layout.path(), None, true).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!((counts.images, counts.blobs), (2, 5));
    assert_eq!(side.target("team/app", "v1").await, None);

    let (refused, counts) = side.import(layout.path(), None).await;
    assert!(refused.is_empty(), "{refused:?}");
    // The second repository takes what the store has.
    assert_eq!(counts, Counts { images: 2, manifests: 4, blobs: 5, present: 4, ..NOTHING });
    assert_eq!(side.target("team/app", "v1").await, Some(one.digest));
    assert_eq!(side.target("team/multi", "v2").await, Some(index.digest));
    assert!(side.serves("team/multi", &layer_of("two")).await);
    assert!(!side.serves("team/app", &layer_of("two")).await);

    let (refused, counts) = side.import(layout.path(), None).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(counts, Counts { images: 2, present: 9, ..NOTHING });
    side.check().await;
}

#[tokio::test]
async fn what_was_damaged_here_is_healed() {
    let mut layout = Layout::new();
    let one = layout.image("one");
    layout.add(&one, "app:v1");
    let layout = layout.finish();
    let side = Side::new().await;
    side.import(layout.path(), None).await;
    std::fs::remove_file(side.blob_path(&layer_of("one"))).unwrap();
    let (refused, counts) = side.import(layout.path(), None).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(counts, Counts { images: 1, blobs: 1, present: 2, ..NOTHING });
    side.check().await;
}

#[tokio::test]
async fn an_image_that_is_not_whole_gets_no_tag() {
    let mut layout = Layout::new();
    let names = ["damaged", "short", "gone", "child", "manifest", "whole"];
    let images = names.map(|name| layout.image(name));
    for (name, image) in names.iter().zip(&images) {
        match *name {
            "child" => {
                let index = layout.list(&[image]);
                layout.add(&index, "app:child");
            }
            name => layout.add(image, &format!("app:{name}")),
        }
    }
    let layout = layout.finish();
    let change = |digest: &Digest, content: &[u8]| {
        std::fs::write(layout.file(digest), content).unwrap();
    };
    change(&layer_of("damaged"), b"LAYER OF DAMAGED");
    change(&layer_of("short"), b"layer of");
    std::fs::remove_file(layout.file(&layer_of("gone"))).unwrap();
    let [_, _, _, child, manifest, whole] = &images;
    std::fs::remove_file(layout.file(&child.digest)).unwrap();
    change(&manifest.digest, &vec![b' '; usize::try_from(manifest.size).unwrap()]);

    let side = Side::new().await;
    for dry_run in [true, false] {
        let (refused, counts) = side.run_import(layout.path(), None, dry_run).await;
        let expected = [
            format!("app:damaged: {}: its bytes have the digest", layer_of("damaged")),
            format!("app:short: {}: expected 14 bytes, found 8", layer_of("short")),
            format!("app:gone: neither in these files nor in this registry: {}", layer_of("gone")),
            format!("app:child: neither in these files nor in this registry: {}", child.digest),
            format!("app:manifest: {}: its bytes have the digest", manifest.digest),
        ];
        assert_eq!(refused.len(), expected.len(), "{refused:?}");
        for (found, expected) in refused.iter().zip(&expected) {
            assert!(found.starts_with(expected), "{found}, not {expected}");
        }
        assert_eq!(counts.images, 1);
    }
    for name in ["damaged", "short", "gone", "child", "manifest"] {
        assert_eq!(side.target("app", name).await, None, "{name}");
    }
    assert_eq!(side.target("app", "whole").await, Some(whole.digest));
    side.check().await;

    // What was missing comes later.
    std::fs::write(layout.file(&layer_of("gone")), "layer of gone").unwrap();
    let (refused, _) = side.import(layout.path(), None).await;
    assert_eq!(refused.len(), 4, "{refused:?}");
    assert!(side.target("app", "gone").await.is_some());
}

#[tokio::test]
async fn an_index_may_be_sparse_where_the_rules_say_so() {
    let mut layout = Layout::new();
    let (here, gone) = (layout.image("here"), layout.image("gone"));
    let index = layout.list(&[&here, &gone]);
    layout.add(&index, "app:v1");
    let layout = layout.finish();
    std::fs::remove_file(layout.file(&gone.digest)).unwrap();
    let side = Side::with(Config { require_children: Children::None, ..Config::default() }).await;
    for dry_run in [true, false] {
        let (refused, _) = side.run_import(layout.path(), None, dry_run).await;
        assert!(refused.is_empty(), "{refused:?}");
    }
    assert_eq!(side.target("app", "v1").await, Some(index.digest));
}

#[tokio::test]
async fn names_come_from_the_layout_or_from_outside() {
    let mut layout = Layout::new();
    let (one, two) = (layout.image("one"), layout.image("two"));
    let about = layout.image_about("signature", Some(&one));
    layout.add(&one, "v1");
    layout.add(&two, "v2");
    layout.add(&about, "");
    let layout = layout.finish();
    let side = Side::new().await;

    let (refused, _) = side.import(layout.path(), None).await;
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused.iter().all(|line| line.contains("--name REPOSITORY")), "{refused:?}");

    let (refused, _) = side.import(layout.path(), Some("all")).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(side.target("all", "v2").await, Some(two.digest));
    let by_digest = about.digest.to_string();
    assert_eq!(side.target("all", &by_digest).await, Some(about.digest));

    // One of several: that with the tag, and what has none.
    let (refused, _) = side.import(layout.path(), Some("some:v1")).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(side.target("some", "v1").await, Some(one.digest));
    assert_eq!(side.target("some", &by_digest).await, Some(about.digest));
    assert_eq!(side.target("some", "v2").await, None);

    let (refused, _) = side.import(layout.path(), Some("none:v3")).await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused.concat().contains("there are 3 images here"), "{refused:?}");
    assert!(refused.concat().contains("--name none"), "{refused:?}");

    let mut layout = Layout::new();
    let one = layout.image("one");
    layout.add(&one, "team/app:v1");
    let layout = layout.finish();
    let (refused, _) = side.import(layout.path(), Some("renamed:v9")).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(side.target("renamed", "v9").await, Some(one.digest));
}

#[tokio::test]
async fn a_name_with_two_targets_is_refused() {
    let mut layout = Layout::new();
    let (one, two) = (layout.image("one"), layout.image("two"));
    layout.add(&one, "app:v1");
    layout.add(&one, "app:v1");
    layout.add(&two, "app:v1");
    layout.add(&two, "app:v1");
    layout.add(&two, "Bad Name:v1");
    let layout = layout.finish();
    let side = Side::new().await;
    let (refused, _) = side.import(layout.path(), None).await;
    let [twice, again, bad] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!(twice, again);
    assert_eq!(twice, "app:v1: app:v1 is there more than once, for different manifests");
    assert!(bad.starts_with("Bad Name:v1: the name \"Bad Name:v1\": "), "{bad}");
    assert_eq!(side.target("app", "v1").await, Some(one.digest));
}

#[tokio::test]
async fn a_dry_run_knows_the_rules() {
    let mut layout = Layout::new();
    let mut foreign = layout.blob(oci::media_type::OCI_LAYER_TAR, b"foreign layer");
    foreign.urls.push("https://elsewhere.example/\u{1b}[2Jlayer".to_owned());
    let with_url = layout.image_of("url", &[&foreign], None);
    let incomplete = layout.image("incomplete");
    layout.add(&with_url, "app:url");
    layout.add(&incomplete, "app:incomplete");
    let layout = layout.finish();
    std::fs::remove_file(layout.file(&layer_of("incomplete"))).unwrap();

    let layer_urls = LayerUrls::new(&["^https://here[.]example/".to_owned()], &[]).unwrap();
    let config = Config { require_blobs: false, layer_urls: Some(layer_urls), ..Config::default() };
    let side = Side::with(config).await;
    for dry_run in [true, false] {
        let (refused, counts) = side.run_import(layout.path(), None, dry_run).await;
        let [url] = refused.as_slice() else { panic!("{refused:?}") };
        let expected = "app:url: its layers name URLs that the configuration does not allow: \
                        https://elsewhere.example/\\u{1b}[2Jlayer";
        assert_eq!(url, expected);
        assert_eq!(counts.images, 1);
    }
    let classes = vec![Class::Plugin];
    let side = Side::with(Config { classes, require_blobs: false, ..Config::default() }).await;
    for dry_run in [true, false] {
        let (refused, _) = side.run_import(layout.path(), None, dry_run).await;
        assert_eq!(refused.len(), 2, "{refused:?}");
    }
}
