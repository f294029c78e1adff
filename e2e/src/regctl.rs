//! regctl: copies with referrers, artifacts, tags, and sha512 content.

use anyhow::{Result, ensure};

use crate::http::{array, sha512, text};
use crate::image::{self, media_type};
use crate::process::Client;
use crate::registry::Registry;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("regctl: image copy in, across and out", 90, copy),
    Scenario::new("regctl: artifacts and their referrers", 90, artifacts),
    Scenario::new("regctl: tags and manifests", 90, tags),
    Scenario::new("regctl: blobs by sha256 and sha512", 90, blobs),
    Scenario::new("regctl: an image by sha512 alone", 90, sha512_image),
];

fn copy(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, digest, _) = image::multi_arch(stage, "regctl")?;
        let source = format!("ocidir://{}", layout.name("v1"));
        let first = registry.name("team/regctl:v1");
        let second = registry.name("other/regctl:v1");
        let back = format!("ocidir://{}:v1", stage.path("back").display());
        for (from, to) in [(&source, &first), (&first, &second), (&second, &back)] {
            regctl(stage, registry, &["image", "copy", from, to]).succeed()?;
        }
        for repository in ["team/regctl", "other/regctl"] {
            ensure!(registry.http.digest_of(repository, "v1")? == digest);
            ensure!(registry.http.read_whole(repository, "v1")? == 7);
        }
        let listed = regctl(stage, registry, &["repo", "ls", &registry.host]).text()?;
        ensure!(listed == "other/regctl\nteam/regctl", "listed {listed:?}");
        Ok(())
    })
}

fn artifacts(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, _) = image::runnable(stage, "regctl-subject")?;
        let subject = registry.name("team/subject:v1");
        let source = format!("ocidir://{}", layout.name("v1"));
        regctl(stage, registry, &["image", "copy", &source, &subject]).succeed()?;
        for kind in ["sbom", "signature"] {
            let kind = format!("application/vnd.example.{kind}");
            regctl(stage, registry, &["artifact", "put", "--artifact-type", &kind])
                .args(["--annotation", "by=e2e", "--subject", &subject])
                .input(format!("content of {kind}"))
                .succeed()?;
        }
        let list = ["artifact", "list", "--format={{jsonPretty .}}", &subject];
        let all = regctl(stage, registry, &list).json()?;
        ensure!(array(&all, "descriptors").len() == 2, "{all}");
        let kind = "application/vnd.example.sbom";
        let some = regctl(stage, registry, &list).args(["--filter-artifact-type", kind]).json()?;
        ensure!(array(&some, "descriptors").len() == 1, "{some}");
        let content = regctl(stage, registry, &["artifact", "get"])
            .args(["--subject", &subject, "--filter-artifact-type", kind])
            .text()?;
        ensure!(content == format!("content of {kind}"), "got {content:?}");
        let tags = registry.http.tags("team/subject")?;
        ensure!(tags == ["v1"], "the referrers tag schema was used: {tags:?}");

        let copy = registry.name("other/subject:v1");
        regctl(stage, registry, &["image", "copy", "--referrers"])
            .args([&subject, &copy])
            .succeed()?;
        let list = ["artifact", "list", "--format={{jsonPretty .}}", &copy];
        let copied = regctl(stage, registry, &list).json()?;
        ensure!(array(&copied, "descriptors").len() == 2, "{copied}");
        Ok(())
    })
}

fn tags(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, digest) = image::runnable(stage, "regctl-tags")?;
        let source = format!("ocidir://{}", layout.name("v1"));
        for tag in ["v1", "v2", "v3"] {
            let name = registry.name(&format!("team/tags:{tag}"));
            regctl(stage, registry, &["image", "copy", &source, &name]).succeed()?;
        }
        let repository = registry.name("team/tags");
        let page = ["tag", "ls", "--limit=1", "--last=v1", &repository];
        let listed = regctl(stage, registry, &page).text()?;
        ensure!(listed == "v2", "listed {listed:?}");

        let name = registry.name("team/tags:v2");
        let head = ["manifest", "head", "--format={{.GetDescriptor.Digest}}", &name];
        let found = regctl(stage, registry, &head).text()?;
        ensure!(found == digest, "pushed {digest}, found {found}");
        regctl(stage, registry, &["tag", "delete", &name]).succeed()?;
        let left = regctl(stage, registry, &["tag", "ls", &repository]).text()?;
        ensure!(left == "v1\nv3", "left are {left:?}");

        let by_digest = registry.name(&format!("team/tags@{digest}"));
        let pinned = registry.name(&format!("team/tags:v3@{digest}"));
        for name in [&by_digest, &pinned] {
            let get = ["manifest", "get", "--format=raw-body", name];
            let body = regctl(stage, registry, &get).succeed()?.stdout;
            ensure!(crate::http::sha256(&body) == digest, "{name} was altered");
        }
        regctl(stage, registry, &["manifest", "delete", &by_digest]).succeed()?;
        for tag in ["v1", "v3"] {
            let path = format!("/v2/team/tags/manifests/{tag}");
            registry.http.head(&path)?.expect(404)?;
        }
        Ok(())
    })
}

fn blobs(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let repository = registry.name("team/blobs");
        let bytes = image::pseudo_random("regctl", 100_000);
        for digest in [crate::http::sha256(&bytes), sha512(&bytes)] {
            let put = regctl(stage, registry, &["blob", "put", "--digest", &digest, &repository])
                .input(bytes.clone())
                .text()?;
            ensure!(put == digest, "put {digest}, found {put}");
            let get = ["blob", "get", &repository, &digest];
            let got = regctl(stage, registry, &get).succeed()?.stdout;
            ensure!(got == bytes, "{digest} came back altered");
            regctl(stage, registry, &["blob", "head", &repository, &digest]).succeed()?;
            regctl(stage, registry, &["blob", "delete", &repository, &digest]).succeed()?;
            regctl(stage, registry, &["blob", "head", &repository, &digest]).fail()?;
        }
        Ok(())
    })
}

fn sha512_image(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, _) = image::runnable(stage, "regctl-sha512")?;
        let source = format!("ocidir://{}", layout.name("v1"));
        let name = registry.name("team/sha512:v1");
        regctl(stage, registry, &["image", "copy", &source, &name]).succeed()?;
        let made = regctl(stage, registry, &["image", "mod", &name])
            .args(["--digest-algo=sha512", "--create", "v2"])
            .text()?;
        let manifest = registry.http.get_manifest("team/sha512", "v2")?;
        ensure!(manifest.header("content-type") == Some(media_type::OCI_MANIFEST));
        let digest = sha512(&manifest.body);
        let manifest = manifest.json()?;
        for layer in array(&manifest, "layers") {
            let found = text(layer, "digest")?;
            ensure!(found.starts_with("sha512:"), "a layer is {found}\n{made}");
        }
        ensure!(registry.http.read_whole("team/sha512", &digest)? == 4);

        let pinned = registry.name(&format!("team/sha512@{digest}"));
        let back = format!("ocidir://{}", stage.path("back").display());
        regctl(stage, registry, &["image", "copy", &pinned, &back]).succeed()?;
        Ok(())
    })
}

fn regctl<'a>(stage: &'a Stage, registry: &Registry, arguments: &[&str]) -> Client<'a> {
    stage
        .client("regctl")
        .arg("--host")
        .arg(format!("reg={},tls=disabled", registry.host))
        .args(arguments)
}
