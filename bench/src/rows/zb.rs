//! What zot's own benchmark `zb` does, in our words: whole images of one layer are pushed in one
//! piece or in chunks, and pulled, one size at a time and mixed.

use anyhow::ensure;
use sha2::{Digest as _, Sha256};

use super::write::on_fresh;
use super::{Extra, Pass, Row};
use crate::content::name_of;
use crate::goal::Goal;
use crate::http::{Client, Request, Sink};
use crate::load::{self, Bound, Load, Sample};
use crate::random::Random;
use crate::registry::{self, ACCEPT, Blob, Upload};
use crate::server::Server;
use crate::unit::Unit;

const MB: u64 = 1_000_000;
const REPOSITORY: &str = "bench/zb";

/// In the row that pushes and pulls.
const PUSHES: u64 = 64;

/// Sizes and how many of a hundred images have each.
type Sizes = &'static [(u64, u64)];
const MIXED: Sizes = &[(MB, 20), (10 * MB, 70), (100 * MB, 10)];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let one_size: [(&str, Sizes, usize, u64); 3] = [
        ("1 MB", &[(MB, 100)], 10, 10),
        ("10 MB", &[(10 * MB, 100)], 10, 2),
        ("100 MB", &[(100 * MB, 100)], 2, 1),
    ];
    for (name, sizes, connections, each) in one_size {
        let load = Load { connections, bound: Bound::Count(each) };
        for (way, upload) in [("in one piece", Upload::Monolithic), ("in chunks", Upload::Chunked)]
        {
            rows.push(push(
                &format!("zb: push {name} {way} (c{connections})"),
                sizes,
                load,
                upload,
            ));
        }
        rows.push(pull(&format!("zb: pull {name} (c{connections})"), sizes, connections));
    }
    let ten = Load { connections: 10, bound: Bound::Count(2) };
    rows.push(push("zb: push 1, 10 and 100 MB mixed (c10)", MIXED, ten, Upload::Monolithic));
    rows.push(pull("zb: pull 1, 10 and 100 MB mixed (c10)", MIXED, 10));
    // The last pushes and pulls: enough for a short run.
    let mut rows: Vec<Row> = rows.into_iter().map(|row| row.only(Extra::Long)).collect();
    rows.push(
        Row::new("zb: pull 75 %, push 25 %, 1 MB (c10)", Unit::Rate, both)
            .goals([Goal::Ahead(1.0)]),
    );
    rows
}

fn push(name: &str, sizes: Sizes, load: Load, upload: Upload) -> Row {
    let label = name.to_owned();
    Row::new(name, Unit::Bandwidth, move |server, pass| {
        let Bound::Count(each) = load.bound else { unreachable!("pushes are counted") };
        let mut random = Random::new(0);
        let images: Vec<Vec<Image>> = (0..load.connections)
            .map(|connection| {
                let label = format!("{label}/{connection}");
                (0..each)
                    .map(|number| {
                        Image::new(pass, &format!("{label}/{number}"), size(sizes, &mut random))
                    })
                    .collect()
            })
            .collect();
        rustix::fs::sync();
        on_fresh(server, server.cores(), |server| {
            let sample = load::run(server, load, |connection| {
                let mut client = server.client();
                let mut images = images.get(connection).into_iter().flatten();
                Ok(move |_| images.next().map_or(Ok(0), |image| image.push(&mut client, upload)))
            })?;
            if pass.round == 0
                && let Some(image) = images.iter().flatten().next()
            {
                image.check(server)?;
            }
            Ok(sample)
        })
    })
}

fn pull(name: &str, sizes: Sizes, connections: usize) -> Row {
    Row::new(name, Unit::Bandwidth, move |server, pass| {
        let images = stored(server, pass, sizes)?;
        load::run(server, pass.scale.timed(connections), |connection| {
            let mut client = server.client();
            let mut random = Random::new(connection as u64);
            let images = &images;
            Ok(move |_| random.pick(images).map_or(Ok(0), |image| image.pull(&mut client)))
        })
    })
}

/// One of four operations is a push.
fn both(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let stored = stored(server, pass, &[(MB, 100)])?;
    let new: Vec<Image> = (0..PUSHES)
        .map(|number| Image::new(pass, &format!("zb/both/{}/{number}", pass.round), MB))
        .collect();
    rustix::fs::sync();
    let load = Load { connections: 10, bound: Bound::Total(4 * PUSHES) };
    load::run(server, load, |_| {
        let mut client = server.client();
        let (stored, new) = (stored.first(), &new);
        Ok(move |number: u64| {
            let pushed = if number % 4 == 3 { new.get(usize::try_from(number / 4)?) } else { None };
            match pushed {
                Some(image) => image.push(&mut client, Upload::Monolithic),
                None => stored.map_or(Ok(0), |image| image.pull(&mut client)),
            }
        })
    })
}

/// An image for each percent, of which those with the same size are the same.
fn stored(server: &Server, pass: &Pass<'_>, sizes: Sizes) -> anyhow::Result<Vec<Image>> {
    let mut images = Vec::new();
    for &(size, percent) in sizes {
        let image = Image::new(pass, &format!("zb/{size}"), size);
        if pass.round == 0 {
            image.push(&mut server.client(), Upload::Monolithic)?;
            image.check(server)?;
        }
        images.extend((0..percent).map(|_| image.clone()));
    }
    Ok(images)
}

fn size(sizes: Sizes, random: &mut Random) -> u64 {
    let mut percent = random.below(100);
    for &(size, share) in sizes {
        if percent < share {
            return size;
        }
        percent -= share;
    }
    MB
}

/// An image of one layer.
#[derive(Clone)]
struct Image {
    layer: Blob,
    config: (Vec<u8>, String),
    tag: String,
    manifest: Vec<u8>,
}

impl Image {
    fn new(pass: &Pass<'_>, label: &str, length: u64) -> Self {
        let layer = pass.shelf.blob(label.to_owned(), length);
        let config = registry::config();
        let tag = layer.digest.replace(':', "-");
        let layers = std::slice::from_ref(&layer);
        let manifest = registry::manifest((&config.1, config.0.len()), layers, &tag);
        Self { layer, config, tag, manifest }
    }

    fn push(&self, client: &mut Client, upload: Upload) -> anyhow::Result<u64> {
        registry::push(client, REPOSITORY, &self.layer, upload)?;
        registry::push_bytes(client, REPOSITORY, &self.config.1, &self.config.0)?;
        let put = registry::manifest_put(client.address(), REPOSITORY, &self.tag, &self.manifest);
        client.send(&put, Sink::Discard)?.expect(201, "PUT of a manifest")?;
        Ok(self.layer.content.length())
    }

    fn pull(&self, client: &mut Client) -> anyhow::Result<u64> {
        let [manifest, config, layer] = self.targets();
        let mut bytes = 0;
        for target in [manifest, config, layer] {
            bytes += get(client, &target, Sink::Discard)?;
        }
        let least = self.layer.content.length();
        ensure!(bytes > least, "expected more than {least} bytes, found {bytes}");
        Ok(bytes)
    }

    fn check(&self, server: &Server) -> anyhow::Result<()> {
        let [manifest, _, layer] = self.targets();
        let mut client = server.client();
        let (mut body, mut hash) = (Vec::new(), Sha256::new());
        get(&mut client, &manifest, Sink::Keep(&mut body))?;
        ensure!(body == self.manifest, "{manifest}: another manifest");
        get(&mut client, &layer, Sink::Hash(&mut hash))?;
        let found = name_of(hash);
        ensure!(found == self.layer.digest, "{layer}: the bytes are {found}");
        Ok(())
    }

    /// The manifest, the config and the layer.
    fn targets(&self) -> [String; 3] {
        [
            format!("/v2/{REPOSITORY}/manifests/{}", self.tag),
            format!("/v2/{REPOSITORY}/blobs/{}", self.config.1),
            format!("/v2/{REPOSITORY}/blobs/{}", self.layer.digest),
        ]
    }
}

fn get(client: &mut Client, target: &str, sink: Sink<'_>) -> anyhow::Result<u64> {
    let request = Request::new("GET", client.address(), target, &[("Accept", ACCEPT)]);
    Ok(client.send(&request, sink)?.expect(200, target)?.received)
}
