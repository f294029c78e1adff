//! What every back end must do: one suite, run by the tests of each.

use std::error::Error as StdError;

use bytes::Bytes;
use oci::Digest;

use crate::links::{BadLink, LinkKind, LinkName, Links};
use crate::{Blobs, Content, ErrorKind, Located, Resumed, Stored, Upload, UploadId};

type Outcome = Result<(), Box<dyn StdError>>;

/// Runs the suite on an empty store.
pub async fn run(store: &dyn Blobs) -> Outcome {
    puts_and_reads_back(store).await?;
    reads_ranges(store).await?;
    misses_what_is_not_there(store).await?;
    commits_what_was_appended(store).await?;
    resumes_where_it_was_told(store).await?;
    goes_on_with_large_uploads(store).await?;
    commits_what_was_committed_before(store).await?;
    refuses_to_resume_past_the_end(store).await?;
    replaces_content(store).await?;
    hands_out_what_is_not_synced(store).await?;
    keeps_content_open_for_readers(store).await?;
    aborts(store).await?;
    finds_stale_uploads(store).await?;
    lists_content(store).await?;
    lists_what_is_elsewhere(store).await?;
    removes_content(store).await?;
    remembers_its_owner(store).await?;
    if let Some(links) = store.links() {
        keeps_links(store, links).await?;
    }
    store.check_writable().await?;
    Ok(())
}

async fn puts_and_reads_back(store: &dyn Blobs) -> Outcome {
    for content in [Bytes::new(), Bytes::from_static(b"{}"), Bytes::from(vec![7; 300_000])] {
        let digest = Digest::sha256(&content);
        let location = store.put(&digest, content.clone()).await?.location;
        let location = location.as_deref();
        ensure(store.size(&digest, location).await? == Some(content.len() as u64), "size")?;
        let opened = store.open(&digest, location, content.len() as u64).await?;
        ensure(opened.size() == content.len() as u64, "size of opened content")?;
        ensure(read_all(&opened).await? == content, "content")?;
    }
    Ok(())
}

async fn reads_ranges(store: &dyn Blobs) -> Outcome {
    let content = Bytes::from((0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let digest = Digest::sha256(&content);
    let location = store.put(&digest, content.clone()).await?.location;
    let opened = store.open(&digest, location.as_deref(), 400_000).await?;
    let part = opened.read(399_990, 4096).await?;
    ensure(part == content.slice(399_990..), "the last ten bytes")?;
    let part = opened.read(5, 10).await?;
    ensure(!part.is_empty() && content.slice(5..15).starts_with(&part), "ten bytes at five")?;
    ensure(opened.read(400_000, 10).await?.is_empty(), "nothing at the end")
}

async fn misses_what_is_not_there(store: &dyn Blobs) -> Outcome {
    let digest = Digest::sha256(b"never stored");
    ensure(store.size(&digest, None).await?.is_none(), "size of nothing")?;
    let opened = async {
        let content = store.open(&digest, None, 12).await?;
        content.begin(0).await
    };
    match opened.await {
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
    let location = upload.commit(digest).await?.location;
    let opened = store.open(&digest, location.as_deref(), expected.len() as u64).await?;
    ensure(read_all(&opened).await? == expected, "committed content")
}

async fn resumes_where_it_was_told(store: &dyn Blobs) -> Outcome {
    let id = UploadId::now_v7();
    let upload = store.begin(id).await?;
    let upload = upload.append(vec![Bytes::from_static(b"counted")]).await?.flush().await?;
    let state = upload.state();
    // Written, but its request died before it was counted.
    let upload = upload.append(vec![Bytes::from_static(b", not counted, and long")]).await?;
    drop(upload.flush().await?);
    match store.read_upload(id, 3).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        read => ensure(read?.starts_with(b"nted"), "reading an upload")?,
    }
    let upload = whole(store.resume(id, 7, &state).await?)?;
    let upload = upload.append(vec![Bytes::from_static(b" twice")]).await?;
    let digest = Digest::sha256(b"counted twice");
    let location = upload.commit(digest).await?.location;
    let opened = store.open(&digest, location.as_deref(), 13).await?;
    ensure(read_all(&opened).await? == b"counted twice"[..], "content of a resumed upload")
}

async fn commits_what_was_committed_before(store: &dyn Blobs) -> Outcome {
    let content = Bytes::from((0..5_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let id = UploadId::now_v7();
    let size = content.len() as u64;
    let upload = store.begin(id).await?.append(vec![content.clone()]).await?.flush().await?;
    let state = upload.state();
    let digest = Digest::sha256(&content);
    let _ = upload.commit(digest).await?;
    // A store may be able to tell that it is done, but never takes it for something else.
    let again = async |digest: Digest| {
        let upload = whole(store.resume(id, size, &state).await?)?;
        Ok::<_, Box<dyn StdError>>(upload.commit(digest).await?.location)
    };
    if let Ok(location) = again(digest).await {
        let opened = store.open(&digest, location.as_deref(), size).await?;
        ensure(read_all(&opened).await? == content, "content that was committed twice")?;
    }
    // The same with little after the parts, which lies in an object by itself until then.
    let id = UploadId::now_v7();
    let (most, rest) = (content.slice(..19_000_000), content.slice(19_000_000..19_001_000));
    let upload = store.begin(id).await?.append(vec![most]).await?.flush().await?;
    let upload = upload.append(vec![rest]).await?.flush().await?;
    let tailed = upload.state();
    let digest_of_both = Digest::sha256(&content.slice(..19_001_000));
    let _ = upload.commit(digest_of_both).await?;
    if let Ok(Resumed::Whole(upload)) = store.resume(id, 19_001_000, &tailed).await {
        // A store that has nothing to resume has said so before.
        let committed = upload.commit(digest_of_both).await;
        ensure(committed.is_ok() || !store.is_replicated(), "it can be committed again")?;
    }
    let other = Digest::sha256(b"something else");
    ensure(again(other).await.is_err(), "committed as something else")
}

async fn refuses_to_resume_past_the_end(store: &dyn Blobs) -> Outcome {
    let id = UploadId::now_v7();
    let upload = store.begin(id).await?.append(vec![Bytes::from_static(b"short")]).await?;
    let upload = upload.flush().await?;
    let state = upload.state();
    drop(upload);
    for (id, received) in [(id, 6), (UploadId::now_v7(), 1)] {
        match store.resume(id, received, &state).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err("resumed what is not there".into()),
        }
    }
    store.abort(id, Some(&state)).await?;
    Ok(())
}

async fn replaces_content(store: &dyn Blobs) -> Outcome {
    let content = Bytes::from_static(b"pushed twice");
    let digest = Digest::sha256(&content);
    let _ = store.put(&digest, content.clone()).await?;
    let location = store.put(&digest, content.clone()).await?.location;
    let opened = store.open(&digest, location.as_deref(), 12).await?;
    ensure(read_all(&opened).await? == content, "content after a second put")
}

async fn hands_out_what_is_not_synced(store: &dyn Blobs) -> Outcome {
    let upload = store.begin(UploadId::now_v7()).await?;
    let upload = upload.append(vec![Bytes::from_static(b"small ")]).await?;
    let upload = upload.flush().await?.append(vec![Bytes::from_static(b"upload")]).await?;
    let whole = Bytes::from_static(b"small upload");
    let digest = Digest::sha256(&whole);
    for stored in [upload.commit(digest).await?, store.put(&digest, whole.clone()).await?] {
        ensure(stored.unsynced.is_none_or(|content| content == whole), "content to be kept")?;
        let opened = store.open(&digest, stored.location.as_deref(), 12).await?;
        ensure(read_all(&opened).await? == whole, "content that was not synced yet")?;
    }
    store.sync().await?;
    let large = Bytes::from(vec![9; 8 << 20]);
    let stored = store.put(&Digest::sha256(&large), large).await?;
    ensure(stored.unsynced.is_none(), "what is large is not kept in memory")
}

async fn keeps_content_open_for_readers(store: &dyn Blobs) -> Outcome {
    let content = Bytes::from(vec![3; 100_000]);
    let digest = Digest::sha256(&content);
    let location = store.put(&digest, content.clone()).await?.location;
    let opened = store.open(&digest, location.as_deref(), 100_000).await?;
    let _ = store.put(&digest, content.clone()).await?;
    ensure(read_all(&opened).await? == content, "content opened before it was replaced")
}

async fn aborts(store: &dyn Blobs) -> Outcome {
    let id = UploadId::now_v7();
    let upload = store.begin(id).await?.append(vec![Bytes::from_static(b"gone")]).await?;
    let upload = upload.flush().await?;
    let state = upload.state();
    drop(upload);
    store.abort(id, Some(&state)).await?;
    store.abort(id, Some(&state)).await?;
    let resumed = async {
        let upload = whole(store.resume(id, 4, &state).await?)?;
        let upload = upload.append(vec![Bytes::from_static(b" and back")]).await?;
        Ok::<_, Box<dyn StdError>>(upload.commit(Digest::sha256(b"gone and back")).await?)
    };
    ensure(resumed.await.is_err(), "resuming what was aborted")
}

async fn goes_on_with_large_uploads(store: &dyn Blobs) -> Outcome {
    // More than one part of any store, and little more than that before each pause.
    let content = Bytes::from((0..6_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let id = UploadId::now_v7();
    let mut upload = store.begin(id).await?;
    let mut sent = 0;
    for length in [100, 13_000_000, 10_000, 5_000, 6_000_000, 0] {
        upload = upload.append(vec![content.slice(sent..sent + length)]).await?.flush().await?;
        sent += length;
        let state = upload.state();
        drop(upload);
        upload = whole(store.resume(id, sent as u64, &state).await?)?;
    }
    // What is appended and not counted is as if it had never come.
    let state = upload.state();
    drop(upload.append(vec![Bytes::from(vec![1; 7_000_000])]).await?.flush().await?);
    upload = whole(store.resume(id, sent as u64, &state).await?)?;
    upload = upload.append(vec![content.slice(sent..)]).await?;
    let digest = Digest::sha256(&content);
    let location = upload.commit(digest).await?.location;
    let size = content.len() as u64;
    ensure(store.size(&digest, location.as_deref()).await? == Some(size), "its size")?;
    let opened = store.open(&digest, location.as_deref(), size).await?;
    ensure(read_all(&opened).await? == content, "content of a large upload")
}

async fn finds_stale_uploads(store: &dyn Blobs) -> Outcome {
    let id = UploadId::now_v7();
    let large = vec![Bytes::from(vec![5; 24 << 20])];
    let upload = store.begin(id).await?.append(large).await?.flush().await?;
    let state = upload.state();
    drop(upload);
    ensure(!store.stale_uploads(3600).await?.contains(&id), "a new upload is not stale")?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !store.stale_uploads(0).await?.contains(&id) {
        ensure(std::time::Instant::now() < deadline, "an upload becomes stale")?;
        tokio::task::yield_now().await;
    }
    store.abort(id, None).await?;
    ensure(!store.stale_uploads(0).await?.contains(&id), "an aborted upload is gone")?;
    Ok(store.abort(id, Some(&state)).await?)
}

async fn lists_content(store: &dyn Blobs) -> Outcome {
    let content = Bytes::from_static(b"listed");
    let digest = Digest::sha256(&content);
    let _ = store.put(&digest, content).await?;
    let shard = digest.hash().first().copied().unwrap_or_default();
    ensure(store.list_shard(shard).await?.contains(&digest), "its shard lists it")?;
    ensure(!store.list_shard(shard ^ 1).await?.contains(&digest), "another shard does not")
}

/// A commit and what a server that died has left, if they are not at the layout's keys.
async fn lists_what_is_elsewhere(store: &dyn Blobs) -> Outcome {
    let (kept, left) = (UploadId::now_v7(), UploadId::now_v7());
    let content = Bytes::from_static(b"elsewhere, perhaps");
    let upload = store.begin(kept).await?.append(vec![content.clone()]).await?.flush().await?;
    let Stored { location, .. } = upload.commit(Digest::sha256(&content)).await?;
    drop(store.begin(left).await?.append(vec![content.clone()]).await?.flush().await?);

    let found = located(store).await?;
    let of = |id| found.iter().find(|found| found.upload == id);
    ensure(of(kept).map(|found| &found.location) == location.as_ref(), "where the content is")?;
    let Some(stray) = of(left) else {
        return ensure(location.is_none(), "what was left is listed");
    };
    ensure(stray.size == content.len() as u64, "its size")?;
    let digest = Digest::sha256(&content);
    store.copy_to_layout(&digest, &stray.location, stray.size).await?;
    ensure(store.size(&digest, None).await? == Some(stray.size), "a copy at the layout's key")?;
    for _ in 0..2 {
        store.discard(&stray.location).await?;
    }
    let found = located(store).await?;
    ensure(!found.iter().any(|found| found.upload == left), "it is gone")?;
    ensure(location.is_none() || found.iter().any(|found| found.upload == kept), "the other is not")
}

async fn located(store: &dyn Blobs) -> Result<Vec<Located>, Box<dyn StdError>> {
    let mut all = Vec::new();
    let mut next = None;
    loop {
        let page = store.list_located(next).await?;
        all.extend(page.found);
        next = page.next;
        if next.is_none() {
            return Ok(all);
        }
    }
}

async fn removes_content(store: &dyn Blobs) -> Outcome {
    let content = Bytes::from_static(b"to be removed");
    let digest = Digest::sha256(&content);
    let location = store.put(&digest, content.clone()).await?.location;
    let location = location.as_deref();
    ensure(store.remove(&digest, location).await?, "it was there")?;
    ensure(store.size(&digest, location).await?.is_none(), "it is gone")?;
    ensure(!store.remove(&digest, location).await?, "it is gone already")?;
    let location = store.put(&digest, content).await?.location;
    ensure(store.size(&digest, location.as_deref()).await? == Some(13), "it can come back")
}

async fn keeps_links(store: &dyn Blobs, links: &dyn Links) -> Outcome {
    let (app, other) = ("team/app".parse()?, "team".parse()?);
    let content = Bytes::from_static(b"linked");
    let (digest, gone) = (Digest::sha256(&content), Digest::sha256(b"not there"));
    let other_name = Digest::sha512(&content);
    let _ = store.put(&digest, content).await?;
    ensure(!links.any().await? && !links.has(&app).await?, "no links at first")?;
    ensure(links.list(&app, LinkKind::Layers).await?.names.is_empty(), "nothing to list")?;

    let tag: oci::Tag = "v1".parse()?;
    let written = [
        (LinkName::Layer(digest), digest),
        (LinkName::Layer(gone), gone),
        (LinkName::Layer(other_name), digest),
        (LinkName::Revision(digest), digest),
        (LinkName::Tag(tag.clone()), gone),
        (LinkName::TagIndex(tag.clone(), gone), gone),
    ];
    for _ in 0..2 {
        links.write(&app, written.to_vec()).await?;
    }
    // The last one counts.
    links.write(&app, vec![(LinkName::Tag(tag.clone()), digest)]).await?;
    links.settle_links().await?;
    ensure(links.any().await? && links.has(&app).await?, "there are links now")?;
    ensure(!links.has(&other).await?, "a folder above a repository is none itself")?;
    let found = links.repositories().await?;
    let [found] = found.found.as_slice() else {
        return Err(format!("expected one repository, found {found:?}").into());
    };
    ensure(found.name == app && found.has_manifest && found.uploads == 0, "the repository")?;

    let layers = links.list(&app, LinkKind::Layers).await?.names;
    let mut expected = [digest, gone, other_name].map(LinkName::Layer);
    expected.sort();
    ensure(layers == expected, "layers in order")?;
    let tags = links.list(&app, LinkKind::Tags).await?.names;
    ensure(tags == [LinkName::Tag(tag.clone())], "tags")?;
    let names = written.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let read = links.read(&app, names.clone()).await?;
    ensure(read.iter().map(|link| &link.name).eq(&names), "read in the order asked for")?;
    let targets = read.iter().map(|link| link.target.clone()).collect::<Result<Vec<_>, _>>();
    let expected = [digest, gone, digest, digest, digest, gone];
    ensure(targets.is_ok_and(|targets| targets == expected), "where they lead")?;
    let sizes = read.iter().map(|link| link.size).collect::<Vec<_>>();
    ensure(sizes == [Some(6), None, Some(6), Some(6), Some(6), None], "what is there")?;
    ensure(read.iter().all(|link| link.modified > 0), "when they were written")?;

    // A tag goes with its history; what is removed twice is no error.
    let removed = [LinkName::Layer(digest), LinkName::Revision(digest), LinkName::Tag(tag)];
    for _ in 0..2 {
        links.remove(&app, removed.to_vec()).await?;
    }
    let read = links.read(&app, names).await?;
    let left = read.iter().filter(|link| link.target != Err(BadLink::Missing));
    let left = left.map(|link| link.name.clone()).collect::<Vec<_>>();
    ensure(left == [LinkName::Layer(gone), LinkName::Layer(other_name)], "what is left")?;
    let found = links.repositories().await?.found;
    ensure(found.iter().all(|found| !found.has_manifest), "no manifest is left")
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
