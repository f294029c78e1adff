//! What operators do not let in: URLs, classes, and indexes without their images.

use oci::media_type::{
    DOCKER_CONFIG, DOCKER_MANIFEST, DOCKER_PLUGIN_CONFIG, OCI_CONFIG, OCI_INDEX, OCI_LAYER,
    OCI_MANIFEST,
};
use registry::{Children, Class, Config, LayerUrls, Platform};
use serde_json::{Value, json};

use crate::support::images::{descriptor, index};
use crate::support::{Answer, TestRegistry, sha256};

/// An image whose only layer names these URLs.
fn with_urls(urls: &[&str]) -> Value {
    let mut layer = descriptor(OCI_LAYER, b"elsewhere");
    layer["urls"] = json!(urls);
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, b"{}"), "layers": [layer],
    })
}

async fn put(registry: &TestRegistry, media_type: &str, manifest: &Value) -> Answer {
    registry.put_manifest("a", "v1", media_type, &manifest.to_string()).await
}

async fn with_url_rules(allow: &[&str], deny: &[&str]) -> TestRegistry {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let rules = LayerUrls::new(&owned(allow), &owned(deny)).unwrap();
    let rules = Config { layer_urls: Some(rules), ..Config::default() };
    let registry = TestRegistry::with(rules, |_| {}).await;
    registry.push_blob("a", b"{}").await;
    registry
}

#[tokio::test]
async fn urls_of_layers_are_those_that_the_operator_allows() {
    let registry = with_url_rules(&["^https://layers[.]example/"], &["/secret/"]).await;
    for (urls, status) in [
        (vec!["https://layers.example/base"], 201),
        (vec![], 400),
        (vec!["https://layers.example/secret/base"], 400),
        (vec!["https://layers.example/base", "https://other.example/base"], 400),
        (vec!["https://layers.example/base#part"], 400),
        (vec!["http://layers.example/base"], 400),
    ] {
        let answer = put(&registry, OCI_MANIFEST, &with_urls(&urls)).await.status(status);
        let code = if urls.is_empty() { "MANIFEST_BLOB_UNKNOWN" } else { "MANIFEST_INVALID" };
        assert!(status == 201 || answer.code() == code, "{answer}");
    }
    let none = with_url_rules(&[], &[]).await;
    let manifest = with_urls(&["https://layers.example/base"]);
    put(&none, OCI_MANIFEST, &manifest).await.refused(400, "MANIFEST_INVALID");
    let other = with_url_rules(&[], &["^https://bad[.]example/"]).await;
    put(&other, OCI_MANIFEST, &manifest).await.expect(201);
    let manifest = with_urls(&["ftp://layers.example/base"]);
    put(&other, OCI_MANIFEST, &manifest).await.refused(400, "MANIFEST_INVALID");
}

#[tokio::test]
async fn all_that_is_wrong_is_in_one_answer() {
    let registry = with_url_rules(&["^https://good[.]example/"], &[]).await;
    let mut manifest = with_urls(&["https://bad.example/1", "https://bad.example/2"]);
    let missing = descriptor(OCI_LAYER, b"missing");
    manifest["layers"].as_array_mut().unwrap().push(missing);
    let answer = put(&registry, OCI_MANIFEST, &manifest).await.refused(400, "MANIFEST_INVALID");
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    let codes: Vec<_> = errors.iter().map(|error| error["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["MANIFEST_INVALID", "MANIFEST_INVALID", "MANIFEST_BLOB_UNKNOWN"]);
    assert_eq!(errors[1]["detail"]["url"], "https://bad.example/2");
    assert_eq!(errors[2]["detail"]["digest"], sha256(b"missing"));
}

#[tokio::test]
async fn an_index_needs_the_images_of_the_platforms_that_the_operator_names() {
    let platform = |os: &str, architecture: &str| Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
    };
    let wanted = vec![platform("linux", "amd64"), platform("linux", "arm64")];
    let rules = Config { require_children: Children::Of(wanted), ..Config::default() };
    let registry = TestRegistry::with(rules, |_| {}).await;
    let amd64 = registry.push_image_parts("a", "amd64").await;
    registry.push_manifest("a", "amd64", OCI_MANIFEST, &amd64).await;
    let mut list: Value = serde_json::from_str(&index(&[&amd64, "not there", "nor this"])).unwrap();
    list["manifests"][0]["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    list["manifests"][1]["platform"] = json!({ "os": "windows", "architecture": "amd64" });
    put(&registry, OCI_INDEX, &list).await.expect(201);
    list["manifests"][2]["platform"] =
        json!({ "os": "linux", "architecture": "arm64", "variant": "v8" });
    let answer = put(&registry, OCI_INDEX, &list).await.refused(400, "MANIFEST_BLOB_UNKNOWN");
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    assert_eq!(errors.len(), 1, "{answer}");
    assert_eq!(errors[0]["detail"]["digest"], sha256(b"nor this"));
}

#[tokio::test]
async fn only_classes_that_the_operator_takes() {
    let manifest = |media_type: &str, config: &str| {
        json!({
            "schemaVersion": 2, "mediaType": media_type,
            "config": descriptor(config, b"{}"), "layers": [],
        })
    };
    let images = vec![
        (DOCKER_MANIFEST, manifest(DOCKER_MANIFEST, DOCKER_CONFIG)),
        (OCI_MANIFEST, manifest(OCI_MANIFEST, OCI_CONFIG)),
    ];
    let plugins = vec![(DOCKER_MANIFEST, manifest(DOCKER_MANIFEST, DOCKER_PLUGIN_CONFIG))];
    let others = vec![(OCI_MANIFEST, manifest(OCI_MANIFEST, "application/vnd.example+json"))];
    for (classes, allowed) in [
        (vec![], [true, true, true]),
        (vec![Class::Image], [true, false, false]),
        (vec![Class::Plugin], [false, true, false]),
        (vec![Class::Image, Class::Plugin], [true, true, false]),
    ] {
        let rules = Config { classes, ..Config::default() };
        let registry = TestRegistry::with(rules, |_| {}).await;
        registry.push_blob("a", b"{}").await;
        for (manifests, allowed) in [&images, &plugins, &others].into_iter().zip(allowed) {
            for (media_type, manifest) in manifests {
                let answer = put(&registry, media_type, manifest).await;
                if allowed {
                    answer.expect(201);
                } else {
                    answer.refused(403, "DENIED");
                }
            }
        }
        let list: Value = serde_json::from_str(&index(&[])).unwrap();
        put(&registry, OCI_INDEX, &list).await.expect(201);
    }
}
