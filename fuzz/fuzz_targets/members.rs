//! Archives whose headers are right and whose members are odd: an archive of random bytes has none.
#![no_main]

use std::ops::ControlFlow;

use layout::Images;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use oci::Digest;
use serde_json::json;
use tar::{Builder, EntryType, Header};

#[derive(Arbitrary, Debug)]
struct Member<'a> {
    name: Name<'a>,
    kind: Kind<'a>,
}

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Layout,
    Index,
    Docker,
    /// That of a blob with this content.
    Blob,
    Other(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Kind<'a> {
    Bytes(&'a [u8]),
    Layout,
    /// Earlier members, by their numbers, and what they are called.
    Index(Vec<(u8, &'a str)>),
    Docker {
        config: u8,
        layers: Vec<u8>,
        tags: Vec<&'a str>,
    },
    Config(Vec<u8>),
    Symlink(&'a str),
    Hardlink(&'a str),
}

/// A member that is in the archive.
struct Added {
    path: String,
    digest: Digest,
    size: usize,
}

fuzz_target!(|members: Vec<Member<'_>>| {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut tar = Builder::new(&mut file);
    let mut added = Vec::new();
    for member in &members {
        let content = content(&member.kind, &added);
        let one = Added {
            path: path(&member.name, &content),
            digest: Digest::sha256(&content),
            size: content.len(),
        };
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        // Names that no tar can hold are left out.
        let written = match member.kind {
            Kind::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, &one.path, target)
            }
            Kind::Hardlink(target) => {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                tar.append_link(&mut header, &one.path, target)
            }
            _ => {
                header.set_size(content.len() as u64);
                set_path(&mut header, &one.path);
                header.set_cksum();
                tar.append(&header, &content[..])
            }
        };
        if written.is_ok() {
            added.push(one);
        }
    }
    tar.into_inner().unwrap();

    let Ok(images) = Images::open(file.path(), &std::env::temp_dir()) else {
        return;
    };
    let mut entries = Vec::new();
    let _ = images.each_entry(|entry| {
        entries.extend(entry.found.ok());
        ControlFlow::Continue(())
    });
    for (descriptor, _) in entries {
        if let Ok(Some(document)) = images.document(&descriptor) {
            assert_eq!(Digest::of(descriptor.digest.algorithm(), &document), descriptor.digest);
            assert_eq!(document.len() as u64, descriptor.size);
        }
        if let Ok(Some(content)) = images.content(&descriptor.digest) {
            let mut buffer = [0; 16];
            let read = content.read_at(content.size().saturating_sub(7), &mut buffer).unwrap();
            assert_eq!(read as u64, content.size().min(7));
        }
    }
});

fn path(name: &Name<'_>, content: &[u8]) -> String {
    match name {
        Name::Layout => "oci-layout".to_owned(),
        Name::Index => "index.json".to_owned(),
        Name::Docker => "manifest.json".to_owned(),
        Name::Blob => format!("blobs/sha256/{}", Digest::sha256(content).hex()),
        Name::Other(path) => (*path).to_owned(),
    }
}

/// Also names that the library does not write, such as those that lead out of the archive.
fn set_path(header: &mut Header, path: &str) {
    let place = &mut header.as_old_mut().name;
    let length = path.len().min(place.len());
    place[..length].copy_from_slice(&path.as_bytes()[..length]);
}

fn content(kind: &Kind<'_>, added: &[Added]) -> Vec<u8> {
    let of = |number: &u8| added.get(usize::from(*number));
    let document = match kind {
        Kind::Bytes(bytes) => return bytes.to_vec(),
        Kind::Symlink(_) | Kind::Hardlink(_) => return Vec::new(),
        Kind::Layout => json!({ "imageLayoutVersion": "1.0.0" }),
        Kind::Index(entries) => {
            let descriptors = entries.iter().filter_map(|(number, name)| {
                let Added { digest, size, .. } = of(number)?;
                Some(json!({
                    "mediaType": oci::media_type::OCI_MANIFEST,
                    "digest": digest.to_string(),
                    "size": size,
                    "annotations": { layout::REF_NAME: name },
                }))
            });
            json!({ "manifests": descriptors.collect::<Vec<_>>() })
        }
        Kind::Docker { config, layers, tags } => {
            let path = |number| of(number).map_or("missing", |one| &one.path);
            let layers = layers.iter().map(path).collect::<Vec<_>>();
            json!([{ "Config": path(config), "RepoTags": tags, "Layers": layers }])
        }
        Kind::Config(layers) => {
            let digests = layers.iter().filter_map(of).map(|one| one.digest.to_string());
            json!({ "rootfs": { "diff_ids": digests.collect::<Vec<_>>() } })
        }
    };
    document.to_string().into_bytes()
}
