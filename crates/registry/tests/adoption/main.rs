//! Adoption of stores that registry:2 has left, and export back into them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod export;
mod import;
mod oddities;
mod store;

use std::sync::Arc;

use oci::{Digest, Reference, RepositoryName};
use registry::{Error, ExportProgress, Exported, ManifestPush, PulledManifest, Registry};

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

async fn pull(registry: &Registry, repository: &str, reference: &str) -> Option<PulledManifest> {
    let reference = reference.parse::<Reference>().unwrap();
    match registry.pull_manifest(&name(repository), &reference).await {
        Ok(pulled) => Some(pulled),
        Err(Error::ManifestUnknown { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Where a tag points.
async fn target(registry: &Registry, repository: &str, tag: &str) -> Option<Digest> {
    pull(registry, repository, tag).await.map(|pulled| pulled.digest)
}

async fn serves(registry: &Registry, repository: &str, digest: &Digest) -> bool {
    match registry.stat_blob(&name(repository), digest).await {
        Ok(_) => true,
        Err(Error::BlobUnknown { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn catalogue(registry: &Registry) -> Vec<String> {
    let request = auth::Request {
        authorization: None,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        host: None,
        forwarded_proto: None,
        base_url: None,
        wanted: &[],
        needed: 0,
    };
    let Ok(caller) = auth::Access::none().admit(&request).await else {
        panic!("a registry without access control let somebody wait");
    };
    let page = registry.list_repositories(None, 10_000, &caller).await.unwrap();
    assert_eq!(page.next, None);
    page.names.iter().map(ToString::to_string).collect()
}

async fn tags(registry: &Registry, repository: &str) -> Vec<String> {
    let (tags, _) = registry.list_tags(&name(repository), None, 1000).await.unwrap();
    tags.iter().map(ToString::to_string).collect()
}

async fn findings(registry: &Registry) -> Vec<String> {
    let findings = registry.adoption_findings(0, 10_000).await.unwrap();
    findings.iter().map(|(_, finding)| format!("{}: {}", finding.place, finding.problem)).collect()
}

async fn push(registry: &Registry, repository: &str, reference: &str, content: &str) -> Digest {
    let push = ManifestPush {
        repository: name(repository),
        reference: reference.parse().unwrap(),
        tags: Vec::new(),
        content_type: None,
        content: content.to_owned().into(),
        preconditions: Vec::new(),
        classes: Vec::new(),
    };
    registry.push_manifest(push).await.unwrap().digest
}

async fn delete(registry: &Registry, repository: &str, reference: &str) {
    let reference = reference.parse::<Reference>().unwrap();
    registry.delete_manifest(&name(repository), &reference, Vec::new()).await.unwrap();
}

/// The notes of an export that has to be done.
async fn export(registry: &Registry) -> Vec<String> {
    let progress = Arc::new(ExportProgress::default());
    match registry.export_links(4, false, &progress).await.unwrap() {
        Exported::Done(notes) => {
            notes.iter().map(|note| format!("{}: {}", note.place, note.problem)).collect()
        }
        Exported::Before(_) => panic!("it was done before"),
    }
}
