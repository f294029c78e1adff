//! A trace against a server.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::{Action, Extent, Operation, REPOSITORIES, Trace, generate};
use crate::content::{digest_of, name_of};
use crate::http::{Client, Request, Sink};
use crate::load::Done;
use crate::registry::{self, ACCEPT, Blob, Shelf, Upload};
use crate::seed;
use crate::server::Server;

/// A trace, and the content that is stored before it begins.
pub(crate) struct Stage {
    trace: Trace,
    stored: Vec<Blob>,
    config: (Vec<u8>, String),
}

impl Stage {
    pub(crate) fn new(extent: Extent) -> Self {
        let trace = generate(extent);
        eprintln!("        {trace}");
        let stored = (0..trace.stored_layers).zip(&trace.layers);
        let stored = stored.map(|(number, layer)| Blob::new(&format!("mix/{number}"), layer.size));
        Self { stored: stored.collect(), trace, config: registry::config() }
    }

    pub(crate) fn operations(&self) -> u64 {
        self.trace.operations.len() as u64
    }

    pub(crate) fn requests(&self) -> u64 {
        self.trace.requests()
    }

    /// Makes sure that the server has what is stored, and checks some of it.
    pub(crate) fn store(&self, server: &Server) -> anyhow::Result<()> {
        let nothing_pushed = Replay::of(self, "", Vec::new());
        let mut client = server.client();
        let last = nothing_pushed.image_target(self.trace.stored_images - 1)?;
        let head = Request::new("HEAD", server.address(), &last, &[("Accept", ACCEPT)]);
        if client.send(&head, Sink::Discard)?.status == 200 {
            return Ok(());
        }
        let (config, digest) = &self.config;
        for number in 0..REPOSITORIES {
            registry::push_bytes(&mut client, &repository(number), digest, config)?;
        }
        seed::in_parallel(server, self.trace.stored_layers as u64, |client, number| {
            nothing_pushed.push_blob(client, usize::try_from(number)?, Upload::Monolithic)?;
            Ok(())
        })?;
        seed::in_parallel(server, self.trace.stored_images as u64, |client, number| {
            nothing_pushed.put_manifest(client, usize::try_from(number)?)?;
            Ok(())
        })?;
        for layer in (0..self.trace.stored_layers).step_by(20) {
            nothing_pushed.check_blob(&mut client, layer)?;
        }
        nothing_pushed.check_manifest(&mut client, self.trace.stored_images - 1)
    }
}

/// One replay, which pushes what no other replay pushes.
pub(crate) struct Replay<'a> {
    stage: &'a Stage,
    edition: &'a str,
    /// The layers that are pushed.
    pushed: Vec<Blob>,
    finished: Vec<OnceLock<()>>,
    /// How long operations waited for those that they follow.
    waited: Mutex<HashMap<u64, Duration>>,
}

impl<'a> Replay<'a> {
    /// `edition` tells replays against the same server apart.
    pub(crate) fn new(stage: &'a Stage, shelf: &Shelf, edition: &'a str) -> Self {
        let layers = (0..).zip(&stage.trace.layers).skip(stage.trace.stored_layers);
        let pushed = layers
            .map(|(number, layer)| shelf.blob(format!("mix/{edition}/{number}"), layer.size))
            .collect();
        Self::of(stage, edition, pushed)
    }

    fn of(stage: &'a Stage, edition: &'a str, pushed: Vec<Blob>) -> Self {
        let finished = stage.trace.operations.iter().map(|_| OnceLock::new()).collect();
        Self { stage, edition, pushed, finished, waited: Mutex::default() }
    }

    /// Does one operation, as soon as those that it follows are done; tells its bytes.
    pub(crate) fn operate(&self, client: &mut Client, number: u64) -> anyhow::Result<u64> {
        let index = usize::try_from(number)?;
        let operation = self.stage.trace.operations.get(index).context("no such operation")?;
        self.wait(number, operation);
        let result = self.perform(client, operation);
        // Also if it failed: nobody must wait for ever.
        if let Some(finished) = self.finished.get(index) {
            finished.get_or_init(|| ());
        }
        result
    }

    /// An operation's time without what it waited for others: that is the clients' affair.
    pub(crate) fn own_time(&self, done: &Done) -> Done {
        let waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = waited.get(&done.number).copied().unwrap_or_default();
        Done { time: done.time.saturating_sub(waited), ..*done }
    }

    fn wait(&self, number: u64, operation: &Operation) {
        let begin = Instant::now();
        let before = operation.after.iter().filter_map(|&before| self.finished.get(before));
        let unfinished: Vec<_> = before.filter(|finished| finished.get().is_none()).collect();
        if unfinished.is_empty() {
            return;
        }
        for finished in unfinished {
            finished.wait();
        }
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        waited.insert(number, begin.elapsed());
    }

    /// What the replay has pushed comes back.
    pub(crate) fn check(&self, server: &Server) -> anyhow::Result<()> {
        let mut client = server.client();
        for layer in (self.stage.trace.stored_layers..self.stage.trace.layers.len()).step_by(10) {
            self.check_blob(&mut client, layer)?;
        }
        self.check_manifest(&mut client, self.stage.trace.images.len() - 1)
    }

    fn perform(&self, client: &mut Client, operation: &Operation) -> anyhow::Result<u64> {
        match operation.action {
            Action::GetBlob(layer) => {
                let found = ask(client, "GET", &self.blob_target(layer)?)?;
                let expected = self.blob(layer)?.content.length();
                ensure!(found == expected, "expected {expected} bytes, found {found}");
                Ok(found)
            }
            Action::HeadBlob(layer) => ask(client, "HEAD", &self.blob_target(layer)?),
            Action::GetManifest(image) => ask(client, "GET", &self.image_target(image)?),
            Action::HeadManifest(image) => ask(client, "HEAD", &self.image_target(image)?),
            Action::PutManifest(image) => self.put_manifest(client, image),
            Action::StreamBlob(layer) => self.push_blob(client, layer, Upload::Stream),
            Action::PutBlob(layer) => self.push_blob(client, layer, Upload::Monolithic),
        }
    }

    fn push_blob(&self, client: &mut Client, layer: usize, upload: Upload) -> anyhow::Result<u64> {
        registry::push(client, &self.layer_repository(layer)?, self.blob(layer)?, upload)
    }

    fn put_manifest(&self, client: &mut Client, image: usize) -> anyhow::Result<u64> {
        let manifest = self.manifest(image)?;
        let put = registry::manifest_put(
            client.address(),
            &self.image_repository(image)?,
            &self.tag(image),
            &manifest,
        );
        client.send(&put, Sink::Discard)?.expect(201, "PUT of a manifest")?;
        Ok(manifest.len() as u64)
    }

    fn check_blob(&self, client: &mut Client, layer: usize) -> anyhow::Result<()> {
        check(client, &self.blob_target(layer)?, &self.blob(layer)?.digest)
    }

    fn check_manifest(&self, client: &mut Client, image: usize) -> anyhow::Result<()> {
        check(client, &self.image_target(image)?, &digest_of(&self.manifest(image)?))
    }

    fn manifest(&self, image: usize) -> anyhow::Result<Vec<u8>> {
        let (config, digest) = &self.stage.config;
        let numbers = &self.stage.trace.images.get(image).context("no such image")?.layers;
        let layers = numbers.iter().map(|&layer| self.blob(layer).cloned());
        let layers = layers.collect::<anyhow::Result<Vec<Blob>>>()?;
        Ok(registry::manifest((digest, config.len()), &layers, &self.tag(image)))
    }

    fn image_target(&self, image: usize) -> anyhow::Result<String> {
        Ok(format!("/v2/{}/manifests/{}", self.image_repository(image)?, self.tag(image)))
    }

    fn blob_target(&self, layer: usize) -> anyhow::Result<String> {
        let digest = &self.blob(layer)?.digest;
        Ok(format!("/v2/{}/blobs/{digest}", self.layer_repository(layer)?))
    }

    fn image_repository(&self, image: usize) -> anyhow::Result<String> {
        let image = self.stage.trace.images.get(image).context("no such image")?;
        Ok(repository(image.repository))
    }

    fn layer_repository(&self, layer: usize) -> anyhow::Result<String> {
        let layer = self.stage.trace.layers.get(layer).context("no such layer")?;
        Ok(repository(layer.repository))
    }

    fn tag(&self, image: usize) -> String {
        let is_stored = image < self.stage.trace.stored_images;
        format!("{}-{image}", if is_stored { "stored" } else { self.edition })
    }

    fn blob(&self, layer: usize) -> anyhow::Result<&Blob> {
        let stored = &self.stage.stored;
        let pushed = layer.checked_sub(stored.len());
        pushed
            .map_or_else(|| stored.get(layer), |layer| self.pushed.get(layer))
            .context("no such blob")
    }
}

fn repository(number: usize) -> String {
    format!("mix/r{number}")
}

fn ask(client: &mut Client, method: &str, target: &str) -> anyhow::Result<u64> {
    let request = Request::new(method, client.address(), target, &[("Accept", ACCEPT)]);
    Ok(client.send(&request, Sink::Discard)?.expect(200, target)?.received)
}

fn check(client: &mut Client, target: &str, digest: &str) -> anyhow::Result<()> {
    let mut hash = Sha256::new();
    let request = Request::new("GET", client.address(), target, &[("Accept", ACCEPT)]);
    client.send(&request, Sink::Hash(&mut hash))?.expect(200, target)?;
    let found = name_of(hash);
    ensure!(found == digest, "GET {target}: the bytes are {found}");
    Ok(())
}
