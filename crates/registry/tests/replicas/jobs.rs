//! What one server at a time does for all.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use blobs::UploadId;
use oci::Digest;
use registry::{Error, Purged};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, all, live, name};

const JOB: &str = "test";

#[tokio::test(flavor = "multi_thread")]
async fn all_servers_have_the_same_secret() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.replica().await, cluster.replica().await);
    let (of_a, of_b) =
        tokio::join!(a.shared_secret("one".to_owned()), b.shared_secret("other".to_owned()));
    assert_eq!(of_a.unwrap(), of_b.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_on_one_server_at_a_time() {
    let cluster = Cluster::start().await;
    let running = Arc::new(AtomicU32::new(0));
    let mut servers = Vec::new();
    for _ in 0..3 {
        let (replica, running) = (cluster.replica().await, Arc::clone(&running));
        servers.push(tokio::spawn(async move {
            let mut runs = 0;
            for _ in 0..20 {
                let job = async {
                    assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                };
                runs +=
                    u32::from(replica.run_alone(JOB, Duration::ZERO, job).await.unwrap().is_some());
            }
            runs
        }));
    }
    let mut runs = 0;
    for server in servers {
        runs += server.await.unwrap();
    }
    assert!(runs >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_lately_is_not_done_again() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.replica().await, cluster.replica().await);
    let nothing = || async { Ok(()) };
    assert!(a.run_alone(JOB, Duration::from_mins(1), nothing()).await.unwrap().is_some());
    assert!(b.run_alone(JOB, Duration::ZERO, nothing()).await.unwrap().is_none());
    assert!(a.run_alone(JOB, Duration::ZERO, nothing()).await.unwrap().is_none());
    assert!(b.run_alone("another", Duration::ZERO, nothing()).await.unwrap().is_some());
    let failing = async { Err::<(), _>(Error::Interrupted) };
    assert!(a.run_alone("failing", Duration::from_mins(1), failing).await.is_err());
    assert!(b.run_alone("failing", Duration::ZERO, nothing()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_taken_over_from_a_server_that_died_or_sleeps() {
    let cluster = Cluster::start().await;
    let b = cluster.replica().await;
    for dies in [true, false] {
        let a = cluster.machine();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let job = a.run(move |a| async move {
            let job = async {
                begun.send(()).unwrap();
                std::future::pending::<Result<(), Error>>().await
            };
            a.run_alone(JOB, Duration::ZERO, job).await
        });
        has_begun.await.unwrap();
        // It is renewed for as long as it runs.
        sleep(Duration::from_secs(10)).await;
        let asked = b.run_alone(JOB, Duration::ZERO, async { Ok(()) }).await.unwrap();
        assert!(asked.is_none(), "it is running elsewhere");
        let mut thaw = None;
        if dies {
            drop(a);
        } else {
            thaw = Some(a.freeze());
        }
        let deadline = Instant::now() + Duration::from_secs(12);
        let hold = async {
            sleep(Duration::from_secs(1)).await;
            Ok(())
        };
        tokio::pin!(hold);
        while b.run_alone(JOB, Duration::ZERO, &mut hold).await.unwrap().is_none() {
            assert!(Instant::now() < deadline, "nobody takes over");
            sleep(Duration::from_millis(100)).await;
        }
        if let Some(thaw) = thaw {
            drop(thaw);
            assert!(job.await.unwrap().is_err(), "it must stop when it has lost its lease");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_leaves_alone_what_is_alive_elsewhere() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.replica().await, cluster.replica().await);
    let mut idle = Vec::new();
    for number in 0..30_u8 {
        let id = a.begin_upload(name(), None).await.unwrap().id;
        let begun = a.append_upload(name(), &id, None, all(vec![number; 10])).await.unwrap();
        idle.push(begun.id);
    }
    let alive = a.begin_upload(name(), None).await.unwrap().id;
    let (mut client, chunks) = live();
    client.send(vec![1; 300 << 10]);
    let (writer, of_a) = (a.clone(), alive.clone());
    let writing =
        tokio::spawn(async move { writer.append_upload(name(), &of_a, None, chunks).await });
    client.wait().await;
    // A stray that a dead server has left, one that is new, and all others made to look old.
    let uploads = cluster.folder().join("orlop/uploads");
    let stray = uploads.join(UploadId::now_v7().to_string());
    let young = uploads.join(UploadId::now_v7().to_string());
    std::fs::write(&stray, "stray").unwrap();
    let long_ago = SystemTime::now() - Duration::from_hours(48);
    for file in cluster.uploads() {
        File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
    }
    std::fs::write(&young, "young").unwrap();
    sleep(Duration::from_millis(5)).await;

    let (one, other) = tokio::join!(a.purge_uploads(0), b.purge_uploads(0));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.sessions + other.sessions, 30, "each once");
    assert!(one.strays + other.strays >= 1);
    assert!(!stray.exists() && young.exists());
    for id in idle {
        assert!(matches!(b.upload_progress(name(), &id).await, Err(Error::UploadUnknown { .. })));
    }
    drop(client);
    let written = writing.await.unwrap().unwrap();
    let content = vec![1; 300 << 10];
    let digest = Digest::sha256(&content);
    b.finish_upload(name(), &written.id, &digest, None, all("")).await.unwrap();
    assert_eq!(cluster.content(&digest), content);
    assert_eq!(b.purge_uploads(0).await.unwrap(), Purged::default());
}
