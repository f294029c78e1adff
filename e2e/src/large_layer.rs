//! Layers far larger than the memory that the registry may take.

use std::io::{self, Read};

use anyhow::{Result, ensure};
use sha2::{Digest as _, Sha256};
use ureq::SendBody;

use crate::http::{Http, hex, with_query};
use crate::image;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("large layer: 256 MB, streamed", 300, |stage| stream(stage, 256 << 20)),
    Scenario::new("large layer: 256 MB in one PUT", 300, |stage| monolithic(stage, 256 << 20)),
    Scenario::new("large layer: 5 GB, streamed", 1800, |stage| stream(stage, 5 << 30)).long(),
];

/// How far the registry may grow above what it takes idle.
const GROWTH_LIMIT: u64 = 64 << 20;

/// As docker sends a layer: one PATCH of unknown length, then an empty PUT.
fn stream(stage: &Stage, length: u64) -> Result<()> {
    round_trip(stage, length, |http| {
        let location = http.open_upload("large/layer")?;
        let mut source = Source::new(length);
        let location = http
            .send("PATCH", &location, &[], SendBody::from_reader(&mut source))?
            .expect(202)?
            .required_header("location")?;
        let digest = source.digest();
        http.send("PUT", &with_query(&location, "digest", &digest), &[], &[] as &[u8])?
            .expect(201)?;
        Ok(digest)
    })
}

/// As containerd sends a layer: one PUT with its length.
fn monolithic(stage: &Stage, length: u64) -> Result<()> {
    round_trip(stage, length, |http| {
        let mut unsent = Source::new(length);
        io::copy(&mut unsent, &mut io::sink())?;
        let digest = unsent.digest();
        let location = http.open_upload("large/layer")?;
        let mut source = Source::new(length);
        http.send(
            "PUT",
            &with_query(&location, "digest", &digest),
            &[("content-length", &length.to_string())],
            SendBody::from_reader(&mut source),
        )?
        .expect(201)?;
        Ok(digest)
    })
}

fn round_trip(
    stage: &Stage,
    length: u64,
    push: impl FnOnce(&Http) -> Result<String>,
) -> Result<()> {
    stage.with_registry(|registry| {
        let idle = registry.peak_memory()?;
        let digest = push(&registry.http)?;
        let path = format!("/v2/large/layer/blobs/{digest}");
        let (found_length, found) = registry.http.digest_of_body(&path)?;
        ensure!(
            found_length == length && found == digest,
            "pushed {length} bytes, {digest}; pulled {found_length} bytes, {found}"
        );
        let growth = registry.peak_memory()?.saturating_sub(idle);
        ensure!(
            growth <= GROWTH_LIMIT,
            "the registry grew by {} MiB; {} MiB are allowed",
            growth >> 20,
            GROWTH_LIMIT >> 20
        );
        Ok(())
    })
}

/// Bytes made while they are read, which no compression or deduplication can
/// make less of: a pseudo-random block that carries its number.
struct Source {
    block: Vec<u8>,
    number: u64,
    /// How much of the block has been read.
    position: usize,
    remaining: u64,
    hash: Sha256,
}

impl Source {
    fn new(length: u64) -> Self {
        Self {
            block: image::pseudo_random("large layer", 1 << 20),
            number: 0,
            position: 0,
            remaining: length,
            hash: Sha256::new(),
        }
    }

    /// The digest of what has been read.
    fn digest(self) -> String {
        format!("sha256:{}", hex(&self.hash.finalize()))
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.block.len() {
            self.position = 0;
            self.number += 1;
            for (byte, new) in self.block.iter_mut().zip(self.number.to_le_bytes()) {
                *byte = new;
            }
        }
        let left = self.block.get(self.position..).unwrap_or_default();
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let left = left.get(..limit).unwrap_or(left);
        let count = (&mut &*left).read(buffer)?;
        self.hash.update(left.get(..count).unwrap_or_default());
        self.position += count;
        self.remaining -= count as u64;
        Ok(count)
    }
}
