//! A proxy between a registry and its object store that does harm: answers come late, break off or
//! lie. Chance says which request meets which fault.

mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::net::sockopt::set_socket_linger;

use crate::random::Random;
use message::{Head, reply};

/// How long one side may be silent. It ends connections that nobody uses.
const SILENCE: Duration = Duration::from_mins(1);

/// What can happen to a request.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
    /// The answer begins late.
    Late,
    /// The body comes in pieces, with pauses.
    Slow,
    /// The connection is reset before the store has heard of it.
    Unheard,
    /// The connection is reset when the store has done what was asked.
    Unanswered,
    /// The store is busy, and does nothing.
    Busy,
    /// The store has done what was asked, and says that it has not.
    Denied,
    /// The body ends before its length, and the connection with it.
    Truncated,
    /// A byte of the body is another.
    Flipped,
    /// The answer claims to be another range.
    Shifted,
    /// The answer to a question for a range claims to be the whole.
    Whole,
    /// The body is empty, and the answer says so.
    Empty,
    /// Only half of the body comes, and the answer says so.
    Halved,
    /// What is there is not found.
    Gone,
}

/// The store and the way to it are at fault, but do not lie.
pub(crate) const BROKEN: &[Fault] = &[
    Fault::Late,
    Fault::Slow,
    Fault::Unheard,
    Fault::Unanswered,
    Fault::Busy,
    Fault::Denied,
    Fault::Truncated,
];

/// Answers that look good.
pub(crate) const LIES: &[Fault] =
    &[Fault::Flipped, Fault::Shifted, Fault::Whole, Fault::Empty, Fault::Halved, Fault::Gone];

impl Fault {
    /// Lies are told about objects only: a store that says that it has kept what it has not is
    /// none.
    fn can_happen_to(self, request: &Head) -> bool {
        let is_object = request.first_line.starts_with("GET ") && !request.first_line.contains('?');
        match self {
            Self::Slow | Self::Truncated => request.first_line.starts_with("GET "),
            fault => is_object || !LIES.contains(&fault),
        }
    }
}

/// What happens to all requests alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outage {
    /// Connections are reset before anything is heard.
    Away,
    /// Nothing is ever answered.
    Hanging,
}

pub(crate) struct FaultProxy {
    listener: TcpListener,
    /// `HOST:PORT` of the store.
    store: String,
    choice: Mutex<Choice>,
}

/// What happens next.
struct Choice {
    random: Random,
    outage: Option<Outage>,
    faults: &'static [Fault],
    /// One of so many requests meets a fault.
    one_in: usize,
    counts: BTreeMap<Fault, usize>,
    /// What met a fault, and meets none the next time: so it is known what a second try is worth.
    spared: BTreeSet<String>,
}

impl FaultProxy {
    /// A proxy to the store at `HOST:PORT` that does no harm yet.
    pub(crate) fn new(store: &str, random: Random) -> Result<Self> {
        let choice = Choice {
            random,
            outage: None,
            faults: &[],
            one_in: 1,
            counts: BTreeMap::new(),
            spared: BTreeSet::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok(Self { listener, store: store.to_owned(), choice: Mutex::new(choice) })
    }

    pub(crate) fn url(&self) -> Result<String> {
        Ok(format!("http://{}", self.listener.local_addr()?))
    }

    /// From now on one request in so many meets one of these faults, if it can.
    pub(crate) fn rage(&self, faults: &'static [Fault], one_in: usize) {
        let mut choice = self.choice();
        (choice.faults, choice.one_in) = (faults, one_in);
    }

    /// From now on there are no faults.
    pub(crate) fn calm(&self) {
        self.rage(&[], 1);
    }

    /// From now on no request gets through, or all do again.
    pub(crate) fn cut_off(&self, outage: Option<Outage>) {
        self.choice().outage = outage;
    }

    /// How often each fault has happened. An error if one of these has not.
    pub(crate) fn expect_all(&self, faults: &[Fault]) -> Result<String> {
        let counts = &self.choice().counts;
        let missing = faults.iter().find(|fault| !counts.contains_key(fault));
        ensure!(missing.is_none(), "{missing:?} never happened: {counts:?}");
        Ok(format!("{counts:?}"))
    }

    /// Passes on what comes for as long as the play goes on.
    pub(crate) fn serve(&self, play: impl FnOnce() -> Result<()>) -> Result<()> {
        let over = AtomicBool::new(false);
        let address = self.listener.local_addr()?;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for connection in self.listener.incoming() {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    // A side that went away shows in what the other one says.
                    scope.spawn(|| connection.map(|connection| self.pass_on(connection)));
                }
            });
            let outcome = play();
            over.store(true, Ordering::SeqCst);
            TcpStream::connect(address).context("cannot stop the fault proxy")?;
            outcome
        })
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choose(&self, request: &Head) -> Option<Fault> {
        let mut choice = self.choice();
        let can = choice.faults.iter().filter(|fault| fault.can_happen_to(request));
        let can = can.copied().collect::<Vec<_>>();
        let one_in = choice.one_in;
        if can.is_empty()
            || choice.spared.remove(&request.first_line)
            || !choice.random.one_in(one_in)
        {
            return None;
        }
        let chosen = choice.random.between(0, can.len() - 1);
        let fault = can.get(chosen).copied()?;
        choice.spared.insert(request.first_line.clone());
        *choice.counts.entry(fault).or_default() += 1;
        Some(fault)
    }

    /// One request and its answer; then the connection ends.
    fn pass_on(&self, mut client: TcpStream) -> Result<()> {
        client.set_read_timeout(Some(SILENCE))?;
        let outage = self.choice().outage;
        match outage {
            Some(Outage::Away) => return reset(&client),
            Some(Outage::Hanging) => return Ok(io::copy(&mut client, &mut io::sink()).map(drop)?),
            None => {}
        }
        let mut request = Head::read(&mut client)?;
        let length = request.length()?.unwrap_or(0);
        let fault = self.choose(&request);
        match fault {
            Some(Fault::Unheard) => return reset(&client),
            Some(Fault::Busy) => {
                io::copy(&mut (&mut client).take(length), &mut io::sink())?;
                return reply(&mut client, "503 Slow Down", "SlowDown");
            }
            _ => {}
        }
        let mut store = TcpStream::connect(&self.store)?;
        store.set_read_timeout(Some(SILENCE))?;
        request.set("Connection", "close");
        request.write(&mut store)?;
        io::copy(&mut (&mut client).take(length), &mut store)?;
        let answer = Head::read(&mut store)?;
        match fault.filter(|_| answer.is_success()) {
            None => {
                answer.write(&mut client)?;
                io::copy(&mut store, &mut client)?;
                Ok(())
            }
            Some(fault) => spoil(fault, answer, &mut store, client),
        }
    }
}

/// Answers as the fault has it.
fn spoil(
    fault: Fault,
    mut answer: Head,
    store: &mut TcpStream,
    mut client: TcpStream,
) -> Result<()> {
    let length = answer.length()?.unwrap_or(0);
    let half = length / 2;
    match fault {
        Fault::Unanswered | Fault::Denied | Fault::Gone => {
            io::copy(store, &mut io::sink())?;
            return match fault {
                Fault::Denied => reply(&mut client, "500 Internal Server Error", "InternalError"),
                Fault::Gone => reply(&mut client, "404 Not Found", "NoSuchKey"),
                _ => reset(&client),
            };
        }
        Fault::Late => std::thread::sleep(Duration::from_millis(1200)),
        Fault::Shifted => answer.shift_range(),
        Fault::Whole => answer.claim_to_be_whole(),
        Fault::Empty => answer.set("Content-Length", "0"),
        Fault::Halved => answer.set("Content-Length", &half.to_string()),
        _ => {}
    }
    answer.write(&mut client)?;
    let mut first = store.take(half);
    match fault {
        Fault::Empty => {}
        Fault::Halved | Fault::Truncated => {
            io::copy(&mut first, &mut client)?;
        }
        Fault::Flipped => {
            io::copy(&mut first, &mut client)?;
            let mut byte = [0];
            store.read_exact(&mut byte)?;
            client.write_all(&byte.map(|byte| !byte))?;
            io::copy(store, &mut client)?;
        }
        Fault::Slow => drip(store, &mut client, length)?,
        _ => {
            io::copy(store, &mut client)?;
        }
    }
    Ok(())
}

/// Passes bytes on in some pieces, with pauses.
fn drip(store: &mut TcpStream, client: &mut TcpStream, length: u64) -> Result<()> {
    const PIECES: u64 = 10;
    while io::copy(&mut store.take(length.div_ceil(PIECES).max(4096)), client)? > 0 {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Ends a connection in the rude way.
fn reset(client: &TcpStream) -> Result<()> {
    set_socket_linger(client, Some(Duration::ZERO))?;
    Ok(())
}
