//! How often somebody may guess.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

/// Wrong passwords of one address for one user: so many at once, then one each so often.
const PER_USER: Rate = Rate { burst: 10, every: Duration::from_secs(6) };

/// The same of one address for all users together. Many people may stand behind one address.
const PER_ADDRESS: Rate = Rate { burst: 100, every: Duration::from_secs(1) };

/// Addresses, and pairs of address and user, that are remembered.
const MAX_REMEMBERED: usize = 1 << 16;

#[derive(Clone, Copy)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// Counts attempts that have not turned out right (the "generic cell rate algorithm": of each
/// key only the moment is kept at which all its attempts will be forgotten).
pub(crate) struct Throttle {
    hasher: RandomState,
    tables: Mutex<Tables>,
}

struct Tables {
    users: Cache<u64, Instant>,
    addresses: Cache<u64, Instant>,
}

/// Somebody has guessed too often. Holds how long to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooMany(pub(crate) Duration);

impl Default for Throttle {
    fn default() -> Self {
        let users = Cache::new(MAX_REMEMBERED);
        let addresses = Cache::new(MAX_REMEMBERED);
        Self { hasher: RandomState::new(), tables: Mutex::new(Tables { users, addresses }) }
    }
}

impl Throttle {
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

    fn keys(&self, address: IpAddr, user: &str) -> (u64, u64) {
        // Who has one address of IPv6 has 2⁶⁴ of them.
        let network = match address.to_canonical() {
            IpAddr::V4(address) => u64::from(u32::from(address)),
            IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
        };
        let network = (address.to_canonical().is_ipv4(), network);
        (self.hasher.hash_one(network), self.hasher.hash_one((network, user)))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
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
        let throttle = Throttle::default();
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
        let throttle = Throttle::default();
        let now = Instant::now();
        let guess = |at: u32| throttle.begin(ADDRESS, &format!("user{at}"), now);
        assert!((0..PER_ADDRESS.burst).all(|at| guess(at).is_ok()));
        assert_eq!(guess(PER_ADDRESS.burst), Err(TooMany(PER_ADDRESS.every)));
    }

    #[test]
    fn right_passwords_do_not_count() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..1000 {
            assert_eq!(throttle.begin(ADDRESS, "a", now), Ok(()));
            throttle.take_back(ADDRESS, "a");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let address = |last: u32| format!("2001:db8::{last:x}").parse().unwrap();
        assert!((0..10).all(|last| throttle.begin(address(last), "a", now).is_ok()));
        assert!(throttle.begin(address(10), "a", now).is_err());
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert!((0..10).all(|_| throttle.begin(mapped, "a", now).is_ok()));
        assert!(throttle.begin(ADDRESS, "a", now).is_err(), "the same address, written otherwise");
    }
}
