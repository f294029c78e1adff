//! `/v2/<name>/referrers/<digest>`: what says something about a manifest.

use http::Method;
use oci::media_type::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use serde_json::{Value, json};

use crate::support::images::{artifact, descriptor, image_value};
use crate::support::{Answer, TestRegistry, sha256, sha512};

const SIGNATURE: &str = "application/vnd.example.signature";
const SBOM: &str = "application/vnd.example.sbom+json";

async fn push_artifact(
    registry: &TestRegistry,
    subject: &str,
    artifact_type: &str,
    note: &str,
) -> String {
    registry.push_blob("a/b", b"{}").await;
    let manifest = artifact(subject, artifact_type, note);
    let digest = sha256(manifest.as_bytes());
    let answer = registry.put_manifest("a/b", &digest, OCI_MANIFEST, &manifest).await.status(201);
    assert_eq!(answer.header("oci-subject"), subject);
    digest
}

fn digests(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let manifests = json["manifests"].as_array().unwrap().iter();
    manifests.map(|descriptor| descriptor["digest"].as_str().unwrap().to_owned()).collect()
}

async fn list(registry: &TestRegistry, target: &str) -> Answer {
    let answer = registry.get(target).await.status(200);
    assert_eq!(answer.header("content-type"), OCI_INDEX);
    let json = answer.json();
    assert_eq!((&json["schemaVersion"], &json["mediaType"]), (&json!(2), &json!(OCI_INDEX)));
    answer
}

#[tokio::test]
async fn nothing_refers_to_what_nobody_knows() {
    let registry = TestRegistry::new().await;
    let digest = sha256(b"nothing");
    for repository in ["never/seen", "a/b"] {
        let answer = list(&registry, &format!("/v2/{repository}/referrers/{digest}")).await;
        assert!(digests(&answer).is_empty());
        assert_eq!(answer.get("oci-filters-applied"), None);
        registry.push_blob("a/b", b"content").await;
    }
    registry.head(format!("/v2/a/b/referrers/{digest}")).await.expect(200);
    for bad in ["v1", "sha256:x", "md5:00", "%00"] {
        let answer = registry.get(format!("/v2/a/b/referrers/{bad}")).await;
        answer.refused(400, "DIGEST_INVALID");
    }
}

#[tokio::test]
async fn descriptors_tell_what_clients_choose_by() {
    let registry = TestRegistry::new().await;
    let subject = registry.push_image("a/b", "v1", "image").await;
    let signature = push_artifact(&registry, &subject, SIGNATURE, "signed").await;
    // Without artifactType, the type of the config stands for it.
    let mut plain = image_value(b"{}", &[]);
    plain["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": subject, "size": 1 });
    let plain = plain.to_string();
    registry.push_manifest("a/b", "plain", OCI_MANIFEST, &plain).await;
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "artifactType": SBOM, "manifests": [],
        "subject": { "mediaType": OCI_MANIFEST, "digest": subject, "size": 1 },
    })
    .to_string();
    registry.push_manifest("a/b", "index", OCI_INDEX, &index).await;

    let answer = list(&registry, &format!("/v2/a/b/referrers/{subject}")).await;
    let mut expected = vec![
        json!({
            "mediaType": OCI_MANIFEST, "digest": signature, "artifactType": SIGNATURE,
            "size": artifact(&subject, SIGNATURE, "signed").len(),
            "annotations": { "note": "signed" },
        }),
        json!({
            "mediaType": OCI_MANIFEST, "digest": sha256(plain.as_bytes()), "size": plain.len(),
            "artifactType": OCI_CONFIG,
        }),
        json!({
            "mediaType": OCI_INDEX, "digest": sha256(index.as_bytes()), "size": index.len(),
            "artifactType": SBOM,
        }),
    ];
    expected.sort_by_key(|descriptor| descriptor["digest"].to_string());
    assert_eq!(answer.json()["manifests"], Value::from(expected));
}

#[tokio::test]
async fn the_subject_may_come_later_and_may_go() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    let subject = sha256(manifest.as_bytes());
    let target = format!("/v2/a/b/referrers/{subject}");
    let signature = push_artifact(&registry, &subject, SIGNATURE, "early").await;
    assert_eq!(digests(&list(&registry, &target).await), [signature.as_str()]);
    registry.push_manifest("a/b", "v1", OCI_MANIFEST, &manifest).await;
    assert_eq!(digests(&list(&registry, &target).await), [signature.as_str()]);
    registry.delete(format!("/v2/a/b/manifests/{subject}")).await.expect(202);
    assert_eq!(digests(&list(&registry, &target).await), [signature.as_str()]);
    registry.delete(format!("/v2/a/b/manifests/{signature}")).await.expect(202);
    assert!(digests(&list(&registry, &target).await).is_empty());
}

#[tokio::test]
async fn a_page_is_no_longer_than_clients_take() {
    let registry = TestRegistry::new().await;
    let subject = registry.push_image("a/b", "v1", "image").await;
    let mut expected = Vec::new();
    for letter in ["a", "b", "c", "d", "e"] {
        let note = letter.repeat(1_500_000);
        expected.push(push_artifact(&registry, &subject, SIGNATURE, &note).await);
    }
    expected.sort_unstable();
    let mut next = Some(format!("/v2/a/b/referrers/{subject}"));
    let mut found = Vec::new();
    while let Some(target) = next {
        let page = list(&registry, &target).await;
        assert!(page.body.len() <= 4 << 20, "{}", page.body.len());
        found.extend(digests(&page));
        next = page.get("link").map(|link| {
            let (target, _) = link.trim_start_matches('<').split_once('>').unwrap();
            target.to_owned()
        });
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_plus_in_a_type_need_not_be_escaped() {
    let registry = TestRegistry::new().await;
    let subject = registry.push_image("a/b", "v1", "image").await;
    let sbom = push_artifact(&registry, &subject, SBOM, "sbom").await;
    for kind in [SBOM, &SBOM.replace('+', "%2B")] {
        let target = format!("/v2/a/b/referrers/{subject}?artifactType={kind}");
        assert_eq!(digests(&list(&registry, &target).await), [sbom.as_str()]);
    }
}

#[tokio::test]
async fn referrers_are_those_of_the_repository() {
    let registry = TestRegistry::new().await;
    let subject = registry.push_image("a/b", "v1", "image").await;
    push_artifact(&registry, &subject, SIGNATURE, "signed").await;
    let answer = list(&registry, &format!("/v2/other/referrers/{subject}")).await;
    assert!(digests(&answer).is_empty());
}

#[tokio::test]
async fn only_those_of_a_type() {
    let registry = TestRegistry::new().await;
    let subject = sha256(b"subject");
    let signature = push_artifact(&registry, &subject, SIGNATURE, "signed").await;
    let sbom = push_artifact(&registry, &subject, SBOM, "listed").await;
    let target = format!("/v2/a/b/referrers/{subject}");
    for (filter, expected) in [
        (SIGNATURE.to_owned(), vec![signature.clone()]),
        (SBOM.replace('+', "%2B"), vec![sbom.clone()]),
        ("a/b".to_owned(), vec![]),
        ("%25".to_owned(), vec![]),
    ] {
        let answer = list(&registry, &format!("{target}?artifactType={filter}")).await;
        assert_eq!(answer.header("oci-filters-applied"), "artifactType");
        assert_eq!(digests(&answer), expected, "{filter}");
    }
    let answer = list(&registry, &format!("{target}?artifactType=")).await;
    assert_eq!(digests(&answer).len(), 2);
}

#[tokio::test]
async fn page_by_page_to_the_end() {
    let registry = TestRegistry::new().await;
    let subject = sha256(b"subject");
    let mut all = Vec::new();
    let mut signatures = Vec::new();
    for n in 0..7 {
        let kind = if n % 2 == 0 { SIGNATURE } else { SBOM };
        let digest = push_artifact(&registry, &subject, kind, &n.to_string()).await;
        if n % 2 == 0 {
            signatures.push(digest.clone());
        }
        all.push(digest);
    }
    all.sort();
    signatures.sort();
    let filter = format!("&artifactType={SIGNATURE}");
    for (filter, expected) in [("", &all), (filter.as_str(), &signatures)] {
        for size in 1..=8 {
            let mut found = Vec::new();
            let mut target = format!("/v2/a/b/referrers/{subject}?n={size}{filter}");
            loop {
                let answer = list(&registry, &target).await;
                let page = digests(&answer);
                assert!(page.len() <= size && !page.is_empty(), "no page is empty: {answer}");
                found.extend(page);
                match answer.next_page() {
                    Some(next) => target = next,
                    None => break,
                }
            }
            assert_eq!(found, *expected, "n={size}{filter}");
        }
    }
    let target = format!("/v2/a/b/referrers/{subject}");
    for n in ["-1", "x", ""] {
        let answer = registry.get(format!("{target}?n={n}")).await;
        answer.refused(400, "PAGINATION_NUMBER_INVALID");
    }
    let answer = registry.get(format!("{target}?last=x")).await;
    answer.refused(400, "DIGEST_INVALID");
}

#[tokio::test]
async fn sha512_subjects() {
    let registry = TestRegistry::new().await;
    let manifest = registry.push_image_parts("a/b", "image").await;
    let subject = sha512(manifest.as_bytes());
    registry.put_manifest("a/b", &subject, OCI_MANIFEST, &manifest).await.expect(201);
    let signature = push_artifact(&registry, &subject, SIGNATURE, "strong").await;
    let answer = list(&registry, &format!("/v2/a/b/referrers/{subject}")).await;
    assert_eq!(digests(&answer), [signature]);
}

/// Older clients list referrers in an index under a tag; those are merged in, each once.
#[tokio::test]
async fn the_referrers_tag_counts_too() {
    let registry = TestRegistry::new().await;
    let subject = registry.push_image("a/b", "v1", "image").await;
    let signature = push_artifact(&registry, &subject, SIGNATURE, "with a subject").await;
    // What an old client pushes has no subject.
    let mut old = image_value(b"{}", &[]);
    old["artifactType"] = json!(SBOM);
    let old = old.to_string();
    let old_digest = sha256(old.as_bytes());
    registry.push_manifest("a/b", &old_digest, OCI_MANIFEST, &old).await;
    let mut entry = descriptor(OCI_MANIFEST, old.as_bytes());
    entry["artifactType"] = json!(SBOM);
    entry["annotations"] = json!({ "by": "tag" });
    let with_subject = artifact(&subject, SIGNATURE, "with a subject");
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [entry, descriptor(OCI_MANIFEST, with_subject.as_bytes())],
    });
    let tag = subject.replace(':', "-");
    registry.push_manifest("a/b", &tag, OCI_INDEX, &index.to_string()).await;

    let target = format!("/v2/a/b/referrers/{subject}");
    let mut both = vec![signature.clone(), old_digest.clone()];
    both.sort();
    let answer = list(&registry, &target).await;
    assert_eq!(digests(&answer), both);
    let json = answer.json();
    let find = |digest: &String| {
        let mut manifests = json["manifests"].as_array().unwrap().iter();
        manifests.find(|found| found["digest"] == **digest).unwrap().clone()
    };
    assert_eq!(find(&old_digest), entry);
    assert_eq!(find(&signature)["annotations"]["note"], "with a subject");

    let answer =
        list(&registry, &format!("{target}?artifactType={}", SBOM.replace('+', "%2B"))).await;
    assert_eq!(digests(&answer), [old_digest.as_str()]);

    let first = list(&registry, &format!("{target}?n=1")).await;
    assert_eq!(digests(&first), both[..1]);
    let second = list(&registry, &first.next_page().unwrap()).await;
    assert_eq!(digests(&second), both[1..]);
    assert_eq!(second.next_page(), None);

    // What the index lists but the repository has no more is not listed.
    registry.delete(format!("/v2/a/b/manifests/{old_digest}")).await.expect(202);
    assert_eq!(digests(&list(&registry, &target).await), [signature.as_str()]);
}

/// Whatever somebody puts under that tag.
#[tokio::test]
async fn a_referrers_tag_that_is_no_index() {
    let registry = TestRegistry::new().await;
    let subject = sha256(b"subject");
    registry.push_image("a/b", &subject.replace(':', "-"), "no index").await;
    let answer = list(&registry, &format!("/v2/a/b/referrers/{subject}")).await;
    assert!(digests(&answer).is_empty());
}

#[tokio::test]
async fn a_subject_is_announced_however_the_manifest_is_put() {
    let registry = TestRegistry::new().await;
    registry.push_blob("a/b", b"{}").await;
    let subject = sha256(b"subject");
    let manifest = artifact(&subject, SIGNATURE, "note");
    let digest = sha256(manifest.as_bytes());
    for reference in ["v1", &digest, &format!("{digest}?tag=v2")] {
        let put = registry.request(Method::PUT, format!("/v2/a/b/manifests/{reference}"));
        let answer = put.body(manifest.clone()).send().await.status(201);
        assert_eq!(answer.header("oci-subject"), subject);
    }
}
