//! `Accept`: what a client says that it can read.

use http::Method;
use oci::media_type::{
    DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, DOCKER_SCHEMA1_SIGNED, OCI_INDEX, OCI_MANIFEST,
};
use serde_json::json;

use crate::support::images::descriptor;
use crate::support::{Answer, TestRegistry, sha256};

async fn get(registry: &TestRegistry, reference: &str, accept: &[&str]) -> Answer {
    let mut answers = Vec::new();
    for method in [Method::GET, Method::HEAD] {
        let mut request = registry.request(method, format!("/v2/a/b/manifests/{reference}"));
        for value in accept {
            request = request.header("accept", value);
        }
        answers.push(request.send().await);
    }
    let head = answers.pop().unwrap();
    let get = answers.pop().unwrap();
    assert_eq!(get.status, head.status, "HEAD is answered as GET is: {get}");
    assert_eq!(get.get("docker-content-digest"), head.get("docker-content-digest"));
    get
}

#[tokio::test]
async fn every_way_to_say_that_a_type_is_accepted() {
    let registry = TestRegistry::new().await;
    registry.push_image("a/b", "v1", "image").await;
    let low = format!("{OCI_MANIFEST};q=0.1");
    let not_index = format!("*/*, {OCI_INDEX};q=0");
    let not_this = format!("{OCI_MANIFEST};q=0, */*");
    let upper = OCI_MANIFEST.to_uppercase();
    let list = format!("{OCI_INDEX},{OCI_MANIFEST} , text/plain");
    let containerd = format!("{DOCKER_MANIFEST}, */*");
    for (accept, status) in [
        (&[][..], 200),
        (&[""], 200),
        (&[OCI_MANIFEST], 200),
        (&[&upper], 200),
        (&["*/*"], 200),
        (&["application/*"], 200),
        (&[&low], 200),
        (&[&not_index], 200),
        (&[&list], 200),
        (&[&containerd], 200),
        // docker and podman send a line for each type.
        (
            &[DOCKER_SCHEMA1_SIGNED, DOCKER_MANIFEST, "application/json", OCI_INDEX, OCI_MANIFEST],
            200,
        ),
        (&[DOCKER_MANIFEST], 404),
        (&[&not_this], 404),
        (&["text/*", OCI_INDEX], 404),
        (&["*/*;q=0"], 404),
    ] {
        let answer = get(&registry, "v1", accept).await;
        assert_eq!(answer.status, status, "{accept:?}: {answer}");
        if status == 404 {
            answer.refused(404, "MANIFEST_UNKNOWN");
        } else {
            assert_eq!(answer.header("content-type"), OCI_MANIFEST);
        }
    }
}

/// Pushes images of two platforms and a Docker list of them; returns the list's digest and that
/// of the image for linux/amd64.
async fn push_list(registry: &TestRegistry, platforms: &[(&str, &str)]) -> (String, Vec<String>) {
    let mut children = Vec::new();
    let mut digests = Vec::new();
    for (os, architecture) in platforms {
        let seed = format!("{os}/{architecture}");
        let manifest = registry.push_image_parts("a/b", &seed).await;
        let manifest = manifest.replace(OCI_MANIFEST, DOCKER_MANIFEST);
        let digest = sha256(manifest.as_bytes());
        registry.push_manifest("a/b", &digest, DOCKER_MANIFEST, &manifest).await;
        let mut child = descriptor(DOCKER_MANIFEST, manifest.as_bytes());
        child["platform"] = json!({ "os": os, "architecture": architecture });
        children.push(child);
        digests.push(digest);
    }
    let list = json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST_LIST, "manifests": children,
    });
    let digest =
        registry.push_manifest("a/b", "list", DOCKER_MANIFEST_LIST, &list.to_string()).await;
    (digest, digests)
}

#[tokio::test]
async fn an_old_docker_client_gets_the_image_for_linux_on_amd64() {
    let registry = TestRegistry::new().await;
    let platforms = [("linux", "arm64"), ("linux", "amd64"), ("windows", "amd64")];
    let (list, children) = push_list(&registry, &platforms).await;
    let answer = get(&registry, "list", &[DOCKER_SCHEMA1_SIGNED, DOCKER_MANIFEST]).await;
    let answer = answer.status(200);
    assert_eq!(answer.header("content-type"), DOCKER_MANIFEST);
    assert_eq!(answer.header("docker-content-digest"), children[1]);
    assert_eq!(sha256(&answer.body), children[1]);
    // Whoever can read lists, or asks for one by its digest, gets the list itself.
    for accept in [&[DOCKER_MANIFEST, DOCKER_MANIFEST_LIST][..], &["*/*"], &[]] {
        let answer = get(&registry, "list", accept).await.status(200);
        assert_eq!(answer.header("docker-content-digest"), list);
    }
    get(&registry, &list, &[DOCKER_MANIFEST]).await.refused(404, "MANIFEST_UNKNOWN");
    get(&registry, "list", &[OCI_MANIFEST]).await.refused(404, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn a_list_without_that_platform_is_of_no_use_to_it() {
    let registry = TestRegistry::new().await;
    push_list(&registry, &[("linux", "arm64"), ("windows", "amd64")]).await;
    get(&registry, "list", &[DOCKER_MANIFEST]).await.refused(404, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn the_child_may_be_gone() {
    let registry = TestRegistry::new().await;
    let (_, children) = push_list(&registry, &[("linux", "amd64")]).await;
    registry.delete(format!("/v2/a/b/manifests/{}", children[0])).await.expect(202);
    get(&registry, "list", &[DOCKER_MANIFEST]).await.refused(404, "MANIFEST_UNKNOWN");
    get(&registry, "list", &[DOCKER_MANIFEST_LIST]).await.expect(200);
}
