//! What adoption brings over, when, and how often.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oci::Digest;
use oci::media_type::OCI_INDEX;
use registry::{Adoption, AdoptionProgress};

use crate::store::{MANIFEST, Store, image, index, write};
use crate::{catalogue, delete, findings, name, pull, push, serves, tags, target};

#[tokio::test]
async fn all_that_registry_2_served_is_served() {
    let store = Store::new();
    let first = store.image("app", "v1", "one");
    store.tag("app", "latest", &first);
    // A repository below another one.
    let nested = store.image("app/nested/deep", "v1", "two");
    // Two architectures, and a layer that is known by its sha512 digest too.
    let children = [store.image("multi", "amd64", "amd"), store.image("multi", "arm64", "arm")];
    let both = store.manifest("multi", &index(&children));
    store.tag("multi", "latest", &both);
    let layer = store.layer("multi", b"by both names");
    let sha512 = Digest::sha512(b"by both names");
    store.link("multi", "_layers", &sha512, &layer.to_string());
    // Only a blob, so far.
    let alone = store.layer("blobs/only", b"alone");
    let before = store.links();

    let registry = store.adopt().await;
    assert_eq!(findings(&registry).await, Vec::<String>::new());
    assert_eq!(catalogue(&registry).await, ["app", "app/nested/deep", "multi"]);
    assert_eq!(tags(&registry, "app").await, ["latest", "v1"]);
    assert_eq!(target(&registry, "app", "v1").await, Some(first));
    assert_eq!(target(&registry, "app", "latest").await, Some(first));
    assert_eq!(target(&registry, "app/nested/deep", "v1").await, Some(nested));
    let pulled = pull(&registry, "multi", "latest").await.unwrap();
    assert_eq!((pulled.digest, &*pulled.media_type), (both, OCI_INDEX));
    for child in &children {
        let pulled = pull(&registry, "multi", &child.to_string()).await.unwrap();
        assert_eq!(pulled.media_type, MANIFEST);
    }
    assert!(serves(&registry, "multi", &layer).await && serves(&registry, "multi", &sha512).await);
    assert!(serves(&registry, "blobs/only", &alone).await);
    assert!(!serves(&registry, "app", &alone).await, "not where it was not linked");
    assert_eq!(store.links(), before, "the links are left alone");
    assert_eq!(registry.check(false, |_| ()).await.unwrap().findings, []);
}

#[tokio::test]
async fn signatures_are_listed_as_referrers() {
    let store = Store::new();
    let subject = store.image("app", "v1", "one");
    let config = store.layer("app", b"{}");
    let signature = image(&config, &[]).replacen(
        '{',
        &format!(
            r#"{{"subject":{{"mediaType":"{MANIFEST}","digest":"{subject}","size":9}},"artifactType":"a/b","#
        ),
        1,
    );
    let signature = store.manifest("app", &signature);
    // Another one, in the way of clients that know no referrers API.
    let tagged = store.manifest("app", &image(&config, &[subject]));
    let list = store.manifest("app", &index(&[tagged]));
    store.tag("app", &subject.to_string().replace(':', "-"), &list);

    let registry = store.adopt().await;
    let query = registry::ReferrersQuery {
        repository: name("app"),
        subject,
        artifact_type: None,
        last: None,
        limit: 10,
    };
    let found = registry.list_referrers(&query).await.unwrap().descriptors;
    let mut expected = [signature, tagged];
    expected.sort();
    assert_eq!(found.iter().map(|found| found.digest).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_repository_is_there_at_its_first_touch() {
    let store = Store::new();
    let digest = store.image("app", "v1", "one");
    store.image("other", "v1", "two");
    let layer = store.layer("source", b"to be mounted");
    let registry = store.open().await;
    assert_eq!(registry.begin_adoption(false).await.unwrap(), Adoption::Begun { resumed: false });
    // Sixteen clients at once, each the first.
    let touches = (0..16).map(|_| {
        let registry = registry.clone();
        tokio::spawn(async move { target(&registry, "app", "v1").await })
    });
    for touch in touches.collect::<Vec<_>>() {
        assert_eq!(touch.await.unwrap(), Some(digest));
    }
    let mounted = registry.mount_blob(&name("new"), &layer, Some(&name("source")), |_| true).await;
    assert!(mounted.unwrap());
    let unknown = registry.list_tags(&name("nowhere"), None, 10).await;
    assert!(matches!(unknown, Err(registry::Error::RepositoryUnknown(_))));
    // What is pushed before the rest is read stays.
    let pushed = push(&registry, "other", "v1", &image(&layer, &[])).await;
    delete(&registry, "app", "v1").await;
    registry.adopt_all(2, &Arc::new(AdoptionProgress::default())).await.unwrap();
    assert_eq!(target(&registry, "other", "v1").await, Some(pushed));
    assert_eq!(target(&registry, "app", "v1").await, None, "deleted is deleted");
    assert!(serves(&registry, "new", &layer).await);
    assert_eq!(catalogue(&registry).await, ["app", "other"]);
}

#[tokio::test]
async fn the_catalogue_waits_for_all_names() {
    let store = Store::new();
    for number in 0..50 {
        store.image(&format!("app-{number:02}"), "v1", "same");
    }
    let registry = store.open().await;
    registry.begin_adoption(false).await.unwrap();
    let asking = tokio::spawn({
        let registry = registry.clone();
        async move { catalogue(&registry).await }
    });
    tokio::task::yield_now().await;
    assert!(!asking.is_finished(), "it answered with what it had");
    registry.adopt_all(1, &Arc::new(AdoptionProgress::default())).await.unwrap();
    assert_eq!(asking.await.unwrap().len(), 50);
}

#[tokio::test]
async fn cut_short_anywhere_it_goes_on() {
    let store = Store::new();
    let mut expected = Vec::new();
    for number in 0..30 {
        let repository = format!("app-{number:02}");
        let digest = store.image(&repository, "v1", &format!("image {number}"));
        expected.push((repository, digest));
    }
    write(&store.path("app-03", "_manifests/tags/broken/current/link"), b"");
    let mut cuts = 0;
    loop {
        // Each time a little further, as if the process were killed there.
        let registry = store.open().await;
        if let Adoption::Done(_) = registry.begin_adoption(false).await.unwrap() {
            break;
        }
        cuts += 1;
        let progress = Arc::new(AdoptionProgress::default());
        let adopting = registry.adopt_all(3, &progress);
        let _ = tokio::time::timeout(Duration::from_millis(3 * cuts), adopting).await;
        let limit = progress.repositories.load(Ordering::Relaxed);
        assert!(limit <= 30 && cuts < 1000, "it does not come to an end");
    }
    let registry = store.open().await;
    for (repository, digest) in &expected {
        assert_eq!(target(&registry, repository, "v1").await, Some(*digest), "{repository}");
    }
    let findings = findings(&registry).await;
    assert_eq!(findings, ["app-03: tag broken: its link is empty"], "told once, after {cuts} cuts");
}

#[tokio::test]
async fn what_was_adopted_is_not_read_again_unless_asked() {
    let store = Store::new();
    let old = store.image("app", "v1", "one");
    store.image("app", "v2", "two");
    let registry = store.adopt().await;
    delete(&registry, "app", "v2").await;
    store.tag("app", "v3", &old);
    let here = push(&registry, "app", "v3", &image(&old, &[])).await;
    assert!(matches!(registry.begin_adoption(false).await.unwrap(), Adoption::Done(_)));
    assert_eq!(target(&registry, "app", "v2").await, None, "its link is out of date");

    // registry:2 is started after all: it pushes a manifest whose layers it had, and moves a tag.
    let layer = Digest::sha256(b"layer of one");
    let new = store.manifest("app", &image(&layer, &[layer]));
    let revision = format!("_manifests/revisions/sha256/{}/link", new.hex());
    store.tag("app", "v1", &new);
    for path in [&*revision, "_manifests/tags/v1/current/link"] {
        store.date_later("app", path);
    }
    let begun = registry.begin_adoption(true).await.unwrap();
    assert_eq!(begun, Adoption::Begun { resumed: false });
    registry.adopt_all(2, &Arc::new(AdoptionProgress::default())).await.unwrap();
    assert_eq!(target(&registry, "app", "v1").await, Some(new), "it was moved later");
    assert_eq!(target(&registry, "app", "v2").await, None, "still deleted");
    assert_eq!(target(&registry, "app", "v3").await, Some(here), "the link is older than the push");
}

#[tokio::test]
async fn a_second_reading_cut_short_forgets_no_finding() {
    let store = Store::new();
    store.image("app", "v1", "one");
    // More than is written at once.
    for number in 0..5000 {
        let lost = Digest::sha256(format!("lost {number}").as_bytes());
        store.link("app", "_layers", &lost, &lost.to_string());
    }
    let expected = findings(&store.adopt().await).await;
    assert_eq!(expected.len(), 5000);
    let mut cuts = 0;
    loop {
        let registry = store.open().await;
        registry.begin_adoption(true).await.unwrap();
        let progress = Arc::new(AdoptionProgress::default());
        let adopting = registry.adopt_all(1, &progress);
        if tokio::time::timeout(Duration::from_millis(20 * cuts), adopting).await.is_ok() {
            break;
        }
        let known = findings(&registry).await.into_iter().collect::<HashSet<_>>();
        assert!(expected.iter().all(|finding| known.contains(finding)), "after {cuts} cuts");
        cuts += 1;
        assert!(cuts < 1000, "it does not come to an end");
    }
    assert_eq!(findings(&store.open().await).await, expected, "told once, after {cuts} cuts");
}

#[tokio::test]
async fn a_store_without_links_has_nothing_to_adopt() {
    let store = Store::new();
    let registry = store.open().await;
    assert_eq!(registry.begin_adoption(false).await.unwrap(), Adoption::Nothing);
    assert_eq!(registry.begin_adoption(true).await.unwrap(), Adoption::Nothing);
    assert!(!registry.skip_adoption().await.unwrap());
}

#[tokio::test]
async fn links_may_be_left_aside() {
    let store = Store::new();
    let digest = store.image("app", "v1", "one");
    let registry = store.open().await;
    assert!(registry.skip_adoption().await.unwrap(), "there are links that nobody has read");
    assert_eq!(target(&registry, "app", "v1").await, None);
    let pushed = push(&registry, "app", "v1", &image(&digest, &[])).await;
    push(&registry, "mine", "v1", &image(&digest, &[])).await;
    drop(registry);

    let registry = store.adopt().await;
    assert_eq!(target(&registry, "app", "v1").await, Some(pushed), "what was pushed here counts");
    assert!(pull(&registry, "app", &digest.to_string()).await.is_some(), "the rest is added");
    assert_eq!(catalogue(&registry).await, ["app", "mine"]);
}

#[tokio::test]
async fn a_survey_sees_the_same_and_writes_nothing() {
    let store = Store::new();
    store.image("app", "v1", "one");
    write(&store.path("app", "_manifests/tags/odd/current/link"), b"");
    write(&store.path("app", "_uploads/1/data"), b"begun");
    let blobs = Arc::new(blobs::FileSystem::open_existing(store.root()));
    let progress = Arc::new(AdoptionProgress::default());
    let found = registry::survey(blobs, None, 4, &progress).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(progress.manifests.load(Ordering::Relaxed), 1);
    assert_eq!(progress.blobs.load(Ordering::Relaxed), 2);
    assert_eq!(progress.uploads.load(Ordering::Relaxed), 1);
    assert!(!fs::exists(store.root().join("orlop")).unwrap());
}
