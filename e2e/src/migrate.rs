//! Moving in and moving out: registry:2 and Orlop take turns on one data
//! folder, with what real clients pushed to either.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::http::{array, sha512, with_query};
use crate::image::{self, media_type};
use crate::process::{Client, Outcome};
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("migrate: from registry:2 to Orlop, back, and again", 180, both_ways),
    Scenario::new("migrate: an untouched store comes back byte for byte", 90, untouched),
    Scenario::new("migrate: what was deleted and collected is gone", 90, collected),
    Scenario::new("migrate: killed while it imports, it goes on", 120, killed),
    Scenario::new("migrate: orlop import and export say what they do", 90, command_line),
];

const STORE: &str = "store";

fn both_ways(stage: &Stage) -> Result<()> {
    let mut registry = stage.start_peer(STORE)?;
    let multi = fill(stage, &registry)?;
    let pushed = contents(&registry)?;
    ensure!(pushed.len() == 4, "in registry:2 are {pushed:?}");
    registry.stop()?;

    // In: everything is there at once, and can be changed.
    let mut registry = stage.start_registry(STORE, &Setup::default())?;
    let found = contents(&registry)?;
    ensure!(found == pushed, "registry:2 had {pushed:#?}, Orlop has {found:#?}");
    let name = registry.name("multi/image:v1");
    crane(stage, "validate").args(["--remote", &name]).succeed()?;
    let back = stage.path("back");
    crane(stage, "pull").args(["--format=oci", &name]).arg(&back).succeed()?;
    let (layout, _) = image::runnable(stage, "by Orlop")?;
    push(stage, &layout, &registry.name("new/by-orlop:v1"))?;
    push(stage, &layout, &registry.name("team/app:moved"))?;
    crane(stage, "copy").arg(&name).arg(registry.name("copied/multi:v1")).succeed()?;
    crane(stage, "delete").arg(registry.name("team/app:dropped")).succeed()?;
    let gone = registry.http.digest_of("team/gone", "v1")?;
    crane(stage, "delete").arg(registry.name(&format!("team/gone@{gone}"))).succeed()?;
    let long = push_by_sha512(&registry)?;
    let changed = contents(&registry)?;
    registry.stop()?;
    registry.check(stage)?;

    // Out: registry:2 serves the same, and no more.
    orlop(stage, "export").succeed()?;
    let mut registry = stage.start_peer(STORE)?;
    let found = contents(&registry)?;
    ensure!(found == changed, "Orlop had {changed:#?}, registry:2 has {found:#?}");
    registry.http.get(&format!("/v2/team/gone/manifests/{gone}"))?.expect(404)?;
    registry.http.get(&format!("/v2/long/blobs/{long}"))?.expect(200)?;
    crane(stage, "validate").arg("--remote").arg(registry.name("copied/multi:v1")).succeed()?;
    let (layout, _) = image::runnable(stage, "by registry:2 again")?;
    push(stage, &layout, &registry.name("new/by-registry:v1"))?;
    push(stage, &layout, &registry.name("new/by-orlop:v1"))?;
    let deleted = registry.http.digest_of("copied/multi", "v1")?;
    let path = format!("/v2/copied/multi/manifests/{deleted}");
    registry.http.send("DELETE", &path, &[], ())?.expect(202)?;
    ensure!(deleted == multi, "the copy was {deleted}, not {multi}");
    let last = contents(&registry)?;
    registry.stop()?;

    // And in again.
    let mut registry = stage.start_registry(STORE, &Setup::default())?;
    let found = contents(&registry)?;
    ensure!(found == last, "registry:2 had {last:#?}, Orlop has {found:#?}");
    registry.http.get(&path)?.expect(404)?;
    registry.stop()?;
    registry.check(stage)
}

fn untouched(stage: &Stage) -> Result<()> {
    let mut registry = stage.start_peer(STORE)?;
    fill(stage, &registry)?;
    registry.stop()?;
    let before = links(stage)?;
    ensure!(before.len() > 40, "only {} files", before.len());
    orlop(stage, "import").succeed()?;
    ensure!(links(stage)? == before, "the import has changed links");
    orlop(stage, "export").succeed()?;
    ensure!(links(stage)? == before, "the export has changed links");
    Ok(())
}

fn collected(stage: &Stage) -> Result<()> {
    let mut registry = stage.start_peer(STORE)?;
    fill(stage, &registry)?;
    let (layout, gone) = image::runnable(stage, "only here")?;
    push(stage, &layout, &registry.name("team/app:gone"))?;
    registry.stop()?;
    let mut registry = stage.start_registry(STORE, &Setup::default())?;
    crane(stage, "delete").arg(registry.name(&format!("team/app@{gone}"))).succeed()?;
    let left = contents(&registry)?;
    registry.stop()?;
    let said = orlop(stage, "garbage-collect").text()?;
    ensure!(said.contains("blob eligible for deletion"), "{said}");
    orlop(stage, "export").succeed()?;
    let mut registry = stage.start_peer(STORE)?;
    let found = contents(&registry)?;
    ensure!(found == left, "Orlop had {left:#?}, registry:2 has {found:#?}");
    registry.stop()
}

fn killed(stage: &Stage) -> Result<()> {
    let mut registry = stage.start_peer(STORE)?;
    let (layout, digest) = image::runnable(stage, "many")?;
    push(stage, &layout, &registry.name("many/number-0:v1"))?;
    registry.stop()?;
    let repositories = repositories(stage).join("many");
    for number in 1..400 {
        let copy = repositories.join(format!("number-{number}"));
        copy_folder(&repositories.join("number-0"), &copy)?;
    }
    // A start answers before all is read; whatever was done by then stays.
    for _ in 0..5 {
        let mut registry = stage.start_registry(STORE, &Setup::default())?;
        registry.kill()?;
    }
    let mut registry = stage.start_registry(STORE, &Setup::default())?;
    // One that nobody has asked for yet.
    ensure!(registry.http.digest_of("many/number-399", "v1")? == digest);
    let names = catalogue(&registry)?;
    ensure!(names.len() == 400, "{} repositories of 400", names.len());
    for name in &names {
        ensure!(registry.http.digest_of(name, "v1")? == digest, "{name}");
    }
    registry.stop()?;
    let said = said(&orlop(stage, "import").succeed()?);
    ensure!(said.contains("imported"), "{said}");
    registry.check(stage)
}

fn command_line(stage: &Stage) -> Result<()> {
    let said_of = |verb: &str, flag: Option<&str>| {
        orlop(stage, verb).args(flag).succeed().map(|outcome| said(&outcome))
    };
    let mut registry = stage.start_peer(STORE)?;
    fill(stage, &registry)?;
    registry.stop()?;
    let broken = repositories(stage).join("team/app/_manifests/tags/broken/current");
    std::fs::create_dir_all(&broken)?;
    std::fs::write(broken.join("link"), "")?;

    let found = orlop(stage, "garbage-collect").args(["--dry-run"]).text()?;
    ensure!(found.contains("0 manifests eligible for deletion"), "{found}");
    ensure!(!stage.path(STORE).join("orlop").exists(), "a dry run has taken the store over");
    let text = orlop(stage, "export").fail()?;
    ensure!(text.contains("orlop import"), "{text}");
    let text = orlop(stage, "garbage-collect").args(["--dry-run"]).fail()?;
    ensure!(text.contains("orlop import"), "{text}");
    let text = said_of("import", Some("--dry-run"))?;
    ensure!(text.contains("would import 5 repositories"), "{text}");
    let text = said_of("import", None)?;
    ensure!(text.contains("team/app: tag broken: its link is empty"), "{text}");
    ensure!(text.contains("imported 5 repositories") && text.contains("1 oddity"), "{text}");
    let text = said_of("import", None)?;
    ensure!(text.contains("already imported") && text.contains("tag broken"), "{text}");

    let mut registry = stage.start_registry(STORE, &Setup::default())?;
    let text = orlop(stage, "import").fail()?;
    ensure!(text.contains("another server is using the data folder"), "{text}");
    registry.stop()?;
    let text = said_of("export", Some("--dry-run"))?;
    ensure!(text.contains("would write 0 links, would remove 0"), "{text}");
    let text = said_of("export", None)?;
    ensure!(text.contains("registry:2 can serve this store now"), "{text}");
    let text = said_of("export", None)?;
    ensure!(text.contains("already exported"), "{text}");

    // The links of a store whose database is gone are not to be trusted.
    std::fs::remove_file(stage.path(STORE).join("orlop/metadata.sqlite"))?;
    let text = orlop(stage, "import").fail()?;
    ensure!(text.contains("do not belong together"), "{text}");
    Ok(())
}

/// What users of registry:2 leave: images, an index, a copy by mounts, a tag
/// that was moved, and things that were deleted. The index' digest.
fn fill(stage: &Stage, registry: &Registry) -> Result<String> {
    let (first, _) = image::runnable(stage, "first")?;
    let (second, _) = image::runnable(stage, "second")?;
    let (multi, digest, _) = image::multi_arch(stage, "multi")?;
    for (layout, name) in [
        (&first, "team/app:v1"),
        (&first, "team/app:dropped"),
        (&first, "team/app:moved"),
        (&second, "team/app:moved"),
        (&second, "team/gone:v1"),
        (&first, "team/app/nested:v1"),
        (&second, "emptied/out:v1"),
    ] {
        push(stage, layout, &registry.name(name))?;
    }
    stage
        .client("skopeo")
        .args(["copy", "--all", "--dest-tls-verify=false"])
        .arg(format!("oci:{}", multi.name("v1")))
        .arg(registry.docker_url("multi/image:v1"))
        .succeed()?;
    let emptied = registry.http.digest_of("emptied/out", "v1")?;
    let path = format!("/v2/emptied/out/manifests/{emptied}");
    registry.http.send("DELETE", &path, &[], ())?.expect(202)?;
    Ok(digest)
}

/// A blob that its client calls by its sha512 digest.
fn push_by_sha512(registry: &Registry) -> Result<String> {
    let bytes = b"called by a long name";
    let digest = sha512(bytes);
    let location = registry.http.open_upload("long")?;
    let target = with_query(&location, "digest", &digest);
    registry.http.send("PUT", &target, &[], bytes.as_slice())?.expect(201)?;
    // Only a repository with a manifest is in the catalogue.
    let manifest =
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
    registry
        .http
        .put_manifest("long", "v1", media_type::OCI_INDEX, manifest.as_bytes())?
        .expect(201)?;
    Ok(digest)
}

/// The digest of every tag of every repository that has tags. All that these
/// lead to is read and compared with its digest.
fn contents(registry: &Registry) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut contents = BTreeMap::new();
    for name in catalogue(registry)? {
        let answer = registry.http.get(&format!("/v2/{name}/tags/list"))?;
        // registry:2 lists what has no manifest any more.
        if answer.status() == 404 {
            continue;
        }
        let mut tags = BTreeMap::new();
        for tag in registry.http.tags(&name)? {
            registry.http.read_whole(&name, &tag)?;
            let digest = registry.http.digest_of(&name, &tag)?;
            tags.insert(tag, digest);
        }
        if !tags.is_empty() {
            contents.insert(name, tags);
        }
    }
    Ok(contents)
}

fn catalogue(registry: &Registry) -> Result<Vec<String>> {
    let page = registry.http.get("/v2/_catalog?n=1000")?.expect(200)?.json()?;
    let names = array(&page, "repositories").iter();
    Ok(names.filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// Every file of the repositories' folder.
fn links(stage: &Stage) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![repositories(stage)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = std::fs::read(&path)?;
                files.insert(path, content);
            }
        }
    }
    Ok(files)
}

fn repositories(stage: &Stage) -> PathBuf {
    stage.path(STORE).join("docker/registry/v2/repositories")
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).context("nothing to copy")? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("no name")?);
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

fn orlop<'a>(stage: &'a Stage, verb: &str) -> Client<'a> {
    stage
        .client(&stage.binary().to_string_lossy())
        .arg(verb)
        .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", stage.path(STORE))
}

fn said(outcome: &Outcome) -> String {
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&outcome.stderr))
}

fn crane<'a>(stage: &'a Stage, verb: &str) -> Client<'a> {
    stage.client("crane").args(["--insecure", verb])
}

fn push(stage: &Stage, layout: &image::Layout, name: &str) -> Result<()> {
    crane(stage, "push").arg(&layout.folder).arg(name).succeed()?;
    Ok(())
}
