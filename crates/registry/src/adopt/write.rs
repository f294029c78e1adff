//! What was read about a repository becomes facts.

use metadata::adoption::{self, Finding};
use metadata::{Tx, repositories};
use oci::{Digest, RepositoryName, Tag};

use super::read::{Batch, ambiguous_sha512, dangling_tag};
use super::state::State;
use super::{Rule, read_state};
use crate::{Error, clock};

/// What is written about a repository in one transaction.
pub(super) struct Part {
    pub(super) name: RepositoryName,
    pub(super) rule: Rule,
    pub(super) batch: Batch,
    /// Set in the last one.
    pub(super) end: Option<End>,
}

impl Part {
    pub(super) fn new(name: &RepositoryName, rule: Rule) -> Self {
        Self { name: name.clone(), rule, batch: Batch::default(), end: None }
    }
}

/// What is out of date when a repository has been read.
pub(super) struct End {
    pub(super) gone: Gone,
    /// Findings up to this number are of an earlier reading, whole or cut short.
    pub(super) last_finding: i64,
}

/// What the database had and the links have not.
#[derive(Default)]
pub(super) struct Gone {
    pub(super) blobs: Vec<Digest>,
    pub(super) manifests: Vec<Digest>,
    pub(super) tags: Vec<Tag>,
}

/// Writes a part down. It may have been written before. False if the round is not the one that it
/// was read for: then nothing is written.
pub(super) async fn write_down(tx: &mut Tx, part: &Part) -> Result<bool, Error> {
    // Another server was faster, and what its clients have changed since counts.
    if adoption::is_unread(tx, &part.name).await? == Some(false) {
        return Ok(true);
    }
    // Another server may have decided to leave links aside: what its clients push is not there.
    if read_state(tx).await? != State::Reading(part.rule) {
        return Ok(false);
    }
    let now = clock::now();
    adoption::expect(tx, &part.name, false, now).await?;
    let repository = repositories::ensure(tx, &part.name, now).await?;
    let mut problems = part.batch.problems.clone();
    for blob in &part.batch.blobs {
        if !adoption::adopt_blob(tx, repository, blob).await?
            && let Some(sha512) = &blob.sha512
        {
            problems.push(ambiguous_sha512(sha512));
        }
    }
    for manifest in &part.batch.manifests {
        adoption::adopt_manifest(tx, repository, manifest).await?;
    }
    for tag in &part.batch.tags {
        if !adoption::adopt_tag(tx, repository, tag, part.rule.precedence()).await? {
            problems.push(dangling_tag(&tag.tag, &tag.digest));
        }
    }
    let finding = |problem| Finding { place: part.name.to_string(), problem };
    let findings = problems.into_iter().map(finding).collect::<Vec<_>>();
    adoption::note(tx, &findings).await?;
    if let Some(End { gone, last_finding }) = &part.end {
        for tag in &gone.tags {
            metadata::tags::delete(tx, repository, tag).await?;
        }
        for digest in &gone.manifests {
            metadata::manifests::delete(tx, repository, digest).await?;
        }
        for digest in &gone.blobs {
            metadata::blobs::unlink(tx, repository, digest).await?;
        }
        adoption::forget_findings(tx, part.name.as_str(), *last_finding).await?;
        adoption::mark_read(tx, repository).await?;
    }
    Ok(true)
}
