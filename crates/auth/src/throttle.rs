//! How often somebody may guess.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use quick_cache::unsync::Cache;

/// Wrong passwords of one address for one user: so many at once, then one each so often.
const PER_USER: Rate = Rate { burst: 10, every: Duration::from_secs(6) };

/// The same of one address for all users together. Many people may stand behind one address.
const PER_ADDRESS: Rate = Rate { burst: 100, every: Duration::from_secs(1) };

/// Addresses, and pairs of address and user, that are remembered.
const MAX_REMEMBERED: usize = 1 << 16;

/// How long an answer to a wrong password waits for the other servers to hear of it.
const SHARE_LIMIT: Duration = Duration::from_secs(2);

/// Counts two wrong attempts at a place that several servers share. Each returns how long it takes
/// until all with its name are forgotten, which one more puts off by `every`. What it fails with is
/// logged.
pub type CountAttempts = Arc<dyn Fn([Attempt; 2]) -> Counting + Send + Sync>;

/// What [`CountAttempts`] returns.
pub type Counting = Pin<Box<dyn Future<Output = Result<[Duration; 2], String>> + Send>>;

/// A wrong password.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Who tried what, the same at all servers; at most 64 letters, which say nothing else.
    pub name: String,
    /// For so long it counts.
    pub every: Duration,
}

#[derive(Clone, Copy)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// Counts attempts that have not turned out right (the "generic cell rate algorithm": of each
/// key only the moment is kept at which all its attempts will be forgotten).
///
/// Each server counts for itself. Where several share a database, what was wrong is counted there,
/// too, and who counts it learns what the others have seen. So a server may let one attempt too many
/// pass, and all of them together no more than one would for long.
pub(crate) struct Throttle {
    hasher: RandomState,
    tables: Mutex<Tables>,
    elsewhere: Option<CountAttempts>,
}

struct Tables {
    users: Cache<u64, Instant>,
    addresses: Cache<u64, Instant>,
}

/// Somebody has guessed too often. Holds how long to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooMany(pub(crate) Duration);

impl Throttle {
    /// Counts for this server, and `elsewhere` for all.
    pub(crate) fn new(elsewhere: Option<CountAttempts>) -> Self {
        let users = Cache::new(MAX_REMEMBERED);
        let addresses = Cache::new(MAX_REMEMBERED);
        let tables = Mutex::new(Tables { users, addresses });
        Self { hasher: RandomState::new(), tables, elsewhere }
    }

    /// Counts an attempt, before anybody knows whether it is right.
    pub(crate) fn begin(&self, address: IpAddr, user: &str, now: Instant) -> Result<(), TooMany> {
        let (address_key, user_key) = self.keys(address, user);
        let mut tables = self.tables();
        let wait = PER_USER
            .wait(tables.users.get(&user_key).copied(), now)
            .max(PER_ADDRESS.wait(tables.addresses.get(&address_key).copied(), now));
        if !wait.is_zero() {
            return Err(TooMany(wait));
        }
        for (table, key, rate) in tables.both(address_key, user_key) {
            let forgotten = table.get(&key).copied().map_or(now, |at| at.max(now));
            table.insert(key, forgotten + rate.every);
        }
        Ok(())
    }

    /// Takes an attempt back that was right, or that was not made after all.
    pub(crate) fn take_back(&self, address: IpAddr, user: &str) {
        let (address_key, user_key) = self.keys(address, user);
        let mut tables = self.tables();
        for (table, key, rate) in tables.both(address_key, user_key) {
            if let Some(earlier) = table.get(&key).and_then(|at| at.checked_sub(rate.every)) {
                table.insert(key, earlier);
            }
        }
    }

    /// Tells the other servers of an attempt that was wrong, and hears of theirs.
    pub(crate) async fn share(&self, address: IpAddr, user: &str) {
        let Some(count) = &self.elsewhere else { return };
        let network = Network::of(address);
        let attempts = [
            Attempt { name: network.name(Some(user)), every: PER_USER.every },
            Attempt { name: network.name(None), every: PER_ADDRESS.every },
        ];
        match tokio::time::timeout(SHARE_LIMIT, count(attempts)).await {
            Ok(Ok(forgotten)) => self.learn(address, user, forgotten, Instant::now()),
            Ok(Err(error)) => {
                tracing::warn!(error, "a wrong password is counted by this server alone");
            }
            Err(_) => tracing::warn!(
                "a wrong password is counted by this server alone: the database takes too long"
            ),
        }
    }

    /// Takes over what all servers know together where it is more.
    fn learn(
        &self,
        address: IpAddr,
        user: &str,
        [of_user, of_address]: [Duration; 2],
        now: Instant,
    ) {
        let (address_key, user_key) = self.keys(address, user);
        let mut tables = self.tables();
        let [users, addresses] = tables.both(address_key, user_key);
        for ((table, key, _), forgotten) in [(users, of_user), (addresses, of_address)] {
            let Some(forgotten) = now.checked_add(forgotten) else { continue };
            let known = table.get(&key).copied().map_or(forgotten, |at| at.max(forgotten));
            table.insert(key, known);
        }
    }

    fn keys(&self, address: IpAddr, user: &str) -> (u64, u64) {
        let network = Network::of(address);
        (self.hasher.hash_one(network), self.hasher.hash_one((network, user)))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one address. Who has one of IPv6 has 2⁶⁴ of them.
#[derive(Clone, Copy, Hash)]
enum Network {
    V4(u32),
    V6(u64),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.into()),
            IpAddr::V6(address) => Self::V6((u128::from(address) >> 64) as u64),
        }
    }

    /// Names it, or a user there, for all servers. It is as long whatever the user is called.
    fn name(self, user: Option<&str>) -> String {
        let (family, number) = match self {
            Self::V4(address) => (4, u64::from(address)),
            Self::V6(network) => (6, network),
        };
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&[family]);
        context.update(&number.to_be_bytes());
        let kind = if user.is_some() { "user" } else { "address" };
        context.update(user.unwrap_or_default().as_bytes());
        format!("{kind} {}", BASE64URL_NOPAD.encode(context.finish().as_ref()))
    }
}

impl Tables {
    fn both(&mut self, address: u64, user: u64) -> [(&mut Cache<u64, Instant>, u64, Rate); 2] {
        [(&mut self.users, user, PER_USER), (&mut self.addresses, address, PER_ADDRESS)]
    }
}

impl Rate {
    /// How long until there is room for one more.
    fn wait(self, forgotten: Option<Instant>, now: Instant) -> Duration {
        let room = self.every * (self.burst - 1);
        forgotten.map_or(Duration::ZERO, |at| at.duration_since(now).saturating_sub(room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_burst_and_then_one_now_and_then() {
        let throttle = Throttle::new(None);
        let now = Instant::now();
        for _ in 0..PER_USER.burst {
            assert_eq!(throttle.begin(ADDRESS, "a", now), Ok(()));
        }
        assert_eq!(throttle.begin(ADDRESS, "a", now), Err(TooMany(PER_USER.every)));
        assert_eq!(throttle.begin(ADDRESS, "b", now), Ok(()), "another user");
        let other = "192.0.2.2".parse().unwrap();
        assert_eq!(throttle.begin(other, "a", now), Ok(()), "another address");
        let later = now + PER_USER.every;
        assert_eq!(throttle.begin(ADDRESS, "a", later), Ok(()));
        assert!(throttle.begin(ADDRESS, "a", later).is_err());
    }

    #[test]
    fn many_users_of_one_address() {
        let throttle = Throttle::new(None);
        let now = Instant::now();
        let guess = |at: u32| throttle.begin(ADDRESS, &format!("user{at}"), now);
        assert!((0..PER_ADDRESS.burst).all(|at| guess(at).is_ok()));
        assert_eq!(guess(PER_ADDRESS.burst), Err(TooMany(PER_ADDRESS.every)));
    }

    #[test]
    fn right_passwords_do_not_count() {
        let throttle = Throttle::new(None);
        let now = Instant::now();
        for _ in 0..1000 {
            assert_eq!(throttle.begin(ADDRESS, "a", now), Ok(()));
            throttle.take_back(ADDRESS, "a");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let throttle = Throttle::new(None);
        let now = Instant::now();
        let address = |last: u32| format!("2001:db8::{last:x}").parse().unwrap();
        assert!((0..10).all(|last| throttle.begin(address(last), "a", now).is_ok()));
        assert!(throttle.begin(address(10), "a", now).is_err());
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert!((0..10).all(|_| throttle.begin(mapped, "a", now).is_ok()));
        assert!(throttle.begin(ADDRESS, "a", now).is_err(), "the same address, written otherwise");
    }
    /// Stands for a database: who tried what, and how often.
    fn together() -> CountAttempts {
        let counts = Arc::new(Mutex::new(std::collections::HashMap::<String, u32>::new()));
        Arc::new(move |attempts: [Attempt; 2]| {
            let mut counts = counts.lock().unwrap();
            let forgotten = attempts.map(|attempt| {
                let count = counts.entry(attempt.name).or_default();
                *count += 1;
                attempt.every * *count
            });
            Box::pin(async move { Ok(forgotten) })
        })
    }

    #[tokio::test]
    async fn servers_count_together() {
        let count = together();
        let servers = [0, 1, 2].map(|_| Throttle::new(Some(count.clone())));
        let mut guesses = 0;
        for server in servers.iter().cycle().take(90) {
            // Nobody has to wait for the time to pass.
            if server.begin(ADDRESS, "a", Instant::now()).is_ok() {
                guesses += 1;
                server.share(ADDRESS, "a").await;
            }
        }
        let most = PER_USER.burst + 3;
        assert!((PER_USER.burst..=most).contains(&guesses), "{guesses} guesses");
        assert!(servers.iter().all(|server| server.begin(ADDRESS, "b", Instant::now()).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_counts_alone_while_the_others_are_out_of_reach() {
        let broken: CountAttempts = Arc::new(|_| Box::pin(async { Err("gone".to_owned()) }));
        let hanging: CountAttempts = Arc::new(|_| Box::pin(std::future::pending()));
        for elsewhere in [broken, hanging] {
            let throttle = Throttle::new(Some(elsewhere));
            let now = Instant::now();
            for _ in 0..PER_USER.burst {
                assert_eq!(throttle.begin(ADDRESS, "a", now), Ok(()));
                throttle.share(ADDRESS, "a").await;
            }
            assert!(throttle.begin(ADDRESS, "a", now).is_err());
        }
    }

    #[test]
    fn names_are_the_same_everywhere() {
        let network = Network::of(ADDRESS);
        assert_eq!(network.name(None), "address 3g6LypOBTEoEA-odkIochdX8MpxjiU2ccCsRAVzWKLw");
        assert_ne!(
            network.name(Some("a")),
            Network::of("192.0.2.2".parse().unwrap()).name(Some("a"))
        );
        assert!(network.name(Some(&"a".repeat(10_000))).len() <= 64);
    }
}
