//! Reads that do not ask for the same thing again and again: many tags, some more popular than
//! others, and blobs of which half do not exist.

use anyhow::{Context as _, ensure};

use super::{Extra, Pass, Row};
use crate::arrivals::Arrivals;
use crate::content::Content;
use crate::goal::Goal;
use crate::http::{Request, Sink};
use crate::load::{self, Bound, Load, Sample};
use crate::random::{Random, Zipf};
use crate::registry::ACCEPT;
use crate::seed::{self, READ, tag_name};
use crate::server::{Kind, Server};
use crate::unit::Unit;

const CONNECTIONS: usize = 16;

/// Tags with a manifest each, of which some are asked for much more often than others.
const POPULAR: &str = "bench/popular";
const POPULAR_TAGS: u64 = 10_000;

/// Different requests on each connection; after them they begin again.
const REQUESTS: usize = 4096;

pub(super) fn rows() -> Vec<Row> {
    let popular = "manifest GET by tag, Zipf over 10,000";
    vec![
        // zot would take minutes to be filled with them.
        Row::new(format!("{popular} (c{CONNECTIONS})"), Unit::Rate, popular_capacity)
            .static_files()
            .without(Kind::Zot)
            .goals(as_cheap_as_any()),
        Row::new(format!("{popular}, at 70 % of capacity"), Unit::Tail, popular_tail)
            .static_files()
            .without(Kind::Zot)
            .only(Extra::Long)
            .goals([]),
        Row::new(format!("blob HEAD, half of them missing (c{CONNECTIONS})"), Unit::Rate, heads)
            .static_files()
            .goals(as_cheap_as_any()),
    ]
}

/// What is asked for must not matter.
fn as_cheap_as_any() -> [Goal; 3] {
    [Goal::Ahead(3.0), Goal::CpuBelow(25.0), Goal::CheaperThan(Kind::Distribution, 12.0)]
}

fn popular_capacity(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    fill_popular(server, pass)?;
    get_tags(server, pass.scale.timed(CONNECTIONS))
}

fn popular_tail(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let capacity = popular_capacity(server, pass)?;
    let rate = 0.7 * Unit::Rate.value(&capacity);
    let bound = Bound::Due(Arrivals::during(rate, pass.scale.sample));
    let load = Load { connections: CONNECTIONS, bound };
    get_tags(server, load)
}

fn fill_popular(server: &Server, pass: &Pass<'_>) -> anyhow::Result<()> {
    if pass.round > 0 {
        return Ok(());
    }
    let manifest = |number| pass.seed.manifest_to_push(&format!("popular {number}"));
    let last = POPULAR_TAGS - 1;
    let request = get(server, last);
    let mut client = server.client();
    if client.send(&request, Sink::Discard)?.status != 200 {
        pass.seed.fill_image(server, POPULAR)?;
        seed::fill_tags(server, POPULAR, POPULAR_TAGS, manifest)?;
    }
    let mut body = Vec::new();
    client.send(&request, Sink::Keep(&mut body))?.expect(200, "the last tag")?;
    ensure!(body == manifest(last), "the last tag has another manifest");
    Ok(())
}

fn get_tags(server: &Server, load: Load) -> anyhow::Result<Sample> {
    let popularity = Zipf::new(usize::try_from(POPULAR_TAGS)?, 1.0);
    load::run(server, load, |connection| {
        let mut client = server.client();
        let mut random = Random::new(connection as u64);
        let requests: Vec<Request> =
            (0..REQUESTS).map(|_| get(server, popularity.rank(&mut random) as u64)).collect();
        let mut requests = requests.into_iter().cycle();
        Ok(move |_| {
            let request = requests.next().context("no request")?;
            Ok(client.send(&request, Sink::Discard)?.expect(200, "manifest")?.received)
        })
    })
}

fn get(server: &Server, number: u64) -> Request {
    let target = format!("/v2/{POPULAR}/manifests/{}", tag_name(number));
    Request::new("GET", server.address(), &target, &[("Accept", ACCEPT)])
}

/// Every second blob exists.
fn heads(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    load::run(server, pass.scale.timed(CONNECTIONS), |connection| {
        let mut client = server.client();
        let present = &pass.seed.small.digest;
        let requests: Vec<(Request, u16)> = (0..REQUESTS)
            .map(|number| match number % 2 {
                0 => (head(server, present), 200),
                _ => (head(server, &missing(connection, number)), 404),
            })
            .collect();
        let mut requests = requests.into_iter().cycle();
        Ok(move |_| {
            let (request, status) = requests.next().context("no request")?;
            Ok(client.send(&request, Sink::Discard)?.expect(status, "HEAD of a blob")?.received)
        })
    })
}

fn head(server: &Server, digest: &str) -> Request {
    Request::new("HEAD", server.address(), &format!("/v2/{READ}/blobs/{digest}"), &[])
}

fn missing(connection: usize, number: usize) -> String {
    Content::new(&format!("missing/{connection}/{number}"), 8).digest()
}
