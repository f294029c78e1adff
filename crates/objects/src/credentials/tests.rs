//! A source that is slow, or fails.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;

/// Hands out numbers. Each takes as long as `slow` says, and fails if `fails` says so.
#[derive(Default)]
struct Numbers {
    known: Mutex<Option<Arc<usize>>>,
    asked: AtomicUsize,
    slow: Mutex<Duration>,
    fails: Mutex<bool>,
}

/// The source, which the test has in its hand.
struct Handle(Arc<Numbers>);

impl Source for Handle {
    type Credentials = usize;

    fn credentials(self: Arc<Self>) -> Future<'static, Result<Arc<usize>, Error>> {
        let numbers = Arc::clone(&self.0);
        Box::pin(async move {
            if let Some(known) = lock(&numbers.known).clone() {
                return Ok(known);
            }
            let number = numbers.asked.fetch_add(1, Ordering::SeqCst);
            let (slow, fails) = (*lock(&numbers.slow), *lock(&numbers.fails));
            tokio::time::sleep(slow).await;
            if fails {
                return Err(Error::new(ErrorKind::Denied, "ask".to_owned(), "not now"));
            }
            *lock(&numbers.known) = Some(Arc::new(number));
            Ok(Arc::new(number))
        })
    }

    fn forget(&self) {
        *lock(&self.0.known) = None;
    }
}

impl Numbers {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// What there is, is not good for much longer.
    fn end_soon(&self) {
        *lock(&self.known) = None;
    }

    fn set(&self, slow: Duration, fails: bool) {
        *lock(&self.slow) = slow;
        *lock(&self.fails) = fails;
    }
}

fn lasting() -> (Arc<Lasting<Handle>>, Arc<Numbers>) {
    let numbers = Arc::<Numbers>::default();
    (Arc::new(Lasting::new(Handle(Arc::clone(&numbers)))), numbers)
}

/// What many get who ask at the same time.
async fn many(lasting: &Arc<Lasting<Handle>>) -> Vec<Result<usize, String>> {
    let all_are_there = Arc::new(Semaphore::new(0));
    let askers = (0..50).map(|_| {
        let (lasting, start) = (Arc::clone(lasting), Arc::clone(&all_are_there));
        tokio::spawn(async move {
            let _ = start.acquire().await.unwrap();
            lasting.get().await.map(|number| *number).map_err(|error| error.to_string())
        })
    });
    let askers = askers.collect::<Vec<_>>();
    all_are_there.add_permits(askers.len());
    let mut found = Vec::new();
    for asker in askers {
        found.push(asker.await.unwrap());
    }
    found
}

const SLOW: Duration = Duration::from_secs(1);
const HANGS: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn many_wait_for_one_who_asks() {
    let (lasting, numbers) = lasting();
    numbers.set(SLOW, true);
    let failed = Err("cannot ask: not now".to_owned());
    assert_eq!(many(&lasting).await, vec![failed; 50]);
    assert_eq!(numbers.asked(), 1);
    numbers.set(SLOW, false);
    assert_eq!(many(&lasting).await, vec![Ok(1); 50]);
    assert_eq!(many(&lasting).await, vec![Ok(1); 50]);
    numbers.end_soon();
    assert_eq!(many(&lasting).await, vec![Ok(2); 50]);
    assert_eq!(numbers.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn whoever_asked_may_leave() {
    let (lasting, numbers) = lasting();
    numbers.set(SLOW, false);
    tokio::time::timeout(SLOW / 2, lasting.get()).await.unwrap_err();
    assert_eq!(many(&lasting).await, vec![Ok(0); 50]);
    assert_eq!(numbers.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn old_ones_are_used_while_a_source_hangs_or_fails() {
    let (lasting, numbers) = lasting();
    assert_eq!(*lasting.get().await.unwrap(), 0);
    numbers.end_soon();
    numbers.set(HANGS, true);
    let begun = Instant::now();
    assert_eq!(many(&lasting).await, vec![Ok(0); 50]);
    assert_eq!(begun.elapsed(), PATIENCE);
    // Others do not wait once more.
    assert_eq!(many(&lasting).await, vec![Ok(0); 50]);
    assert_eq!((begun.elapsed(), numbers.asked()), (PATIENCE, 2));

    // When it has failed, it is left alone for a while.
    tokio::time::sleep(HANGS.saturating_sub(PATIENCE)).await;
    numbers.set(Duration::ZERO, false);
    assert_eq!((many(&lasting).await, numbers.asked()), (vec![Ok(0); 50], 2));
    tokio::time::sleep(PAUSE).await;
    assert_eq!((many(&lasting).await, numbers.asked()), (vec![Ok(2); 50], 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_renewed_once() {
    let (lasting, numbers) = lasting();
    let refused = |refused: usize| {
        let lasting = Arc::clone(&lasting);
        async move { lasting.after(|number| *number == refused).await.unwrap().map(|it| *it) }
    };
    assert_eq!(*lasting.get().await.unwrap(), 0);
    numbers.set(SLOW, false);
    assert_eq!(tokio::join!(refused(0), refused(0), refused(0)), (Some(1), Some(1), Some(1)));
    // Who comes late gets what is there.
    assert_eq!((refused(0).await, numbers.asked()), (Some(1), 2));
    assert_eq!((refused(1).await, numbers.asked()), (Some(2), 3));

    // Where there is no other, nobody tries in vain.
    numbers.set(Duration::ZERO, true);
    assert_eq!((refused(2).await, refused(2).await, numbers.asked()), (None, None, 4));
    numbers.set(Duration::ZERO, false);
    tokio::time::sleep(PAUSE).await;
    assert_eq!((refused(2).await, numbers.asked()), (Some(4), 5));
}
