//! The reference in `docs/configuration.md` is what the table of keys says.

use std::fmt::Write;

use super::super::keys::{KEYS, Key, State};
use super::super::kind::Kind;

const START: &str = "<!-- The rest of this chapter is made from the table of keys: \
                     UPDATE_REFERENCE=1 cargo test -p orlop reference -->\n";
const END: &str = "<!-- end of the reference -->\n";

#[test]
fn the_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(START).expect("the start of the reference");
    let (_, after) = rest.split_once(END).expect("the end of the reference");
    let expected = format!("{before}{START}{}{END}{after}", reference());
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path, &expected).unwrap();
    } else {
        assert!(text == expected, "run it with UPDATE_REFERENCE=1, and look at the difference");
    }
}

fn reference() -> String {
    let mut text = String::new();
    let mut chapter = "";
    for key in KEYS {
        let this = chapter_of(key.path);
        if this != chapter {
            chapter = this;
            write!(
                text,
                "\n### `{chapter}`\n\n| Key | Type | Default | Meaning |\n|---|---|---|---|\n"
            )
            .unwrap();
        }
        text.push_str(&row(key));
    }
    text.push('\n');
    text
}

/// The top-level name; large sections and small ones have chapters of other names.
fn chapter_of(path: &str) -> &str {
    const LARGE: [&str; 7] = [
        "storage.s3",
        "storage.azure",
        "storage.gcs",
        "storage.swift",
        "storage.oss",
        "auth.token",
        "http.tls",
    ];
    let is_below = |section: &&&str| {
        let rest = path.strip_prefix(**section);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    match path.split('.').next().unwrap_or(path) {
        "loglevel" => "log",
        "catalog" | "tags" => "catalog`, `tags",
        "policy" | "compatibility" | "reporting" => "policy`, `compatibility`, `reporting",
        top => LARGE.iter().find(is_below).copied().unwrap_or(top),
    }
}

fn row(key: &Key) -> String {
    let path = key.path.replace(".[]", "[]").replace('*', "<name>");
    let default = match (key.default, key.required) {
        (_, true) => "required".to_owned(),
        ("", _) => String::new(),
        (default, _) => format!("`{default}`"),
    };
    let meaning = match key.state {
        State::Current => key.meaning.to_owned(),
        State::Later if key.kind == Kind::Section => format!("{}. **Later**", key.meaning),
        State::Later => format!("**Later.** {}", key.meaning),
        State::Foreign => format!("{}. **Not in Orlop**", key.meaning),
        State::Older(new) => format!("Older name of `{}`", new.replace(".[]", "[]")),
        State::Removed => format!("**Gone.** {}", key.meaning),
    };
    let (kind, default) = match key.state {
        State::Older(_) | State::Removed => (String::new(), String::new()),
        _ => (key.kind.name(), default),
    };
    format!("| `{path}` | {kind} | {default} | {meaning} |\n")
}
