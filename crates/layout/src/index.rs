//! `index.json`, descriptor by descriptor: that of a whole registry may be long. One that is wrong
//! does not stop those after it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::BufReader;
use std::ops::ControlFlow;

use oci::Descriptor;
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::error::shorten;
use crate::images::Entry;
use crate::metered::Metered;
use crate::name::Label;
use crate::{Error, IMAGE_NAME, INDEX_FILE, REF_NAME, Section};

/// Bytes that one descriptor may take.
const MAX_DESCRIPTOR: u64 = 4 << 20;

/// Hands each entry of the index to `take`, until that breaks off.
pub(crate) fn read(
    index: &Section,
    take: &mut dyn FnMut(Entry) -> ControlFlow<()>,
) -> Result<(), Error> {
    let left = Cell::new(MAX_DESCRIPTOR);
    let stopped = Cell::new(false);
    let inner = BufReader::with_capacity(1 << 16, index.reader());
    let reader = Metered { inner, left: &left, problem: "one of its parts is too long" };
    let mut document = serde_json::Deserializer::from_reader(reader);
    let read = document.deserialize_map(Index { take, left: &left, stopped: &stopped });
    match read.and_then(|()| document.end()) {
        Err(_) if stopped.get() => Ok(()),
        Err(error) => Err(Error::member(INDEX_FILE, format!("not an image index: {error}"))),
        Ok(()) => Ok(()),
    }
}

struct Index<'a> {
    take: &'a mut dyn FnMut(Entry) -> ControlFlow<()>,
    left: &'a Cell<u64>,
    stopped: &'a Cell<bool>,
}

impl<'de> Visitor<'de> for Index<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut has_manifests = false;
        while let Some(key) = map.next_key::<String>()? {
            if key != "manifests" {
                map.next_value::<IgnoredAny>()?;
            } else if has_manifests {
                return Err(A::Error::custom("it has the key manifests twice"));
            } else {
                map.next_value_seed(&mut self)?;
                has_manifests = true;
            }
        }
        if has_manifests { Ok(()) } else { Err(A::Error::missing_field("manifests")) }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Index<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Index<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    /// Go programs write `null` for an empty list.
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for position in 1_u64.. {
            self.left.set(MAX_DESCRIPTOR);
            let Some(text) = list.next_element::<Box<RawValue>>()? else { break };
            if (self.take)(entry(text.get(), position)).is_break() {
                self.stopped.set(true);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// The entry that this element of the index is, counted from 1.
fn entry(text: &str, position: u64) -> Entry {
    match serde_json::from_str::<Descriptor>(text) {
        Ok(descriptor) => {
            let label = Label::of(&descriptor.annotations);
            let place = name(&descriptor.annotations);
            let place = place.unwrap_or_else(|| descriptor.digest.to_string());
            Entry::new(&place, descriptor, label)
        }
        Err(error) => {
            let known = serde_json::from_str::<Known>(text).unwrap_or_default();
            let place = name(&known.annotations).or(known.digest);
            let place = place.unwrap_or_else(|| format!("entry {position} of {INDEX_FILE}"));
            Entry::bad(&place, shorten(&format!("not a descriptor: {error}")))
        }
    }
}

fn name(annotations: &BTreeMap<String, String>) -> Option<String> {
    [REF_NAME, IMAGE_NAME].iter().find_map(|key| annotations.get(*key).cloned())
}

/// What a message can say about a descriptor that is none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Known {
    annotations: BTreeMap<String, String>,
    digest: Option<String>,
}
