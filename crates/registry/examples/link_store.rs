//! Makes a store as registry:2 would leave it, to measure its adoption:
//! `link_store FOLDER REPOSITORIES MANIFESTS BLOBS` (manifests are blobs too). The same numbers give
//! the same store.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use oci::Digest;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let [folder, repositories, manifests, blobs] = arguments.as_slice() else {
        return Err("usage: link_store FOLDER REPOSITORIES MANIFESTS BLOBS".into());
    };
    let (repositories, manifests) = (repositories.parse::<u64>()?, manifests.parse::<u64>()?);
    let blobs = blobs.parse::<u64>()?;
    if repositories == 0 || manifests < repositories || blobs < 3 * manifests {
        return Err("at least a repository, a manifest in each, and three blobs for each".into());
    }
    let root = Path::new(folder).join("docker/registry/v2");
    for number in 0..manifests {
        // The manifest itself, its configuration, and what is left for its layers.
        let share = blobs * (number + 1) / manifests - blobs * number / manifests;
        make_image(&root, repositories, number, share - 2)?;
    }
    Ok(())
}

fn make_image(root: &Path, repositories: u64, number: u64, layers: u64) -> Outcome {
    let repository = number % repositories;
    let folder = root.join(format!("repositories/team-{}/app-{repository}", repository % 100));
    let mut list = String::new();
    let mut config = None;
    for layer in 0..=layers {
        let content = format!("blob {layer} of image {number}");
        let digest = write_blob(root, content.as_bytes())?;
        write_link(&folder.join("_layers"), digest)?;
        let size = content.len();
        if config.is_none() {
            config = Some((digest, size));
            continue;
        }
        let comma = if list.is_empty() { "" } else { "," };
        write!(
            list,
            r#"{comma}{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":{size},"digest":"{digest}"}}"#
        )?;
    }
    let (config, size) = config.ok_or("no configuration")?;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{size},"digest":"{config}"}},"layers":[{list}]}}"#
    );
    let digest = write_blob(root, manifest.as_bytes())?;
    let manifests = folder.join("_manifests");
    write_link(&manifests.join("revisions"), digest)?;
    let tag = manifests.join(format!("tags/v{}", number / repositories));
    write_link(&tag.join("index"), digest)?;
    write_file(&tag.join("current/link"), digest.to_string().as_bytes())
}

fn write_blob(root: &Path, content: &[u8]) -> Outcome<Digest> {
    let digest = Digest::sha256(content);
    let hex = digest.hex();
    let shard = hex.get(..2).unwrap_or_default();
    let folder: PathBuf = [root, Path::new("blobs/sha256"), Path::new(shard)].iter().collect();
    write_file(&folder.join(&hex).join("data"), content)?;
    Ok(digest)
}

fn write_link(folder: &Path, digest: Digest) -> Outcome {
    let link = folder.join("sha256").join(digest.hex()).join("link");
    write_file(&link, digest.to_string().as_bytes())
}

fn write_file(path: &Path, content: &[u8]) -> Outcome {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    Ok(fs::write(path, content)?)
}
