//! What every engine must do for the adoption of another registry's repositories.

use oci::Digest;

use super::{
    Outcome, delete_tag, ensure, find_blob, find_manifest, name, new_blob, push_blob,
    push_manifest, tag, texts, write,
};
use crate::adoption::{self, Finding, FoundBlob, FoundManifest, FoundTag, Precedence};
use crate::manifests::{NewManifest, ReferenceKind};
use crate::{Error, ErrorKind, Metadata, Tx, blobs, manifests, repositories, tags};

pub(super) async fn run(metadata: &Metadata) -> Outcome {
    marks_what_is_unread(metadata).await?;
    adds_what_was_found(metadata).await?;
    knows_who_is_right_about_a_tag(metadata).await?;
    leaves_one_name_to_one_content(metadata).await?;
    lists_the_facts_of_a_repository(metadata).await?;
    keeps_findings(metadata).await
}

async fn marks_what_is_unread(metadata: &Metadata) -> Outcome {
    push_manifest(metadata, "adopt/known", b"m", &[], None).await?;
    let count = |metadata: &Metadata| {
        let metadata = metadata.clone();
        async move { metadata.read(&(), |tx, ()| Box::pin(adoption::count_unread(tx))).await }
    };
    ensure(count(&metadata.clone()).await? == 0, "nothing is unread before a round")?;
    let input = (name("adopt/known")?, name("adopt/new")?, name("adopt/nothing")?);
    let states = write(metadata, input, |tx, (known, new, nothing)| {
        Box::pin(async move {
            adoption::mark_all_unread(tx).await?;
            adoption::expect(tx, known, false, 5).await?;
            adoption::expect(tx, new, true, 5).await?;
            let listed = repositories::is_listed(tx, new).await?;
            let states = (
                adoption::is_unread(tx, known).await?,
                adoption::is_unread(tx, new).await?,
                adoption::is_unread(tx, nothing).await?,
            );
            Ok((states, listed, repositories::is_listed(tx, known).await?))
        })
    })
    .await?;
    ensure(states == ((Some(true), Some(true), None), true, true), "unread, and in the catalogue")?;

    let total = metadata.read(&(), |tx, ()| Box::pin(repositories::count(tx))).await?;
    ensure(count(metadata).await? == total, "all are unread")?;
    let all = metadata.read(&(), |tx, ()| Box::pin(repositories::list_all(tx, None, 3))).await?;
    let unread = metadata.read(&(), |tx, ()| Box::pin(adoption::list_unread(tx, None, 3))).await?;
    ensure(all == unread && all.len() == 3, "both list all, in the order of their ids")?;
    loop {
        let left = write(metadata, (), |tx, ()| {
            Box::pin(async move {
                let page = adoption::list_unread(tx, None, 10).await?;
                for (id, _) in &page {
                    adoption::mark_read(tx, *id).await?;
                }
                Ok(page.len())
            })
        })
        .await?;
        if left == 0 {
            break;
        }
    }
    ensure(count(metadata).await? == 0, "all are read")?;
    let listed = metadata
        .read(&(name("adopt/known")?, name("adopt/new")?), |tx, (known, new)| {
            Box::pin(async move {
                let known = repositories::is_listed(tx, known).await?;
                Ok::<_, Error>((known, repositories::is_listed(tx, new).await?))
            })
        })
        .await?;
    ensure(listed == (true, false), "in the catalogue with a manifest only")
}

async fn adds_what_was_found(metadata: &Metadata) -> Outcome {
    // As often as one likes: an adoption that was cut short is repeated.
    for _ in 0..2 {
        write(metadata, name("adopt/add")?, |tx, name| {
            Box::pin(async move {
                adoption::expect(tx, name, true, 1).await?;
                let id = repositories::ensure(tx, name, 1).await?;
                adoption::adopt_blob(tx, id, &found_blob(b"a layer", true)).await?;
                adoption::adopt_manifest(tx, id, &found_manifest(b"a manifest")).await?;
                let to = Digest::sha256(b"a manifest");
                adopt_tag(tx, id, "v1", to, 77, Precedence::Link).await?;
                adoption::mark_read(tx, id).await
            })
        })
        .await?;
    }
    for digest in [Digest::sha256(b"a layer"), Digest::sha512(b"a layer")] {
        let found = find_blob(metadata, "adopt/add", &digest).await?;
        let found = found.ok_or("the blob is served")?;
        ensure(found.size == 7 && found.location.is_none(), "the blob")?;
    }
    let found = find_manifest(metadata, "adopt/add", "v1").await?.ok_or("the tag leads there")?;
    ensure(found.media_type == "application/found+json", "the manifest")?;
    let blob = find_blob(metadata, "adopt/add", &found.digest).await?;
    ensure(blob.is_none(), "a manifest is not a blob of the repository")?;

    // What the database knows stays as it is.
    let known = push_manifest(metadata, "adopt/add", b"known", &["known"], None).await?;
    write(metadata, name("adopt/add")?, |tx, name| {
        Box::pin(async move {
            let id = repositories::ensure(tx, name, 1).await?;
            adoption::adopt_manifest(tx, id, &found_manifest(b"known")).await
        })
    })
    .await?;
    let found = find_manifest(metadata, "adopt/add", &known.to_string()).await?;
    let media_type = found.map(|found| found.media_type);
    ensure(media_type.as_deref() == Some("application/x+json"), "the known media type")
}

async fn knows_who_is_right_about_a_tag(metadata: &Metadata) -> Outcome {
    let old = push_manifest(metadata, "adopt/tags", b"old", &["t"], None).await?;
    let new = push_manifest(metadata, "adopt/tags", b"new", &[], None).await?;
    // The test's pushes are of the time 1.
    let cases = [
        (Precedence::Database, 2, old),
        (Precedence::Later, 1, old),
        (Precedence::Later, 2, new),
        (Precedence::Link, 0, new),
    ];
    for (precedence, at, expected) in cases {
        push_manifest(metadata, "adopt/tags", b"old", &["t"], None).await?;
        let input = (name("adopt/tags")?, new, at, precedence);
        let adopted = write(metadata, input, |tx, (name, new, at, precedence)| {
            Box::pin(async move {
                let id = repositories::ensure(tx, name, 1).await?;
                let nowhere = Digest::sha256(b"nowhere");
                let dangling = adopt_tag(tx, id, "d", nowhere, 9, Precedence::Link).await?;
                Ok((adopt_tag(tx, id, "t", *new, *at, *precedence).await?, dangling))
            })
        })
        .await?;
        ensure(adopted == (true, false), "only a tag without a manifest is refused")?;
        let now = find_manifest(metadata, "adopt/tags", "t").await?.map(|found| found.digest);
        ensure(now == Some(expected), &format!("{precedence:?} at {at}"))?;
    }
    ensure(!delete_tag(metadata, "adopt/tags", "d").await?, "a dangling tag is not there")
}

async fn leaves_one_name_to_one_content(metadata: &Metadata) -> Outcome {
    let learned = write(metadata, name("adopt/names")?, |tx, name| {
        Box::pin(async move {
            let id = repositories::ensure(tx, name, 1).await?;
            let first = adoption::adopt_blob(tx, id, &found_blob(b"content", true)).await?;
            let sha512 = Some(Digest::sha512(b"content"));
            let other = FoundBlob { sha512, ..found_blob(b"other content", false) };
            Ok((first, adoption::adopt_blob(tx, id, &other).await?))
        })
    })
    .await?;
    ensure(learned == (true, false), "the second claim is refused")?;
    let found = find_blob(metadata, "adopt/names", &Digest::sha512(b"content")).await?;
    ensure(found.is_some_and(|found| found.digest == Digest::sha256(b"content")), "the first")?;
    let other = find_blob(metadata, "adopt/names", &Digest::sha256(b"other content")).await?;
    ensure(other.is_some(), "the other is served by its own name")
}

async fn lists_the_facts_of_a_repository(metadata: &Metadata) -> Outcome {
    for content in [b"1", b"2", b"3"] {
        push_blob(metadata, "adopt/facts", new_blob(content)).await?;
    }
    let subject = Digest::sha256(b"subject");
    let first = push_manifest(metadata, "adopt/facts", b"first", &["b", "a"], None).await?;
    let second = push_manifest(metadata, "adopt/facts", b"second", &["c"], Some(subject)).await?;
    let (linked, held, targets) = metadata
        .read(&name("adopt/facts")?, |tx, name| {
            Box::pin(async move {
                let id = repositories::find(tx, name).await?;
                let id = id.ok_or_else(|| Error::new(ErrorKind::Other, "no repository"))?;
                let mut linked = blobs::list_of(tx, id, None, 2).await?;
                let last = linked.last().map(|linked| linked.id);
                linked.extend(blobs::list_of(tx, id, last, 2).await?);
                let mut held = manifests::list_of(tx, id, None, 1).await?;
                let last = held.last().map(|held| held.digest);
                held.extend(manifests::list_of(tx, id, last.as_ref(), 5).await?);
                let mut targets = tags::list_targets(tx, id, None, 2).await?;
                targets.extend(tags::list_targets(tx, id, Some("b"), 2).await?);
                Ok::<_, Error>((linked, held, targets))
            })
        })
        .await?;
    let linked = linked.iter().map(|linked| linked.blob.digest).collect::<Vec<_>>();
    let expected = [b"1", b"2", b"3"].map(|content| Digest::sha256(content));
    ensure(linked == expected, "blobs in the order of their links")?;
    let held = held.iter().map(|held| (held.digest, held.is_referrer)).collect::<Vec<_>>();
    let mut expected = [(first, false), (second, true)];
    expected.sort();
    ensure(held == expected, "manifests in the order of their digests")?;
    let names = targets.iter().map(|(tag, _)| tag.clone()).collect::<Vec<_>>();
    ensure(texts(&names) == ["a", "b", "c"], "tags in order")?;
    ensure(targets.iter().map(|(_, digest)| *digest).eq([first, first, second]), "their manifests")
}

async fn keeps_findings(metadata: &Metadata) -> Outcome {
    let finding = |place: &str, problem: &str| Finding {
        place: place.to_owned(),
        problem: problem.to_owned(),
    };
    let all = vec![finding("a", "one"), finding("", "two"), finding("a", "three")];
    let (count, second_page, left) = write(metadata, all.clone(), |tx, all| {
        Box::pin(async move {
            adoption::forget_all_findings(tx).await?;
            adoption::note(tx, all).await?;
            let count = adoption::count_findings(tx).await?;
            let first = adoption::list_findings(tx, 0, 2).await?;
            let last = first.last().map_or(0, |(number, _)| *number);
            let second = adoption::list_findings(tx, last, 2).await?;
            let newest = adoption::last_finding(tx).await?;
            adoption::forget_findings(tx, "a", newest).await?;
            Ok((count, second, adoption::list_findings(tx, 0, 9).await?))
        })
    })
    .await?;
    ensure(count == 3, "all are there")?;
    let findings = |page: &[(i64, Finding)]| {
        page.iter().map(|(_, finding)| finding.clone()).collect::<Vec<_>>()
    };
    ensure(findings(&second_page) == [finding("a", "three")], "in pages")?;
    ensure(findings(&left) == [finding("", "two")], "forgotten by place")
}

async fn adopt_tag(
    tx: &mut Tx,
    repository: repositories::RepositoryId,
    text: &str,
    digest: Digest,
    linked_at: i64,
    precedence: Precedence,
) -> Result<bool, Error> {
    let found = FoundTag { tag: tag(text)?, digest, linked_at };
    adoption::adopt_tag(tx, repository, &found, precedence).await
}

fn found_blob(content: &[u8], with_sha512: bool) -> FoundBlob {
    FoundBlob {
        sha256: Digest::sha256(content),
        sha512: with_sha512.then(|| Digest::sha512(content)),
        size: content.len() as u64,
        linked_at: 7,
    }
}

fn found_manifest(content: &[u8]) -> FoundManifest {
    FoundManifest {
        manifest: NewManifest {
            digest: Digest::sha256(content),
            media_type: "application/found+json".to_owned(),
            artifact_type: None,
            subject: None,
            annotations: None,
            references: vec![(Digest::sha256(b"a layer"), ReferenceKind::Layer)],
        },
        sha256: Digest::sha256(content),
        size: content.len() as u64,
        linked_at: 7,
    }
}
