//! What was acknowledged is still there.

use anyhow::{Context as _, Result, ensure};

use super::{Blob, Pusher};
use crate::random::Random;

/// Older acknowledged things that are looked at after each start.
const SAMPLE: usize = 40;
/// Every so many of them are read, not only asked for.
const READ_EVERY: usize = 5;

impl Pusher {
    /// Asks for everything since the last start, and for some of what is
    /// older; reads some of it.
    pub(crate) fn check_sample(&mut self) -> Result<()> {
        self.reconnect();
        let (blobs, manifests) = self.seen;
        let old = |random: &mut Random, seen: usize| -> Vec<usize> {
            let count = if seen == 0 { 0 } else { SAMPLE };
            (0..count).map(|_| random.between(0, seen - 1)).collect()
        };
        let mut chosen = old(&mut self.random, blobs);
        chosen.extend(blobs..self.blobs.len());
        for (nth, at) in chosen.into_iter().enumerate() {
            self.check_blob(at, nth % READ_EVERY == 0)?;
        }
        let mut chosen = old(&mut self.random, manifests);
        chosen.extend(manifests..self.manifests.len());
        for at in chosen {
            self.check_manifest(at)?;
        }
        self.check_tag("latest")?;
        self.seen = (self.blobs.len(), self.manifests.len());
        Ok(())
    }

    /// Reads all that was ever acknowledged.
    pub(crate) fn check_all(&mut self) -> Result<()> {
        (0..self.blobs.len()).try_for_each(|at| self.check_blob(at, true))?;
        (0..self.manifests.len()).try_for_each(|at| self.check_manifest(at))?;
        self.tags.keys().try_for_each(|tag| self.check_tag(tag))
    }

    fn check_blob(&self, at: usize, read: bool) -> Result<()> {
        let Blob { repository, digest, length } = self.blobs.get(at).context("no such blob")?;
        let path = format!("/v2/{repository}/blobs/{digest}");
        let head = self.http.head(&path)?.expect(200)?;
        let found = head.required_header("content-length")?;
        ensure!(found == length.to_string(), "{path}: pushed {length} bytes, found {found}");
        if read {
            let (_, found) = self.http.digest_of_body(&path)?;
            ensure!(found == *digest, "{path}: its bytes are {found}");
        }
        Ok(())
    }

    fn check_manifest(&self, at: usize) -> Result<()> {
        let digest = self.manifests.get(at).context("no such manifest")?;
        let found = self.http.digest_of(&self.repository, digest)?;
        ensure!(found == *digest, "pushed the manifest {digest}, found {found}");
        Ok(())
    }

    /// A tag leads to the last acknowledged manifest, or one attempted later.
    fn check_tag(&self, tag: &str) -> Result<()> {
        let Some(history) = self.tags.get(tag).filter(|history| history.acknowledged > 0) else {
            return Ok(());
        };
        let found = self.http.digest_of(&self.repository, tag)?;
        let allowed = history.attempts.get(history.acknowledged - 1..).unwrap_or_default();
        ensure!(
            allowed.contains(&found),
            "{}:{tag} leads to {found} at {}, expected one of {allowed:?}:\n      {}",
            self.repository,
            self.host,
            history.story.join("\n      ")
        );
        Ok(())
    }
}
