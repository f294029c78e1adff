//! Real clients that push images and pull them again.

use std::path::PathBuf;

use anyhow::{Context as _, Error, Result, ensure};

use super::{Client, Kind};
use crate::docker::Docker;
use crate::http::Http;
use crate::image::{self, Layout, pseudo_random};
use crate::process;
use crate::scenario::Stage;

/// Seconds that one command may take.
const LIMIT: &str = "120";

pub(in crate::cluster) enum Tool<'a> {
    Crane,
    Skopeo,
    Docker(Docker<'a>),
}

pub(in crate::cluster) struct Images<'a> {
    stage: &'a Stage,
    tool: Tool<'a>,
    name: &'static str,
    /// The registry, as images are named.
    host: String,
    /// Every image has a repository of its own.
    count: usize,
    /// Pushed or to be pushed.
    image: Option<Image>,
    /// Repositories and digests that were acknowledged; the tag is [`TAG`].
    acknowledged: Vec<(String, String)>,
}

const TAG: &str = "v1";

struct Image {
    folder: PathBuf,
    repository: String,
    /// Known in advance, or when it has been pushed.
    digest: Option<String>,
    is_pushed: bool,
}

impl<'a> Images<'a> {
    pub(in crate::cluster) fn new(stage: &'a Stage, tool: Tool<'a>, host: &str) -> Self {
        let name = match tool {
            Tool::Crane => "crane",
            Tool::Skopeo => "skopeo",
            Tool::Docker(_) => "docker",
        };
        let (host, count) = (host.to_owned(), 0);
        Self { stage, tool, name, host, count, image: None, acknowledged: Vec::new() }
    }

    fn make(&mut self) -> Result<Image> {
        self.count += 1;
        let repository = format!("real/{}-{}", self.name, self.count);
        let name = format!("{}-{}", self.name, self.count);
        let (folder, digest) = if let Tool::Docker(docker) = &self.tool {
            let folder = self.stage.folder(&name)?;
            std::fs::write(folder.join("ballast"), pseudo_random(&name, 700_000))?;
            std::fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY ballast /\n")?;
            let tag = format!("{}/{repository}:{TAG}", self.host);
            docker.client(&["build", "--quiet", "--tag", &tag]).arg(&folder).succeed()?;
            (folder, None)
        } else {
            let (Layout { folder, .. }, digest) = image::runnable(self.stage, &name)?;
            (folder, Some(digest))
        };
        Ok(Image { folder, repository, digest, is_pushed: false })
    }

    fn push(&self, image: &mut Image) -> Result<()> {
        let name = format!("{}/{}:{TAG}", self.host, image.repository);
        match &self.tool {
            Tool::Crane => {
                self.crane("push").arg(&image.folder).arg(&name).succeed()?;
            }
            Tool::Skopeo => {
                let source = format!("oci:{}:{TAG}", image.folder.display());
                self.skopeo(&source, &format!("docker://{name}")).succeed()?;
            }
            Tool::Docker(docker) => image.digest = Some(docker.push(&name)?),
        }
        image.is_pushed = true;
        Ok(())
    }

    /// The digest of what comes back.
    fn pull(&self, image: &Image) -> Result<String> {
        let name = format!("{}/{}:{TAG}", self.host, image.repository);
        let back = image.folder.with_extension("back");
        if let Tool::Docker(docker) = &self.tool {
            docker.remove(&name)?;
            return docker.pull(&name);
        }
        let _ = std::fs::remove_dir_all(&back);
        if let Tool::Crane = self.tool {
            self.crane("pull").args(["--format=oci", &name]).arg(&back).succeed()?;
        } else {
            let target = format!("oci:{}:{TAG}", back.display());
            self.skopeo(&format!("docker://{name}"), &target).succeed()?;
        }
        let index = std::fs::read(back.join("index.json"))?;
        let index: serde_json::Value = serde_json::from_slice(&index)?;
        let pulled = crate::http::array(&index, "manifests").first().context("no image")?;
        image::digest(pulled)
    }

    fn crane(&self, verb: &str) -> process::Client<'a> {
        self.stage.client("timeout").args([LIMIT, "crane", "--insecure", verb])
    }

    fn skopeo(&self, from: &str, to: &str) -> process::Client<'a> {
        let skopeo = self.stage.client("timeout").args([LIMIT, "skopeo", "copy"]);
        skopeo.args(["--src-tls-verify=false", "--dest-tls-verify=false", from, to])
    }
}

impl Client for Images<'_> {
    fn kind(&self) -> Kind {
        Kind::Images
    }

    /// Pushes an image, or pulls the one that was pushed.
    fn work(&mut self) -> Result<Option<Error>> {
        let mut image = match self.image.take() {
            Some(image) => image,
            None => self.make()?,
        };
        if !image.is_pushed {
            let pushed = self.push(&mut image);
            if let (Ok(()), Some(digest)) = (&pushed, &image.digest) {
                self.acknowledged.push((image.repository.clone(), digest.clone()));
            }
            self.image = Some(image);
            return Ok(pushed.err());
        }
        let pulled = match self.pull(&image) {
            Ok(pulled) => pulled,
            Err(error) => {
                self.image = Some(image);
                return Ok(Some(error));
            }
        };
        ensure!(
            image.digest.as_ref() == Some(&pulled),
            "{}: pushed {:?}, pulled {pulled}",
            image.repository,
            image.digest
        );
        for folder in [&image.folder, &image.folder.with_extension("back")] {
            let _ = std::fs::remove_dir_all(folder);
        }
        Ok(None)
    }

    fn check(&mut self, host: &str) -> Result<()> {
        let http = Http::new(host, self.stage.remaining()?);
        for (repository, digest) in &self.acknowledged {
            let found = http.digest_of(repository, TAG)?;
            ensure!(found == *digest, "{repository}: pushed {digest}, found {found}");
            http.read_whole(repository, TAG)?;
        }
        Ok(())
    }

    fn rest(&self) -> usize {
        500
    }
}
