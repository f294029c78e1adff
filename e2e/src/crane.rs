//! crane: pushes, copies and edits images inside the registry.

use std::thread::ScopedJoinHandle;

use anyhow::{Result, anyhow, ensure};

use crate::http::{array, text};
use crate::image::{self, greeting};
use crate::process::Client;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("crane: push, pull, copy and validate", 90, push_pull_copy),
    Scenario::new("crane: ls, catalog, tag, manifest, digest, config", 90, look),
    Scenario::new("crane: append, mutate and flatten", 90, edit),
    Scenario::new("crane: an index pushed, appended to and filtered", 90, index),
    Scenario::new("crane: one image pushed eight times at once", 90, push_at_once),
    Scenario::new("crane: delete by tag and by digest", 90, delete),
];

fn push_pull_copy(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, digest) = image::runnable(stage, "crane")?;
        let first = registry.name("team/crane:v1");
        for _ in 0..2 {
            push(stage, &layout, &first)?;
        }
        let second = registry.name("other/crane:v2");
        crane(stage, "copy").args([&first, &second]).succeed()?;
        for (repository, tag) in [("team/crane", "v1"), ("other/crane", "v2")] {
            let found = registry.http.digest_of(repository, tag)?;
            ensure!(found == digest, "{repository}: pushed {digest}, found {found}");
            registry.http.read_whole(repository, tag)?;
        }
        crane(stage, "validate").args(["--remote", &second]).succeed()?;

        let back = stage.path("back");
        crane(stage, "pull").args(["--format=oci", &second]).arg(&back).succeed()?;
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(back.join("index.json"))?)?;
        let pulled = array(&index, "manifests");
        ensure!(
            pulled.iter().any(|image| text(image, "digest").is_ok_and(|d| d == digest)),
            "pushed {digest}, pulled {index}"
        );
        let exported = stage.path("exported.tar");
        crane(stage, "export").arg(&second).arg(&exported).succeed()?;
        let read = stage.client("tar").arg("-xOf").arg(&exported).arg("greeting").text()?;
        ensure!(read == greeting("crane"), "the image holds {read:?}");
        Ok(())
    })
}

fn look(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, digest) = image::runnable(stage, "crane-look")?;
        for repository in ["b/two", "a/one"] {
            push(stage, &layout, &registry.name(&format!("{repository}:v1")))?;
        }
        let name = registry.name("a/one:v1");
        crane(stage, "tag").args([&name, "v0"]).succeed()?;
        let tags = crane(stage, "ls").arg(registry.name("a/one")).text()?;
        ensure!(tags == "v0\nv1", "listed {tags:?}");
        let repositories = crane(stage, "catalog").arg(&registry.host).text()?;
        ensure!(repositories == "a/one\nb/two", "listed {repositories:?}");
        ensure!(crane(stage, "digest").arg(&name).text()? == digest);
        let manifest = crane(stage, "manifest").arg(&name).json()?;
        ensure!(array(&manifest, "layers").len() == 3, "{manifest}");
        let config = crane(stage, "config").arg(&name).json()?;
        ensure!(text(&config, "architecture")? == "amd64", "{config}");
        let layer = array(&manifest, "layers").last();
        let layer = text(layer.unwrap_or(&manifest), "digest")?;
        let blob = crane(stage, "blob").arg(registry.name(&format!("a/one@{layer}"))).succeed()?;
        ensure!(crate::http::sha256(&blob.stdout) == layer);
        Ok(())
    })
}

fn edit(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, _) = image::runnable(stage, "crane-edit")?;
        let base = registry.name("edit/base:v1");
        push(stage, &layout, &base)?;
        let folder = stage.folder("more")?;
        std::fs::write(folder.join("added"), "added")?;
        let tar = stage.file("more.tar", image::tar(stage, &folder)?)?;
        let appended = registry.name("edit/base:appended");
        crane(stage, "append")
            .args(["--base", &base, "--new_tag", &appended, "--new_layer"])
            .arg(&tar)
            .succeed()?;
        let mutated = registry.name("edit/base:mutated");
        crane(stage, "mutate")
            .args(["--label=made-by=e2e", "--annotation=note=none"])
            .args(["--tag", &mutated, "--append"])
            .arg(&tar)
            .arg(&appended)
            .succeed()?;
        let flat = registry.name("edit/base:flat");
        crane(stage, "flatten").args(["--tag", &flat, &mutated]).succeed()?;
        for (tag, layers) in [("appended", 4), ("mutated", 5), ("flat", 1)] {
            let manifest = registry.http.get_manifest("edit/base", tag)?.json()?;
            let found = array(&manifest, "layers").len();
            ensure!(found == layers, "{tag}: expected {layers} layers, found {found}");
            registry.http.read_whole("edit/base", tag)?;
        }
        Ok(())
    })
}

fn index(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, digest, children) = image::multi_arch(stage, "crane-multi")?;
        let name = registry.name("multi/crane:v1");
        push(stage, &layout, &name)?;
        ensure!(registry.http.digest_of("multi/crane", "v1")? == digest);
        ensure!(registry.http.read_whole("multi/crane", "v1")? == 7);
        let [amd64, arm64] = &children;
        let picked = crane(stage, "digest").args(["--platform=linux/arm64", &name]).text()?;
        ensure!(picked == *arm64, "expected {arm64}, found {picked}");

        let (single, single_digest) = image::runnable(stage, "crane-single")?;
        let other = registry.name("multi/other:v1");
        push(stage, &single, &other)?;
        let more = registry.name("multi/crane:more");
        crane(stage, "index")
            .args(["append", &name, "--tag", &more, "--manifest", &other])
            .succeed()?;
        let few = registry.name("multi/crane:few");
        crane(stage, "index")
            .args(["filter", &more, "--tag", &few])
            .arg("--platform=linux/amd64")
            .succeed()?;
        for (tag, expected) in
            [("more", vec![amd64, arm64, &single_digest]), ("few", vec![amd64, &single_digest])]
        {
            let index = registry.http.get_manifest("multi/crane", tag)?.json()?;
            let found: Vec<&str> = array(&index, "manifests")
                .iter()
                .filter_map(|child| text(child, "digest").ok())
                .collect();
            ensure!(found == expected, "{tag}: expected {expected:?}, found {found:?}");
            registry.http.read_whole("multi/crane", tag)?;
        }
        Ok(())
    })
}

fn push_at_once(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, digest) = image::runnable(stage, "crane-at-once")?;
        // Half of them into one repository, half into one each.
        let names: Vec<(String, String)> = (0..8)
            .map(|number| match number % 2 {
                0 => ("once/shared".to_owned(), format!("v{number}")),
                _ => (format!("once/number-{number}"), "v1".to_owned()),
            })
            .collect();
        let pushes: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = names
                .iter()
                .map(|(repository, tag)| registry.name(&format!("{repository}:{tag}")))
                .map(|name| scope.spawn(|| push(stage, &layout, &{ name })))
                .collect();
            running.into_iter().map(ScopedJoinHandle::join).collect()
        });
        for push in pushes {
            push.map_err(|_| anyhow!("a push panicked"))??;
        }
        for (repository, tag) in &names {
            ensure!(registry.http.digest_of(repository, tag)? == digest);
            registry.http.read_whole(repository, tag)?;
        }
        Ok(())
    })
}

fn delete(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, digest) = image::runnable(stage, "crane-delete")?;
        for tag in ["keep", "drop"] {
            push(stage, &layout, &registry.name(&format!("team/delete:{tag}")))?;
        }
        crane(stage, "delete").arg(registry.name("team/delete:drop")).succeed()?;
        let tags = registry.http.tags("team/delete")?;
        ensure!(tags == ["keep"], "left are {tags:?}");
        crane(stage, "delete").arg(registry.name(&format!("team/delete@{digest}"))).succeed()?;
        let said = crane(stage, "digest").arg(registry.name("team/delete:keep")).fail()?;
        ensure!(said.contains("404"), "{said}");
        Ok(())
    })
}

fn crane<'a>(stage: &'a Stage, verb: &str) -> Client<'a> {
    stage.client("crane").args(["--insecure", verb])
}

fn push(stage: &Stage, layout: &image::Layout, name: &str) -> Result<()> {
    crane(stage, "push").arg(&layout.folder).arg(name).succeed()?;
    Ok(())
}
