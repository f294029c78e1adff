//! What is written is what was meant, the same every time, and whole or not there.

#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::Path;

use layout::{Content, Error, Images, RunnableImage, Target, Writer, Written};
use oci::{Descriptor, Digest};

fn fill(writer: &mut Writer, blobs: &[&[u8]]) {
    for blob in blobs {
        writer.put(&Digest::sha256(blob), blob).unwrap();
    }
    writer.put(&Digest::sha512(b"long"), b"long").unwrap();
    let entry = Descriptor::new("a", Digest::sha256(b"one"), 3);
    writer.add(&entry).unwrap();
    writer.add(&entry).unwrap();
    let image = RunnableImage {
        name: "app:v1".to_owned(),
        config: Digest::sha256(b"one"),
        layers: vec![Digest::sha256(b"two")],
    };
    writer.add_runnable(image).unwrap();
}

fn write(target: &Target, blobs: &[&[u8]]) -> Written {
    let mut writer = Writer::create(target, true).unwrap();
    fill(&mut writer, blobs);
    writer.finish().unwrap()
}

fn check(path: &Path) {
    let images = Images::open(path, &std::env::temp_dir()).unwrap();
    let mut entries = 0;
    images
        .each_entry(|entry| {
            let (descriptor, _) = entry.found.unwrap();
            assert_eq!(images.document(&descriptor).unwrap().unwrap(), b"one");
            entries += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(entries, 2);
    for (digest, expected) in [
        (Digest::sha256(b"two"), b"two".as_slice()),
        (Digest::sha256(&[]), &[]),
        (Digest::sha512(b"long"), b"long"),
    ] {
        let content = images.content(&digest).unwrap().unwrap();
        let mut found = vec![0; 10];
        let read = content.read_at(0, &mut found).unwrap();
        assert_eq!(found.get(..read).unwrap(), expected);
        assert!(matches!(content, Content::Section(_)));
    }
}

#[test]
fn a_tar_and_a_folder_hold_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = [b"one".as_slice(), b"two", b"", b"one"];
    let expected = Written { blobs: 4, bytes: 10, present: 1, entries: 2 };
    let tars = ["a.tar", "b.tar"].map(|name| folder.path().join(name));
    for path in &tars {
        assert_eq!(write(&Target::of(path), &blobs), expected);
        check(path);
    }
    let [one, two] = tars.map(|path| std::fs::read(path).unwrap());
    assert!(one == two, "two tars of the same images differ");

    let path = folder.path().join("layout");
    assert_eq!(write(&Target::of(&path), &blobs), expected);
    check(&path);
    // What is there is not written again.
    let again = write(&Target::of(&path), &blobs);
    assert_eq!(again, Written { blobs: 0, bytes: 0, present: 5, entries: 2 });
    let names = std::fs::read_dir(&path).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn docker_finds_its_list_in_a_tar() {
    let folder = tempfile::tempdir().unwrap();
    for (for_docker, name) in [(true, "with.tar"), (false, "without.tar")] {
        let path = folder.path().join(name);
        let mut writer = Writer::create(&Target::Tar(path.clone()), for_docker).unwrap();
        fill(&mut writer, &[b"one", b"two"]);
        writer.finish().unwrap();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let list = format!(
            r#"[{{"Config":"blobs/sha256/{}","RepoTags":["app:v1"],"Layers":["blobs/sha256/{}"]}}]"#,
            Digest::sha256(b"one").hex(),
            Digest::sha256(b"two").hex()
        );
        assert_eq!(text.contains(&list), for_docker);
    }
}

#[test]
fn a_blob_that_is_not_whole_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let expected = folder.path().join("expected.tar");
    write(&Target::Tar(expected.clone()), &[b"one", b"two", b""]);
    for name in ["bad.tar", "bad"] {
        let path = folder.path().join(name);
        let mut writer = Writer::create(&Target::of(&path), true).unwrap();
        writer.put(&Digest::sha256(b"one"), b"one").unwrap();
        let bad = Digest::sha256(b"bad");
        for (size, content, is_size) in
            [(3, b"BAD".as_slice(), false), (4, b"bad", true), (3, b"long", true)]
        {
            assert!(writer.begin(&bad, size).unwrap());
            writer.append(content).unwrap();
            match writer.end().unwrap_err() {
                Error::Size { .. } if is_size => {}
                Error::Digest { .. } if !is_size => {}
                other => panic!("{other}"),
            }
        }
        fill(&mut writer, &[b"two", b""]);
        writer.finish().unwrap();
        check(&path);
        if name == "bad.tar" {
            let same = std::fs::read(&path).unwrap() == std::fs::read(&expected).unwrap();
            assert!(same, "a trace is left of what was taken back");
        }
    }
}

#[test]
fn what_is_not_finished_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    std::fs::write(&path, "from before").unwrap();
    let mut writer = Writer::create(&Target::of(&path), true).unwrap();
    fill(&mut writer, &[b"one"]);
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), b"from before");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let path = folder.path().join("layout");
    let mut writer = Writer::create(&Target::of(&path), true).unwrap();
    fill(&mut writer, &[b"one"]);
    drop(writer);
    assert!(!path.join("index.json").exists());
}

#[test]
fn only_one_writes_to_a_place() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.tar", "layout"] {
        let path = folder.path().join(name);
        let mut first = Writer::create(&Target::of(&path), true).unwrap();
        first.begin(&Digest::sha256(b"one"), 3).unwrap();
        first.append(b"o").unwrap();
        let error = Writer::create(&Target::of(&path), true).err().unwrap();
        let expected = format!("another export is writing to {}", path.display());
        assert_eq!(error.to_string(), expected);
        first.append(b"ne").unwrap();
        first.end().unwrap();
        fill(&mut first, &[b"two", b""]);
        first.finish().unwrap();
        check(&path);
        // The lock is gone with its holder, as is one that a crash has left behind.
        if name == "layout" {
            std::fs::write(path.join(".lock"), "").unwrap();
            std::fs::write(path.join(".partial"), "half a blob").unwrap();
        } else {
            std::fs::write(folder.path().join("a.tar.partial"), [b'x'; 9999]).unwrap();
        }
        write(&Target::of(&path), &[b"one", b"two", b""]);
        check(&path);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(std::fs::read_dir(folder.path().join("layout")).unwrap().count(), 3);
}

#[test]
fn a_target_that_is_no_file_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    std::fs::create_dir(&path).unwrap();
    let error = Writer::create(&Target::of(&path), true).err().unwrap().to_string();
    assert!(error.ends_with("expected the name of a file, found something else of that name"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_files_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("letter"), "").unwrap();
    let error = Writer::create(&Target::of(folder.path()), true).err().unwrap().to_string();
    assert!(error.ends_with("expected an empty folder or an OCI image layout, found other files"));
}
