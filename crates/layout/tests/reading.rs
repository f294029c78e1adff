//! What folders and tars hold, from the hands of friends and of strangers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use layout::{Content, Entry, Images, Label};
use oci::{Descriptor, Digest};
use serde_json::json;
use tar::{EntryType, Header};
use tempfile::TempDir;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A tar with these members, in a folder.
fn tar(members: &[(&str, &[u8])]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    for (name, content) in members {
        append(&mut tar, name, content);
    }
    tar.into_inner().unwrap();
    (folder, path)
}

/// Appends a member under just this name, which the library would not write.
fn append(tar: &mut tar::Builder<std::fs::File>, name: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn link(tar: &mut tar::Builder<std::fs::File>, name: &str, target: &str) {
    let mut header = Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(EntryType::Symlink);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, &[][..]).unwrap();
}

fn open(path: &Path) -> Result<Images, String> {
    Images::open(path, &std::env::temp_dir()).map_err(|error| error.to_string())
}

fn refused(members: &[(&str, &[u8])]) -> String {
    let (_folder, path) = tar(members);
    open(&path).unwrap_err()
}

fn entries(images: &Images) -> Vec<Entry> {
    let mut entries = Vec::new();
    images
        .each_entry(|entry| {
            entries.push(entry);
            ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

fn bytes(content: &Content) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(content.size()).unwrap()];
    assert_eq!(content.read_at(0, &mut all).unwrap(), all.len());
    all
}

fn index(manifests: &serde_json::Value) -> Vec<u8> {
    json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes()
}

#[test]
fn a_layout_in_a_tar() {
    let content = b"content".as_slice();
    let digest = Digest::sha256(content);
    let long = Digest::sha512(content);
    let index = index(&json!([
        {"mediaType": "a", "digest": digest, "size": 7,
         "annotations": {"org.opencontainers.image.ref.name": "team/app:v1"}},
        {"mediaType": "b", "digest": digest, "size": 7},
    ]));
    let blob = format!("./blobs/sha256/{}", digest.hex());
    let (_folder, path) =
        tar(&[(&blob, content), ("./index.json", &index), ("./oci-layout", LAYOUT)]);
    let images = open(&path).unwrap();
    assert_eq!(images.form(), "OCI image layout in a tar");
    let entries = entries(&images);
    let found = entries.iter().map(|entry| entry.found.clone().unwrap().1).collect::<Vec<_>>();
    let name = Label::Full("team/app".parse().unwrap(), "v1".parse().unwrap());
    assert_eq!(found, [Some(name), None]);
    assert_eq!(entries[1].place, digest.to_string());
    assert_eq!(bytes(&images.content(&digest).unwrap().unwrap()), content);
    assert!(images.content(&long).unwrap().is_none());
    let described = Descriptor::new("a", digest, 7);
    assert_eq!(images.document(&described).unwrap().unwrap(), content);
}

#[test]
fn documents_are_what_they_should_be() {
    let digest = Digest::sha256(b"content");
    let blob = format!("blobs/sha256/{}", digest.hex());
    let (_folder, path) =
        tar(&[("oci-layout", LAYOUT), (&blob, b"CONTENT"), ("index.json", &index(&json!([])))]);
    let images = open(&path).unwrap();
    let document = |size| images.document(&Descriptor::new("a", digest, size)).unwrap_err();
    let text = document(7).to_string();
    assert!(text.contains("its bytes have the digest sha256:"), "{text}");
    assert_eq!(document(8).to_string(), format!("{digest}: expected 8 bytes, found 7"));
    let text = document(5 << 20).to_string();
    assert!(text.contains("a manifest of 5242880 bytes, but at most 4194304"), "{text}");
    let absent = Descriptor::new("a", Digest::sha256(b""), 0);
    assert_eq!(images.document(&absent).unwrap(), None);
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../evil", "/etc/passwd", "blobs/../../evil"] {
        let text = refused(&[("oci-layout", LAYOUT), (name, b"x")]);
        assert_eq!(text, format!("{name}: its name leads out of the archive or folder"));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("links.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    append(&mut tar, "real", LAYOUT);
    link(&mut tar, "oci-layout", "real");
    link(&mut tar, "index.json", "../../etc/passwd");
    tar.into_inner().unwrap();
    let text = open(&path).unwrap_err();
    assert_eq!(text, "index.json: its name leads out of the archive or folder");
}

#[test]
fn a_long_name_is_refused() {
    for (length, fits) in [(4096, true), (4097, false)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.tar");
        let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
        append(&mut tar, "oci-layout", LAYOUT);
        append(&mut tar, "index.json", b"{}");
        let mut header = Header::new_gnu();
        header.set_size(0);
        tar.append_data(&mut header, "a".repeat(length), &[][..]).unwrap();
        tar.into_inner().unwrap();
        match open(&path) {
            Ok(_) if fits => {}
            Err(text) if !fits => {
                assert!(
                    text.ends_with("a name of 4097 bytes, but at most 4096 are read"),
                    "{text}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn links_of_a_folder_stay_inside() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    outside.as_file().write_all(&index(&json!([]))).unwrap();
    let images = folder.path().join("images");
    std::fs::create_dir(&images).unwrap();
    std::fs::write(images.join("real"), LAYOUT).unwrap();
    std::os::unix::fs::symlink("real", images.join("oci-layout")).unwrap();
    std::os::unix::fs::symlink(outside.path(), images.join("index.json")).unwrap();
    let text = open(&images).unwrap_err();
    assert_eq!(text, "index.json: its name leads out of the archive or folder");
    std::fs::remove_file(images.join("index.json")).unwrap();
    std::fs::create_dir(images.join("index.json")).unwrap();
    let text = open(&images).unwrap_err();
    assert_eq!(text, "index.json: expected a file, found something else");
    std::fs::remove_dir(images.join("index.json")).unwrap();
    std::fs::copy(outside.path(), images.join("index.json")).unwrap();
    assert_eq!(open(&images).unwrap().form(), "OCI image layout");
}

#[test]
fn links_that_go_round_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("links.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    link(&mut tar, "oci-layout", "a");
    link(&mut tar, "a", "oci-layout");
    tar.into_inner().unwrap();
    let text = open(&path).unwrap_err();
    assert_eq!(text, "oci-layout: links lead from one to the next, and nowhere");
}

#[test]
fn a_name_twice_is_refused() {
    let blob = format!("blobs/sha256/{}", Digest::sha256(b"x").hex());
    for name in ["index.json", blob.as_str()] {
        let dotted = format!("./{name}");
        let text = refused(&[("oci-layout", LAYOUT), (name, b"x"), (&dotted, b"x")]);
        assert_eq!(text, format!("{dotted}: it is in the tar twice"));
    }
}

#[test]
fn what_is_something_else_is_named() {
    for (members, found) in [
        (vec![("readme", b"x".as_slice())], "a tar with none of these files at its top"),
        (vec![("index.json", b"{}")], "an index.json without the file oci-layout beside it"),
        (vec![("repositories", b"{}")], "an archive of a Docker before 1.10"),
    ] {
        let text = refused(&members);
        assert!(text.starts_with("expected an OCI image layout (a folder or tar"), "{text}");
        assert!(text.contains(found), "{text}");
    }
    let text = refused(&[("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#)]);
    assert_eq!(text, "oci-layout: expected the version 1, found \"2.0.0\"");
    let text = refused(&[("oci-layout", LAYOUT)]);
    assert_eq!(text, "index.json: the layout has no index: it was not written to its end");
    let folder = tempfile::tempdir().unwrap();
    for (content, found) in [
        (b"hello".as_slice(), "a file that is no tar"),
        (&[b'x'; 2048], "a file that is no tar"),
        (b"\x28\xb5\x2f\xfd....", "a file compressed by zstd: unpack it with `zstd -d`"),
        (b"PK\x03\x04", "a file compressed by zip"),
    ] {
        let path = folder.path().join("file");
        std::fs::write(&path, content).unwrap();
        let text = open(&path).unwrap_err();
        assert!(text.contains(found), "{text}");
    }
}

#[test]
fn a_tar_that_was_cut_short_is_refused() {
    let (_folder, path) = tar(&[("oci-layout", LAYOUT), ("index.json", &[b' '; 5000])]);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..3000]).unwrap();
    let text = open(&path).unwrap_err();
    assert_eq!(text, "index.json: the tar ends in the middle of it: it was cut short");
    std::fs::write(&path, &whole[..1200]).unwrap();
    let text = open(&path).unwrap_err();
    assert!(text.starts_with("the tar is damaged: "), "{text}");
}

#[test]
fn an_index_may_be_long_but_not_its_parts() {
    let entry = format!(r#"{{"mediaType":"a","digest":"{}","size":1}},"#, Digest::sha256(b"x"));
    let many = entry.repeat(40_000);
    let many = format!(r#"{{"manifests":[{}]}}"#, many.trim_end_matches(','));
    assert!(many.len() > oci::MAX_MANIFEST_SIZE);
    let (_folder, path) = tar(&[("oci-layout", LAYOUT), ("index.json", many.as_bytes())]);
    assert_eq!(entries(&open(&path).unwrap()).len(), 40_000);

    let long = format!(r#"{{"manifests":[{{"mediaType":"{}"#, "a".repeat(5 << 20));
    for (text, problem) in [
        (long.as_str(), "one of its parts is too long"),
        ("{}", "missing field `manifests`"),
        (r#"{"manifests":[],"manifests":[]}"#, "it has the key manifests twice"),
        ("[]", "expected an object"),
        ("", "EOF"),
    ] {
        let (_folder, path) = tar(&[("oci-layout", LAYOUT), ("index.json", text.as_bytes())]);
        let error = open(&path).unwrap().each_entry(|_| ControlFlow::Continue(())).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("index.json: not an image index: "), "{error}");
        assert!(error.contains(problem), "{error}");
    }
    let (_folder, path) = tar(&[("oci-layout", LAYOUT), ("index.json", br#"{"manifests":null}"#)]);
    assert!(entries(&open(&path).unwrap()).is_empty());
}

#[test]
fn an_entry_that_is_wrong_does_not_stop_the_others() {
    let digest = Digest::sha256(b"x");
    let index = index(&json!([
        {"mediaType": "a", "digest": "sha384:00", "size": 1},
        {"mediaType": "a", "digest": "sha256:00", "size": 1,
         "annotations": {"org.opencontainers.image.ref.name": "app:v1"}},
        "what",
        {"mediaType": "a", "digest": digest, "size": 1},
    ]));
    let (_folder, path) = tar(&[("oci-layout", LAYOUT), ("index.json", &index)]);
    let entries = entries(&open(&path).unwrap());
    let places = entries.iter().map(|entry| entry.place.as_str()).collect::<Vec<_>>();
    assert_eq!(places, ["sha384:00", "app:v1", "entry 3 of index.json", &digest.to_string()]);
    let problem = entries[0].found.clone().unwrap_err();
    assert!(problem.contains("\"sha384\" is not supported: use sha256 or sha512"), "{problem}");
    let problem = entries[1].found.clone().unwrap_err();
    assert!(problem.contains("has 64 hexadecimal characters"), "{problem}");
    assert!(entries[2].found.is_err());
    assert_eq!(entries[3].found.clone().unwrap().0.digest, digest);
}

/// An archive as `docker save` writes it: an image with two layers, one of which is a link.
fn docker_archive(diff_ids: [Digest; 2], list: &serde_json::Value) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let config = config(diff_ids);
    append(&mut tar, "config.json", &config);
    append(&mut tar, "one/layer.tar", b"layer one");
    append(&mut tar, "two/real.tar", b"layer two");
    link(&mut tar, "two/layer.tar", "../two/real.tar");
    append(&mut tar, "manifest.json", list.to_string().as_bytes());
    tar.into_inner().unwrap();
    (folder, path)
}

fn config(diff_ids: [Digest; 2]) -> Vec<u8> {
    let [one, two] = diff_ids;
    format!(r#"{{"os":"linux","rootfs":{{"diff_ids":["{one}","{two}"]}}}}"#).into_bytes()
}

#[test]
fn an_archive_of_docker_becomes_manifests() {
    let layers = [b"layer one", b"layer two"].map(|layer| Digest::sha256(layer));
    let list = json!([{
        "Config": "config.json",
        "RepoTags": ["localhost:5000/team/app:v1", "app:v2"],
        "Layers": ["one/layer.tar", "two/layer.tar"],
    }]);
    let (_folder, path) = docker_archive(layers, &list);
    let images = open(&path).unwrap();
    assert_eq!(images.form(), "archive of docker save");
    let found = entries(&images);
    let (manifest, label) = found[0].found.clone().unwrap();
    let name = Label::Full("team/app".parse().unwrap(), "v1".parse().unwrap());
    assert_eq!(label, Some(name));
    assert_eq!(found[1].found.clone().unwrap().0, manifest);
    let content = images.document(&manifest).unwrap().unwrap();
    let parsed = oci::Manifest::parse(&content, Some(&manifest.media_type)).unwrap();
    assert_eq!(parsed.layers.iter().map(|layer| layer.digest).collect::<Vec<_>>(), layers);
    assert_eq!(bytes(&images.content(&layers[1]).unwrap().unwrap()), b"layer two");
    let kept = parsed.config.unwrap();
    assert_eq!(bytes(&images.content(&kept.digest).unwrap().unwrap()), config(layers));
    // The digest of what was made must not change from version to version.
    assert_eq!(
        manifest.digest.to_string(),
        "sha256:fcbf6bd44430f499dc15dcde3ebd178bcba8ac359f447f9c34bda54de2320b63"
    );
}

#[test]
fn what_is_wrong_in_an_archive_of_docker_is_named() {
    let layers = [b"layer one", b"layer two"].map(|layer| Digest::sha256(layer));
    let image = |config: &str, paths: &[&str]| json!([{"Config": config, "RepoTags": ["app:v1"], "Layers": paths}]);
    let wrong = format!("blobs/sha256/{}", Digest::sha256(b"other").hex());
    for (list, problem) in [
        (image("absent.json", &[]), "absent.json: it is not in the archive"),
        (image("config.json", &["one/layer.tar"]), "the image has 2 layers, but 1 are listed"),
        (image("config.json", &["a", "b"]), "a: it is not in the archive"),
        (image("config.json", &["../../a", "b"]), "its name leads out"),
        (image("one/layer.tar", &[]), "one/layer.tar: not the configuration of an image"),
        (image(&wrong, &[]), "it is not in the archive"),
    ] {
        let (_folder, path) = docker_archive(layers, &list);
        let entries = entries(&open(&path).unwrap());
        let found = entries[0].found.clone().unwrap_err();
        assert!(found.contains(problem), "{found}");
        assert_eq!(entries[0].place, "app:v1");
    }
    let (_folder, path) = docker_archive(layers, &json!({"not": "a list"}));
    let text = open(&path).unwrap_err();
    assert!(text.starts_with("manifest.json: not the list of `docker save`: "), "{text}");
}

#[test]
fn compressed_layers_are_compared_with_what_they_unpack_to() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"unpacked").unwrap();
    let gzip = gzip.finish().unwrap();
    for (diff_id, fits) in [(Digest::sha256(b"unpacked"), true), (Digest::sha256(b"no"), false)] {
        let config = json!({"rootfs": {"diff_ids": [diff_id]}}).to_string();
        let list = json!([{"Config": "c", "Layers": ["l"]}]).to_string();
        let (_folder, path) =
            tar(&[("c", config.as_bytes()), ("l", &gzip), ("manifest.json", list.as_bytes())]);
        let images = open(&path).unwrap();
        let found = entries(&images)[0].found.clone();
        match found {
            Ok((manifest, None)) if fits => {
                let content = images.document(&manifest).unwrap().unwrap();
                assert!(String::from_utf8(content).unwrap().contains("tar+gzip"));
                assert!(images.content(&Digest::sha256(&gzip)).unwrap().is_some());
            }
            Err(problem) if !fits => assert!(problem.contains("unpacked it is"), "{problem}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn images_may_have_configurations_and_layers_in_common() {
    let layers = [b"layer one", b"layer two"].map(|layer| Digest::sha256(layer));
    let image = |tag: &str, paths: [&str; 2]| json!({"Config": "config.json", "RepoTags": [tag], "Layers": paths});
    let paths = ["one/layer.tar", "two/layer.tar"];
    let list = json!([image("app:v1", paths), image("app:v2", ["a", "b"]), image("app:v3", paths)]);
    let (_folder, path) = docker_archive(layers, &list);
    let found = entries(&open(&path).unwrap());
    let first = found[0].found.clone().unwrap().0;
    assert_eq!(found[1].found.clone().unwrap_err(), "a: it is not in the archive");
    assert_eq!(found[2].found.clone().unwrap().0, first);

    // A compressed layer is compared with each configuration that lists it.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"unpacked").unwrap();
    let gzip = gzip.finish().unwrap();
    let [good, bad] = [b"unpacked".as_slice(), b"no"]
        .map(|layer| json!({"rootfs": {"diff_ids": [Digest::sha256(layer)]}}).to_string());
    let list = ["good", "bad", "good", "bad"].map(|name| json!({"Config": name, "Layers": ["l"]}));
    let list = json!(list).to_string();
    let (_folder, path) = tar(&[
        ("good", good.as_bytes()),
        ("bad", bad.as_bytes()),
        ("l", &gzip),
        ("manifest.json", list.as_bytes()),
    ]);
    let found = entries(&open(&path).unwrap());
    let fits = found.iter().map(|entry| entry.found.is_ok()).collect::<Vec<_>>();
    assert_eq!(fits, [true, false, true, false]);
}

#[test]
fn a_compressed_tar_is_unpacked() {
    let (folder, path) = tar(&[("oci-layout", LAYOUT), ("index.json", &index(&json!([])))]);
    let packed = folder.path().join("images.tar.gz");
    let file = std::fs::File::create(&packed).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gzip.write_all(&std::fs::read(&path).unwrap()).unwrap();
    gzip.finish().unwrap();
    assert!(entries(&open(&packed).unwrap()).is_empty());
    let bytes = std::fs::read(&packed).unwrap();
    std::fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
    let text = open(&packed).unwrap_err();
    assert!(text.starts_with("cannot read "), "{text}");
}

#[test]
fn whatever_is_changed_nothing_panics() {
    let layers = [b"layer one", b"layer two"].map(|layer| Digest::sha256(layer));
    let list = json!([{"Config": "config.json", "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    let (_folder, path) = docker_archive(layers, &list);
    let digest = Digest::sha256(b"content");
    let entry = json!([{"mediaType": "a", "digest": digest, "size": 7}]);
    let blob = format!("blobs/sha256/{}", digest.hex());
    let (_other, layout) =
        tar(&[("oci-layout", LAYOUT), (&blob, b"content"), ("index.json", &index(&entry))]);
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut state = u64::from(seed) | 1;
    let mut random = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 32).unwrap() % limit
    };
    for whole in [path, layout].map(|path| std::fs::read(path).unwrap()) {
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..=random(4) {
                let place = random(bytes.len());
                bytes[place] = u8::try_from(random(256)).unwrap();
            }
            if random(4) == 0 {
                bytes.truncate(random(whole.len()));
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            let Ok(images) = open(file.path()) else { continue };
            let _ = images.each_entry(|entry| {
                if let Ok((descriptor, _)) = entry.found {
                    let _ = images.document(&descriptor);
                    if let Ok(Some(content)) = images.content(&descriptor.digest) {
                        let _ = content.read_at(0, &mut [0; 600]);
                    }
                }
                ControlFlow::Continue(())
            });
        }
    }
}
