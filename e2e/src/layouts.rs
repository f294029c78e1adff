//! Images in files: OCI image layouts, archives of docker, and bundles for a
//! site without a network, each written and read by other tools, too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::docker::Docker;
use crate::http::{array, text};
use crate::image::{self, Layout, greeting, media_type};
use crate::process::{Client, Daemon, Outcome};
use crate::registry::Setup;
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("layouts: what other tools write comes in", 120, come_in),
    Scenario::new("layouts: other tools read what goes out", 180, go_out),
    Scenario::new("layouts: docker save and docker load", 240, docker_archives),
    Scenario::new("layouts: a bundle has what the other side lacks", 120, bundle),
    Scenario::new("layouts: killed half way, they go on", 240, killed),
    Scenario::new("layouts: what is damaged is named and left out", 120, damaged),
];

fn come_in(stage: &Stage) -> Result<()> {
    let (single, digest) = image::runnable(stage, "single")?;
    let (multi, index, _) = image::multi_arch(stage, "multi")?;
    // Tags without a repository need a name; a dry run works beside nothing.
    let said = import(stage, "here", &single.folder).fail()?;
    ensure!(said.contains("--name REPOSITORY"), "{said}");
    let said = import(stage, "here", &single.folder)
        .args(["--dry-run", "--name", "team/app"])
        .succeed()
        .map(|outcome| self::said(&outcome))?;
    ensure!(said.contains("would import 1 image: 4 blobs, 1 manifest, "), "{said}");
    import(stage, "here", &single.folder).args(["--name", "team/app"]).succeed()?;
    let archive = multi.archive(stage)?;
    import(stage, "here", &archive).args(["--name", "team/multi:v7"]).succeed()?;

    // skopeo's own, with full names; compressed; from standard input.
    let written = stage.path("skopeo.tar");
    skopeo_copy(
        stage,
        &format!("oci:{}", single.name("v1")),
        &archive_name(&written, "full/name:v2"),
    )?;
    import(stage, "here", &written).succeed()?;
    stage.client("gzip").arg(&written).succeed()?;
    import(stage, "here", &stage.path("skopeo.tar.gz"))
        .args(["--name", "zipped/app:v3"])
        .succeed()?;
    import(stage, "here", Path::new("-"))
        .args(["--name", "piped/app:v4"])
        .input(std::fs::read(&archive)?)
        .succeed()?;
    let old = stage.path("docker.tar");
    skopeo_copy(
        stage,
        &format!("oci:{}", single.name("v1")),
        &format!("docker-archive:{}:localhost:5000/docker/app:v5", old.display()),
    )?;
    import(stage, "here", &old).succeed()?;

    let mut registry = stage.start_registry("here", &Setup::default())?;
    for (repository, tag, expected, blobs) in [
        ("team/app", "v1", &digest, 4),
        ("team/multi", "v7", &index, 7),
        ("full/name", "v2", &digest, 4),
        ("zipped/app", "v3", &digest, 4),
        ("piped/app", "v4", &index, 7),
    ] {
        let found = registry.http.digest_of(repository, tag)?;
        ensure!(found == *expected, "{repository}:{tag} is {found}, not {expected}");
        ensure!(registry.http.read_whole(repository, tag)? == blobs, "{repository}:{tag}");
    }
    registry.http.read_whole("docker/app", "v5")?;
    skopeo(stage, "copy")
        .args(["--src-tls-verify=false", &registry.docker_url("docker/app:v5")])
        .arg(format!("dir:{}", stage.path("copy").display()))
        .succeed()?;
    let [crane, oras] = ["by-crane", "by-oras"].map(|name| stage.path(name));
    let regctl = stage.path("by-regctl.tar");
    let multi_name = registry.name("team/multi:v7");
    stage
        .client("crane")
        .args(["--insecure", "pull", "--format=oci", &multi_name])
        .arg(&crane)
        .succeed()?;
    stage
        .client("oras")
        .args(["copy", "--from-plain-http", "--to-oci-layout", &multi_name])
        .arg(format!("{}:v7", oras.display()))
        .succeed()?;
    stage.client("regctl").args(["registry", "set", "--tls=disabled", &registry.host]).succeed()?;
    stage.client("regctl").args(["image", "export", &multi_name]).arg(&regctl).succeed()?;
    let mut names = Vec::new();
    for path in [crane, oras, regctl] {
        let name = format!("tools/{}", names.len());
        import(stage, "tools", &path).args(["--name", &format!("{name}:v8")]).succeed()?;
        names.push(name);
    }
    let mut tools = stage.start_registry("tools", &Setup::default())?;
    for name in &names {
        ensure!(tools.http.digest_of(name, "v8")? == index, "{name}");
        ensure!(tools.http.read_whole(name, "v8")? == 7, "{name}");
    }
    tools.stop()?;

    // While it runs, images are pushed to it.
    import(stage, "here", &old).arg("--dry-run").succeed()?;
    let said = import(stage, "here", &old).fail()?;
    ensure!(said.contains("another server") && said.contains("skopeo copy"), "{said}");
    registry.stop()?;
    registry.check(stage)
}

fn go_out(stage: &Stage) -> Result<()> {
    let (single, digest) = image::runnable(stage, "single")?;
    let (multi, index, _) = image::multi_arch(stage, "multi")?;
    let mut registry = stage.start_registry("here", &Setup::default())?;
    for (layout, name) in [(&single, "team/app:v1"), (&multi, "team/multi:v2")] {
        skopeo(stage, "copy")
            .args(["--all", "--dest-tls-verify=false"])
            .arg(format!("oci:{}", layout.name("v1")))
            .arg(registry.docker_url(name))
            .succeed()?;
    }
    let statement = stage.file("statement.json", "{}")?;
    stage
        .client("oras")
        .args(["attach", "--plain-http", "--disable-path-validation"])
        .args(["--artifact-type", "application/vnd.example.statement"])
        .arg(registry.name("team/app:v1"))
        .arg(&statement)
        .succeed()?;

    // Beside the server that runs.
    let (tar, folder) = (stage.path("out.tar"), stage.path("out"));
    for target in [&tar, &folder] {
        export(stage, "here", target).succeed()?;
    }
    let again = stage.path("again.tar");
    export(stage, "here", &again).succeed()?;
    ensure!(std::fs::read(&tar)? == std::fs::read(&again)?, "two exports differ");
    let one = stage.path("one.tar");
    export(stage, "here", &one).args(["--image", "team/app:v1"]).succeed()?;
    registry.stop()?;

    for (number, source) in [
        archive_name(&tar, "team/app:v1"),
        archive_name(&one, "team/app:v1"),
        format!("oci:{}:team/app:v1", folder.display()),
    ]
    .iter()
    .enumerate()
    {
        let copy = stage.path(&format!("copy-{number}"));
        skopeo_copy(stage, source, &format!("oci:{}:x", copy.display()))?;
        ensure!(first_digest(&copy)? == digest, "skopeo has read another image from {source}");
    }
    let copy = stage.path("copy-all");
    skopeo(stage, "copy")
        .args(["--all", &archive_name(&tar, "team/multi:v2")])
        .arg(format!("oci:{}:x", copy.display()))
        .succeed()?;
    ensure!(first_digest(&copy)? == index, "skopeo has read another index");
    let image = stage.path("pulled.tar");
    skopeo_copy(
        stage,
        &format!("docker-archive:{}:team/app:v1", tar.display()),
        &format!("docker-archive:{}:x:y", image.display()),
    )?;
    let found = stage
        .client("regctl")
        .args(["manifest", "head"])
        .arg(format!("ocidir://{}@{digest}", folder.display()))
        .text()?;
    ensure!(found.contains(&digest), "regctl has found {found}");
    let found = stage
        .client("oras")
        .args(["discover", "--oci-layout", "--format", "json"])
        .arg(format!("{}@{digest}", folder.display()))
        .text()?;
    ensure!(found.contains("application/vnd.example.statement"), "oras has found {found}");

    // And back, elsewhere: what refers to the image is there, too.
    for (store, from) in [("there", &one), ("everything", &folder)] {
        import(stage, store, from).succeed()?;
        let mut registry = stage.start_registry(store, &Setup::default())?;
        ensure!(registry.http.digest_of("team/app", "v1")? == digest);
        let path = format!("/v2/team/app/referrers/{digest}");
        let referrers = registry.http.get(&path)?.expect(200)?.json()?;
        ensure!(array(&referrers, "manifests").len() == 1, "{store}: {referrers}");
        registry.stop()?;
        registry.check(stage)?;
    }
    Ok(())
}

fn docker_archives(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    let name = "registry.example/team/app:v1";
    docker.build(name, 3)?;
    docker.client(&["tag", name, "other:v2"]).succeed()?;
    let saved = stage.path("saved.tar");
    docker.client(&["save", name, "other:v2", "--output"]).arg(&saved).succeed()?;
    for expected in ["2 images: 5 blobs", "2 images: 0 blobs, 0 manifests"] {
        let said = import(stage, "here", &saved).succeed().map(|outcome| self::said(&outcome))?;
        ensure!(said.contains(expected), "expected {expected:?}: {said}");
    }
    // Another registry has the same digest.
    import(stage, "there", &saved).succeed()?;
    let mut digests = Vec::new();
    for store in ["here", "there"] {
        let mut registry = stage.start_registry(store, &Setup::default())?;
        digests.push(registry.http.digest_of("team/app", "v1")?);
        digests.push(registry.http.digest_of("other", "v2")?);
        ensure!(registry.http.read_whole("team/app", "v1")? == 5);
        if store == "there" {
            // Docker pulls what it has saved.
            docker.remove(name)?;
            docker.pull(&registry.name("team/app:v1"))?;
            let printed = docker.run(&registry.name("team/app:v1"))?;
            ensure!(printed.contains(&greeting("layer 2")), "the container printed {printed:?}");
            // What is pushed has compressed layers.
            docker
                .client(&["tag", &registry.name("team/app:v1"), &registry.name("pushed:v3")])
                .succeed()?;
            docker.push(&registry.name("pushed:v3"))?;
        }
        registry.stop()?;
        registry.check(stage)?;
    }
    digests.dedup();
    ensure!(digests.len() == 1, "one image has the digests {digests:?}");

    // Out, and into Docker.
    let out = stage.path("out.tar");
    export(stage, "there", &out).succeed()?;
    docker.client(&["image", "prune", "--all", "--force"]).succeed()?;
    let loaded = docker.client(&["load", "--input"]).arg(&out).text()?;
    for name in ["team/app:v1", "other:v2", "pushed:v3"] {
        ensure!(loaded.contains(&format!("Loaded image: {name}")), "docker has loaded {loaded}");
        let printed = docker.run(name)?;
        ensure!(printed.contains(&greeting("layer 1")), "the container printed {printed:?}");
    }
    let list =
        skopeo(stage, "list-tags").arg(format!("docker-archive:{}", out.display())).text()?;
    ensure!(list.contains("team/app:v1"), "{list}");
    Ok(())
}

fn bundle(stage: &Stage) -> Result<()> {
    let layout = many_images(stage, "many", 4, 64 * 1024)?;
    import(stage, "here", &layout.folder).args(["--name", "base/image"]).succeed()?;
    let (full, lean) = (stage.path("full.tar"), stage.path("lean.tar"));
    export(stage, "here", &full).args(["--image", "base/image:v0"]).succeed()?;
    import(stage, "there", &full).succeed()?;

    let inventory = stage.path("there.txt");
    orlop(stage, "there", "export").arg("--inventory").arg(&inventory).succeed()?;
    let listed = std::fs::read_to_string(&inventory)?;
    ensure!(listed.lines().count() == 4, "the inventory lists {listed}");
    let said = export(stage, "here", &lean).arg("--without").arg(&inventory).succeed()?;
    let said = self::said(&said);
    ensure!(said.contains("left out because the other side has them"), "{said}");
    let everything = stage.path("everything.tar");
    export(stage, "here", &everything).succeed()?;
    let (lean_size, size) = (lean.metadata()?.len(), everything.metadata()?.len());
    ensure!(lean_size + 64 * 1024 < size, "{lean_size} bytes of {size}");

    // A third side lacks what was left out: it says what, and has no tag.
    let said = import(stage, "nowhere", &lean).fail()?;
    ensure!(
        said.contains("base/image:v3: neither in these files nor in this registry: sha256:"),
        "{said}"
    );
    let mut registry = stage.start_registry("nowhere", &Setup::default())?;
    registry.http.get("/v2/base/image/tags/list")?.expect(404)?;
    registry.stop()?;
    registry.check(stage)?;

    import(stage, "there", &lean).succeed()?;
    let copy = stage.path("copy.tar");
    export(stage, "there", &copy).succeed()?;
    ensure!(std::fs::read(&copy)? == std::fs::read(&everything)?, "the sides differ");
    let mut registry = stage.start_registry("there", &Setup::default())?;
    for number in 0..4 {
        registry.http.read_whole("base/image", &format!("v{number}"))?;
    }
    registry.stop()?;
    registry.check(stage)
}

fn killed(stage: &Stage) -> Result<()> {
    const IMAGES: usize = 300;
    let layout = many_images(stage, "many", IMAGES, 4096)?;
    let archive = layout.archive(stage)?;
    let blobs = stage.path("here").join("docker/registry/v2/blobs/sha256");
    for goal in [50, 200] {
        let mut process =
            start(stage, "here", "import", "--from", &archive, &["--name", "many/app"])?;
        wait_until(Duration::from_mins(1), || {
            process.is_running()?;
            let found = count_files(&blobs);
            ensure!(found >= goal, "{found} of {goal} blobs");
            Ok(())
        })?;
        process.kill()?;
    }
    let said = import(stage, "here", &archive).args(["--name", "many/app"]).succeed()?;
    let said = self::said(&said);
    ensure!(said.contains(&format!("imported {IMAGES} images")), "{said}");
    ensure!(!said.contains(" 0 blobs there already"), "{said}");
    let mut registry = stage.start_registry("here", &Setup::default())?;
    ensure!(registry.http.tags("many/app")?.len() == IMAGES);
    for number in (0..IMAGES).step_by(37) {
        ensure!(registry.http.read_whole("many/app", &format!("v{number}"))? == 3);
    }
    registry.stop()?;
    registry.check(stage)?;

    // Out, into a folder.
    let out = stage.path("out");
    let mut process = start(stage, "here", "export", "--to", &out, &[])?;
    wait_until(Duration::from_mins(1), || {
        process.is_running()?;
        let found = count_files(&out.join("blobs/sha256"));
        ensure!(found >= 100, "{found} of 100 blobs");
        Ok(())
    })?;
    process.kill()?;
    ensure!(!out.join("index.json").exists(), "half a layout has an index");
    let said = import(stage, "there", &out).fail()?;
    ensure!(said.contains("it was not written to its end"), "{said}");
    export(stage, "here", &out).succeed()?;
    let whole = stage.path("whole");
    export(stage, "here", &whole).succeed()?;
    stage.client("diff").args(["--recursive", "--brief"]).args([&out, &whole]).succeed()?;
    Ok(())
}

fn damaged(stage: &Stage) -> Result<()> {
    let layout = many_images(stage, "many", 3, 1024)?;
    let index: Value = serde_json::from_slice(&std::fs::read(layout.folder.join("index.json"))?)?;
    let blob_of = |number: usize| -> Result<PathBuf> {
        let manifest = array(&index, "manifests").get(number).context("no such image")?;
        let manifest = std::fs::read(path_of(&layout, text(manifest, "digest")?))?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        let layer = array(&manifest, "layers").last().context("no layer")?;
        Ok(path_of(&layout, text(layer, "digest")?))
    };
    let (changed, removed) = (blob_of(0)?, blob_of(1)?);
    let mut bytes = std::fs::read(&changed)?;
    bytes.reverse();
    std::fs::write(&changed, bytes)?;
    std::fs::remove_file(removed)?;
    for flag in [Some("--dry-run"), None] {
        let said =
            import(stage, "here", &layout.folder).args(["--name", "app"]).args(flag).fail()?;
        for line in [
            "v0: sha256:",
            "its bytes have the digest sha256:",
            "v1: neither in these files nor in this registry: sha256:",
            "2 refused",
        ] {
            ensure!(said.contains(line), "no line has {line:?}: {said}");
        }
    }
    let mut registry = stage.start_registry("here", &Setup::default())?;
    ensure!(registry.http.tags("app")? == ["v2"], "tags of damaged images");
    registry.http.read_whole("app", "v2")?;
    registry.stop()?;
    registry.check(stage)?;

    // A tar that was cut short, and what is none.
    let archive = layout.archive(stage)?;
    let bytes = std::fs::read(&archive)?;
    let cut = stage.file("cut.tar", bytes.get(..3000).unwrap_or_default())?;
    let said = import(stage, "here", &cut).fail()?;
    ensure!(said.contains("cut short"), "{said}");
    let said = import(stage, "here", &stage.file("text.tar", "no tar at all")?).fail()?;
    ensure!(said.contains("found a file that is no tar"), "{said}");
    let said = import(stage, "here", &stage.folder("empty")?).fail()?;
    ensure!(said.contains("a folder with none of these files"), "{said}");
    Ok(())
}

/// A layout of so many images `v0`, `v1` …, which share a layer and have one
/// of so many bytes each.
fn many_images(stage: &Stage, name: &str, count: usize, size: usize) -> Result<Layout> {
    let mut layout = Layout::new(stage, name)?;
    let shared = layout.blob("application/vnd.oci.image.layer.v1.tar", b"shared by all")?;
    for number in 0..count {
        let tag = format!("v{number}");
        let own = layout
            .blob("application/vnd.oci.image.layer.v1.tar", &image::pseudo_random(&tag, size))?;
        let config =
            layout.document(media_type::OCI_CONFIG, &json!({"os": "linux", "tag": tag}))?;
        let manifest = layout.document(
            media_type::OCI_MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_MANIFEST,
                "config": config,
                "layers": [shared, own],
            }),
        )?;
        layout.tag(&manifest, &tag)?;
    }
    Ok(layout)
}

fn path_of(layout: &Layout, digest: &str) -> PathBuf {
    layout.folder.join("blobs").join(digest.replace(':', "/"))
}

/// The files in a folder and in those below it.
fn count_files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.map(|path| if path.is_dir() { count_files(&path) } else { 1 }).sum()
}

/// The digest of the only image in a layout.
fn first_digest(layout: &Path) -> Result<String> {
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json"))?)?;
    image::digest(array(&index, "manifests").first().context("no image")?)
}

fn archive_name(tar: &Path, name: &str) -> String {
    format!("oci-archive:{}:{name}", tar.display())
}

fn skopeo<'a>(stage: &'a Stage, verb: &str) -> Client<'a> {
    stage.client("skopeo").arg(verb)
}

fn skopeo_copy(stage: &Stage, from: &str, to: &str) -> Result<()> {
    skopeo(stage, "copy").args([from, to]).succeed()?;
    Ok(())
}

fn import<'a>(stage: &'a Stage, store: &str, from: &Path) -> Client<'a> {
    orlop(stage, store, "import").arg("--from").arg(from)
}

fn export<'a>(stage: &'a Stage, store: &str, to: &Path) -> Client<'a> {
    orlop(stage, store, "export").arg("--to").arg(to)
}

/// The program, on the store of that name.
fn orlop<'a>(stage: &'a Stage, store: &str, verb: &str) -> Client<'a> {
    stage
        .client(&stage.binary().to_string_lossy())
        .arg(verb)
        .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", stage.path(store))
}

/// The same as a process that can be killed.
fn start(
    stage: &Stage,
    store: &str,
    verb: &'static str,
    flag: &str,
    path: &Path,
    more: &[&str],
) -> Result<Daemon> {
    stage.daemon(verb, stage.binary(), |command| {
        command
            .args([verb, flag])
            .arg(path)
            .args(more)
            .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", stage.path(store));
    })
}

fn said(outcome: &Outcome) -> String {
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&outcome.stderr))
}
