//! No text and no variable brings the configuration down. A failing case is printed with its seed.

use proptest::prelude::*;

use super::super::keys::KEYS;
use super::*;

/// Values that are good for some key and bad for others.
const VALUES: &[&str] = &[
    "",
    "~",
    "true",
    "no",
    "0",
    "-1",
    "99999999999999999999",
    "1.5",
    "10s",
    "-5m",
    "text",
    "all",
    ":5000",
    "[::1]:1",
    "http://a:b@c/d",
    "s3",
    "filesystem",
    "htpasswd",
    "none",
    "[]",
    "{}",
    "[a, [b]]",
    "{a: {b: c}}",
    "[{}]",
    "{disabled: true}",
    "'",
    "\"",
    "\u{0}",
    "é\u{1f980}",
    "(",
    "*",
    "&a [*a]",
    "<<: {a: b}",
    "!!binary x",
    "- - -",
    "? a",
    "%YAML 9",
    "{addr: x, 0: y}",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => proptest::sample::select(VALUES).prop_map(str::to_owned),
        1 => proptest::string::string_regex("[a-z0-9:{}\\[\\], *&!#'\"-]{0,20}").unwrap(),
    ]
}

/// Names of the table, spoilt now and then.
fn key() -> impl Strategy<Value = String> {
    let known = (0..KEYS.len()).prop_map(|index| KEYS[index].path.to_owned());
    prop_oneof![8 => known, 1 => proptest::string::string_regex("[a-z_.]{0,12}").unwrap()]
}

fn variable() -> impl Strategy<Value = (String, String)> {
    let name = (key(), 0..4_u8, any::<bool>()).prop_map(|(path, index, cut)| {
        let mut name = path.replace('.', "_").replace("[]", &index.to_string()).replace('*', "X-A");
        if cut && let Some((start, _)) = name.rsplit_once('_') {
            name.truncate(start.len());
        }
        format!("REGISTRY_{}", name.to_ascii_uppercase())
    });
    (name, value())
}

/// A file in which each line is a key of the table, as deep as it is there.
fn file() -> impl Strategy<Value = String> {
    proptest::collection::vec((key(), value()), 0..6).prop_map(|keys| {
        let mut text = "version: 0.1\n".to_owned();
        for (path, value) in keys {
            let mut indent = 0;
            for name in path.split('.') {
                let line = if name == "[]" { "- ".to_owned() } else { format!("{name}:\n") };
                text.push_str(&" ".repeat(indent));
                text.push_str(if name == "[]" { "-\n" } else { &line });
                indent += 2;
            }
            text = format!("{text}{}{value}\n", " ".repeat(indent));
        }
        text
    })
}

/// Reads it, and shows what was read.
fn try_out(text: &str, variables: Vec<(String, String)>) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yml");
    std::fs::write(&path, text).unwrap();
    for mode in [Mode::Lenient, Mode::Strict] {
        match Config::load(Some(&path), variables.clone().into_iter(), mode) {
            Ok(loaded) => drop((loaded.show(), loaded.count())),
            Err(error) => drop(error.to_string()),
        }
    }
    Config::load(None, variables.into_iter(), Mode::Lenient)
        .map(drop)
        .map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn by_any_text(text in "\\PC{0,200}") {
        let _ = try_out(&text, Vec::new());
        let _ = try_out(&format!("version: 0.1\n{text}"), Vec::new());
    }

    #[test]
    fn by_any_known_key_with_any_value(text in file()) {
        let _ = try_out(&text, Vec::new());
    }

    #[test]
    fn by_any_variables(
        text in file(),
        variables in proptest::collection::vec(variable(), 0..6),
    ) {
        let _ = try_out(&text, variables);
    }
}
