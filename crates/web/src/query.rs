//! Query strings.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Parameters looked at, at most.
const MAX_PARAMETERS: usize = 1000;

/// What need not be escaped in a query's value.
const VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b':');

/// The parameters of a request, decoded.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or("").split('&').take(MAX_PARAMETERS);
        let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of `name`.
    pub(crate) fn all<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Escapes a value for a query.
pub(crate) fn encode(value: &str) -> Cow<'_, str> {
    utf8_percent_encode(value, VALUE).into()
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    // PostgreSQL refuses to look for U+0000. U+0001 too is in no name, and comes before all of them.
    percent_decode_str(&text).decode_utf8_lossy().replace('\0', "\u{1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_may_repeat() {
        let query = Query::parse(Some("digest=sha256%3Aab&tag=a&tag=b+c&empty&n=5"));
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b c"]);
        assert_eq!(query.get("empty"), Some(""));
        assert_eq!(query.get("missing"), None);
        assert_eq!(Query::parse(Some("last=a%00")).get("last"), Some("a\u{1}"));
    }

    #[test]
    fn what_is_escaped_comes_back() {
        for value in ["v1.0_a-b", "a/b", "ü &=?#+%"] {
            let text = format!("last={}", encode(value));
            assert_eq!(Query::parse(Some(&text)).get("last"), Some(value));
        }
    }

    proptest::proptest! {
        #[test]
        fn every_value_comes_back(value in "\\PC{0,40}", other in "[&=a-z%+]{0,20}") {
            let text = format!("last={}&{other}", encode(&value));
            let query = Query::parse(Some(&text));
            proptest::prop_assert_eq!(query.get("last"), Some(value.as_str()));
        }
    }
}
