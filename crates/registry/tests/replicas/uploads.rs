//! Upload sessions go on at any server, and have one writer.

use std::time::Duration;

use oci::Digest;
use registry::{ChunkRange, Error, MAX_UPLOAD_WAIT, Registry};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, all, live, name};

/// Longer than any lease.
const DEAD_AFTER: Duration = Duration::from_secs(12);

/// More than stays in memory.
const LARGE: usize = 300 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_anywhere() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.replica().await, cluster.replica().await);
    let begun = a.begin_upload(name(), None).await.unwrap().id;
    assert_eq!(b.upload_progress(name(), &begun).await.unwrap().received, 0);
    let first = b.append_upload(name(), &begun, None, all(vec![1; LARGE])).await.unwrap();
    assert_eq!(first.received, LARGE as u64);
    assert_eq!(a.upload_progress(name(), &begun).await.unwrap(), first);
    let range = |start| Some(ChunkRange { start, length: LARGE as u64 });
    let early = a.append_upload(name(), &first.id, range(7), all(vec![2; LARGE])).await;
    assert!(matches!(early, Err(Error::ChunkOutOfOrder { .. })));
    let second = a.append_upload(name(), &first.id, range(LARGE as u64), all(vec![2; LARGE]));
    assert_eq!(second.await.unwrap().received, 2 * LARGE as u64);
    let content = [vec![1; LARGE], vec![2; LARGE], vec![3; 5]].concat();
    let digest = Digest::sha256(&content);
    b.finish_upload(name(), &first.id, &digest, None, all(vec![3; 5])).await.unwrap();
    assert_eq!(cluster.content(&digest), content);
    assert_eq!(a.stat_blob(name(), &digest).await.unwrap(), content.len() as u64);
    for replica in [&a, &b] {
        assert_unknown(replica, &first.id).await;
    }
    assert_eq!(cluster.uploads().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_write_at_once_write_one_after_the_other() {
    let cluster = Cluster::start().await;
    let replicas = [cluster.replica().await, cluster.replica().await];
    let id = replicas[0].begin_upload(name(), None).await.unwrap().id;
    let mut content = Vec::new();
    // The first two bring the first bytes of all.
    for round in 0..5_u8 {
        let appending = replicas.iter().zip([2 * round, 2 * round + 1]).map(|(replica, byte)| {
            let (replica, id) = (replica.clone(), id.clone());
            tokio::spawn(async move {
                let appended =
                    replica.append_upload(name(), &id, None, all(vec![byte; LARGE])).await;
                (appended.unwrap().received, byte)
            })
        });
        let mut parts = Vec::new();
        for appending in appending.collect::<Vec<_>>() {
            parts.push(appending.await.unwrap());
        }
        parts.sort_unstable();
        for (received, byte) in parts {
            content.extend(vec![byte; LARGE]);
            assert_eq!(received, content.len() as u64);
        }
    }
    let digest = Digest::sha256(&content);
    replicas[1].finish_upload(name(), &id, &digest, None, all("")).await.unwrap();
    assert_eq!(cluster.content(&digest), content);
    assert_eq!(cluster.uploads().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_given_back_at_once_however_a_request_ends() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.replica().await, cluster.replica().await);
    let id = a.begin_upload(name(), None).await.unwrap().id;
    let begun = Instant::now();
    // The client goes away: before there is anything, then with something.
    for (content, received) in [("", 0), ("one", 3)] {
        let (client, chunks) = live();
        client.send(content);
        client.go_away();
        let interrupted = a.append_upload(name(), &id, None, chunks).await;
        assert!(matches!(interrupted, Err(Error::Interrupted)));
        assert_eq!(b.upload_progress(name(), &id).await.unwrap().received, received);
    }
    let range = Some(ChunkRange { start: 3, length: 9 });
    let short = b.append_upload(name(), &id, range, all("two")).await;
    assert!(matches!(short, Err(Error::ChunkSize { .. })));
    let digest = Digest::sha256(b"onetwo");
    a.finish_upload(name(), &id, &digest, None, all("two")).await.unwrap();
    assert_eq!(cluster.content(&digest), b"onetwo");
    assert!(begun.elapsed() < Duration::from_secs(5), "somebody waited for a lease");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_died_is_succeeded() {
    let cluster = Cluster::start().await;
    let b = cluster.replica().await;
    for acknowledged in [0, LARGE] {
        let a = cluster.machine();
        let mut id = b.begin_upload(name(), None).await.unwrap().id;
        if acknowledged > 0 {
            let first = b.append_upload(name(), &id, None, all(vec![1; acknowledged]));
            id = first.await.unwrap().id;
        }
        let (mut client, chunks) = live();
        client.send(vec![9; LARGE]);
        let of_a = id.clone();
        drop(a.run(|a| async move { a.append_upload(name(), &of_a, None, chunks).await }));
        client.wait().await;
        drop(a);
        let rest = b.append_upload(name(), &id, None, all(vec![2; 10])).await.unwrap();
        assert_eq!(rest.received, acknowledged as u64 + 10);
        let content = [vec![1; acknowledged], vec![2; 10]].concat();
        let digest = Digest::sha256(&content);
        b.finish_upload(name(), &rest.id, &digest, None, all("")).await.unwrap();
        assert_eq!(cluster.content(&digest), content);
        assert_eq!(cluster.uploads().len(), 0);
        drop(client);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_slept_spoils_nothing() {
    let cluster = Cluster::start().await;
    let b = cluster.replica().await;
    let begin = async || {
        let id = b.begin_upload(name(), None).await.unwrap().id;
        b.append_upload(name(), &id, None, all(vec![1; LARGE])).await.unwrap().id
    };
    // What the sleeper wants to do, and a session for each.
    let (appended, finished, cancelled) = (begin().await, begin().await, begin().await);
    let a = cluster.machine();
    let (mut to_append, chunks) = live();
    let id = appended.clone();
    let append = a.run(|a| async move { a.append_upload(name(), &id, None, chunks).await });
    let (mut to_finish, chunks) = live();
    let (id, digest) =
        (finished.clone(), Digest::sha256(&[vec![1; LARGE], vec![9; LARGE]].concat()));
    let finish =
        a.run(move |a| async move { a.finish_upload(name(), &id, &digest, None, chunks).await });
    let (mut to_cancel, chunks) = live();
    let id = cancelled.clone();
    let ended = a.run(|a| async move { a.append_upload(name(), &id, None, chunks).await });
    for client in [&mut to_append, &mut to_finish, &mut to_cancel] {
        client.send(vec![9; LARGE]);
        client.wait().await;
    }

    let thaw = a.freeze();
    sleep(DEAD_AFTER).await;
    for id in [&appended, &finished] {
        let rest = b.append_upload(name(), id, None, all(vec![2; LARGE])).await.unwrap();
        assert_eq!(rest.received, 2 * LARGE as u64);
    }
    b.cancel_upload(name(), &cancelled).await.unwrap();
    drop(thaw);
    to_append.send(vec![9; LARGE]);
    drop((to_append, to_finish, to_cancel));
    assert!(matches!(append.await.unwrap(), Err(Error::UploadBusy)));
    assert!(finish.await.unwrap().is_err());
    assert!(matches!(ended.await.unwrap(), Err(Error::UploadBusy)));

    let content = [vec![1; LARGE], vec![2; LARGE]].concat();
    let digest = Digest::sha256(&content);
    for id in [&appended, &finished] {
        let progress = b.upload_progress(name(), id).await.unwrap();
        assert_eq!(progress.received, content.len() as u64);
        b.finish_upload(name(), id, &digest, None, all("")).await.unwrap();
        assert_eq!(cluster.content(&digest), content);
    }
    assert_unknown(&b, &cancelled).await;
}

/// One that had all bytes, and slept before it could say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_slept_at_the_end_acknowledges_nothing() {
    let cluster = Cluster::start().await;
    let b = cluster.replica().await;
    let a = cluster.machine();
    let id = b.begin_upload(name(), None).await.unwrap().id;
    let id = b.append_upload(name(), &id, None, all(vec![1; LARGE])).await.unwrap().id;
    let (mut client, chunks) = live();
    let content = [vec![1; LARGE], vec![9; 1]].concat();
    let (of_a, digest) = (id.clone(), Digest::sha256(&content));
    let finish =
        a.run(move |a| async move { a.finish_upload(name(), &of_a, &digest, None, chunks).await });
    client.wait().await;
    let thaw = a.freeze();
    client.send(vec![9; 1]);
    drop(client);
    sleep(DEAD_AFTER).await;
    b.cancel_upload(name(), &id).await.unwrap();
    drop(thaw);
    assert!(finish.await.unwrap().is_err(), "the session was cancelled");
    assert!(matches!(b.stat_blob(name(), &digest).await, Err(Error::BlobUnknown { .. })));
    assert_unknown(&b, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_waits_for_the_writer() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.replica().await, cluster.replica().await);
    let id = a.begin_upload(name(), None).await.unwrap().id;
    let id = a.append_upload(name(), &id, None, all("one")).await.unwrap().id;
    let (mut client, chunks) = live();
    let (of_a, of_b) = (id.clone(), id.clone());
    let writer = a.clone();
    let append =
        tokio::spawn(async move { writer.append_upload(name(), &of_a, None, chunks).await });
    client.send("two");
    client.wait().await;

    let begun = Instant::now();
    let busy = b.cancel_upload(name(), &id).await;
    assert!(matches!(busy, Err(Error::UploadBusy)), "the writer is alive");
    assert!(begun.elapsed() > MAX_UPLOAD_WAIT / 2, "it may still end");

    let canceller = b.clone();
    let cancel = tokio::spawn(async move { canceller.cancel_upload(name(), &of_b).await });
    drop(client);
    assert_eq!(append.await.unwrap().unwrap().received, 6);
    timeout(Duration::from_secs(2), cancel).await.unwrap().unwrap().unwrap();
    for replica in [&a, &b] {
        assert_unknown(replica, &id).await;
    }
    assert_eq!(cluster.uploads().len(), 0);
}

async fn assert_unknown(replica: &Registry, id: &str) {
    let progress = replica.upload_progress(name(), id).await;
    assert!(matches!(progress, Err(Error::UploadUnknown { .. })), "{progress:?}");
}
