//! What every back end must do: one suite, run by the tests of each.

use std::error::Error as StdError;

use bytes::Bytes;
use oci::Digest;

use crate::{Blobs, Content, ErrorKind, Resumed, Upload, UploadId};

type Outcome = Result<(), Box<dyn StdError>>;

/// Runs the suite on an empty store.
pub async fn run(store: &dyn Blobs) -> Outcome {
    puts_and_reads_back(store).await?;
    reads_ranges(store).await?;
    misses_what_is_not_there(store).await?;
    commits_what_was_appended(store).await?;
    resumes_where_it_was_told(store).await?;
    refuses_to_resume_past_the_end(store).await?;
    replaces_content(store).await?;
    keeps_content_open_for_readers(store).await?;
    aborts(store).await?;
    finds_stale_uploads(store).await?;
    lists_content(store).await?;
    remembers_its_owner(store).await?;
    store.check_writable().await?;
    Ok(())
}

async fn puts_and_reads_back(store: &dyn Blobs) -> Outcome {
    for content in [Bytes::new(), Bytes::from_static(b"{}"), Bytes::from(vec![7; 300_000])] {
        let digest = Digest::sha256(&content);
        let location = store.put(&digest, content.clone()).await?;
        let location = location.as_deref();
        ensure(store.size(&digest, location).await? == Some(content.len() as u64), "size")?;
        let opened = store.open(&digest, location).await?;
        ensure(opened.size() == content.len() as u64, "size of opened content")?;
        ensure(read_all(&opened).await? == content, "content")?;
    }
    Ok(())
}

async fn reads_ranges(store: &dyn Blobs) -> Outcome {
    let content = Bytes::from((0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let digest = Digest::sha256(&content);
    let location = store.put(&digest, content.clone()).await?;
    let opened = store.open(&digest, location.as_deref()).await?;
    let part = opened.read(399_990, 4096).await?;
    ensure(part == content.slice(399_990..), "the last ten bytes")?;
    let part = opened.read(5, 10).await?;
    ensure(!part.is_empty() && content.slice(5..15).starts_with(&part), "ten bytes at five")?;
    ensure(opened.read(400_000, 10).await?.is_empty(), "nothing at the end")
}

async fn misses_what_is_not_there(store: &dyn Blobs) -> Outcome {
    let digest = Digest::sha256(b"never stored");
    ensure(store.size(&digest, None).await?.is_none(), "size of nothing")?;
    match store.open(&digest, None).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => Err(format!("expected NotFound, found {other:?}").into()),
    }
}

async fn commits_what_was_appended(store: &dyn Blobs) -> Outcome {
    let id = UploadId::now_v7();
    let mut upload = store.begin(id).await?;
    let mut expected = Vec::new();
    for round in 0..5_u8 {
        let batch: Vec<Bytes> = (0..50).map(|n| Bytes::from(vec![round ^ n; 977])).collect();
        for chunk in &batch {
            expected.extend_from_slice(chunk);
        }
        upload = upload.append(batch).await?;
    }
    let digest = Digest::sha256(&expected);
    let location = upload.commit(digest).await?;
    let opened = store.open(&digest, location.as_deref()).await?;
    ensure(read_all(&opened).await? == expected, "committed content")
}

async fn resumes_where_it_was_told(store: &dyn Blobs) -> Outcome {
    let id = UploadId::now_v7();
    let upload = store.begin(id).await?;
    let upload = upload.append(vec![Bytes::from_static(b"counted")]).await?;
    let state = upload.state();
    // Written, but its request died before it was counted.
    drop(upload.append(vec![Bytes::from_static(b", not counted, and long")]).await?);
    ensure(store.read_upload(id, 3).await?.starts_with(b"nted"), "reading an upload")?;
    let upload = whole(store.resume(id, 7, &state).await?)?;
    let upload = upload.append(vec![Bytes::from_static(b" twice")]).await?;
    let digest = Digest::sha256(b"counted twice");
    let location = upload.commit(digest).await?;
    let opened = store.open(&digest, location.as_deref()).await?;
    ensure(read_all(&opened).await? == b"counted twice"[..], "content of a resumed upload")
}

async fn refuses_to_resume_past_the_end(store: &dyn Blobs) -> Outcome {
    let id = UploadId::now_v7();
    let upload = store.begin(id).await?.append(vec![Bytes::from_static(b"short")]).await?;
    let state = upload.state();
    drop(upload);
    for (id, received) in [(id, 6), (UploadId::now_v7(), 1)] {
        match store.resume(id, received, &state).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err("resumed what is not there".into()),
        }
    }
    store.abort(id).await?;
    Ok(())
}

async fn replaces_content(store: &dyn Blobs) -> Outcome {
    let content = Bytes::from_static(b"pushed twice");
    let digest = Digest::sha256(&content);
    store.put(&digest, content.clone()).await?;
    let location = store.put(&digest, content.clone()).await?;
    let opened = store.open(&digest, location.as_deref()).await?;
    ensure(read_all(&opened).await? == content, "content after a second put")
}

async fn keeps_content_open_for_readers(store: &dyn Blobs) -> Outcome {
    let content = Bytes::from(vec![3; 100_000]);
    let digest = Digest::sha256(&content);
    let location = store.put(&digest, content.clone()).await?;
    let opened = store.open(&digest, location.as_deref()).await?;
    store.put(&digest, content.clone()).await?;
    ensure(read_all(&opened).await? == content, "content opened before it was replaced")
}

async fn aborts(store: &dyn Blobs) -> Outcome {
    let id = UploadId::now_v7();
    let upload = store.begin(id).await?.append(vec![Bytes::from_static(b"gone")]).await?;
    let state = upload.state();
    drop(upload);
    store.abort(id).await?;
    store.abort(id).await?;
    ensure(store.resume(id, 4, &state).await.is_err(), "resuming what was aborted")
}

async fn finds_stale_uploads(store: &dyn Blobs) -> Outcome {
    let id = UploadId::now_v7();
    drop(store.begin(id).await?);
    ensure(!store.stale_uploads(3600).await?.contains(&id), "a new upload is not stale")?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !store.stale_uploads(0).await?.contains(&id) {
        ensure(std::time::Instant::now() < deadline, "an upload becomes stale")?;
        tokio::task::yield_now().await;
    }
    store.abort(id).await?;
    ensure(!store.stale_uploads(0).await?.contains(&id), "an aborted upload is gone")
}

async fn lists_content(store: &dyn Blobs) -> Outcome {
    let content = Bytes::from_static(b"listed");
    let digest = Digest::sha256(&content);
    store.put(&digest, content).await?;
    let shard = digest.hash().first().copied().unwrap_or_default();
    ensure(store.list_shard(shard).await?.contains(&digest), "its shard lists it")?;
    ensure(!store.list_shard(shard ^ 1).await?.contains(&digest), "another shard does not")
}

async fn remembers_its_owner(store: &dyn Blobs) -> Outcome {
    ensure(store.owner().await?.is_none(), "a new store has no owner")?;
    store.set_owner("a").await?;
    ensure(store.owner().await?.as_deref() == Some("a"), "the owner")
}

fn whole(resumed: Resumed) -> Result<Box<dyn Upload>, Box<dyn StdError>> {
    match resumed {
        Resumed::Whole(upload) => Ok(upload),
        Resumed::Unsure(_) => Err("an upload of this boot is not to be trusted".into()),
    }
}

async fn read_all(content: &Content) -> Result<Vec<u8>, crate::Error> {
    let mut all = Vec::new();
    loop {
        let part = content.read(all.len() as u64, 64 << 10).await?;
        if part.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&part);
    }
}

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("does not hold: {what}").into()) }
}
