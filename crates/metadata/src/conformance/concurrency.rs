//! What several do at once.

use std::error::Error as StdError;
use std::time::Duration;

use oci::{Digest, Reference, RepositoryName};

use super::{
    Outcome, delete_manifest, ensure, find_blob, find_manifest, name, new_blob, push_blob,
    push_manifest, put_manifest, tag, write, write_locked,
};
use crate::uploads::{self, Taken, Turn, Upload};
use crate::{Error, Lock, Metadata, Tx, leases, manifests, repositories};

/// Longer than any of this takes.
const LEASE: Duration = Duration::from_mins(5);

pub(super) async fn run(metadata: &Metadata) -> Outcome {
    compares_and_sets_once(metadata, false).await?;
    compares_and_sets_once(metadata, true).await?;
    pushes_one_blob_at_once(metadata).await?;
    creates_one_repository_at_once(metadata).await?;
    never_deletes_what_is_tagged_meanwhile(metadata).await?;
    gives_a_session_to_one(metadata).await?;
    goes_on_where_the_last_turn_ended(metadata).await
}

/// With `locked` the lock keeps the others away, without it the isolation of the transaction.
async fn compares_and_sets_once(metadata: &Metadata, locked: bool) -> Outcome {
    let repository = if locked { "cas/locked" } else { "cas/alone" };
    let start = push_manifest(metadata, repository, b"start", &["t"], None).await?;
    let mut tasks = Vec::new();
    for client in 0..16_u8 {
        let metadata = metadata.clone();
        tasks.push(tokio::spawn(async move {
            let content = vec![client; 3];
            let input = (name(repository)?, start, content);
            let lock = Lock::exclusive(&input.0);
            let moved = if locked {
                write_locked(&metadata, lock, input, |tx, input| Box::pin(move_tag(tx, input)))
                    .await
            } else {
                write(&metadata, input, |tx, input| Box::pin(move_tag(tx, input))).await
            };
            Ok::<_, Box<dyn StdError + Send + Sync>>(moved?)
        }));
    }
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await??);
    }
    ensure(winners == 1, "exactly one compare-and-set succeeds")
}

/// Points the tag at new content if it leads to what is expected.
async fn move_tag(
    tx: &mut Tx,
    (name, expected, content): &(RepositoryName, Digest, Vec<u8>),
) -> Result<bool, Error> {
    let now = manifests::find(tx, name, &Reference::Tag(tag("t")?)).await?;
    if now.map(|found| found.digest) != Some(*expected) {
        return Ok(false);
    }
    put_manifest(tx, name, content, &[tag("t")?], None).await?;
    Ok(true)
}

async fn pushes_one_blob_at_once(metadata: &Metadata) -> Outcome {
    let tasks = (0..16).map(|client| {
        let metadata = metadata.clone();
        tokio::spawn(async move {
            push_blob(&metadata, &format!("same/{}", client % 4), new_blob(b"same layer")).await
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    for client in 0..4 {
        let digest = Digest::sha256(b"same layer");
        let found = find_blob(metadata, &format!("same/{client}"), &digest).await?;
        ensure(found.is_some(), "every pusher has it")?;
    }
    Ok(())
}

async fn creates_one_repository_at_once(metadata: &Metadata) -> Outcome {
    let tasks = (0..16).map(|_| {
        let metadata = metadata.clone();
        tokio::spawn(async move {
            let name = name("one-of-many")?;
            let lock = Lock::shared(&name);
            let id = write_locked(&metadata, lock, name, |tx, name| {
                Box::pin(repositories::ensure(tx, name, 1))
            })
            .await?;
            Ok::<_, Box<dyn StdError + Send + Sync>>(id)
        })
    });
    let mut ids = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        ids.push(task.await??);
    }
    ensure(ids.windows(2).all(|pair| pair.first() == pair.last()), "all see one id")
}

/// Some tag a manifest while others delete it. Whatever the order: no tag leads nowhere, and the
/// repository is listed exactly if it has a manifest.
async fn never_deletes_what_is_tagged_meanwhile(metadata: &Metadata) -> Outcome {
    for round in 0..50_u8 {
        let repository = format!("race/{round}");
        let digest = push_manifest(metadata, &repository, b"raced", &[], None).await?;
        let (deleting, tagging) = (metadata.clone(), metadata.clone());
        let (to_delete, to_tag) = (repository.clone(), repository.clone());
        let delete =
            tokio::spawn(async move { delete_manifest(&deleting, &to_delete, digest).await });
        let tag =
            tokio::spawn(
                async move { push_manifest(&tagging, &to_tag, b"raced", &["t"], None).await },
            );
        delete.await??;
        tag.await??;
        let by_tag = find_manifest(metadata, &repository, "t").await?;
        let by_digest = find_manifest(metadata, &repository, &digest.to_string()).await?;
        ensure(by_tag.is_some() == by_digest.is_some(), "tag and manifest go together")?;
        let listed = metadata
            .read(&name(&repository)?, |tx, name| Box::pin(repositories::is_listed(tx, name)))
            .await?;
        ensure(listed == by_digest.is_some(), "listed if there is a manifest")?;
    }
    Ok(())
}

/// Several take what one session has saved: one has it, the others hear that it is busy.
async fn gives_a_session_to_one(metadata: &Metadata) -> Outcome {
    let repository = name("sessions/raced")?;
    for round in 0..20_u8 {
        let id = format!("raced-{round}");
        let begun = (repository.clone(), id.clone());
        write_locked(metadata, Lock::shared(&repository), begun, |tx, (name, id)| {
            Box::pin(async move {
                let repository = repositories::ensure(tx, name, 1).await?;
                let upload = Upload { hash_state: vec![1], ..Upload::default() };
                uploads::begin(tx, repository, id, &upload, 1).await
            })
        })
        .await?;
        let mut tasks = Vec::new();
        for server in 0..8_u8 {
            let (metadata, repository, id) = (metadata.clone(), repository.clone(), id.clone());
            tasks.push(tokio::spawn(async move {
                let turn = Turn { holder: format!("server-{round}-{server}"), number: 1 };
                let lock = Lock::shared(&repository);
                let taken = write_locked(&metadata, lock, (id, turn), |tx, (id, turn)| {
                    Box::pin(async move {
                        leases::take(tx, &turn.holder, &turn.holder, LEASE).await?;
                        uploads::take(tx, id, None, turn).await
                    })
                });
                taken.await
            }));
        }
        let (mut free, mut busy) = (0, 0);
        for task in tasks {
            match task.await?? {
                Some(Taken::Free(_)) => free += 1,
                Some(Taken::Busy) => busy += 1,
                other => return Err(format!("expected free or busy, found {other:?}").into()),
            }
        }
        ensure((free, busy) == (1, 7), "one has it, and the others know")?;
    }
    Ok(())
}

/// Several take one session in turn, add to it and give it back: nothing that was added is lost.
async fn goes_on_where_the_last_turn_ended(metadata: &Metadata) -> Outcome {
    const SERVERS: i64 = 8;
    const TURNS: i64 = 25;
    let repository = name("sessions/in-turn")?;
    let upload = Upload { hash_state: vec![1], ..Upload::default() };
    write_locked(metadata, Lock::shared(&repository), repository.clone(), move |tx, name| {
        let upload = upload.clone();
        Box::pin(async move {
            let repository = repositories::ensure(tx, name, 1).await?;
            uploads::begin(tx, repository, "in-turn", &upload, 1).await
        })
    })
    .await?;
    let mut tasks = Vec::new();
    for server in 0..SERVERS {
        let (metadata, repository) = (metadata.clone(), repository.clone());
        tasks.push(tokio::spawn(async move {
            let mut number = 0;
            let mut added = 0;
            while added < TURNS {
                number += 1;
                let turn = Turn { holder: format!("in-turn-{server}"), number };
                if add_one(&metadata, &repository, turn).await? {
                    added += 1;
                }
            }
            Ok::<_, Box<dyn StdError + Send + Sync>>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let saved = metadata.read("in-turn", |tx, id| Box::pin(uploads::look(tx, id))).await?;
    let received = saved.map(|saved| saved.received);
    ensure(received == Some((SERVERS * TURNS).unsigned_abs()), "every turn counts")
}

/// False if another has the session.
async fn add_one(
    metadata: &Metadata,
    repository: &RepositoryName,
    turn: Turn,
) -> Result<bool, Error> {
    let lock = Lock::shared(repository);
    let taken = write_locked(metadata, lock, turn.clone(), |tx, turn| {
        Box::pin(async move {
            leases::take(tx, &turn.holder, &turn.holder, LEASE).await?;
            uploads::take(tx, "in-turn", None, turn).await
        })
    })
    .await?;
    let Some(Taken::Free(upload)) = taken else { return Ok(false) };
    let grown = Upload { received: upload.received + 1, ..upload };
    let lock = Lock::shared(repository);
    write_locked(metadata, lock, (turn, grown), |tx, (turn, grown)| {
        Box::pin(uploads::save(tx, "in-turn", grown, turn, false, 2))
    })
    .await
}
