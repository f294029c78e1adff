//! Transfer: images come in from files and go out to files (see [`layout`]).
//!
//! Into the registry they come the way of a push, with its rules: blobs, then manifests, those of
//! an index before it, the tag last. What is there already is not stored again, so that what was
//! cut short goes on when it is done again.
//!
//! Out of it goes a manifest with all that it names before it, each digest once. Somebody may
//! change the registry meanwhile: what is deleted before it is read is left out, with a line.

mod chunks;
mod export;
mod import;
mod inventory;

use std::sync::atomic::{AtomicU64, Ordering};

use oci::{Descriptor, Reference, RepositoryName, Tag};

use crate::Error;
use crate::adopt::State;

pub use export::{ExportFailed, ExportImages, Selection};
pub use import::ImportImages;

/// Manifests in manifests in manifests: no image goes deeper.
const MAX_DEPTH: usize = 8;

/// How far a transfer is. Counts are of what was done so far.
#[derive(Debug, Default)]
pub struct TransferProgress {
    /// Images, or for an export of everything repositories, in all; 0: not known yet.
    pub expected: AtomicU64,
    /// How many of them are done.
    pub done: AtomicU64,
    /// Entries of the index that were read or written.
    pub images: AtomicU64,
    /// Manifests that were stored or written.
    pub manifests: AtomicU64,
    /// Blobs that were stored or written.
    pub blobs: AtomicU64,
    /// The bytes of these blobs and manifests.
    pub bytes: AtomicU64,
    /// Blobs that were there already.
    pub present: AtomicU64,
    /// Blobs that were left out because the other side has them.
    pub left_out: AtomicU64,
    /// Images that were refused.
    pub refused: AtomicU64,
}

/// An image that was left out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What it is called.
    pub place: String,
    /// Why.
    pub problem: String,
}

impl Refusal {
    /// Both are partly words of strangers: what a terminal would obey, or show out of order, is
    /// written as an escape.
    fn new(place: &str, problem: &str) -> Self {
        Self { place: escape(place), problem: escape(problem) }
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => escaped.push(character),
            character => escaped.extend(character.escape_debug()),
        }
    }
    escaped
}

/// What an image is to be called.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageName {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag; `None`: that which it has.
    pub tag: Option<Tag>,
}

/// Why an image did not get through.
enum Stop {
    /// It is the image's own fault: the others go on.
    Refused(String),
    /// What is written can not be written on.
    Output(String),
    /// Nothing can go on.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::ClassRefused(_)
            | Error::DigestMismatch { .. }
            | Error::ManifestInvalid(_)
            | Error::ManifestUnknown { .. }
            | Error::BlobUnknown { .. } => Self::Refused(error.to_string()),
            Error::ManifestReferences { urls, missing } => Self::Refused(describe(&urls, &missing)),
            error => Self::Failed(error),
        }
    }
}

impl From<metadata::Error> for Stop {
    fn from(error: metadata::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<layout::Error> for Stop {
    fn from(error: layout::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Why a manifest was refused on account of what it names: the first of it.
fn describe(urls: &[String], missing: &[oci::Digest]) -> String {
    const SHOWN: usize = 3;
    let list = |names: Vec<String>| {
        let more = names.len().saturating_sub(SHOWN);
        let shown = names.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
        if more == 0 { shown } else { format!("{shown} and {more} more") }
    };
    if missing.is_empty() {
        let urls = list(urls.iter().map(|url| url.chars().take(200).collect()).collect());
        return format!("its layers name URLs that the configuration does not allow: {urls}");
    }
    let missing = list(missing.iter().map(ToString::to_string).collect());
    format!("neither in these files nor in this registry: {missing}")
}

fn spell(repository: &RepositoryName, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{repository}:{tag}"),
        Reference::Digest(digest) => format!("{repository}@{digest}"),
    }
}

/// Refuses content of another size than its descriptor says.
fn check_size(descriptor: &Descriptor, found: u64) -> Result<(), Stop> {
    if descriptor.size == found {
        return Ok(());
    }
    let (digest, expected) = (descriptor.digest, descriptor.size);
    Err(layout::Error::Size { digest, expected, found }.into())
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Runs what waits for the disk on a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, layout::Error> + Send + 'static,
) -> Result<T, Stop> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        // It fails only when the program is ending.
        Err(_) => Err(Stop::Failed(Error::Interrupted)),
    }
}

impl crate::Registry {
    /// Whether the database knows all that is in the store: not while link files of another
    /// registry wait to be read.
    async fn knows_all(&self) -> Result<bool, Error> {
        Ok(match self.adoption_state().await? {
            State::Reading(_) => false,
            State::Never => match self.blobs().links() {
                Some(links) => !links.any().await?,
                None => true,
            },
            State::Done(_) | State::Exporting | State::Exported(_) => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn a_terminal_shows_what_strangers_wrote() {
        let refusal = Refusal::new("app:v1", "no \"URL\": https://a/\u{1b}[2J\r\n\u{202e}é");
        let expected = "no \"URL\": https://a/\\u{1b}[2J\\r\\n\\u{202e}é";
        assert_eq!(refusal.problem, expected);
    }
}
