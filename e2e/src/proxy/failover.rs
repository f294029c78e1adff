//! The registry behind a load balancer is killed while clients push, and
//! another one, which was waiting for the folder, takes over.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::ports::free_port;
use crate::process::Daemon;
use crate::pusher::{Pusher, Tally};
use crate::random::Random;
use crate::registry::{Registry, Setup};
use crate::scenario::{Stage, wait_until};

const CLIENTS: usize = 3;
const LONGEST: usize = 1_000_000;
/// Things that each client pushes before the kill and after it, at least.
const PUSHES: usize = 15;
/// What the service manager waits before it starts a program again.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest time from the kill to a push that is acknowledged.
const LIMIT: Duration = Duration::from_secs(20);

/// Plays it with a balancer in front that is started on the first address, with
/// the addresses of two registries.
pub(super) fn take_over(
    stage: &Stage,
    start: fn(&Stage, &str, [&str; 2]) -> Result<Daemon>,
) -> Result<()> {
    let mut second = stage.start_registry("store", &Setup::default())?;
    second.stop()?;
    let mut first = stage.start_registry("store", &Setup::default())?;
    let front = format!("127.0.0.1:{}", free_port()?);
    let mut balancer = start(stage, &front, [&first.host, &second.host])?;

    let mut random = Random::printed("failover");
    let mut clients: Vec<Pusher> =
        (0..CLIENTS).map(|number| Pusher::new(&front, number, LONGEST, random.fork())).collect();
    let pause = Duration::from_millis(random.between(0, 300) as u64);
    let longest = push_through_the_kill(stage, &mut clients, pause, &mut first, &mut second)
        .with_context(|| balancer.log_tail())?;

    // It comes back as the standby, and serves again when the other stops.
    refused(&mut first, stage)?;
    second.stop()?;
    first.restart(stage)?;
    for client in &mut clients {
        wait_until(LIMIT, || client.push(1))?;
        client.check_all()?;
    }
    let tally = clients.iter().fold(Tally::default(), |tally, client| tally.plus(client.tally()));
    crate::say(&format!(
        "failover: {tally}; none failed later than {} ms after the kill",
        longest.as_millis()
    ));
    tally.lost_nothing()?;
    balancer.is_running()?;
    first.stop()?;
    first.check(stage)
}

/// How long after the kill the last push failed.
fn push_through_the_kill(
    stage: &Stage,
    clients: &mut [Pusher],
    pause: Duration,
    first: &mut Registry,
    second: &mut Registry,
) -> Result<Duration> {
    clients.iter_mut().try_for_each(|client| client.push(PUSHES))?;
    let killed = Mutex::new(None);
    std::thread::scope(|scope| {
        let workers: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| push_until_it_works_again(client, &killed)))
            .collect();
        let killer = scope.spawn(|| {
            // The moment is random; nothing is waited for.
            std::thread::sleep(PAUSE + pause);
            let ended = first.kill();
            if let Ok(mut killed) = killed.lock() {
                *killed = Some(Instant::now());
            }
            ended
        });
        // On this thread, because a process ends with the thread that started it.
        let standby = stand_by(second, stage);
        let outages = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a client panicked")))
            .collect::<Result<Vec<_>>>();
        killer.join().unwrap_or_else(|_| anyhow::bail!("the killer panicked"))?;
        standby?;
        Ok(outages?.into_iter().max().unwrap_or_default())
    })
}

/// Pushes one thing after another. Only after the kill may one fail, and only
/// for a time, which is returned.
fn push_until_it_works_again(
    client: &mut Pusher,
    killed: &Mutex<Option<Instant>>,
) -> Result<Duration> {
    let (mut after, mut outage) = (0, Duration::ZERO);
    while after < PUSHES {
        let pushed = client.push(1);
        let since = killed.lock().ok().and_then(|killed| *killed).map(|killed| killed.elapsed());
        match (pushed, since) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => after += 1,
            // It may just have been killed.
            (Err(error), since) => {
                outage = since.unwrap_or_default();
                ensure!(outage < LIMIT, error.context("no push gets through any more"));
                after = 0;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(outage)
}

/// Starts it again and again, as a service manager does, until the folder is
/// free.
fn stand_by(registry: &mut Registry, stage: &Stage) -> Result<()> {
    while let Err(error) = registry.restart(stage) {
        is_refusal(&error)?;
        stage.remaining()?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn refused(registry: &mut Registry, stage: &Stage) -> Result<()> {
    let error = registry.restart(stage).err().context("two registries use one folder")?;
    is_refusal(&error)
}

fn is_refusal(error: &anyhow::Error) -> Result<()> {
    let text = format!("{error:#}");
    ensure!(text.contains("another server is using the data folder"), "{text}");
    Ok(())
}
