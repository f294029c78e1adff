//! Reading JSON objects field by field, without accepting what other readers see differently.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting of objects and lists. No manifest comes near it.
const MAX_DEPTH: usize = 128;

/// Why an object can not be read.
pub(super) enum ObjectError {
    Json(serde_json::Error),
    NotAnObject,
    Duplicate { key: &'static str },
    Misspelled { key: &'static str, found: String },
}

/// The values of `keys` in a JSON object, in their order; absent ones and `null` are `None`.
///
/// Refuses objects with two values for one key, and with keys that are another spelling of one of
/// `keys`: readers written in Go do not distinguish case, so they would see another document.
pub(super) fn read_object<'a, const N: usize>(
    text: &'a str,
    keys: &[&'static str; N],
) -> Result<[Option<&'a RawValue>; N], ObjectError> {
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        // Tell texts that are no JSON at all from other kinds of values.
        serde_json::from_str::<IgnoredAny>(text).map_err(ObjectError::Json)?;
        return Err(ObjectError::NotAnObject);
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut members = Members { keys, values: [None; N], problem: None };
    deserializer.deserialize_map(&mut members).map_err(ObjectError::Json)?;
    deserializer.end().map_err(ObjectError::Json)?;
    match members.problem {
        Some(problem) => Err(problem),
        None => Ok(members.values.map(|value| value.filter(|value| !is_null(value)))),
    }
}

/// The elements of a JSON list, or `None` if there are more than `limit`.
pub(super) fn read_list(
    raw: &RawValue,
    limit: usize,
) -> Result<Option<Vec<&RawValue>>, serde_json::Error> {
    serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Elements { limit })
}

/// Whether `text` nests deeper than this crate, and most readers, are prepared for.
pub(super) fn is_too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

struct Members<'k, 'de, const N: usize> {
    keys: &'k [&'static str; N],
    values: [Option<&'de RawValue>; N],
    /// The first one.
    problem: Option<ObjectError>,
}

impl<'de, const N: usize> Visitor<'de> for &mut Members<'_, 'de, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Keys(self.keys))? {
            let found = match key {
                Key::Known { index, key } => Some((index, key)),
                Key::Misspelled { key, found } => {
                    self.problem.get_or_insert(ObjectError::Misspelled { key, found });
                    None
                }
                Key::Other => None,
            };
            match found.and_then(|(index, key)| Some((self.values.get_mut(index)?, key))) {
                Some((value, key)) => {
                    if value.replace(map.next_value()?).is_some() {
                        self.problem.get_or_insert(ObjectError::Duplicate { key });
                    }
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

enum Key {
    Known { index: usize, key: &'static str },
    Misspelled { key: &'static str, found: String },
    Other,
}

struct Keys<'k, const N: usize>(&'k [&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Keys<'_, N> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for Keys<'_, N> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, found: &str) -> Result<Key, E> {
        for (index, key) in self.0.iter().enumerate() {
            if found == *key {
                return Ok(Key::Known { index, key });
            }
            if found.chars().map(fold).eq(key.chars().map(fold)) {
                return Ok(Key::Misspelled { key, found: found.to_owned() });
            }
        }
        Ok(Key::Other)
    }
}

/// The letter that Go's JSON reader takes this one for: Unicode has two more that fold to ASCII.
fn fold(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => letter.to_ascii_lowercase(),
    }
}

struct Elements {
    limit: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            if elements.len() == self.limit {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            elements.push(element);
        }
        Ok(Some(elements))
    }
}
