//! What every server holds before the first row: the same blobs and manifests, and for the lists
//! 10,000 tags and 10,000 repositories.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::content::digest_of;
use crate::http::{Client, Request, Sink};
use crate::load::{self, Bound, Load};
use crate::registry::{self, Blob, Upload};
use crate::server::{Kind, Server};

/// The repository that is read from.
pub(crate) const READ: &str = "bench/read";
/// The repository that is pushed to.
pub(crate) const WRITE: &str = "bench/write";
/// The repository with many tags.
pub(crate) const TAGS: &str = "bench/tags";
pub(crate) const TAG: &str = "latest";

/// Tags of [`TAGS`], and repositories beside the three above.
pub(crate) const LIST_LENGTH: u64 = 10_000;

const KIB: u64 = 1024;
const SEEDING_CONNECTIONS: u64 = 16;

/// The content of the repositories that are read from and pushed to.
pub(crate) struct Seed {
    pub(crate) small: Blob,
    pub(crate) medium: Blob,
    pub(crate) manifest: Vec<u8>,
    pub(crate) manifest_digest: String,
    config: (Vec<u8>, String),
    write_layers: Vec<Blob>,
}

impl Seed {
    pub(crate) fn new() -> Self {
        let small = Blob::new("small", 4 * KIB);
        let medium = Blob::new("medium", 64 * KIB);
        let others = [Blob::new("fourth", 16 * KIB), Blob::new("fifth", 16 * KIB)];
        let write_layers =
            [&[small.clone(), medium.clone(), Blob::new("sixth", 16 * KIB)], others.as_slice()]
                .concat();
        let config = registry::config();
        let manifest = registry::manifest((&config.1, config.0.len()), &write_layers, "read");
        let manifest_digest = digest_of(&manifest);
        Self { small, medium, manifest, manifest_digest, config, write_layers }
    }

    /// A new manifest whose config and five layers are in [`WRITE`], and wherever
    /// [`Seed::fill_image`] has put them.
    pub(crate) fn manifest_to_push(&self, note: &str) -> Vec<u8> {
        registry::manifest((&self.config.1, self.config.0.len()), &self.write_layers, note)
    }

    /// Fills a running server.
    pub(crate) fn fill(&self, server: &Server) -> anyhow::Result<()> {
        if server.kind().is_registry() { self.push_all(server) } else { self.write_files(server) }
    }

    /// Pushes the blobs of [`Seed::manifest_to_push`], where there is something to push to.
    pub(crate) fn fill_image(&self, server: &Server, repository: &str) -> anyhow::Result<()> {
        if !server.kind().is_registry() {
            return Ok(());
        }
        let client = &mut server.client();
        registry::push_bytes(client, repository, &self.config.1, &self.config.0)?;
        for layer in &self.write_layers {
            registry::push(client, repository, layer, Upload::Monolithic)?;
        }
        Ok(())
    }

    fn push_all(&self, server: &Server) -> anyhow::Result<()> {
        let client = &mut server.client();
        for repository in [READ, WRITE] {
            self.fill_image(server, repository)?;
        }
        let put = registry::manifest_put(server.address(), READ, TAG, &self.manifest);
        client.send(&put, Sink::Discard)?.expect(201, "PUT of a manifest")?;
        Ok(())
    }

    fn write_files(&self, server: &Server) -> anyhow::Result<()> {
        let repository = server.data().join("v2").join(READ);
        let blobs = repository.join("blobs");
        let manifests = repository.join("manifests");
        fs::create_dir_all(&blobs)?;
        fs::create_dir_all(&manifests)?;
        for blob in [&self.small, &self.medium] {
            blob.content.write_file(&blobs.join(&blob.digest))?;
        }
        fs::write(manifests.join(TAG), &self.manifest)?;
        fs::write(manifests.join(&self.manifest_digest), &self.manifest)?;
        Ok(())
    }
}

/// Makes sure that the repository has this blob.
pub(crate) fn ensure_blob(server: &Server, repository: &str, blob: &Blob) -> anyhow::Result<()> {
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    let mut client = server.client();
    let head = Request::new("HEAD", server.address(), &target, &[]);
    if client.send(&head, Sink::Discard)?.status == 200 {
        return Ok(());
    }
    if server.kind().is_registry() {
        registry::push(&mut client, repository, blob, Upload::Monolithic)?;
    } else {
        let folder = server.data().join("v2").join(repository).join("blobs");
        fs::create_dir_all(&folder)?;
        blob.content.write_file(&folder.join(&blob.digest))?;
    }
    Ok(())
}

/// Makes tags, each with its manifest: as files where that is much faster, through the API
/// elsewhere.
pub(crate) fn fill_tags(
    server: &Server,
    repository: &str,
    count: u64,
    manifest: impl Fn(u64) -> Vec<u8> + Sync,
) -> anyhow::Result<()> {
    let by_number = |number| (tag_name(number), manifest(number));
    if has_distribution_layout(server.kind()) {
        let layout = Layout::of(server);
        return (0..count)
            .map(by_number)
            .try_for_each(|(tag, manifest)| layout.write_tag(repository, &tag, &manifest))
            .context("cannot write tags into a store");
    }
    if !server.kind().is_registry() {
        let folder = server.data().join("v2").join(repository).join("manifests");
        fs::create_dir_all(&folder)?;
        return Ok((0..count)
            .map(by_number)
            .try_for_each(|(tag, manifest)| fs::write(folder.join(tag), manifest))?);
    }
    in_parallel(server, count, |client, number| {
        let (tag, manifest) = by_number(number);
        let put = registry::manifest_put(client.address(), repository, &tag, &manifest);
        client.send(&put, Sink::Discard)?.expect(201, "PUT of a manifest")?;
        Ok(())
    })
}

/// Makes the tags and repositories of the list rows: as files where that is much faster, through
/// the API elsewhere.
pub(crate) fn fill_lists(server: &Server) -> anyhow::Result<()> {
    if has_distribution_layout(server.kind()) {
        return write_lists(&Layout::of(server)).context("cannot write lists into a store");
    }
    if server.kind().is_registry() { push_lists(server) } else { Ok(()) }
}

/// Whether files may be written into the store while the server runs, so that a peer is filled in
/// seconds and not in minutes.
fn has_distribution_layout(kind: Kind) -> bool {
    matches!(kind, Kind::DockerRegistry | Kind::Distribution)
}

fn push_lists(server: &Server) -> anyhow::Result<()> {
    let index = registry::empty_index();
    in_parallel(server, LIST_LENGTH, |client, number| {
        for (repository, tag) in [(TAGS, &*tag_name(number)), (&*repository_name(number), TAG)] {
            let put = registry::index_put(client.address(), repository, tag, &index);
            client.send(&put, Sink::Discard)?.expect(201, "PUT of an index")?;
        }
        Ok(())
    })
}

fn write_lists(layout: &Layout) -> anyhow::Result<()> {
    let index = registry::empty_index();
    let digest = layout.write_manifest(TAGS, &index)?;
    // Only what the lists look at: every file more makes filling and removing slower.
    for number in 0..LIST_LENGTH {
        layout.link_tag(TAGS, &tag_name(number), &digest)?;
        // 2.8 looks for the one folder, 3.1 for the other.
        let repository = layout.repository(&repository_name(number));
        for folder in ["_layers", "_manifests"] {
            fs::create_dir_all(repository.join(folder))?;
        }
    }
    Ok(())
}

/// Does `work` for every number below `count`, on several connections.
pub(crate) fn in_parallel(
    server: &Server,
    count: u64,
    work: impl Fn(&mut Client, u64) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let load = Load {
        connections: usize::try_from(SEEDING_CONNECTIONS)?,
        bound: Bound::Count(count.div_ceil(SEEDING_CONNECTIONS)),
    };
    load::run(server, load, |connection| {
        let mut client = server.client();
        let work = &work;
        Ok(move |number: u64| {
            let number = number * SEEDING_CONNECTIONS + connection as u64;
            if number < count {
                work(&mut client, number)?;
            }
            Ok(0)
        })
    })?;
    Ok(())
}

/// A store's folder in the layout of distribution.
struct Layout(PathBuf);

impl Layout {
    fn of(server: &Server) -> Self {
        Self(server.data().join("docker/registry/v2"))
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.0.join("repositories").join(name)
    }

    fn write_tag(&self, repository: &str, tag: &str, manifest: &[u8]) -> anyhow::Result<()> {
        let digest = self.write_manifest(repository, manifest)?;
        self.link_tag(repository, tag, &digest)
    }

    /// Returns the manifest's digest.
    fn write_manifest(&self, repository: &str, manifest: &[u8]) -> anyhow::Result<String> {
        let digest = digest_of(manifest);
        let hex = digest.trim_start_matches("sha256:");
        let blob = self.0.join("blobs/sha256").join(hex.get(..2).unwrap_or_default()).join(hex);
        fs::create_dir_all(&blob)?;
        fs::write(blob.join("data"), manifest)?;
        let revisions = self.repository(repository).join("_manifests/revisions/sha256");
        fs::create_dir_all(revisions.join(hex))?;
        fs::write(revisions.join(hex).join("link"), &digest)?;
        Ok(digest)
    }

    fn link_tag(&self, repository: &str, tag: &str, digest: &str) -> anyhow::Result<()> {
        let current = self.repository(repository).join("_manifests/tags").join(tag).join("current");
        fs::create_dir_all(&current)?;
        fs::write(current.join("link"), digest)?;
        Ok(())
    }
}

pub(crate) fn tag_name(number: u64) -> String {
    format!("v{number:06}")
}

pub(crate) fn repository_name(number: u64) -> String {
    format!("catalog/r{number:06}")
}
