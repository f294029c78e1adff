//! Artifacts that refer to an image, by plain requests: what the clients'
//! scenarios leave out.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::http::{Answer, Http, array, sha256, text, with_query};
use crate::image::media_type;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("referrers: the subject arrives later", 60, subject_later),
    Scenario::new("referrers: pages and filter", 60, pages),
    Scenario::new("referrers: an index refers, a deleted one does not", 60, index_and_delete),
    Scenario::new("referrers: what a client pushed under the tag schema", 60, tag_schema),
];

const REPOSITORY: &str = "team/referred";
const SBOM: &str = "application/vnd.example.sbom";
const SIGNATURE: &str = "application/vnd.example.signature";

fn subject_later(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let http = &registry.http;
        let subject = image(http)?;
        let digest = sha256(subject.as_bytes());
        ensure!(referrers(http, &digest)?.is_empty());

        let referrer = artifact(http, SBOM, &descriptor(&subject), "0")?;
        let pushed = push(http, media_type::OCI_MANIFEST, &referrer)?;
        let named = pushed.required_header("oci-subject")?;
        ensure!(named == digest, "OCI-Subject is {named}, not {digest}");
        ensure!(digests(&referrers(http, &digest)?) == [sha256(referrer.as_bytes())]);

        push(http, media_type::OCI_MANIFEST, &subject)?;
        let found = referrers(http, &digest)?;
        ensure!(digests(&found) == [sha256(referrer.as_bytes())], "{found:?}");
        let entry = found.first().context("no referrer")?;
        ensure!(text(entry, "artifactType")? == SBOM, "{entry}");
        ensure!(text(entry, "mediaType")? == media_type::OCI_MANIFEST, "{entry}");
        let number = entry.get("annotations").map(|all| text(all, "number"));
        ensure!(number.transpose()? == Some("0"), "{entry}");
        Ok(())
    })
}

fn pages(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let http = &registry.http;
        let subject = image(http)?;
        let digest = sha256(subject.as_bytes());
        push(http, media_type::OCI_MANIFEST, &subject)?;
        for number in 0..25 {
            let kind = if number % 5 == 0 { SIGNATURE } else { SBOM };
            let referrer = artifact(http, kind, &descriptor(&subject), &number.to_string())?;
            push(http, media_type::OCI_MANIFEST, &referrer)?;
        }

        let mut found = Vec::new();
        let path = format!("/v2/{REPOSITORY}/referrers/{digest}");
        let mut next = Some(with_query(&path, "n", "10"));
        while let Some(url) = next {
            let page = http.get(&url)?.expect(200)?;
            let list = page.json()?;
            let descriptors = array(&list, "manifests");
            ensure!(descriptors.len() <= 10, "a page of {}", descriptors.len());
            found.extend(digests(descriptors));
            next = next_page(&page)?;
        }
        found.sort();
        found.dedup();
        ensure!(found.len() == 25, "expected 25 on all pages, found {}", found.len());

        let some = http.get(&with_query(&path, "artifactType", SIGNATURE))?.expect(200)?;
        let applied = some.required_header("oci-filters-applied")?;
        ensure!(applied == "artifactType", "OCI-Filters-Applied is {applied}");
        let some = some.json()?;
        let some = array(&some, "manifests");
        ensure!(some.len() == 5, "expected 5 signatures, found {}", some.len());
        Ok(())
    })
}

fn index_and_delete(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let http = &registry.http;
        let subject = image(http)?;
        let digest = sha256(subject.as_bytes());
        push(http, media_type::OCI_MANIFEST, &subject)?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "artifactType": SBOM,
            "manifests": [],
            "subject": descriptor(&subject),
        })
        .to_string();
        push(http, media_type::OCI_INDEX, &index)?;
        let referrer = artifact(http, SIGNATURE, &descriptor(&subject), "0")?;
        push(http, media_type::OCI_MANIFEST, &referrer)?;
        ensure!(referrers(http, &digest)?.len() == 2);

        for manifest in [&index, &referrer] {
            let path = format!("/v2/{REPOSITORY}/manifests/{}", sha256(manifest.as_bytes()));
            http.send("DELETE", &path, &[], ())?.expect(202)?;
        }
        ensure!(referrers(http, &digest)?.is_empty());
        Ok(())
    })
}

/// A client that found no referrers API lists referrers in an index under a
/// tag made of the subject's digest; the manifests in it count all the same.
fn tag_schema(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let subject = image(&registry.http)?;
        let digest = sha256(subject.as_bytes());
        push(&registry.http, media_type::OCI_MANIFEST, &subject)?;
        stage.file("sbom.json", "{}")?;
        stage
            .client("oras")
            .args(["attach", "--plain-http"])
            .args(["--distribution-spec", "v1.1-referrers-tag"])
            .args(["--artifact-type", SBOM])
            .arg(registry.name(&format!("{REPOSITORY}@{digest}")))
            .arg("sbom.json:application/json")
            .succeed()?;
        let found = referrers(&registry.http, &digest)?;
        ensure!(found.len() == 1, "expected one referrer, found {found:?}");
        let tag = digest.replace(':', "-");
        let index = registry.http.get_manifest(REPOSITORY, &tag)?.json()?;
        ensure!(digests(array(&index, "manifests")) == digests(&found), "{index}");
        Ok(())
    })
}

/// An image manifest, not pushed yet; its config is.
fn image(http: &Http) -> Result<String> {
    let config = b"{\"architecture\":\"amd64\",\"os\":\"linux\"}";
    let digest = http.push_blob(REPOSITORY, config)?;
    Ok(json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": {
            "mediaType": media_type::OCI_CONFIG,
            "digest": digest,
            "size": config.len(),
        },
        "layers": [],
    })
    .to_string())
}

/// An artifact's manifest, not pushed yet; its empty config is.
fn artifact(http: &Http, kind: &str, subject: &Value, number: &str) -> Result<String> {
    let digest = http.push_blob(REPOSITORY, b"{}")?;
    let empty = json!({"mediaType": media_type::OCI_EMPTY, "digest": digest, "size": 2});
    Ok(json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": kind,
        "config": empty,
        "layers": [empty],
        "subject": subject,
        "annotations": {"number": number},
    })
    .to_string())
}

fn descriptor(manifest: &str) -> Value {
    json!({
        "mediaType": media_type::OCI_MANIFEST,
        "digest": sha256(manifest.as_bytes()),
        "size": manifest.len(),
    })
}

/// Pushes a manifest by its digest.
fn push(http: &Http, media_type: &str, manifest: &str) -> Result<Answer> {
    let bytes = manifest.as_bytes();
    http.put_manifest(REPOSITORY, &sha256(bytes), media_type, bytes)?.expect(201)
}

fn referrers(http: &Http, digest: &str) -> Result<Vec<Value>> {
    let answer = http.get(&format!("/v2/{REPOSITORY}/referrers/{digest}"))?.expect(200)?;
    ensure!(answer.header("content-type") == Some(media_type::OCI_INDEX));
    Ok(array(&answer.json()?, "manifests").to_vec())
}

fn digests(descriptors: &[Value]) -> Vec<String> {
    descriptors
        .iter()
        .filter_map(|descriptor| text(descriptor, "digest").ok())
        .map(str::to_owned)
        .collect()
}

/// The URL in `Link: <…>; rel="next"`.
fn next_page(answer: &Answer) -> Result<Option<String>> {
    let Some(link) = answer.header("link") else {
        return Ok(None);
    };
    let url = link
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .with_context(|| format!("no URL in Link: {link}"))?;
    Ok(Some(url.0.to_owned()))
}
