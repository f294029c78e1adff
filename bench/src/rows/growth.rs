//! What the size of the store costs: lists and tags of a store that has grown, and starting it.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Extra, Pass, Row, life};
use crate::arrivals::Arrivals;
use crate::goal::Goal;
use crate::grown::{Grown, MANY};
use crate::http::{Request, Sink};
use crate::load::{self, Bound, Load, Sample};
use crate::process;
use crate::random::Random;
use crate::registry::{self, ACCEPT, Blob, INDEX_TYPE, Upload, empty_index};
use crate::seed::{WRITE, repository_name, tag_name};
use crate::server::Server;
use crate::unit::Unit;

const SIZES: [(u64, &str); 3] = [(1_000, "1,000"), (100_000, "100,000"), (1_000_000, "1,000,000")];
const BLOBS: u64 = 1_000_000;
const MANIFESTS: u64 = 100_000;
/// Blobs that are pushed before a server is killed.
const PUSHED: u64 = 20;

/// Entries of a page.
const PAGE: u64 = 100;
/// Pages per second: far below what the server can do.
const PAGES: f64 = 500.0;
/// For a p99 that means something.
const LONG_ENOUGH: Duration = Duration::from_secs(1);
/// By then a server that was just started has done what it does by itself.
const SETTLED: Duration = Duration::from_millis(500);

/// Different requests on each connection; after them they begin again.
const REQUESTS: usize = 4096;

pub(super) fn rows() -> Vec<Row> {
    let place = Place::default();
    let mut rows = Vec::new();
    for (count, name) in SIZES {
        let store = Store::new(&place, move |like| Grown::with_names(like, count));
        let of_size = [
            store
                .row(tag_list(name), Unit::Tail, move |server, pass| {
                    pages(server, pass, tag_pages(count))
                })
                .goals(list_goals(tag_list)),
            store
                .row(catalogue(name), Unit::Tail, move |server, pass| {
                    pages(server, pass, catalogue_pages(count))
                })
                .goals(list_goals(catalogue)),
            store
                .row(
                    format!("manifest GET by tag, any of {name} (c16)"),
                    Unit::Rate,
                    move |server, pass| tags(server, pass, count),
                )
                .goals([Goal::CpuBelow(25.0)]),
        ];
        let is_large = count > 100_000;
        rows.extend(of_size.map(|row| if is_large { row.only(Extra::Growth) } else { row }));
    }
    let store = Store::new(&place, |like| Grown::with_blobs(like, BLOBS, MANIFESTS));
    rows.extend(
        [
            store
                .row("start with 1,000,000 blobs", Unit::Start, |server, _| {
                    server.stop()?;
                    life::start(server)
                })
                .goals([Goal::Below(100.0)]),
            store
                .row("start with 1,000,000 blobs, after kill -9", Unit::Start, after_kill)
                .goals([Goal::Below(100.0)]),
            store
                .row("idle memory with 1,000,000 blobs", Unit::Anonymous, |server, _| idle(server))
                .once()
                .goals([Goal::Below(15.0)]),
        ]
        .map(|row| row.only(Extra::Growth)),
    );
    rows
}

fn tag_list(size: &str) -> String {
    format!("tag list pages of {size}")
}

fn catalogue(size: &str) -> String {
    format!("catalogue pages of {size}")
}

/// Quick, and hardly slower than the smallest.
fn list_goals(name: fn(&str) -> String) -> [Goal; 2] {
    let [(_, smallest), ..] = SIZES;
    [Goal::Below(5.0), Goal::NoWorse(name(smallest), 2.0)]
}

/// A grown store, which is made when the first row needs it.
struct Store {
    make: Make,
    place: Place,
}

type Make = Rc<dyn Fn(&Server) -> anyhow::Result<Grown>>;

/// One store is there at a time, together with what made it.
type Place = Rc<RefCell<Option<(Make, Grown)>>>;

impl Store {
    fn new(place: &Place, make: impl Fn(&Server) -> anyhow::Result<Grown> + 'static) -> Self {
        Self { make: Rc::new(make), place: Rc::clone(place) }
    }

    fn row(
        &self,
        name: impl Into<String>,
        unit: Unit,
        work: impl Fn(&mut Server, &Pass<'_>) -> anyhow::Result<Sample> + 'static,
    ) -> Row {
        let (make, place) = (Rc::clone(&self.make), Rc::clone(&self.place));
        let row = Row::new(name, unit, move |like, pass| {
            let mut place = place.borrow_mut();
            if !place.as_ref().is_some_and(|(maker, _)| Rc::ptr_eq(maker, &make)) {
                // The one before goes first: two would need twice the disk.
                *place = None;
                *place = Some((Rc::clone(&make), make(like)?));
            }
            let (_, grown) = place.as_mut().context("no store")?;
            work(&mut grown.server, pass)
        });
        row.ours().goals([])
    }
}

/// What is asked for, and the entry that must come first.
struct Page {
    target: String,
    list: &'static str,
    first: String,
}

/// The first page, one in the middle, and the last.
fn tag_pages(count: u64) -> [Page; 3] {
    let target = format!("/v2/{MANY}/tags/list?n={PAGE}");
    [0, count / 2, count - PAGE].map(|first| {
        let after = first.checked_sub(1).map(|last| format!("&last={}", tag_name(last)));
        Page {
            target: format!("{target}{}", after.unwrap_or_default()),
            list: "tags",
            first: tag_name(first),
        }
    })
}

/// The same; the first repository has number 1, and the last is the one with the tags.
fn catalogue_pages(count: u64) -> [Page; 3] {
    let target = format!("/v2/_catalog?n={PAGE}");
    [1, count / 2, count + 1 - PAGE].map(|first| {
        let after = (first > 1).then(|| format!("&last={}", repository_name(first - 1)));
        Page {
            target: format!("{target}{}", after.unwrap_or_default()),
            list: "repositories",
            first: repository_name(first),
        }
    })
}

/// All pages in turn: the slowest decides.
fn pages(server: &Server, pass: &Pass<'_>, pages: [Page; 3]) -> anyhow::Result<Sample> {
    if pass.round == 0 {
        pages.iter().try_for_each(|page| page.check(server))?;
    }
    let arrivals = Arrivals::during(PAGES, pass.scale.sample.max(LONG_ENOUGH));
    let requests = pages.map(|page| page.request(server));
    load::run(server, Load { connections: 4, bound: Bound::Due(arrivals) }, |_| {
        let mut client = server.client();
        let mut requests = requests.iter().cycle();
        Ok(move |_| {
            let request = requests.next().context("no request")?;
            Ok(client.send(request, Sink::Discard)?.expect(200, "list")?.received)
        })
    })
}

impl Page {
    fn request(&self, server: &Server) -> Request {
        Request::new("GET", server.address(), &self.target, &[])
    }

    fn check(&self, server: &Server) -> anyhow::Result<()> {
        let mut body = Vec::new();
        let request = self.request(server);
        server.client().send(&request, Sink::Keep(&mut body))?.expect(200, &self.target)?;
        let found: Value = serde_json::from_slice(&body)?;
        let found = found.get(self.list).and_then(Value::as_array).context("no list")?;
        let first = found.first().and_then(Value::as_str);
        ensure!(
            found.len() as u64 == PAGE && first == Some(&*self.first),
            "{}: expected {PAGE} entries from {}, found {} from {first:?}",
            self.target,
            self.first,
            found.len()
        );
        Ok(())
    }
}

/// Manifests of any tags, each as popular as the other.
fn tags(server: &Server, pass: &Pass<'_>, count: u64) -> anyhow::Result<Sample> {
    let get = |number| {
        let target = format!("/v2/{MANY}/manifests/{}", tag_name(number));
        Request::new(
            "GET",
            server.address(),
            &target,
            &[("Accept", &*format!("{INDEX_TYPE}, {ACCEPT}"))],
        )
    };
    if pass.round == 0 {
        let mut body = Vec::new();
        server.client().send(&get(count - 1), Sink::Keep(&mut body))?.expect(200, "last tag")?;
        ensure!(body == empty_index(), "the last tag has another manifest");
    }
    load::run(server, pass.scale.timed(16), |connection| {
        let mut client = server.client();
        let mut random = Random::new(connection as u64);
        let requests: Vec<Request> = (0..REQUESTS).map(|_| get(random.below(count))).collect();
        let mut requests = requests.into_iter().cycle();
        Ok(move |_| {
            let request = requests.next().context("no request")?;
            Ok(client.send(&request, Sink::Discard)?.expect(200, "manifest")?.received)
        })
    })
}

/// Something is pushed before, and is there afterwards.
fn after_kill(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let blobs: Vec<Blob> = (0..PUSHED)
        .map(|number| Blob::new(&format!("killed/{}/{number}", pass.round), 4096))
        .collect();
    let mut client = server.client();
    for blob in &blobs {
        registry::push(&mut client, WRITE, blob, Upload::Monolithic)?;
    }
    kill(server)?;
    let sample = life::start(server)?;
    let mut client = server.client();
    for blob in &blobs {
        let mut body = Vec::new();
        let target = format!("/v2/{WRITE}/blobs/{}", blob.digest);
        let get = Request::new("GET", server.address(), &target, &[]);
        client.send(&get, Sink::Keep(&mut body))?.expect(200, "GET of what was pushed")?;
        ensure!(body == blob.content.bytes(), "{target}: other bytes");
    }
    Ok(sample)
}

/// Ends a server as a power cut would, except that the disk goes on.
fn kill(server: &mut Server) -> anyhow::Result<()> {
    let process = i32::try_from(server.process()?).ok().and_then(Pid::from_raw);
    kill_process(process.context("no process")?, Signal::KILL)?;
    server.stop()
}

fn idle(server: &mut Server) -> anyhow::Result<Sample> {
    server.stop()?;
    server.start()?;
    sleep(SETTLED);
    let memory = process::memory(server.process()?)?;
    Ok(Sample { peak: memory.peak, anonymous: memory.anonymous, ..Sample::default() })
}
