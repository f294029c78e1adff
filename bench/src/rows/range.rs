//! Lazy pullers: small ranges at random places of a large blob.

use std::cell::OnceCell;
use std::rc::Rc;

use anyhow::{Context as _, ensure};

use super::read::size;
use super::{Extra, Pass, Row, Scale};
use crate::goal::Goal;
use crate::http::{Request, Sink};
use crate::load::{self, Sample};
use crate::random::Random;
use crate::registry::Blob;
use crate::seed::{self, READ};
use crate::server::{Kind, Server};
use crate::unit::Unit;

const KIB: usize = 1024;
const CONNECTIONS: usize = 64;

/// Different requests on each connection; after them they begin again.
const PLACES: usize = 256;

/// The blob is large, and hashed once for all rows.
type Large = Rc<OnceCell<Blob>>;

pub(super) fn rows(scale: &Scale) -> Vec<Row> {
    let large = Large::default();
    vec![
        single(scale, &large, 4 * KIB),
        single(scale, &large, 64 * KIB).only(Extra::Long),
        single(scale, &large, 1024 * KIB),
        // zot knows single ranges only.
        row("range GET 8 × 4 KiB", &large, 4 * KIB, 8).without(Kind::Zot),
        row("range GET 8 × 64 KiB", &large, 64 * KIB, 8).without(Kind::Zot).only(Extra::Long),
    ]
}

/// As cheap as a whole blob of that size.
fn single(scale: &Scale, large: &Large, length: usize) -> Row {
    let length_name = size(length as u64);
    let whole = scale
        .small_pulls
        .last()
        .map(|connections| Goal::NoDearer(format!("blob GET {length_name} (c{connections})"), 1.1));
    let goals: Vec<Goal> = whole.into_iter().chain([Goal::Ahead(1.0)]).collect();
    row(&format!("range GET {length_name}"), large, length, 1).goals(goals)
}

fn row(name: &str, large: &Large, length: usize, parts: usize) -> Row {
    let large = Rc::clone(large);
    Row::new(format!("{name} (c{CONNECTIONS})"), Unit::Rate, move |server, pass| {
        let blob = large.get_or_init(|| Blob::new("ranges", pass.scale.layer));
        sample(server, pass, blob, length, parts)
    })
    .static_files()
}

fn sample(
    server: &Server,
    pass: &Pass<'_>,
    blob: &Blob,
    length: usize,
    parts: usize,
) -> anyhow::Result<Sample> {
    if pass.round == 0 {
        seed::ensure_blob(server, READ, blob)?;
        check(server, blob, length, parts)?;
    }
    let whole = (length * parts) as u64;
    load::run(server, pass.scale.timed(CONNECTIONS), |connection| {
        let mut client = server.client();
        let mut random = Random::new(connection as u64);
        let requests: Vec<Request> = (0..PLACES)
            .map(|_| request(server, blob, length, &places(&mut random, blob, length, parts)))
            .collect();
        let mut requests = requests.into_iter().cycle();
        Ok(move |_| {
            let request = requests.next().context("no request")?;
            let response = client.send(&request, Sink::Discard)?.expect(206, "range")?;
            ensure!(
                response.received >= whole,
                "expected a range of {whole} bytes, found {}",
                response.received
            );
            Ok(response.received)
        })
    })
}

/// Where the parts begin: in order and apart, as one client would ask for them.
fn places(random: &mut Random, blob: &Blob, length: usize, parts: usize) -> Vec<u64> {
    let share = blob.content.length() / parts as u64;
    (0..parts as u64)
        .map(|part| part * share + random.below((share - 2 * length as u64) / 8) * 8)
        .collect()
}

fn request(server: &Server, blob: &Blob, length: usize, places: &[u64]) -> Request {
    let ranges: Vec<String> =
        places.iter().map(|place| format!("{place}-{}", place + length as u64 - 1)).collect();
    let ranges = format!("bytes={}", ranges.join(","));
    let target = format!("/v2/{READ}/blobs/{}", blob.digest);
    Request::new("GET", server.address(), &target, &[("Range", &ranges)])
}

/// One answer has the bytes of each place, in order.
fn check(server: &Server, blob: &Blob, length: usize, parts: usize) -> anyhow::Result<()> {
    let places = places(&mut Random::new(u64::MAX), blob, length, parts);
    let mut body = Vec::new();
    let request = request(server, blob, length, &places);
    server.client().send(&request, Sink::Keep(&mut body))?.expect(206, "range")?;
    let mut rest = body.as_slice();
    for place in places {
        if parts > 1 {
            rest = after_part_head(rest).with_context(|| format!("no part for {place}"))?;
        }
        let found = rest.get(..length).context("a part is too short")?;
        ensure!(found == blob.content.part(place, length), "wrong bytes at {place}");
        rest = rest.get(length..).unwrap_or_default();
    }
    ensure!(parts > 1 || rest.is_empty(), "{} bytes too many", rest.len());
    Ok(())
}

/// What follows the head of the next part of a `multipart/byteranges` body.
fn after_part_head(body: &[u8]) -> Option<&[u8]> {
    let end = body.windows(4).position(|window| window == b"\r\n\r\n")?;
    body.get(end + 4..)
}
