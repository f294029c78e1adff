//! What every engine must do: one suite, run on SQLite and on PostgreSQL.
//!
//! The functions here are rules in miniature: each composes a transaction the way the registry
//! does, and checks what a user would notice.

mod adoption;
mod concurrency;
mod replicas;

use std::collections::BTreeSet;
use std::error::Error as StdError;

use bytes::Bytes;
use oci::{Digest, Reference, RepositoryName, Tag};

use crate::blobs::NewBlob;
use crate::manifests::{NewManifest, ReferenceKind};
use crate::uploads::{Turn, Upload};
use crate::{
    Durability, Error, ErrorKind, Lock, Metadata, Tx, blobs, garbage, journal, manifests,
    repositories, settings, tags, uploads,
};

type Outcome = Result<(), Box<dyn StdError + Send + Sync>>;

/// Runs the suite on an empty database.
pub async fn run(metadata: &Metadata) -> Outcome {
    keeps_blobs_apart(metadata).await?;
    finds_blobs_by_both_digests(metadata).await?;
    lists_holders(metadata).await?;
    resolves_tags_and_digests(metadata).await?;
    moves_and_deletes_tags(metadata).await?;
    leaves_the_catalogue_when_empty(metadata).await?;
    finds_garbage(metadata).await?;
    pages_in_byte_order(metadata).await?;
    searches_literally(metadata).await?;
    lists_referrers(metadata).await?;
    keeps_uploads(metadata).await?;
    gives_new_ids_to_new_repositories(metadata).await?;
    takes_back_what_failed(metadata).await?;
    goes_through_everything(metadata).await?;
    finds_where_to_begin(metadata).await?;
    keeps_settings(metadata).await?;
    keeps_a_journal(metadata).await?;
    adoption::run(metadata).await?;
    replicas::run(metadata).await?;
    concurrency::run(metadata).await?;
    metadata.ping().await?;
    Ok(())
}

async fn keeps_blobs_apart(metadata: &Metadata) -> Outcome {
    let digest = Digest::sha256(b"apart");
    push_blob(metadata, "apart/one", new_blob(b"apart")).await?;
    ensure(find_blob(metadata, "apart/one", &digest).await?.is_some(), "served where pushed")?;
    ensure(find_blob(metadata, "apart/two", &digest).await?.is_none(), "not served elsewhere")?;
    let unlinked = write(metadata, (name("apart/one")?, digest), |tx, (name, digest)| {
        Box::pin(async move {
            match repositories::find(tx, name).await? {
                Some(id) => {
                    Ok((blobs::unlink(tx, id, digest).await?, blobs::unlink(tx, id, digest).await?))
                }
                None => Ok((false, false)),
            }
        })
    })
    .await?;
    ensure(unlinked == (true, false), "unlinked once")?;
    ensure(find_blob(metadata, "apart/one", &digest).await?.is_none(), "gone at once")
}

async fn finds_blobs_by_both_digests(metadata: &Metadata) -> Outcome {
    let sha512 = Digest::sha512(b"both");
    push_blob(metadata, "both", new_blob(b"both")).await?;
    ensure(find_blob(metadata, "both", &sha512).await?.is_none(), "sha512 is not known yet")?;
    push_blob(metadata, "both", NewBlob { sha512: Some(sha512), ..new_blob(b"both") }).await?;
    push_blob(metadata, "both", new_blob(b"both")).await?;
    let found = find_blob(metadata, "both", &sha512).await?;
    let found = found.ok_or("sha512 was learned, and is not forgotten")?;
    ensure(found.digest == Digest::sha256(b"both") && found.size == 4, "the same blob")
}

async fn lists_holders(metadata: &Metadata) -> Outcome {
    for repository in ["holder/b", "holder/a", "holder/c"] {
        push_blob(metadata, repository, new_blob(b"held")).await?;
    }
    let digest = Digest::sha256(b"held");
    let page = |last: Option<&'static str>| async move {
        metadata
            .read(&last, |tx, last| {
                Box::pin(
                    async move { blobs::holders(tx, &Digest::sha256(b"held"), *last, 2).await },
                )
            })
            .await
    };
    ensure(texts(&page(None).await?) == ["holder/a", "holder/b"], "first page")?;
    ensure(texts(&page(Some("holder/b")).await?) == ["holder/c"], "second page")?;
    ensure(find_blob(metadata, "holder/c", &digest).await?.is_some(), "served")
}

async fn resolves_tags_and_digests(metadata: &Metadata) -> Outcome {
    let digest = push_manifest(metadata, "resolve", b"m1", &["v1", "latest"], None).await?;
    for reference in ["v1", "latest", &digest.to_string()] {
        let found = find_manifest(metadata, "resolve", reference).await?;
        let found = found.ok_or("found by tag and digest")?;
        ensure(found.digest == digest && found.media_type == "application/x+json", "the manifest")?;
        ensure(found.blob.size == 2, "its blob")?;
    }
    ensure(find_manifest(metadata, "resolve", "v2").await?.is_none(), "unknown tag")?;
    ensure(find_manifest(metadata, "other", "v1").await?.is_none(), "other repository")?;
    // The same content under its other name is another manifest.
    let sha512 = Digest::sha512(b"m1");
    ensure(find_manifest(metadata, "resolve", &sha512.to_string()).await?.is_none(), "as sha512")
}

async fn moves_and_deletes_tags(metadata: &Metadata) -> Outcome {
    let first = push_manifest(metadata, "move", b"m1", &["t"], None).await?;
    let second = push_manifest(metadata, "move", b"m2", &["t"], None).await?;
    let now = find_manifest(metadata, "move", "t").await?.map(|found| found.digest);
    ensure(now == Some(second), "the tag has moved")?;
    ensure(find_manifest(metadata, "move", &first.to_string()).await?.is_some(), "the old stays")?;
    ensure(delete_manifest(metadata, "move", second).await?, "deleted")?;
    ensure(!delete_manifest(metadata, "move", second).await?, "deleted once")?;
    ensure(find_manifest(metadata, "move", "t").await?.is_none(), "its tag went with it")?;
    push_manifest(metadata, "move", b"m1", &["t"], None).await?;
    ensure(delete_tag(metadata, "move", "t").await?, "tag deleted")?;
    ensure(!delete_tag(metadata, "move", "t").await?, "tag deleted once")?;
    ensure(find_manifest(metadata, "move", &first.to_string()).await?.is_some(), "manifest stays")
}

async fn leaves_the_catalogue_when_empty(metadata: &Metadata) -> Outcome {
    let listed = |metadata: &Metadata| {
        let metadata = metadata.clone();
        async move {
            let name = name("empty")?;
            let listed = metadata
                .read(&name, |tx, name| Box::pin(repositories::is_listed(tx, name)))
                .await?;
            Ok::<_, Box<dyn StdError + Send + Sync>>(listed)
        }
    };
    push_blob(metadata, "empty", new_blob(b"only a blob")).await?;
    ensure(!listed(metadata).await?, "a blob alone is no image")?;
    let one = push_manifest(metadata, "empty", b"m1", &["t"], None).await?;
    let two = push_manifest(metadata, "empty", b"m2", &[], None).await?;
    ensure(listed(metadata).await?, "listed with a manifest")?;
    delete_manifest(metadata, "empty", one).await?;
    ensure(listed(metadata).await?, "listed with one left")?;
    delete_manifest(metadata, "empty", two).await?;
    ensure(!listed(metadata).await?, "not listed without")
}

async fn finds_garbage(metadata: &Metadata) -> Outcome {
    push_blob(metadata, "garbage", new_blob(b"loose")).await?;
    let tagged = push_manifest(metadata, "garbage", b"g1", &["t"], None).await?;
    push_manifest(metadata, "garbage", b"g2", &[], Some(tagged)).await?;
    let loose = push_manifest(metadata, "garbage", b"g3", &[], None).await?;
    push_manifest(metadata, "garbage", b"g4", &[], Some(loose)).await?;
    let untagged = metadata.read(&(), |tx, ()| Box::pin(garbage::untagged(tx))).await?;
    let here: Vec<Digest> = untagged
        .iter()
        .filter_map(|(name, digest)| (name.as_str() == "garbage").then_some(*digest))
        .collect();
    ensure(here.contains(&loose) && here.len() == 2, "what no tag leads to")?;
    let unused = metadata.read(&(), |tx, ()| Box::pin(garbage::unused(tx, 1000))).await?;
    let found = unused.iter().find(|(_, blob)| blob.digest == Digest::sha256(b"loose"));
    let Some((id, _)) = found else { return ensure(false, "a blob that nothing names") };
    let is_there = |content: &[u8]| {
        let digest = Digest::sha256(content);
        unused.iter().any(|(_, blob)| blob.digest == digest)
    };
    ensure(!is_there(b"g1") && !is_there(b"g3"), "manifests are used")?;
    let before = metadata.read(&(), |tx, ()| Box::pin(garbage::count_blobs(tx))).await?;
    write(metadata, *id, |tx, id| Box::pin(garbage::forget(tx, *id))).await?;
    let after = metadata.read(&(), |tx, ()| Box::pin(garbage::count_blobs(tx))).await?;
    ensure(after + 1 == before, "forgotten")
}

async fn pages_in_byte_order(metadata: &Metadata) -> Outcome {
    for repository in ["page/b", "page-a", "page/a", "page/a/c", "page.x", "pagea"] {
        push_manifest(metadata, repository, b"m", &[], None).await?;
    }
    let mut found = Vec::new();
    let mut last = Some("page".to_owned());
    loop {
        let page = metadata
            .read(&last, |tx, last| Box::pin(repositories::list(tx, last.as_deref(), 2)))
            .await?;
        let Some(name) = page.last() else { break };
        last = Some(name.to_string());
        found.extend(texts(&page).into_iter().filter(|name| name.starts_with("page")));
    }
    let expected = ["page-a", "page.x", "page/a", "page/a/c", "page/b", "pagea"];
    ensure(found == expected, "repositories in byte order")?;

    let all = ["B", "_x", "a", "a-1", "a.1", "a_1", "b", "v10", "v9"];
    push_manifest(metadata, "tags", b"m", &all, None).await?;
    let page = |last: Option<&'static str>| async move {
        metadata
            .read(&last, |tx, last| {
                Box::pin(async move {
                    let name = "tags".parse::<RepositoryName>();
                    let name =
                        name.map_err(|error| Error::new(ErrorKind::Other, error.to_string()))?;
                    match repositories::find(tx, &name).await? {
                        Some(id) => tags::list(tx, id, *last, 5).await,
                        None => Ok(Vec::new()),
                    }
                })
            })
            .await
    };
    ensure(texts(&page(None).await?) == ["B", "_x", "a", "a-1", "a.1"], "tags, first page")?;
    ensure(texts(&page(Some("a.1")).await?) == ["a_1", "b", "v10", "v9"], "tags, last page")?;
    ensure(
        texts(&page(Some("a.0")).await?).first().is_some_and(|tag| tag == "a.1"),
        "after a tag that is not there",
    )
}

async fn searches_literally(metadata: &Metadata) -> Outcome {
    for repository in ["find_me", "find.me", "findxme", "x/find_me"] {
        push_manifest(metadata, repository, b"m", &[], None).await?;
    }
    let (names, count) = metadata
        .read(&(), |tx, ()| {
            Box::pin(async move {
                let names = repositories::search(tx, "find_m", 0, 10).await?;
                let count = repositories::count_matches(tx, "find_m").await?;
                Ok::<_, Error>((names, count))
            })
        })
        .await?;
    ensure(texts(&names) == ["find_me", "x/find_me"] && count == 2, "_ is not a wildcard")
}

async fn lists_referrers(metadata: &Metadata) -> Outcome {
    let subject = Digest::sha256(b"a subject that never comes");
    let mut expected = BTreeSet::new();
    for content in [b"r1", b"r2", b"r3", b"r4"] {
        expected.insert(push_manifest(metadata, "refer", content, &[], Some(subject)).await?);
    }
    push_manifest(metadata, "refer", b"no", &[], None).await?;
    push_manifest(metadata, "other", b"r9", &[], Some(subject)).await?;
    let page = |kind: Option<&'static str>, page: manifests::Page| async move {
        let repository = name("refer")?;
        let input = (repository, subject, kind, page);
        let found = metadata
            .read(&input, |tx, (repository, subject, kind, page)| {
                Box::pin(manifests::referrers(tx, repository, subject, *kind, *page))
            })
            .await?;
        Ok::<_, Box<dyn StdError + Send + Sync>>(found)
    };
    let three = manifests::Page { last: None, limit: 3, bytes: u64::MAX };
    let first = page(None, three).await?;
    ensure(first.more, "the first page is not all")?;
    let first = first.list;
    let last = first.last().ok_or("a first page")?.digest;
    let second = page(None, manifests::Page { last: Some(last), ..three }).await?;
    ensure(!second.more, "nothing after the second page")?;
    let both = first.iter().chain(&second.list);
    let found = both.map(|referrer| referrer.digest).collect::<Vec<_>>();
    ensure(found == expected.into_iter().collect::<Vec<_>>(), "all, in order, over two pages")?;
    ensure(first.iter().all(|r| r.annotations.as_deref() == Some("{\"a\":\"b\"}")), "annotations")?;
    let filtered = page(Some("application/kind"), three).await?;
    ensure(filtered.list.len() == 3, "filtered")?;
    let filtered = page(Some("application/other"), three).await?;
    ensure(filtered.list.is_empty() && !filtered.more, "filtered out")?;
    for (bytes, count) in [(0, 1), (2 * manifests::Page::ROW_BYTES + 20, 2)] {
        let short = page(None, manifests::Page { bytes, ..three }).await?;
        ensure(short.list.len() == count && short.more, "no more than a page may have")?;
    }
    Ok(())
}

async fn keeps_uploads(metadata: &Metadata) -> Outcome {
    let state = Upload { hash_state: vec![1, 0, 255], ..Upload::default() };
    let input = (name("upload")?, state.clone());
    write(metadata, input, |tx, (name, state)| {
        Box::pin(async move {
            let repository = repositories::ensure(tx, name, 1).await?;
            uploads::begin(tx, repository, "id-1", state, 100).await
        })
    })
    .await?;
    let find = |repository: &'static str| async move {
        let repository = name(repository)?;
        let found = metadata
            .read(&repository, |tx, name| Box::pin(uploads::find(tx, name, "id-1")))
            .await?;
        Ok::<_, Box<dyn StdError + Send + Sync>>(found)
    };
    ensure(find("upload").await? == Some(state), "as it was created")?;
    ensure(find("elsewhere").await?.is_none(), "not from another repository")?;
    let later = Upload {
        received: 7,
        hash_state: vec![2],
        store_state: "boot".to_owned(),
        store_id: "id-7".to_owned(),
    };
    let saved = write(metadata, later.clone(), |tx, later| {
        Box::pin(async move {
            Ok((
                uploads::save(tx, "id-1", later, &Turn::default(), false, 200).await?,
                uploads::save(tx, "id-2", later, &Turn::default(), false, 200).await?,
            ))
        })
    })
    .await?;
    ensure(saved == (true, false), "saved")?;
    ensure(find("upload").await? == Some(later), "as it was saved")?;
    let idle = |before: i64| async move {
        metadata.read(&before, |tx, before| Box::pin(uploads::idle_since(tx, *before, 10))).await
    };
    ensure(idle(200).await?.is_empty(), "not idle yet")?;
    ensure(idle(201).await? == ["id-1"], "idle")?;
    let still_idle = metadata
        .read(&(), |tx, ()| {
            Box::pin(async move {
                let now = uploads::is_idle_since(tx, "id-1", 201).await?;
                let before = uploads::is_idle_since(tx, "id-1", 200).await?;
                Ok::<_, Error>((now, before))
            })
        })
        .await?;
    ensure(still_idle == (true, false), "idle since its last write")?;
    let deleted = write(metadata, (), |tx, ()| {
        Box::pin(async move {
            Ok((
                uploads::exists(tx, "id-7").await?,
                uploads::delete(tx, "id-1", &Turn::default()).await?,
                uploads::exists(tx, "id-1").await?,
                uploads::exists(tx, "id-7").await?,
            ))
        })
    })
    .await?;
    ensure(deleted == (true, true, false, false), "deleted, under both names")
}

async fn gives_new_ids_to_new_repositories(metadata: &Metadata) -> Outcome {
    let (first, again) = write(metadata, name("ids")?, |tx, name| {
        Box::pin(async move {
            Ok((repositories::ensure(tx, name, 1).await?, repositories::ensure(tx, name, 2).await?))
        })
    })
    .await?;
    ensure(first == again, "one repository, one id")?;
    let second = write(metadata, name("ids")?, |tx, name| {
        Box::pin(async move {
            tx.execute("DELETE FROM repositories WHERE name = $1", &[name.as_str().into()]).await?;
            repositories::ensure(tx, name, 3).await
        })
    })
    .await?;
    ensure(first != second, "a repository made again has another id")
}

async fn takes_back_what_failed(metadata: &Metadata) -> Outcome {
    let failed: Result<(), Error> = write(metadata, name("fails")?, |tx, name| {
        Box::pin(async move {
            repositories::ensure(tx, name, 1).await?;
            Err(Error::new(ErrorKind::Other, "on purpose"))
        })
    })
    .await;
    ensure(failed.is_err(), "the error comes back")?;
    let found =
        metadata.read(&name("fails")?, |tx, name| Box::pin(repositories::find(tx, name))).await?;
    ensure(found.is_none(), "nothing of it happened")
}

async fn goes_through_everything(metadata: &Metadata) -> Outcome {
    let mut last = None;
    let mut digests = Vec::new();
    loop {
        let page =
            metadata.read(&last, |tx, last| Box::pin(blobs::list(tx, last.as_ref(), 3))).await?;
        let Some(blob) = page.last() else { break };
        last = Some(blob.digest);
        digests.extend(page.iter().map(|blob| blob.digest));
    }
    ensure(digests.is_sorted() && digests.contains(&Digest::sha256(b"held")), "all blobs")?;
    let mut last = None;
    let mut references = 0;
    loop {
        let page = metadata.read(&last, |tx, last| Box::pin(manifests::list(tx, *last, 3))).await?;
        let Some(manifest) = page.last() else { break };
        last = Some(manifest.id);
        references += page.iter().map(|manifest| manifest.references.len()).sum::<usize>();
    }
    ensure(references > 0, "all manifests with what they name")
}

async fn finds_where_to_begin(metadata: &Metadata) -> Outcome {
    push_manifest(metadata, "roots", b"tagged", &["v1"], None).await?;
    let child = push_manifest(metadata, "roots", b"child", &[], None).await?;
    let loose = push_manifest(metadata, "roots", b"loose root", &[], None).await?;
    // What an index of another repository lists is not led to here.
    push_manifest(metadata, "roots/other", b"loose root", &[], None).await?;
    let lists = [("roots", b"an index".as_slice(), child), ("roots/other", b"another", loose)];
    for (repository, content, listed) in lists {
        write(metadata, (name(repository)?, content, listed), |tx, (name, content, listed)| {
            Box::pin(async move {
                let repository = repositories::ensure(tx, name, 1).await?;
                let blob = blobs::record(tx, &new_blob(content), 1).await?.id;
                let index = NewManifest {
                    digest: Digest::sha256(content),
                    media_type: "application/x+json".to_owned(),
                    artifact_type: None,
                    subject: None,
                    annotations: None,
                    references: vec![(*listed, ReferenceKind::Child)],
                };
                manifests::put(tx, repository, blob, &index, 1).await
            })
        })
        .await?;
    }
    let mut expected = [Digest::sha256(b"an index"), loose];
    expected.sort();
    let roots = metadata
        .read(&name("roots")?, |tx, name| {
            Box::pin(async move {
                let Some(id) = repositories::find(tx, name).await? else { return Ok(Vec::new()) };
                let mut found = Vec::new();
                while let [root] = manifests::list_roots(tx, id, found.last(), 1).await?.as_slice()
                {
                    found.push(*root);
                }
                Ok::<_, Error>(found)
            })
        })
        .await?;
    ensure(roots == expected, "manifests that nothing leads to")?;
    let stored = metadata
        .read(&Digest::sha256(b"loose root"), |tx, digest| Box::pin(blobs::find_stored(tx, digest)))
        .await?;
    ensure(stored.is_some_and(|blob| blob.size == 10), "content of whichever repository")
}

async fn keeps_settings(metadata: &Metadata) -> Outcome {
    let values = write(metadata, (), |tx, ()| {
        Box::pin(async move {
            let before = settings::get(tx, "a").await?;
            settings::set(tx, "a", "1").await?;
            settings::set(tx, "a", "2").await?;
            Ok((before, settings::get(tx, "a").await?))
        })
    })
    .await?;
    ensure(values == (None, Some("2".to_owned())), "the last value")
}

/// Sixteen clients want to move a tag away from where all of them saw it: one may.
async fn keeps_a_journal(metadata: &Metadata) -> Outcome {
    let read = || async {
        metadata.read(&(), |tx, ()| Box::pin(async { journal::list(tx, 0, 10).await })).await
    };
    for content in [b"first".as_slice(), b"", b"third"] {
        let unsynced = Some(Bytes::copy_from_slice(content));
        push_blob(metadata, "journal", NewBlob { unsynced, ..new_blob(content) }).await?;
    }
    let entries = read().await?;
    let contents: Vec<_> = entries.iter().map(|entry| &*entry.content).collect();
    ensure(contents == [b"first".as_slice(), b"", b"third"], "in their order")?;
    ensure(entries.iter().all(|entry| Digest::sha256(&entry.content) == entry.digest), "digests")?;
    let second = entries.get(1).ok_or("three entries")?.id;
    let trimmed =
        write(metadata, second, |tx, last| Box::pin(async { journal::trim(tx, *last).await }))
            .await?;
    ensure(trimmed == 2 && read().await?.len() == 1, "the last one stays")?;
    let (has, last) = metadata
        .read(&(), |tx, ()| {
            Box::pin(async {
                let [first, third] = [b"first", b"third"].map(|content| Digest::sha256(content));
                let has = [journal::has(tx, &first).await?, journal::has(tx, &third).await?];
                Ok::<_, Error>((has, journal::last(tx).await?))
            })
        })
        .await?;
    ensure(has == [false, true] && last > Some(second), "what it has")?;
    let all = write(metadata, i64::MAX, |tx, last| Box::pin(journal::trim(tx, *last))).await?;
    ensure(all == 1, "all is forgotten")
}

async fn put_manifest(
    tx: &mut Tx,
    name: &RepositoryName,
    content: &[u8],
    tags: &[Tag],
    subject: Option<Digest>,
) -> Result<Digest, Error> {
    let digest = Digest::sha256(content);
    let repository = repositories::ensure(tx, name, 1).await?;
    let blob = blobs::record(tx, &new_blob(content), 1).await?.id;
    // Three of four referrers are of one kind.
    let kind = if content == b"r4" { "application/fourth" } else { "application/kind" };
    let manifest = NewManifest {
        digest,
        media_type: "application/x+json".to_owned(),
        artifact_type: Some(kind.to_owned()),
        subject,
        annotations: subject.map(|_| "{\"a\":\"b\"}".to_owned()),
        references: vec![
            (Digest::sha256(b"config"), ReferenceKind::Config),
            (Digest::sha256(b"layer"), ReferenceKind::Layer),
        ],
    };
    let id = manifests::put(tx, repository, blob, &manifest, 1).await?;
    for tag in tags {
        tags::set(tx, repository, tag, id, 1).await?;
    }
    Ok(digest)
}

async fn push_manifest(
    metadata: &Metadata,
    repository: &str,
    content: &[u8],
    tags: &[&str],
    subject: Option<Digest>,
) -> Result<Digest, Box<dyn StdError + Send + Sync>> {
    let tags = tags.iter().map(|text| tag(text)).collect::<Result<Vec<_>, _>>()?;
    let input = (name(repository)?, content.to_vec(), tags, subject);
    let lock = Lock::shared(&input.0);
    Ok(write_locked(metadata, lock, input, |tx, (name, content, tags, subject)| {
        Box::pin(put_manifest(tx, name, content, tags, *subject))
    })
    .await?)
}

async fn push_blob(metadata: &Metadata, repository: &str, blob: NewBlob) -> Outcome {
    let input = (name(repository)?, blob);
    write_locked(metadata, Lock::shared(&input.0), input, |tx, (name, blob)| {
        Box::pin(async move {
            let repository = repositories::ensure(tx, name, 1).await?;
            let blob = blobs::record(tx, blob, 1).await?.id;
            blobs::link(tx, repository, blob, 1).await
        })
    })
    .await?;
    Ok(())
}

async fn find_blob(
    metadata: &Metadata,
    repository: &str,
    digest: &Digest,
) -> Result<Option<blobs::Blob>, Box<dyn StdError + Send + Sync>> {
    let input = (name(repository)?, *digest);
    let found =
        metadata.read(&input, |tx, (name, digest)| Box::pin(blobs::find(tx, name, digest))).await?;
    Ok(found)
}

async fn find_manifest(
    metadata: &Metadata,
    repository: &str,
    reference: &str,
) -> Result<Option<manifests::Manifest>, Box<dyn StdError + Send + Sync>> {
    let input = (name(repository)?, reference.parse::<Reference>()?);
    let found = metadata
        .read(&input, |tx, (name, reference)| Box::pin(manifests::find(tx, name, reference)))
        .await?;
    Ok(found)
}

async fn delete_manifest(
    metadata: &Metadata,
    repository: &str,
    digest: Digest,
) -> Result<bool, Box<dyn StdError + Send + Sync>> {
    let input = (name(repository)?, digest);
    Ok(write_locked(metadata, Lock::exclusive(&input.0), input, |tx, (name, digest)| {
        Box::pin(async move {
            match repositories::find(tx, name).await? {
                Some(id) => manifests::delete(tx, id, digest).await,
                None => Ok(false),
            }
        })
    })
    .await?)
}

async fn delete_tag(
    metadata: &Metadata,
    repository: &str,
    text: &str,
) -> Result<bool, Box<dyn StdError + Send + Sync>> {
    let input = (name(repository)?, tag(text)?);
    Ok(write_locked(metadata, Lock::exclusive(&input.0), input, |tx, (name, tag)| {
        Box::pin(async move {
            match repositories::find(tx, name).await? {
                Some(id) => tags::delete(tx, id, tag).await,
                None => Ok(false),
            }
        })
    })
    .await?)
}

/// A durable write, as most are.
async fn write<I, T, F>(metadata: &Metadata, input: I, function: F) -> Result<T, Error>
where
    I: Send + Sync + 'static,
    T: Send + 'static,
    F: for<'t> Fn(&'t mut Tx, &'t I) -> crate::TxFuture<'t, T, Error> + Send + Sync + 'static,
{
    metadata.write(Durability::Power, input, function).await
}

/// The same with a lock, as what is done often.
async fn write_locked<I, T, F>(
    metadata: &Metadata,
    lock: Lock,
    input: I,
    function: F,
) -> Result<T, Error>
where
    I: Send + Sync + 'static,
    T: Send + 'static,
    F: for<'t> Fn(&'t mut Tx, &'t I) -> crate::TxFuture<'t, T, Error> + Send + Sync + 'static,
{
    metadata.write_locked(Durability::Power, lock, input, function).await
}

fn new_blob(content: &[u8]) -> NewBlob {
    let size = content.len() as u64;
    NewBlob {
        sha256: Digest::sha256(content),
        sha512: None,
        size,
        location: None,
        replaces: false,
        unsynced: None,
    }
}

fn name(text: &str) -> Result<RepositoryName, Error> {
    text.parse().map_err(|error| Error::new(ErrorKind::Other, format!("{text}: {error}")))
}

fn tag(text: &str) -> Result<Tag, Error> {
    text.parse().map_err(|error| Error::new(ErrorKind::Other, format!("{text}: {error}")))
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("does not hold: {what}").into()) }
}
