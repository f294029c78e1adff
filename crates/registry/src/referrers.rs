//! Referrers: the manifests that say something about another one (signatures, SBOMs …).
//!
//! Two kinds count: manifests with a `subject`, and those that an older client listed in an index
//! under the referrers tag of the subject (OCI distribution-spec, "Referrers Tag Schema").

use std::collections::BTreeMap;

use metadata::Tx;
use metadata::manifests::{self, Manifest as StoredManifest, Referrer};
use metadata::repositories;
use oci::{Descriptor, Digest, Manifest, Reference, RepositoryName};

use crate::{Error, Registry};

/// Entries of an index under the referrers tag that a page looks at, at most.
const MAX_TAGGED: usize = 5000;

/// Which referrers are asked for.
#[derive(Clone, Debug)]
pub struct ReferrersQuery {
    /// Where.
    pub repository: RepositoryName,
    /// What they refer to; it need not exist.
    pub subject: Digest,
    /// Only those of this kind.
    pub artifact_type: Option<String>,
    /// Only those after this one.
    pub last: Option<Digest>,
    /// How many at most.
    pub limit: u64,
}

/// A page of referrers, in the order of their digests.
#[derive(Clone, Debug, Default)]
pub struct ReferrersPage {
    /// The referrers.
    pub descriptors: Vec<Descriptor>,
    /// Whether there are more after the last one.
    pub more: bool,
}

impl Registry {
    /// A page of the manifests that refer to a subject.
    pub async fn list_referrers(&self, query: &ReferrersQuery) -> Result<ReferrersPage, Error> {
        self.ensure_adopted(&query.repository).await?;
        let tagged = self.tagged_referrers(query).await?;
        let mut found = self
            .metadata()
            .read(&(query, tagged), |tx, (query, tagged)| Box::pin(find(tx, query, tagged)))
            .await?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let more = found.len() > limit;
        found.truncate(limit);
        Ok(ReferrersPage { descriptors: found, more })
    }

    /// What the index under the referrers tag lists for this page, if there is one: in the order
    /// of the digests.
    async fn tagged_referrers(&self, query: &ReferrersQuery) -> Result<Vec<Descriptor>, Error> {
        let tag = Reference::Tag(query.subject.referrers_tag());
        let index: Option<StoredManifest> = self
            .metadata()
            .read(&(&query.repository, tag), |tx, (repository, tag)| {
                Box::pin(manifests::find(tx, repository, tag))
            })
            .await?;
        let Some(index) = index else {
            return Ok(Vec::new());
        };
        let Some(content) = self.manifest_content(&index.blob).await? else {
            return Ok(Vec::new());
        };
        // It may have thousands of entries, which are not worth a wait of other requests.
        let (last, artifact_type) = (query.last, query.artifact_type.clone());
        let parsing = tokio::task::spawn_blocking(move || {
            let index = Manifest::parse(&content, Some(&index.media_type)).ok()?;
            let mut wanted = index.manifests;
            wanted.retain(|descriptor| {
                let is_after = last.is_none_or(|last| descriptor.digest > last);
                is_after && (artifact_type.is_none() || descriptor.artifact_type == artifact_type)
            });
            wanted.sort_by_key(|descriptor| descriptor.digest);
            wanted.dedup_by_key(|descriptor| descriptor.digest);
            wanted.truncate(MAX_TAGGED);
            Some(wanted)
        });
        Ok(parsing.await.ok().flatten().unwrap_or_default())
    }
}

/// One referrer more than the page holds, so that its end is known.
async fn find(
    tx: &mut Tx,
    query: &ReferrersQuery,
    tagged: &[Descriptor],
) -> Result<Vec<Descriptor>, Error> {
    let limit = query.limit.saturating_add(1);
    let artifact_type = query.artifact_type.as_deref();
    let last = query.last.as_ref();
    let repository = &query.repository;
    let stored =
        manifests::referrers(tx, repository, &query.subject, artifact_type, last, limit).await?;
    let mut found: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    if let Some(id) = repositories::find(tx, repository).await? {
        for descriptor in tagged {
            if found.len() as u64 == limit {
                break;
            }
            // The index may list what was deleted since.
            if manifests::exists(tx, id, &descriptor.digest).await? {
                found.insert(descriptor.digest, descriptor.clone());
            }
        }
    }
    found.extend(stored.into_iter().map(|referrer| (referrer.digest, describe(referrer))));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(found.into_values().take(limit).collect())
}

fn describe(referrer: Referrer) -> Descriptor {
    let annotations = referrer.annotations.and_then(|json| serde_json::from_str(&json).ok());
    Descriptor {
        artifact_type: referrer.artifact_type,
        annotations: annotations.unwrap_or_default(),
        ..Descriptor::new(referrer.media_type, referrer.digest, referrer.size)
    }
}
