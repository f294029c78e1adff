//! What every store must do: one suite, run by the tests of each.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::time::Duration;

use ::http::Method;
use bytes::Bytes;

use crate::{ByteStream, ErrorKind, Objects, list_all};

type Outcome = Result<(), Box<dyn StdError>>;

/// Runs the suite on an empty store.
pub async fn run(store: &dyn Objects) -> Outcome {
    run_but_aborts(store).await?;
    aborts(store).await
}

/// The suite for a server that forgets to give up attempts.
pub async fn run_but_aborts(store: &dyn Objects) -> Outcome {
    puts_and_gets(store).await?;
    gets_ranges(store).await?;
    misses_what_is_not_there(store).await?;
    deletes(store).await?;
    lists(store).await?;
    assembles_parts(store).await?;
    notices_parts_that_are_written_twice(store).await?;
    keeps_attempts_apart(store).await?;
    completes_once(store).await?;
    signs_urls(store).await
}

async fn puts_and_gets(store: &dyn Objects) -> Outcome {
    for content in [Bytes::new(), Bytes::from_static(b"first"), Bytes::from(vec![7; 300_000])] {
        // What is put later counts. It comes in pieces.
        let half = content.len() / 2;
        store.put("a/b", vec![content.slice(..half), content.slice(half..)]).await?;
        let opened = store.get("a/b", 0, u64::MAX).await?;
        ensure(opened.size == content.len() as u64, "size of an opened object")?;
        ensure(collect(opened.bytes).await? == content, "content")?;
        let found = store.find("a/b").await?.ok_or("not found")?;
        ensure(found.size == content.len() as u64, "size of a found object")?;
        let age = found.modified.elapsed().unwrap_or_default();
        ensure(age < Duration::from_mins(5), "when it was written")?;
    }
    Ok(())
}

async fn gets_ranges(store: &dyn Objects) -> Outcome {
    let content = Bytes::from((0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    store.put("ranges", vec![content.clone()]).await?;
    for (start, end) in [(0_u64, 10_u64), (5, 399_999), (399_990, u64::MAX), (399_990, 500_000)] {
        let opened = store.get("ranges", start, end).await?;
        ensure(opened.size == 400_000, "size of the whole")?;
        let (from, to) = (usize::try_from(start)?, usize::try_from(end.min(400_000))?);
        ensure(collect(opened.bytes).await? == content.slice(from..to), "a part")?;
    }
    Ok(())
}

async fn misses_what_is_not_there(store: &dyn Objects) -> Outcome {
    ensure(store.find("nothing/here").await?.is_none(), "finding nothing")?;
    match store.get("nothing/here", 0, 10).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err("got what is not there".into()),
    }
}

async fn deletes(store: &dyn Objects) -> Outcome {
    store.put("short-lived", vec![Bytes::from_static(b"x")]).await?;
    for _ in 0..2 {
        store.delete("short-lived").await?;
        ensure(store.find("short-lived").await?.is_none(), "it is gone")?;
    }
    Ok(())
}

async fn lists(store: &dyn Objects) -> Outcome {
    for key in ["list/a", "list/b/one", "list/b/two", "list/c/d/e", "listless"] {
        store.put(key, vec![Bytes::from_static(b"listed")]).await?;
    }
    let mut page = list_all(store, "list/", false).await?;
    page.objects.sort_by(|one, other| one.0.cmp(&other.0));
    let keys = page.objects.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>();
    ensure(keys == ["list/a", "list/b/one", "list/b/two", "list/c/d/e"], "all keys")?;
    ensure(page.objects.iter().all(|(_, found)| found.size == 6), "their sizes")?;
    let mut page = list_all(store, "list/", true).await?;
    page.folders.sort();
    ensure(page.folders == ["list/b", "list/c"], "folders")?;
    ensure(page.objects.len() == 1, "what is in no folder")?;
    ensure(list_all(store, "empty/", false).await?.objects.is_empty(), "nothing to list")
}

/// Bytes that are enough for a part.
fn part_of(store: &dyn Objects, byte: u8) -> Bytes {
    let rules = store.part_rules();
    let size = rules.min_size.max(1 << 20).next_multiple_of(rules.step);
    Bytes::from(vec![byte; size])
}

async fn assembles_parts(store: &dyn Objects) -> Outcome {
    store.put("assembled", vec![Bytes::from_static(b"replaced")]).await?;
    for last in [Bytes::new(), Bytes::from_static(b"3")] {
        let parts = [part_of(store, 1), part_of(store, 2)];
        let attempt = store.begin("assembled").await?;
        let attempts = store.attempts("assembled").await?;
        let listed = attempts.iter().any(|found| found.key == "assembled" && found.name == attempt);
        ensure(listed || attempts.is_empty(), "the attempt is listed")?;
        let mut names = Vec::new();
        let mut offset = 0;
        for (number, part) in parts.iter().enumerate() {
            let half = part.len() / 2;
            let pieces = vec![part.slice(..half), part.slice(half..)];
            names.push(store.part("assembled", &attempt, number, offset, pieces).await?);
            offset += part.len() as u64;
        }
        store.complete("assembled", &attempt, names, vec![last.clone()]).await?;
        let opened = store.get("assembled", 0, u64::MAX).await?;
        let expected = [parts.concat().as_slice(), &last].concat();
        ensure(collect(opened.bytes).await? == expected, "the parts in order")?;
        ensure(store.attempts("assembled").await?.is_empty(), "no attempt is left")?;
    }
    Ok(())
}

/// As when an answer was lost, or when somebody else goes on where less had been saved.
async fn notices_parts_that_are_written_twice(store: &dyn Objects) -> Outcome {
    let attempt = store.begin("twice").await?;
    let (wrong, right) = (part_of(store, 9), part_of(store, 1));
    let _ = store.part("twice", &attempt, 0, 0, vec![wrong]).await?;
    let completed = match store.part("twice", &attempt, 0, 0, vec![right.clone()]).await {
        Ok(part) => store.complete("twice", &attempt, vec![part], Vec::new()).await,
        Err(error) => Err(error),
    };
    if store.part_rules().are_replaced {
        completed?;
        let opened = store.get("twice", 0, u64::MAX).await?;
        ensure(collect(opened.bytes).await? == right, "the part that was written last")
    } else {
        ensure(completed.is_err(), "a part can not be replaced")
    }
}

async fn keeps_attempts_apart(store: &dyn Objects) -> Outcome {
    let mut begun = Vec::new();
    for (key, byte) in [("apart/one", 1), ("apart/two", 2)] {
        let attempt = store.begin(key).await?;
        let content = part_of(store, byte);
        let part = store.part(key, &attempt, 0, 0, vec![content.clone()]).await?;
        begun.push((key, attempt, part, content));
    }
    for (key, attempt, part, content) in begun {
        store.complete(key, &attempt, vec![part], Vec::new()).await?;
        let opened = store.get(key, 0, u64::MAX).await?;
        ensure(collect(opened.bytes).await? == content, "its own part")?;
    }
    Ok(())
}

async fn completes_once(store: &dyn Objects) -> Outcome {
    for last in [Vec::new(), vec![Bytes::from_static(b"x")]] {
        let attempt = store.begin("once").await?;
        let part = part_of(store, 1);
        let size = part.len() + last.concat().len();
        let parts = vec![store.part("once", &attempt, 0, 0, vec![part]).await?];
        store.complete("once", &attempt, parts.clone(), last.clone()).await?;
        // Some say it again, some do not know it any more; nobody does harm.
        if let Err(error) = store.complete("once", &attempt, parts, last).await {
            ensure(error.kind() == ErrorKind::NotFound, &format!("completed already: {error}"))?;
        }
        // Who gives up what is complete does no harm, either.
        store.abort("once", &attempt).await?;
        let found = store.find("once").await?;
        ensure(found.is_some_and(|found| found.size == size as u64), "the object")?;
    }
    Ok(())
}

async fn aborts(store: &dyn Objects) -> Outcome {
    let attempt = store.begin("aborted").await?;
    let part = store.part("aborted", &attempt, 0, 0, vec![part_of(store, 1)]).await?;
    for _ in 0..2 {
        store.abort("aborted", &attempt).await?;
    }
    let completed = store.complete("aborted", &attempt, vec![part], Vec::new()).await;
    let error = completed.err().ok_or("completed what was aborted")?;
    ensure(error.kind() == ErrorKind::NotFound, &format!("it was aborted: {error}"))?;
    ensure(store.find("aborted").await?.is_none(), "no object")?;
    ensure(store.attempts("aborted").await?.is_empty(), "no attempt is left")
}

async fn signs_urls(store: &dyn Objects) -> Outcome {
    store.put("signed", vec![Bytes::from_static(b"signed")]).await?;
    for method in [Method::GET, Method::HEAD] {
        let url = store.signed_url(method, "signed", Duration::from_mins(1)).await?;
        if let Some(url) = url {
            ensure(url.starts_with("http") && url.contains("signed"), "a URL")?;
        }
    }
    Ok(())
}

async fn collect(mut bytes: ByteStream) -> Result<Vec<u8>, crate::Error> {
    let mut all = Vec::new();
    while let Some(next) = poll_fn(|context| bytes.as_mut().poll_next(context)).await {
        all.extend_from_slice(&next?);
    }
    Ok(all)
}

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("does not hold: {what}").into()) }
}
