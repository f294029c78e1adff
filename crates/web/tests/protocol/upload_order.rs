//! Chunks out of order, requests that break off, and requests that overlap: what is stored is
//! always what was hashed, and a client always learns where to go on.

use std::time::Duration;

use http::Method;

use crate::support::{Answer, Sender, TestRegistry, live_body, sha256};

const CONTENT: &[u8] = b"0123456789abcdefghij";

async fn patch(registry: &TestRegistry, upload: &str, range: &str, content: &[u8]) -> Answer {
    let patch = registry.request(Method::PATCH, upload).header("content-range", range);
    patch.body(content.to_vec()).send().await
}

async fn finish(registry: &TestRegistry, upload: &str, content: &[u8]) -> Answer {
    let put = registry.request(Method::PUT, format!("{upload}?digest={}", sha256(content)));
    put.send().await
}

async fn assert_stored(registry: &TestRegistry, content: &[u8]) {
    let digest = sha256(content);
    let answer = registry.get(format!("/v2/a/b/blobs/{digest}")).await.status(200);
    assert_eq!(answer.body, content);
}

#[tokio::test]
async fn a_chunk_out_of_order_is_told_where_to_go_on() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let refused = |answer: Answer, received: &str| {
        let answer = answer.refused(416, "RANGE_INVALID");
        assert_eq!(answer.header("range"), received);
        assert_eq!(answer.header("location"), upload);
    };
    refused(patch(&registry, &upload, "10-19", &CONTENT[10..]).await, "0-0");
    assert_eq!(registry.get(&upload).await.status(204).header("range"), "0-0");

    patch(&registry, &upload, "0-9", &CONTENT[..10]).await.expect(202);
    refused(patch(&registry, &upload, "0-9", &CONTENT[..10]).await, "0-9");
    refused(patch(&registry, &upload, "9-19", &CONTENT[9..]).await, "0-9");
    refused(patch(&registry, &upload, "11-19", &CONTENT[11..]).await, "0-9");
    let put = registry.request(Method::PUT, format!("{upload}?digest={}", sha256(CONTENT)));
    let put = put.header("content-range", "0-9").body(&CONTENT[..10]);
    refused(put.send().await, "0-9");

    // The session lives on.
    patch(&registry, &upload, "10-19", &CONTENT[10..]).await.expect(202);
    finish(&registry, &upload, CONTENT).await.expect(201);
    assert_stored(&registry, CONTENT).await;
}

#[tokio::test]
async fn ranges_that_are_none() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    for range in
        ["", "x", "5", "5-", "-5", "9-0", "bytes 0-9/5", "items 0-9", "0-99999999999999999999"]
    {
        patch(&registry, &upload, range, b"0123456789").await.refused(416, "RANGE_INVALID");
    }
    assert_eq!(registry.get(&upload).await.status(204).header("range"), "0-0");
}

#[tokio::test]
async fn a_chunk_must_have_the_size_that_it_announces() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    // Content-Length says it at once …
    for (range, content) in [("0-9", &CONTENT[..5]), ("0-4", &CONTENT[..10])] {
        patch(&registry, &upload, range, content).await.refused(400, "SIZE_INVALID");
    }
    // … a stream shows it at its end.
    for (range, content) in [("0-9", &CONTENT[..5]), ("0-4", &CONTENT[..10]), ("0-4", b"")] {
        let (sender, body) = live_body();
        let patch = registry.request(Method::PATCH, &upload).header("content-range", range);
        let patch = patch.live_body(body).spawn();
        sender.send(content).await;
        drop(sender);
        patch.await.unwrap().refused(400, "SIZE_INVALID");
    }
    // Nothing of it counts.
    assert_eq!(registry.get(&upload).await.status(204).header("range"), "0-0");
    patch(&registry, &upload, "0-19", CONTENT).await.expect(202);
    finish(&registry, &upload, CONTENT).await.expect(201);
    assert_stored(&registry, CONTENT).await;
}

#[tokio::test]
async fn a_put_with_the_wrong_size_can_be_tried_again() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let put = registry.request(Method::PUT, format!("{upload}?digest={}", sha256(CONTENT)));
    let put = put.header("content-range", "0-9").body(CONTENT);
    put.send().await.refused(400, "SIZE_INVALID");
    let put = registry.request(Method::PUT, format!("{upload}?digest={}", sha256(CONTENT)));
    put.header("content-range", "0-19").body(CONTENT).send().await.expect(201);
    assert_stored(&registry, CONTENT).await;
}

/// Sends a part of the content, then breaks off.
async fn break_off(registry: &TestRegistry, method: Method, target: &str, part: &[u8]) -> Answer {
    let (sender, body) = live_body();
    let request = registry.request(method, target).live_body(body).spawn();
    sender.send(part.to_vec()).await;
    sender.break_off().await;
    request.await.unwrap()
}

#[tokio::test]
async fn a_lost_connection_keeps_what_arrived() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let broken = break_off(&registry, Method::PATCH, &upload, &CONTENT[..7]).await;
    broken.refused(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(registry.get(&upload).await.status(204).header("range"), "0-6");

    // Also in the request that was to be the last.
    let target = format!("{upload}?digest={}", sha256(CONTENT));
    let broken = break_off(&registry, Method::PUT, &target, &CONTENT[7..15]).await;
    broken.refused(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(registry.get(&upload).await.status(204).header("range"), "0-14");

    patch(&registry, &upload, "15-19", &CONTENT[15..]).await.expect(202);
    finish(&registry, &upload, CONTENT).await.expect(201);
    assert_stored(&registry, CONTENT).await;
}

/// A large one passes through several batches on its way.
#[tokio::test]
async fn a_large_upload_goes_on_where_it_broke_off() {
    let registry = TestRegistry::new().await;
    let content = crate::support::Random::new(7).bytes(5 << 20);
    let upload = registry.begin_upload("a/b").await;
    let mut at = 0;
    for size in [1, 70_000, 2_000_000, 1_500_001] {
        break_off(&registry, Method::PATCH, &upload, &content[at..at + size]).await.expect(400);
        at += size;
        let status = registry.get(&upload).await.status(204);
        assert_eq!(status.header("range"), format!("0-{}", at - 1));
    }
    let put = registry.request(Method::PUT, format!("{upload}?digest={}", sha256(&content)));
    put.body(content[at..].to_vec()).send().await.expect(201);
    assert_stored(&registry, &content).await;
}

#[tokio::test]
async fn a_whole_push_that_breaks_off_leaves_nothing() {
    let registry = TestRegistry::new().await;
    let target = format!("/v2/a/b/blobs/uploads/?digest={}", sha256(CONTENT));
    let broken = break_off(&registry, Method::POST, &target, &CONTENT[..7]).await;
    broken.refused(400, "BLOB_UPLOAD_INVALID");
    assert!(registry.upload_files().is_empty());
}

/// A PATCH that is under way: one part has arrived, the rest has not.
async fn half_a_patch(
    registry: &TestRegistry,
    upload: &str,
    part: &[u8],
) -> (Sender, tokio::task::JoinHandle<Answer>) {
    let (sender, body) = live_body();
    let patch = registry.request(Method::PATCH, upload).live_body(body).spawn();
    sender.send(part.to_vec()).await;
    sender.taken().await;
    (sender, patch)
}

/// The second writer of a session waits for the first.
#[tokio::test]
async fn overlapping_chunks_take_turns() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let (first, first_patch) = half_a_patch(&registry, &upload, &CONTENT[..5]).await;
    let second = registry.request(Method::PATCH, &upload).body(&CONTENT[10..]).spawn();
    let third = registry.request(Method::PATCH, &upload).header("content-range", "0-19");
    let third = third.body(CONTENT).spawn();
    // Time for both to do harm.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!second.is_finished() && !third.is_finished(), "two write at once");
    first.send(&CONTENT[5..10]).await;
    drop(first);
    assert_eq!(first_patch.await.unwrap().status(202).header("range"), "0-9");
    assert_eq!(second.await.unwrap().status(202).header("range"), "0-19");
    third.await.unwrap().refused(416, "RANGE_INVALID");
    finish(&registry, &upload, CONTENT).await.expect(201);
    assert_stored(&registry, CONTENT).await;
}

/// registry:2 commits a blob here whose bytes differ from its digest.
#[tokio::test]
async fn a_put_waits_for_the_chunk_before_it() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let (sender, first) = half_a_patch(&registry, &upload, &CONTENT[..5]).await;
    let put = registry.request(Method::PUT, format!("{upload}?digest={}", sha256(CONTENT)));
    let put = put.body(&CONTENT[10..]).spawn();
    let cancel = registry.request(Method::DELETE, &upload).spawn();
    sender.send(&CONTENT[5..10]).await;
    drop(sender);
    first.await.unwrap().expect(202);
    put.await.unwrap().expect(201);
    cancel.await.unwrap().refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert_stored(&registry, CONTENT).await;
}

/// It does not wait for ever: the client is told to come back.
#[tokio::test]
async fn a_session_that_stays_busy_is_a_conflict() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let (sender, first) = half_a_patch(&registry, &upload, &CONTENT[..10]).await;
    let second = registry.request(Method::PATCH, &upload).body("x").spawn();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(registry::MAX_UPLOAD_WAIT + Duration::from_secs(1)).await;
    let answer = second.await.unwrap();
    tokio::time::resume();
    assert_eq!(answer.refused(409, "BLOB_UPLOAD_INVALID").header("retry-after"), "1");
    sender.send(&CONTENT[10..]).await;
    drop(sender);
    first.await.unwrap().expect(202);
    finish(&registry, &upload, CONTENT).await.expect(201);
    assert_stored(&registry, CONTENT).await;
}

/// A client that falls silent is given up; one that is merely slow is not.
#[tokio::test]
async fn silence_ends_a_request_and_keeps_what_arrived() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let (sender, body) = live_body();
    let request = registry.request(Method::PATCH, &upload).live_body(body).spawn();
    for byte in &CONTENT[..10] {
        sender.send(vec![*byte]).await;
        sender.taken().await;
        tokio::task::yield_now().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(50)).await;
        tokio::time::resume();
    }
    assert!(!request.is_finished(), "a slow client was cut");
    tokio::time::pause();
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    let answer = request.await.unwrap();
    tokio::time::resume();
    answer.refused(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(registry.get(&upload).await.status(204).header("range"), "0-9");
    drop(sender);
}

/// A request whose client has gone saves what arrived, although nobody waits for its answer.
#[tokio::test]
async fn a_request_that_is_dropped_still_saves() {
    let registry = TestRegistry::new().await;
    let upload = registry.begin_upload("a/b").await;
    let (sender, patch) = half_a_patch(&registry, &upload, &CONTENT[..10]).await;
    patch.abort();
    sender.break_off().await;
    registry.registry.quiesce().await;
    assert_eq!(registry.get(&upload).await.status(204).header("range"), "0-9");
}
