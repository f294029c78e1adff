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

/// About how many bytes a page may have: what clients still take of an index. One referrer is on it
/// in any case.
const MAX_BYTES: u64 = 4 << 20;

/// About what a descriptor has beside its annotations.
const DESCRIPTOR_BYTES: u64 = manifests::Page::ROW_BYTES;

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
        self.metadata()
            .read(&(query, tagged), |tx, (query, tagged)| Box::pin(find(tx, query, tagged)))
            .await
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

async fn find(
    tx: &mut Tx,
    query: &ReferrersQuery,
    tagged: &[Descriptor],
) -> Result<ReferrersPage, Error> {
    let stored = manifests::referrers(
        tx,
        &query.repository,
        &query.subject,
        query.artifact_type.as_deref(),
        manifests::Page { last: query.last, limit: query.limit, bytes: MAX_BYTES },
    )
    .await?;
    let mut found: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    if let Some(id) = repositories::find(tx, &query.repository).await? {
        for descriptor in tagged {
            // One more than the page holds, so that its end is known.
            if found.len() as u64 > query.limit {
                break;
            }
            // The index may list what was deleted since.
            if manifests::exists(tx, id, &descriptor.digest).await? {
                found.insert(descriptor.digest, descriptor.clone());
            }
        }
    }
    // What follows the last of these was not read.
    let end = stored.list.last().map(|referrer| referrer.digest).filter(|_| stored.more);
    found.extend(stored.list.into_iter().map(|referrer| (referrer.digest, describe(referrer))));
    Ok(page(found, query.limit, end))
}

/// As much of `found` as a page holds; nothing after `end`, if there is more than that.
fn page(found: BTreeMap<Digest, Descriptor>, limit: u64, end: Option<Digest>) -> ReferrersPage {
    let mut page = ReferrersPage { descriptors: Vec::new(), more: end.is_some() };
    let mut bytes = 0;
    for (digest, descriptor) in found {
        bytes += size(&descriptor);
        let is_full = page.descriptors.len() as u64 >= limit || bytes > MAX_BYTES;
        let is_behind = end.is_some_and(|end| digest > end);
        if is_behind || (is_full && !page.descriptors.is_empty()) {
            page.more = true;
            break;
        }
        page.descriptors.push(descriptor);
    }
    page
}

/// About how many bytes it has in an answer.
fn size(descriptor: &Descriptor) -> u64 {
    let annotations = descriptor.annotations.iter();
    let annotations = annotations.map(|(name, value)| name.len() + value.len()).sum::<usize>();
    DESCRIPTOR_BYTES + annotations as u64
}

fn describe(referrer: Referrer) -> Descriptor {
    let annotations = referrer.annotations.and_then(|json| serde_json::from_str(&json).ok());
    Descriptor {
        artifact_type: referrer.artifact_type,
        annotations: annotations.unwrap_or_default(),
        ..Descriptor::new(referrer.media_type, referrer.digest, referrer.size)
    }
}
