//! How old answers are where that is allowed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry::{Error, Registry};

use crate::cluster::{Cluster, name};
use crate::model::push;
use crate::random::Random;

async fn pulled(replica: &Registry, tag: &str) -> Option<String> {
    match replica.pull_manifest(name(), &tag.parse().unwrap()).await {
        Ok(pulled) => Some(pulled.digest.to_string()),
        Err(Error::ManifestUnknown { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_until_the_server_writes_itself() {
    let cluster = Cluster::start().await;
    let (strict, relaxed) =
        (cluster.replica().await, cluster.replica_with(Duration::from_hours(24)).await);
    let old = push(&strict, "v1", 1).await.to_string();
    assert_eq!(pulled(&relaxed, "v1").await, Some(old.clone()));
    let new = push(&strict, "v1", 2).await.to_string();
    assert_eq!(pulled(&strict, "v1").await, Some(new.clone()));
    assert_eq!(pulled(&relaxed, "v1").await, Some(old), "kept");
    let own = push(&relaxed, "v2", 3).await.to_string();
    assert_eq!(pulled(&relaxed, "v2").await, Some(own));
    assert_eq!(pulled(&relaxed, "v1").await, Some(new));
}

/// No answer is older than it may be: what had been replaced for longer when it was asked for is
/// not seen any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_is_older_than_its_bound() {
    const LIMIT: Duration = Duration::from_millis(200);
    const PUSHES: usize = 150;
    let cluster = Cluster::start().await;
    let (writer, reader) = (cluster.replica().await, cluster.replica_with(LIMIT).await);
    // What the tag led to, and when its push was acknowledged.
    let history = Arc::new(Mutex::new(Vec::<(String, Instant)>::new()));
    let is_over = Arc::new(AtomicBool::new(false));
    let pushing = {
        let (history, is_over) = (Arc::clone(&history), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut random = Random::new(Random::seed("staleness"));
            for number in 0..PUSHES {
                let digest = push(&writer, "moving", number).await.to_string();
                history.lock().unwrap().push((digest, Instant::now()));
                // Some stay for longer than the limit.
                let stays = LIMIT * u32::try_from(random.below(8)).unwrap() / 20;
                tokio::time::sleep(stays).await;
            }
            is_over.store(true, Ordering::Relaxed);
        })
    };
    let mut reads = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        if let Some(digest) = pulled(&reader, "moving").await {
            reads.push((asked, digest));
        }
        tokio::task::yield_now().await;
    }
    pushing.await.unwrap();
    let history = history.lock().unwrap();
    for (asked, digest) in reads {
        let place = history.iter().position(|(pushed, _)| *pushed == digest).unwrap();
        if let Some((_, replaced)) = history.get(place + 1) {
            let age = asked.saturating_duration_since(*replaced);
            assert!(age <= LIMIT, "{digest} had been replaced for {age:?}");
        }
    }
}
