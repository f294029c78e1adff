//! What several servers of one database agree on.

use std::error::Error as StdError;
use std::time::Duration;

use oci::RepositoryName;

use super::{Outcome, ensure, name, write};
use crate::uploads::{Taken, Turn, Upload};
use crate::{Error, ErrorKind, Metadata, attempts, leases, repositories, uploads};

pub(super) async fn run(metadata: &Metadata) -> Outcome {
    lets_one_turn_write_to_an_upload(metadata).await?;
    keeps_leases(metadata).await?;
    gives_a_lease_to_one(metadata).await?;
    counts_attempts(metadata).await
}

async fn lets_one_turn_write_to_an_upload(metadata: &Metadata) -> Outcome {
    let [one, other] = ["one", "other"].map(|holder| Turn { holder: holder.to_owned(), number: 1 });
    let again = Turn { number: 2, ..one.clone() };
    let saved = Upload { received: 3, hash_state: vec![1], ..Upload::default() };
    let take = |repository: Option<&'static str>, turn: &Turn| {
        let turn = turn.clone();
        write(metadata, (repository, turn), |tx, (repository, turn)| {
            Box::pin(async move {
                let repository = repository.map(str::parse::<RepositoryName>).transpose();
                let repository =
                    repository.map_err(|error| Error::new(ErrorKind::Other, error.to_string()))?;
                uploads::take(tx, "turns", repository.as_ref(), turn).await
            })
        })
    };
    let save = |turn: &Turn| {
        write(metadata, (saved.clone(), turn.clone()), |tx, (saved, turn)| {
            Box::pin(uploads::save(tx, "turns", saved, turn, true, 5))
        })
    };
    let give_back = |turn: &Turn, unsure: bool| {
        write(metadata, (turn.clone(), unsure), |tx, (turn, unsure)| {
            Box::pin(uploads::give_back(tx, "turns", turn, *unsure))
        })
    };
    let lease = |holder: &'static str| {
        write(metadata, holder, |tx, holder| {
            Box::pin(leases::take(tx, holder, holder, Duration::from_mins(1)))
        })
    };
    let reserve = |turn: &Turn| {
        write(metadata, turn.clone(), |tx, turn| {
            Box::pin(async move {
                let name = "turns"
                    .parse()
                    .map_err(|_| Error::new(ErrorKind::Other, "the name of a repository"))?;
                let repository = repositories::ensure(tx, &name, 1).await?;
                uploads::reserve(tx, repository, "turns", "store-1", turn, 1).await
            })
        })
    };
    let find = || async move {
        let name = name("turns")?;
        let found =
            metadata.read(&name, |tx, name| Box::pin(uploads::find(tx, name, "turns"))).await?;
        Ok::<_, Box<dyn StdError + Send + Sync>>(found)
    };

    ensure(take(None, &one).await?.is_none(), "there is none")?;
    lease("one").await?;
    reserve(&one).await?;
    ensure(find().await?.is_none(), "it is only reserved")?;
    ensure(reserve(&other).await.is_err(), "for one")?;
    ensure(take(None, &other).await? == Some(Taken::Busy), "its server is alive")?;
    give_back(&other, false).await?;
    give_back(&one, false).await?;
    ensure(take(None, &other).await?.is_none(), "nothing was saved")?;

    reserve(&one).await?;
    ensure(!save(&other).await? && !save(&again).await?, "not theirs")?;
    ensure(save(&one).await?, "saved")?;
    ensure(find().await? == Some(saved.clone()), "for all to see")?;
    ensure(take(None, &other).await? == Some(Taken::Busy), "still its own")?;
    let elsewhere = take(Some("elsewhere"), &other).await?;
    ensure(elsewhere.is_none(), "not from another repository")?;
    give_back(&one, false).await?;
    ensure(!save(&one).await?, "it was given back")?;
    let taken = take(Some("turns"), &other).await?;
    ensure(taken == Some(Taken::Free(saved.clone())), "taken at once")?;
    ensure(!save(&one).await?, "not the first one's any more")?;
    let taken = take(None, &one).await?;
    ensure(taken == Some(Taken::Abandoned(saved.clone())), "whose server holds no lease")?;
    ensure(!save(&other).await?, "it came too late")?;
    let taken = take(None, &again).await?;
    ensure(taken == Some(Taken::Abandoned(saved.clone())), "by the next of the same server")?;
    give_back(&again, true).await?;
    let taken = take(None, &other).await?;
    ensure(taken == Some(Taken::Abandoned(saved.clone())), "still not sure")?;
    let deleted = write(metadata, [one, other], |tx, [one, other]| {
        Box::pin(async move {
            let deleted = uploads::delete(tx, "turns", one).await?;
            leases::give_back(tx, "one", "one").await?;
            Ok((deleted, uploads::delete(tx, "turns", other).await?))
        })
    });
    ensure(deleted.await? == (false, true), "by the one who has it")
}

async fn keeps_leases(metadata: &Metadata) -> Outcome {
    const LONG: Duration = Duration::from_mins(1);
    let take = |holder: &'static str, duration: Duration| {
        write(metadata, (holder, duration), |tx, (holder, duration)| {
            Box::pin(leases::take(tx, "job", holder, *duration))
        })
    };
    let give_back = |holder: &'static str| {
        write(metadata, holder, |tx, holder| Box::pin(leases::give_back(tx, "job", holder)))
    };
    let is_held = || metadata.read(&(), |tx, ()| Box::pin(leases::is_held(tx, "job")));
    ensure(!is_held().await?, "nobody's")?;
    ensure(take("one", LONG).await? && is_held().await?, "taken")?;
    ensure(!take("other", LONG).await?, "by one")?;
    ensure(take("one", LONG).await?, "who keeps it")?;
    ensure(!give_back("other").await?, "not the other's")?;
    ensure(give_back("one").await? && !is_held().await?, "given back")?;
    ensure(take("other", Duration::ZERO).await? && !is_held().await?, "it has run out")?;
    ensure(take("one", LONG).await?, "the other has died")?;
    ensure(!take("other", LONG).await?, "and comes back too late")?;
    let forgotten = write(metadata, (), |tx, ()| Box::pin(leases::forget_ended(tx))).await?;
    ensure(forgotten == 0 && is_held().await?, "it is still held")?;
    take("one", Duration::ZERO).await?;
    let forgotten = write(metadata, (), |tx, ()| Box::pin(leases::forget_ended(tx))).await?;
    ensure(forgotten == 1, "forgotten")
}

async fn gives_a_lease_to_one(metadata: &Metadata) -> Outcome {
    let taking = (0..8).map(|number| {
        let metadata = metadata.clone();
        tokio::spawn(async move {
            write(&metadata, format!("holder {number}"), |tx, holder| {
                Box::pin(leases::take(tx, "race", holder, Duration::from_mins(1)))
            })
            .await
        })
    });
    let mut taken = 0;
    for take in taking.collect::<Vec<_>>() {
        taken += u32::from(take.await??);
    }
    ensure(taken == 1, "one of them has it")
}

async fn counts_attempts(metadata: &Metadata) -> Outcome {
    const EVERY: Duration = Duration::from_mins(10);
    let count = |name: &'static str, every: Duration| {
        write(metadata, (name, every), |tx, (name, every)| {
            Box::pin(attempts::count(tx, name, *every))
        })
    };
    let first = count("somebody", EVERY).await?;
    ensure(first == EVERY, "the first one")?;
    let second = count("somebody", EVERY).await?;
    ensure(second > EVERY && second <= EVERY * 2, "each puts it off")?;
    ensure(count("another", EVERY).await? == EVERY, "each name for itself")?;
    ensure(count("short", Duration::ZERO).await?.is_zero(), "forgotten at once")?;
    ensure(count("short", EVERY).await? == EVERY, "and then it is the first again")?;
    let counting = (0..8).map(|_| {
        let metadata = metadata.clone();
        tokio::spawn(async move {
            write(&metadata, (), |tx, ()| Box::pin(attempts::count(tx, "crowd", EVERY))).await
        })
    });
    for counted in counting.collect::<Vec<_>>() {
        counted.await??;
    }
    let last = count("crowd", EVERY).await?;
    ensure(last > EVERY * 8 && last <= EVERY * 9, "none is lost among many")
}
