//! Random operations at any of several servers: what they say and leave must be what one would.
//!
//! `ORLOP_TEST_SEED` repeats a run.

use std::collections::BTreeMap;

use oci::{Digest, Reference};
use registry::{ChunkRange, Error, ManifestPush, Registry};

use crate::cluster::{Cluster, all, live, name};
use crate::random::Random;

const STEPS: usize = 400;
const TAGS: [&str; 3] = ["1.0", "latest", "v2"];

/// A session that was left half-way.
struct Upload {
    id: String,
    content: Vec<u8>,
}

#[derive(Default)]
struct Model {
    uploads: Vec<Upload>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    tags: BTreeMap<&'static str, Digest>,
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_do_what_one_would() {
    let cluster = Cluster::start().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(cluster.replica().await);
    }
    let mut random = Random::new(Random::seed("replicas"));
    let mut model = Model::default();
    for _ in 0..STEPS {
        let replica = &random.pick(&replicas);
        match random.below(10) {
            0 | 1 => {
                let id = replica.begin_upload(name(), None).await.unwrap().id;
                model.uploads.push(Upload { id, content: Vec::new() });
            }
            2..=6 => go_on(replica, &mut model, &mut random).await,
            7 => {
                let tag = random.pick(&TAGS);
                let digest = push(replica, tag, random.below(5)).await;
                model.tags.insert(tag, digest);
            }
            8 => {
                let tag = random.pick(&TAGS);
                let deleted =
                    replica.delete_manifest(name(), &tag.parse().unwrap(), Vec::new()).await;
                assert_eq!(deleted.is_ok(), model.tags.remove(tag).is_some());
            }
            _ => drop(replica.purge_uploads(3600).await.unwrap()),
        }
        // What one has done, all others tell.
        let replica = &random.pick(&replicas);
        let tag = random.pick(&TAGS);
        match replica.pull_manifest(name(), &tag.parse().unwrap()).await {
            Ok(pulled) => assert_eq!(Some(&pulled.digest), model.tags.get(tag)),
            Err(error) => assert!(!model.tags.contains_key(tag), "{error}"),
        }
    }
    for (digest, content) in &model.blobs {
        assert_eq!(replicas[0].stat_blob(name(), digest).await.unwrap(), content.len() as u64);
        assert_eq!(&cluster.content(digest), content);
    }
    let found = replicas[1].check(false, |_| {}).await.unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);
}

/// Does something with a session.
async fn go_on(replica: &Registry, model: &mut Model, random: &mut Random) {
    if model.uploads.is_empty() {
        return;
    }
    let place = random.below(model.uploads.len());
    let mut upload = model.uploads.swap_remove(place);
    let length = if random.once_in(4) { 300 << 10 } else { random.below(200) };
    let part = random.bytes(length);
    let received = upload.content.len() as u64;
    let append = |range, chunks| replica.append_upload(name(), &upload.id, range, chunks);
    match random.below(8) {
        0 => {
            let range = ChunkRange { start: received + 1, length: 1 };
            let early = append(Some(range), all("x")).await;
            assert!(matches!(early, Err(Error::ChunkOutOfOrder { .. })), "{early:?}");
        }
        1 => {
            let range = ChunkRange { start: received, length: part.len() as u64 + 1 };
            let short = append(Some(range), all(part)).await;
            assert!(matches!(short, Err(Error::ChunkSize { .. })), "{short:?}");
        }
        2 => {
            let (client, chunks) = live();
            client.send(part.clone());
            client.go_away();
            let interrupted = append(None, chunks).await;
            assert!(matches!(interrupted, Err(Error::Interrupted)), "{interrupted:?}");
            upload.content.extend(part);
        }
        3 => {
            let progress = replica.upload_progress(name(), &upload.id).await.unwrap();
            assert_eq!(progress.received, received);
        }
        4 => {
            replica.cancel_upload(name(), &upload.id).await.unwrap();
            return;
        }
        5 => {
            upload.content.extend(&part);
            let digest = Digest::sha256(&upload.content);
            let finished =
                replica.finish_upload(name(), &upload.id, &digest, None, all(part)).await;
            assert_eq!(finished.unwrap().size, upload.content.len() as u64);
            model.blobs.insert(digest, upload.content);
            return;
        }
        6 => {
            let digest = Digest::sha256(b"something else");
            let wrong = replica.finish_upload(name(), &upload.id, &digest, None, all(part)).await;
            assert!(matches!(wrong, Err(Error::DigestMismatch { .. })), "{wrong:?}");
            return;
        }
        _ => {
            let range = ChunkRange { start: received, length: part.len() as u64 };
            let appended = append(Some(range), all(part.clone())).await.unwrap();
            upload.content.extend(part);
            assert_eq!(appended.received, upload.content.len() as u64);
            upload.id = appended.id;
        }
    }
    model.uploads.push(upload);
}

pub(crate) async fn push(replica: &Registry, tag: &str, number: usize) -> Digest {
    let empty = Digest::sha256(b"{}");
    let content = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{empty}","size":2}},"layers":[],"annotations":{{"number":"{number}"}}}}"#
    );
    let push = ManifestPush {
        repository: name().clone(),
        reference: tag.parse::<Reference>().unwrap(),
        tags: Vec::new(),
        content_type: None,
        content: content.into(),
        preconditions: Vec::new(),
        classes: Vec::new(),
    };
    replica.push_manifest(push).await.unwrap().digest
}

/// Many requests for the same sessions at once, at all servers: what each was told must fit
/// together to one content.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_leave_one_content() {
    const SESSIONS: usize = 4;
    const CLIENTS: usize = 6;
    const APPENDS: usize = 8;
    let cluster = Cluster::start().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(cluster.replica().await);
    }
    let seed = Random::seed("writers");
    let mut random = Random::new(seed);
    let mut ids = Vec::new();
    for _ in 0..SESSIONS {
        ids.push(random.pick(&replicas).begin_upload(name(), None).await.unwrap().id);
    }
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let (replicas, ids) = (replicas.clone(), ids.clone());
        let mut random = Random::new(seed.wrapping_add(1 + client as u64));
        clients.push(tokio::spawn(async move {
            let mut parts = Vec::new();
            for _ in 0..APPENDS {
                let session = random.below(SESSIONS);
                let length = if random.once_in(3) { 100 << 10 } else { 1 + random.below(100) };
                let part = random.bytes(length);
                let replica = random.pick(&replicas);
                let appended =
                    replica.append_upload(name(), &ids[session], None, all(part.clone())).await;
                parts.push((session, appended.unwrap().received, part));
            }
            parts
        }));
    }
    let mut parts = Vec::new();
    for client in clients {
        parts.extend(client.await.unwrap());
    }
    parts.sort();
    for (session, id) in ids.iter().enumerate() {
        let mut content = Vec::new();
        for (_, received, part) in parts.iter().filter(|(of, ..)| *of == session) {
            content.extend(part);
            assert_eq!(content.len() as u64, *received);
        }
        let digest = Digest::sha256(&content);
        let replica = random.pick(&replicas);
        replica.finish_upload(name(), id, &digest, None, all("")).await.unwrap();
        assert_eq!(cluster.content(&digest), content);
    }
    assert_eq!(cluster.uploads().len(), 0);
}
