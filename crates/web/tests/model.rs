//! Random operations, by a simple model in memory and by the registry: both must say the same.
//!
//! `ORLOP_TEST_SEED` repeats a run.

// Clippy lets tests panic, but not yet the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use oci::media_type::{OCI_EMPTY, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use serde_json::json;
use support::{Random, TestRegistry, live_body, sha256, sha512};

const REPOSITORIES: [&str; 4] = ["a", "a/b", "a-b", "z"];
const TAGS: [&str; 5] = ["1.0", "Latest", "_", "latest", "v2"];
const ARTIFACT_TYPES: [&str; 2] = ["application/vnd.a", "application/vnd.b"];
const SEEDS: u64 = 8;
const STEPS: usize = 400;

/// What the registry should be like.
#[derive(Default)]
struct Model {
    repositories: BTreeMap<&'static str, Repository>,
    /// Content whose sha512 digest the registry has computed.
    with_sha512: BTreeSet<Vec<u8>>,
}

#[derive(Default)]
struct Repository {
    blobs: BTreeSet<Vec<u8>>,
    manifests: BTreeMap<String, Manifest>,
    tags: BTreeMap<&'static str, String>,
    uploads: Vec<Upload>,
}

#[derive(Clone)]
struct Manifest {
    content: String,
    media_type: &'static str,
    artifact_type: Option<&'static str>,
    subject: Option<String>,
    blobs: Vec<Vec<u8>>,
    children: Vec<String>,
}

struct Upload {
    location: String,
    content: Vec<u8>,
    /// Where it is heading.
    goal: Vec<u8>,
}

impl Model {
    fn repository(&mut self, name: &'static str) -> &mut Repository {
        self.repositories.entry(name).or_default()
    }

    /// The content that the repository serves under a digest.
    fn blob(&self, repository: &str, digest: &str) -> Option<&Vec<u8>> {
        self.repositories.get(repository)?.blobs.iter().find(|content| {
            sha256(content) == digest
                || (self.with_sha512.contains(*content) && sha512(content) == digest)
        })
    }

    fn manifest(&self, repository: &str, reference: &str) -> Option<(String, Manifest)> {
        let repository = self.repositories.get(repository)?;
        let digest = repository.tags.get(reference).map_or(reference, String::as_str);
        repository.manifests.get(digest).map(|manifest| (digest.to_owned(), manifest.clone()))
    }

    fn store(&mut self, repository: &'static str, content: &[u8], digest: &str) {
        if digest.starts_with("sha512") {
            self.with_sha512.insert(content.to_vec());
        }
        let repository = self.repository(repository);
        repository.blobs.insert(content.to_vec());
    }
}

/// A run: the model, the registry, and the dice.
struct Run {
    model: Model,
    registry: TestRegistry,
    random: Random,
}

impl Run {
    async fn step(&mut self) {
        match self.random.below(20) {
            0..=2 => self.push_blob().await,
            3 => self.begin_upload().await,
            4..=6 => self.go_on_with_upload().await,
            7 => self.mount().await,
            8..=11 => self.put_manifest().await,
            12 => self.delete_manifest().await,
            13 => self.delete_blob().await,
            14 => self.get_blob().await,
            15 | 16 => self.get_manifest().await,
            17 => self.list_tags().await,
            18 => self.list_repositories().await,
            _ => self.list_referrers().await,
        }
    }

    fn name(&mut self) -> &'static str {
        self.random.pick(&REPOSITORIES)
    }

    /// One of a few contents, so that they meet again.
    fn content(&mut self) -> Vec<u8> {
        let number = self.random.below(10);
        if number == 0 {
            Vec::new()
        } else {
            format!("content {number}").repeat(number).into_bytes()
        }
    }

    fn digest(&mut self, content: &[u8]) -> String {
        if self.random.once_in(4) { sha512(content) } else { sha256(content) }
    }

    async fn push_blob(&mut self) {
        let (name, content) = (self.name(), self.content());
        let wrong = self.random.once_in(8);
        let digest = if wrong { sha256(b"wrong") } else { self.digest(&content) };
        let target = format!("/v2/{name}/blobs/uploads/");
        let with_digest = |target: String| format!("{target}?digest={digest}");
        let request = if self.random.once_in(2) {
            self.registry.request(Method::POST, with_digest(target))
        } else {
            let upload = self.registry.begin_upload(name).await;
            self.registry.request(Method::PUT, with_digest(upload))
        };
        let answer = request.body(content.clone()).send().await;
        if wrong {
            answer.refused(400, "DIGEST_INVALID");
        } else {
            assert_eq!(answer.status(201).header("docker-content-digest"), digest);
            self.model.store(name, &content, &digest);
        }
    }

    async fn begin_upload(&mut self) {
        let (name, goal) = (self.name(), self.content());
        let location = self.registry.begin_upload(name).await;
        let repository = self.model.repository(name);
        repository.uploads.push(Upload { location, content: Vec::new(), goal });
    }

    /// Does something with an upload that was left half-way.
    async fn go_on_with_upload(&mut self) {
        let name = self.name();
        let count = self.model.repository(name).uploads.len();
        if count == 0 {
            return self.begin_upload().await;
        }
        let place = self.random.below(count);
        let mut upload = self.model.repository(name).uploads.swap_remove(place);
        let received = upload.content.len();
        let range = format!("0-{}", received.saturating_sub(1));
        let rest = upload.goal[received..].to_vec();
        let part = rest[..self.random.below(rest.len() + 1)].to_vec();
        let location = upload.location.clone();
        let keeps = match self.random.below(8) {
            // A chunk with its range.
            0 if !part.is_empty() => {
                let range = format!("{received}-{}", received + part.len() - 1);
                let patch = self.registry.request(Method::PATCH, &location);
                let patch = patch.header("content-range", range).body(part.clone());
                patch.send().await.expect(202);
                upload.content.extend(part);
                true
            }
            // One that is out of order.
            1 => {
                let start = received + 1 + self.random.below(5);
                let patch = self.registry.request(Method::PATCH, &location);
                let patch = patch.header("content-range", format!("{start}-{start}")).body("x");
                let answer = patch.send().await.refused(416, "RANGE_INVALID");
                assert_eq!(answer.header("range"), range);
                true
            }
            // A stream that breaks off.
            2 => {
                let (sender, body) = live_body();
                let patch = self.registry.request(Method::PATCH, &location).live_body(body).spawn();
                sender.send(part.clone()).await;
                sender.break_off().await;
                patch.await.unwrap().refused(400, "BLOB_UPLOAD_INVALID");
                upload.content.extend(part);
                true
            }
            3 => {
                let answer = self.registry.get(&location).await.status(204);
                assert_eq!(answer.header("range"), range);
                true
            }
            4 => {
                self.registry.delete(&location).await.expect(204);
                self.registry.get(&location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
                false
            }
            // The end, perhaps too early.
            5 | 6 => {
                let digest = self.digest(&upload.goal);
                let body = if self.random.once_in(4) { part } else { rest };
                let put = self.registry.request(Method::PUT, format!("{location}?digest={digest}"));
                let answer = put.body(body.clone()).send().await;
                upload.content.extend(body);
                if upload.content == upload.goal {
                    assert_eq!(answer.status(201).header("docker-content-digest"), digest);
                    self.model.store(name, &upload.goal, &digest);
                } else {
                    answer.refused(400, "DIGEST_INVALID");
                }
                self.registry.get(&location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
                false
            }
            // A stream.
            _ => {
                let patch = self.registry.request(Method::PATCH, &location).body(part.clone());
                patch.send().await.expect(202);
                upload.content.extend(part);
                true
            }
        };
        if keeps {
            self.model.repository(name).uploads.push(upload);
        }
    }

    async fn mount(&mut self) {
        let (name, from, content) = (self.name(), self.name(), self.content());
        let digest = self.digest(&content);
        let anywhere = self.random.once_in(3);
        let query = if anywhere { String::new() } else { format!("&from={from}") };
        let target = format!("/v2/{name}/blobs/uploads/?mount={digest}{query}");
        let answer = self.registry.request(Method::POST, target).send().await;
        let served = |from| self.model.blob(from, &digest).is_some();
        let found = if anywhere { REPOSITORIES.into_iter().any(served) } else { served(from) };
        if found {
            assert_eq!(answer.status(201).header("docker-content-digest"), digest);
            self.model.store(name, &content, &digest);
        } else {
            let location = answer.status(202).header("location").to_owned();
            let repository = self.model.repository(name);
            repository.uploads.push(Upload { location, content: Vec::new(), goal: content });
        }
    }

    async fn put_manifest(&mut self) {
        let name = self.name();
        let manifest = self.invent_manifest(name);
        let digest = self.digest(manifest.content.as_bytes());
        let tag: Option<&'static str> = self.random.once_in(4).then(|| self.random.pick(&TAGS));
        let by_tag: Option<&'static str> = self.random.once_in(2).then(|| self.random.pick(&TAGS));
        let digest = if by_tag.is_some() { sha256(manifest.content.as_bytes()) } else { digest };
        let reference = by_tag.map_or(digest.clone(), str::to_owned);
        let query = tag.map_or(String::new(), |tag| format!("?tag={tag}"));

        let tags = by_tag.into_iter().chain(tag).collect::<BTreeSet<_>>();
        let targets = if tags.is_empty() { [reference.as_str()].into() } else { tags };
        let condition = self.invent_condition(name, &targets);
        let mut put =
            self.registry.request(Method::PUT, format!("/v2/{name}/manifests/{reference}{query}"));
        if let Some((header, value, _)) = &condition {
            put = put.header(header, value);
        }
        let put = put.header("content-type", manifest.media_type);
        let answer = put.body(manifest.content.clone()).send().await;

        if condition.is_some_and(|(_, _, holds)| !holds) {
            answer.refused(412, "PRECONDITION_FAILED");
            return;
        }
        let repository = self.model.repository(name);
        let blobs = manifest.blobs.iter().filter(|blob| !repository.blobs.contains(*blob));
        let children =
            manifest.children.iter().filter(|child| !repository.manifests.contains_key(*child));
        let missing = blobs.map(|blob| sha256(blob)).chain(children.cloned());
        let missing = missing.collect::<BTreeSet<_>>();
        if !missing.is_empty() {
            let answer = answer.refused(400, "MANIFEST_BLOB_UNKNOWN");
            let json = answer.json();
            let named = json["errors"].as_array().unwrap().iter();
            let named = named.map(|error| error["detail"]["digest"].as_str().unwrap().to_owned());
            assert_eq!(named.collect::<BTreeSet<_>>(), missing);
            return;
        }
        let answer = answer.status(201);
        assert_eq!(answer.header("docker-content-digest"), digest);
        assert_eq!(answer.get("oci-subject"), manifest.subject.as_deref());
        for tag in by_tag.into_iter().chain(tag) {
            repository.tags.insert(tag, digest.clone());
        }
        if digest.starts_with("sha512") {
            self.model.with_sha512.insert(manifest.content.clone().into_bytes());
        }
        self.model.repository(name).manifests.insert(digest, manifest);
    }

    /// A manifest out of contents that the repository has, or perhaps has not.
    fn invent_manifest(&mut self, name: &'static str) -> Manifest {
        let subject = self.random.once_in(3).then(|| self.some_manifest(name));
        let artifact_type: Option<&'static str> =
            self.random.once_in(2).then(|| self.random.pick(&ARTIFACT_TYPES));
        let is_index = self.random.once_in(4);
        let mut blobs = Vec::new();
        let mut children = Vec::new();
        let mut json = if is_index {
            children = (0..self.random.below(3)).map(|_| self.some_manifest(name)).collect();
            let child =
                |digest: &String| json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": 1 });
            let children = children.iter().map(child).collect::<Vec<_>>();
            json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children })
        } else {
            blobs = (0..=self.random.below(3)).map(|_| self.some_blob(name)).collect();
            let layers = blobs[1..].iter().map(|blob| support::images::descriptor(OCI_LAYER, blob));
            json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST,
                "config": support::images::descriptor(OCI_EMPTY, &blobs[0]),
                "layers": layers.collect::<Vec<_>>(),
            })
        };
        if let Some(artifact_type) = artifact_type {
            json["artifactType"] = json!(artifact_type);
        }
        if let Some(subject) = &subject {
            json["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": subject, "size": 1 });
        }
        json["annotations"] = json!({ "n": self.random.below(3).to_string() });
        Manifest {
            content: json.to_string(),
            media_type: if is_index { OCI_INDEX } else { OCI_MANIFEST },
            artifact_type: artifact_type.or((!is_index).then_some(OCI_EMPTY)),
            subject,
            blobs,
            children,
        }
    }

    fn some_blob(&mut self, name: &'static str) -> Vec<u8> {
        let blobs = self.model.repository(name).blobs.iter().cloned().collect::<Vec<_>>();
        if blobs.is_empty() || self.random.once_in(15) {
            self.content()
        } else {
            self.random.pick(&blobs)
        }
    }

    /// The digest of a manifest that the repository has, or perhaps has not.
    fn some_manifest(&mut self, name: &'static str) -> String {
        let digests = self.model.repository(name).manifests.keys().cloned().collect::<Vec<_>>();
        if digests.is_empty() || self.random.once_in(10) {
            sha256(b"missing")
        } else {
            self.random.pick(&digests)
        }
    }

    /// A tag or a digest that exists, or perhaps not.
    fn some_reference(&mut self, name: &'static str) -> String {
        if self.random.once_in(2) {
            (self.random.pick(&TAGS)).to_owned()
        } else {
            self.some_manifest(name)
        }
    }

    /// A condition, and whether it holds for all of these.
    fn invent_condition(
        &mut self,
        name: &'static str,
        targets: &BTreeSet<&str>,
    ) -> Option<(&'static str, String, bool)> {
        let current = |target: &&str| self.model.manifest(name, target).map(|(digest, _)| digest);
        let current = targets.iter().map(current).collect::<Vec<_>>();
        let guess = self.some_manifest(name);
        let tag = format!("\"{guess}\"");
        let is_guess = |found: &Option<String>| found.as_ref() == Some(&guess);
        match self.random.below(12) {
            0 => Some(("if-match", "*".to_owned(), current.iter().all(Option::is_some))),
            1 => Some(("if-none-match", "*".to_owned(), current.iter().all(Option::is_none))),
            2 => Some(("if-match", tag, current.iter().all(is_guess))),
            3 => Some(("if-none-match", tag, !current.iter().any(is_guess))),
            _ => None,
        }
    }

    async fn delete_manifest(&mut self) {
        let name = self.name();
        let reference = self.some_reference(name);
        let answer = self.registry.delete(format!("/v2/{name}/manifests/{reference}")).await;
        let repository = self.model.repository(name);
        let deleted = if reference.contains(':') {
            repository.tags.retain(|_, digest| *digest != reference);
            repository.manifests.remove(&reference).is_some()
        } else {
            repository.tags.remove(reference.as_str()).is_some()
        };
        if deleted {
            answer.expect(202);
        } else {
            answer.refused(404, "MANIFEST_UNKNOWN");
        }
    }

    async fn delete_blob(&mut self) {
        let (name, content) = (self.name(), self.content());
        let digest = self.digest(&content);
        let served = self.model.blob(name, &digest).is_some();
        let answer = self.registry.delete(format!("/v2/{name}/blobs/{digest}")).await;
        if served {
            answer.expect(202);
            self.model.repository(name).blobs.remove(&content);
        } else {
            answer.refused(404, "BLOB_UNKNOWN");
        }
    }

    async fn get_blob(&mut self) {
        let (name, content) = (self.name(), self.content());
        let digest = self.digest(&content);
        let target = format!("/v2/{name}/blobs/{digest}");
        let (get, head) = (self.registry.get(&target).await, self.registry.head(&target).await);
        if self.model.blob(name, &digest).is_some() {
            assert_eq!(get.status(200).body, content);
            assert_eq!(head.status(200).header("content-length"), content.len().to_string());
        } else {
            get.refused(404, "BLOB_UNKNOWN");
            head.expect(404);
        }
    }

    async fn get_manifest(&mut self) {
        let name = self.name();
        let reference = self.some_reference(name);
        let target = format!("/v2/{name}/manifests/{reference}");
        let (get, head) = (self.registry.get(&target).await, self.registry.head(&target).await);
        match self.model.manifest(name, &reference) {
            Some((digest, manifest)) => {
                assert_eq!(head.status(200).header("docker-content-digest"), digest);
                assert_eq!(get.header("docker-content-digest"), digest);
                assert_eq!(get.header("content-type"), manifest.media_type);
                assert_eq!(get.status(200).body, manifest.content);
            }
            None => {
                get.refused(404, "MANIFEST_UNKNOWN");
            }
        }
    }

    /// `n` and `last` of a list, and what of `all` they leave.
    fn page(&mut self, all: &[String]) -> (String, Vec<String>, bool) {
        let size = self.random.below(all.len() + 2);
        let last: Option<String> =
            (!all.is_empty() && self.random.once_in(2)).then(|| self.random.pick(all));
        let rest = all.iter().filter(|item| last.as_ref().is_none_or(|last| *item > last));
        let rest = rest.cloned().collect::<Vec<_>>();
        let last = last.map_or(String::new(), |last| format!("&last={last}"));
        let page = rest[..size.min(rest.len())].to_vec();
        let more = size > 0 && rest.len() > size;
        (format!("n={size}{last}"), page, more)
    }

    async fn list_tags(&mut self) {
        let name = self.name();
        let all = self.model.repository(name).tags.keys().map(|tag| (*tag).to_owned());
        let all = all.collect::<Vec<_>>();
        let (query, page, more) = self.page(&all);
        let answer = self.registry.get(format!("/v2/{name}/tags/list?{query}")).await;
        if self.model.repository(name).manifests.is_empty() {
            answer.refused(404, "NAME_UNKNOWN");
        } else {
            let answer = answer.status(200);
            assert_eq!(answer.list("tags"), page, "{query} of {all:?}");
            assert_eq!(answer.next_page().is_some(), more, "{query} of {all:?}");
        }
    }

    async fn list_repositories(&mut self) {
        let listed = REPOSITORIES
            .into_iter()
            .filter(|name| !self.model.repository(name).manifests.is_empty());
        let mut all = listed.map(str::to_owned).collect::<Vec<_>>();
        all.sort();
        let (query, page, more) = self.page(&all);
        let answer = self.registry.get(format!("/v2/_catalog?{query}")).await.status(200);
        assert_eq!(answer.list("repositories"), page, "{query} of {all:?}");
        assert_eq!(answer.next_page().is_some(), more, "{query} of {all:?}");
    }

    async fn list_referrers(&mut self) {
        let name = self.name();
        let subject = self.some_manifest(name);
        let kind: Option<&'static str> =
            self.random.once_in(2).then(|| self.random.pick(&ARTIFACT_TYPES));
        let referrers = self.model.repository(name).manifests.iter().filter(|(_, manifest)| {
            manifest.subject.as_ref() == Some(&subject)
                && (kind.is_none() || manifest.artifact_type == kind)
        });
        let all = referrers.map(|(digest, _)| digest.clone()).collect::<Vec<_>>();
        let filter = kind.map_or(String::new(), |kind| format!("?artifactType={kind}"));
        let answer = self.registry.get(format!("/v2/{name}/referrers/{subject}{filter}")).await;
        let json = answer.status(200).json();
        let found = json["manifests"].as_array().unwrap().iter();
        let found = found.map(|found| found["digest"].as_str().unwrap().to_owned());
        assert_eq!(found.collect::<Vec<_>>(), all);
    }

    /// Everything, one by one, at the end.
    async fn compare_all(&mut self) {
        for name in REPOSITORIES {
            let repository = self.model.repository(name);
            let blobs = repository.blobs.iter().cloned().collect::<Vec<_>>();
            let manifests = repository.manifests.clone();
            let tags = repository.tags.clone();
            for blob in blobs {
                let answer = self.registry.get(format!("/v2/{name}/blobs/{}", sha256(&blob))).await;
                assert_eq!(answer.status(200).body, blob);
            }
            for (digest, manifest) in manifests {
                let answer = self.registry.get(format!("/v2/{name}/manifests/{digest}")).await;
                assert_eq!(answer.status(200).body, manifest.content);
            }
            for (tag, digest) in tags {
                let answer = self.registry.get(format!("/v2/{name}/manifests/{tag}")).await;
                assert_eq!(answer.status(200).header("docker-content-digest"), digest);
            }
        }
        let check = self.registry.registry.check(false, |_| {}).await.unwrap();
        assert!(check.findings.is_empty(), "{:?}", check.findings);
    }
}

#[tokio::test]
async fn the_registry_does_what_the_model_does() {
    let first = Random::seed("model");
    let mut runs = Vec::new();
    for seed in first..first.wrapping_add(SEEDS) {
        let random = Random::new(seed);
        let mut run = Run { model: Model::default(), registry: TestRegistry::new().await, random };
        runs.push(tokio::spawn(async move {
            for _ in 0..STEPS {
                run.step().await;
            }
            run.compare_all().await;
        }));
    }
    for run in runs {
        run.await.unwrap();
    }
}

/// Many clients at once: no answer can be foretold, but what is left must make sense.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_clients_leave_makes_sense() {
    const CLIENTS: u64 = 8;
    const STEPS: usize = 120;
    let seed = Random::seed("concurrent");
    let registry = std::sync::Arc::new(TestRegistry::new().await);
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let mut random = Random::new(seed.wrapping_add(client));
        let registry = std::sync::Arc::clone(&registry);
        clients.push(tokio::spawn(async move {
            for _ in 0..STEPS {
                act(&registry, &mut random).await;
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_sensible(&registry).await;
}

/// One client does one thing. Every answer is checked for what holds for all (no 5xx, …).
async fn act(registry: &TestRegistry, random: &mut Random) {
    let name = random.pick(&REPOSITORIES[..2]);
    let content = format!("content {}", random.below(6)).into_bytes();
    let digest = sha256(&content);
    let tag = random.pick(&TAGS);
    match random.below(10) {
        0..=3 => {
            let manifest = support::images::image(&content, &[]);
            let reference =
                if random.once_in(4) { sha256(manifest.as_bytes()) } else { tag.to_owned() };
            registry.push_blob(name, &content).await;
            let answer = registry.put_manifest(name, &reference, OCI_MANIFEST, &manifest).await;
            // Another client may have taken the blob away again.
            assert!(answer.status == 201 || answer.code() == "MANIFEST_BLOB_UNKNOWN", "{answer}");
        }
        4 => {
            let upload = registry.begin_upload(name).await;
            let patch =
                |part: &[u8]| registry.request(Method::PATCH, &upload).body(part.to_vec()).spawn();
            let (first, second) = (patch(&content[..4]), patch(&content[4..]));
            first.await.unwrap().expect(202);
            second.await.unwrap().expect(202);
            // Whichever came first, what is stored has its digest.
            let put = registry.request(Method::PUT, format!("{upload}?digest={digest}"));
            let answer = put.send().await;
            assert!(answer.status == 201 || answer.code() == "DIGEST_INVALID", "{answer}");
        }
        5 => {
            let target = format!("/v2/{name}/blobs/uploads/?mount={digest}");
            let answer = registry.request(Method::POST, target).send().await;
            assert!(matches!(answer.status, 201 | 202), "{answer}");
        }
        6 => drop(registry.delete(format!("/v2/{name}/blobs/{digest}")).await),
        7 => drop(registry.delete(format!("/v2/{name}/manifests/{tag}")).await),
        8 => {
            let manifest = support::images::image(&content, &[]);
            let digest = sha256(manifest.as_bytes());
            registry.delete(format!("/v2/{name}/manifests/{digest}")).await;
        }
        _ => {
            let answer = registry.get(format!("/v2/{name}/manifests/{tag}")).await;
            if answer.status == 200 {
                assert_eq!(sha256(&answer.body), answer.header("docker-content-digest"));
            }
        }
    }
}

/// Every tag leads to a manifest that has its digest, and lists agree with what can be pulled.
async fn assert_sensible(registry: &TestRegistry) {
    let listed = registry.get("/v2/_catalog").await.status(200).list("repositories");
    for name in REPOSITORIES {
        let answer = registry.get(format!("/v2/{name}/tags/list")).await;
        assert_eq!(answer.status == 200, listed.iter().any(|listed| listed == name), "{answer}");
        let tags = if answer.status == 200 { answer.list("tags") } else { Vec::new() };
        for tag in TAGS {
            let answer = registry.get(format!("/v2/{name}/manifests/{tag}")).await;
            assert_eq!(answer.status == 200, tags.iter().any(|listed| listed == tag), "{answer}");
            if answer.status == 200 {
                let digest = answer.header("docker-content-digest");
                assert_eq!(sha256(&answer.body), digest);
                registry.get(format!("/v2/{name}/manifests/{digest}")).await.expect(200);
            }
        }
    }
    let check = registry.registry.check(false, |_| {}).await.unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
    assert!(registry.upload_files().iter().all(|file| file.metadata().unwrap().len() == 0));
}
