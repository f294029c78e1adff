//! What holds for every maker whose stores want tokens that end, with a service that hands them
//! out beside a store that takes them.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fake::{self, Asked, Fake};
use crate::{Error, Objects};

/// How long something may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// How many ask at the same time.
const MANY: usize = 20;

type Open = Box<dyn Fn(&str) -> Arc<dyn Objects>>;

/// What the makers differ in.
pub(crate) struct Maker {
    /// The answer with a token of this life, if it is one that is asked for.
    pub(crate) token: fn(&Asked, &str, Duration) -> Option<String>,
    /// What stands before the token in the head of a request to the store.
    pub(crate) shown_behind: &'static str,
    /// The answer of the store, which has whatever it is asked for.
    pub(crate) store: fn(&Asked) -> String,
    /// Opens the store at this URL, where the service is, too.
    pub(crate) open: Open,
    /// A life of tokens that are renewed after a moment, well before their end.
    pub(crate) brief: Duration,
    /// A life of tokens that are renewed as soon as they are there.
    pub(crate) ending: Duration,
}

/// A service and a store at one URL.
struct Server {
    server: Fake,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    life: Duration,
    /// Requests for tokens.
    asked: usize,
    /// Tokens that were handed out.
    made: usize,
    /// Whether none are handed out.
    refuses: bool,
    /// The tokens that were handed out first, so many, are not good.
    revoked: usize,
    /// Requests that were refused for their token.
    refused: usize,
}

impl Server {
    async fn start(maker: &Maker, life: Duration) -> Self {
        let state = Arc::new(Mutex::new(State { life, ..State::default() }));
        let (kept, token, store) = (Arc::clone(&state), maker.token, maker.store);
        let shown_behind = maker.shown_behind;
        let server = Fake::start(move |_, asked| {
            let mut state = lock(&kept);
            let name = format!("token-{}", state.made);
            if let Some(answer) = token(asked, &name, state.life) {
                state.asked += 1;
                if state.refuses {
                    return fake::answer("403 Forbidden", "", "not now");
                }
                state.made += 1;
                return answer;
            }
            let shown = asked.head.lines().find_map(|line| line.strip_prefix(shown_behind));
            let number = shown.and_then(|token| token.strip_prefix("token-")?.parse().ok());
            if number.is_some_and(|number: usize| (state.revoked..state.made).contains(&number)) {
                return store(asked);
            }
            state.refused += 1;
            fake::answer("401 Unauthorized", "", "")
        })
        .await;
        Self { server, state }
    }

    /// How it is at the moment.
    fn state(&self) -> State {
        *lock(&self.state)
    }

    /// From now on the tokens that there are do not count.
    fn revoke(&self) {
        let mut state = lock(&self.state);
        state.revoked = state.made;
    }

    /// Whether it hands out no tokens from now on.
    fn refuse(&self, refuses: bool) {
        lock(&self.state).refuses = refuses;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look(store: &Arc<dyn Objects>) -> Result<(), Error> {
    assert!(store.find("key").await?.is_some());
    Ok(())
}

/// Half of them write.
async fn many(store: &Arc<dyn Objects>) {
    let mut asking = JoinSet::new();
    for number in 0..MANY {
        let store = Arc::clone(store);
        asking.spawn(async move {
            if number.is_multiple_of(2) {
                look(&store).await
            } else {
                store.put("key", vec![Bytes::from_static(b"content")]).await
            }
        });
    }
    for outcome in asking.join_all().await {
        outcome.unwrap();
    }
}

/// Looks again and again, which must succeed, until it is so.
async fn look_until(store: &Arc<dyn Objects>, server: &Server, is_so: impl Fn(&State) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so(&server.state()) {
        assert!(Instant::now() < deadline, "{:?}", server.state());
        look(store).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All of it.
pub(crate) async fn run(maker: &Maker) {
    a_token_serves_many_and_is_renewed_before_its_end(maker).await;
    a_token_that_was_revoked_is_replaced(maker).await;
    an_old_token_serves_while_there_is_no_new_one(maker).await;
}

async fn a_token_serves_many_and_is_renewed_before_its_end(maker: &Maker) {
    let server = Server::start(maker, maker.brief).await;
    let store = (maker.open)(&server.server.url);
    let begun = Instant::now();
    many(&store).await;
    look(&store).await.unwrap();
    assert_eq!(server.state().asked, 1);
    look_until(&store, &server, |state| state.made > 1).await;
    assert!(begun.elapsed() < maker.brief, "a token was renewed after its end");
    assert_eq!(server.state().refused, 0);
}

async fn a_token_that_was_revoked_is_replaced(maker: &Maker) {
    let server = Server::start(maker, Duration::from_hours(1)).await;
    let store = (maker.open)(&server.server.url);
    for made in 1..=3 {
        many(&store).await;
        assert_eq!((server.state().asked, server.state().made), (made, made));
        let last = server.server.asked().into_iter().rfind(|asked| asked.body == "content");
        assert!(last.unwrap().head.contains(&format!("token-{}", made - 1)));
        server.revoke();
    }
}

async fn an_old_token_serves_while_there_is_no_new_one(maker: &Maker) {
    let server = Server::start(maker, maker.ending).await;
    let store = (maker.open)(&server.server.url);
    look(&store).await.unwrap();
    server.refuse(true);
    // Some keep a token for a moment whatever its end.
    let asked = server.state().asked;
    look_until(&store, &server, |state| state.asked > asked).await;
    many(&store).await;
    // They try it at two addresses, and leave it alone for a while then.
    assert!(server.state().asked <= asked + 2, "{:?}", server.state());

    server.revoke();
    look(&store).await.unwrap_err();
    server.refuse(false);
    let deadline = Instant::now() + LIMIT;
    while let Err(error) = look(&store).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    many(&store).await;
}
