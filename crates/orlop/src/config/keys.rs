//! Every key that a configuration may hold, and what this version does with it.
//!
//! A new key is one line in [`KEYS`] and one line where it is read (`settings.rs`).

/// A key, or a whole section whose inside is not looked at (every [`Support`] but `Used`).
#[derive(Debug)]
pub(super) struct Key {
    /// Names from the top, joined by dots. A `*` stands for any one name.
    pub(super) path: &'static str,
    pub(super) support: Support,
    /// Whether a variable's value is taken as it is, not parsed as YAML: an address such as
    /// `[::]:5000` or a secret with a `#` is a string whatever YAML makes of it.
    pub(super) verbatim: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Support {
    /// Read and acted on.
    Used,
    /// `distribution` needs it, Orlop does not; nothing is lost.
    Unneeded,
    /// Known and without effect; the text, if any, says what to do.
    Ignored(&'static str),
    /// Stops the start, unless it is empty or `false`. The text says why.
    Refused(&'static str),
    /// Stops the start wherever the name occurs.
    Forbidden(&'static str),
}

const STORAGE_DRIVER: &str =
    "`filesystem` is the only storage driver, and the data would land there instead";
const ACCESS_CONTROL: &str = "without it everyone could pull, push and delete; remove `auth` if \
                              that is meant";

#[rustfmt::skip]
const KEYS: &[Key] = &[
    used("version"),

    used("log.level"),
    used("log.formatter"),
    verbatim("log.fields.*"),
    used("log.accesslog.disabled"),
    ignored("log.reportcaller", ""),
    ignored("log.hooks", "no mail is sent"),
    ignored("loglevel", "write `log.level`"),

    verbatim("storage.filesystem.rootdirectory"),
    unneeded("storage.filesystem.maxthreads"),
    used("storage.delete.enabled"),
    used("storage.maintenance.uploadpurging.enabled"),
    used("storage.maintenance.uploadpurging.age"),
    used("storage.maintenance.uploadpurging.interval"),
    used("storage.maintenance.uploadpurging.dryrun"),
    refused("storage.maintenance.readonly.enabled", "the registry would accept pushes and deletes"),
    unneeded("storage.redirect"),
    unneeded("storage.cache"),
    unneeded("storage.tag"),
    forbidden("storage.inmemory", STORAGE_DRIVER),
    forbidden("storage.s3", STORAGE_DRIVER),
    forbidden("storage.s3aws", STORAGE_DRIVER),
    forbidden("storage.azure", STORAGE_DRIVER),
    forbidden("storage.gcs", STORAGE_DRIVER),
    forbidden("storage.swift", STORAGE_DRIVER),
    forbidden("storage.oss", STORAGE_DRIVER),

    unneeded("auth.none"),
    forbidden("auth.silly", ACCESS_CONTROL),
    forbidden("auth.htpasswd", ACCESS_CONTROL),
    forbidden("auth.token", ACCESS_CONTROL),

    refused("middleware", "no request would pass through it"),

    verbatim("http.addr"),
    used("http.net"),
    verbatim("http.host"),
    refused("http.prefix", "the registry would answer at `/`"),
    verbatim("http.secret"),
    used("http.relativeurls"),
    used("http.draintimeout"),
    used("http.headers.*"),
    verbatim("http.debug.addr"),
    used("http.debug.prometheus.enabled"),
    verbatim("http.debug.prometheus.path"),
    refused("http.tls", "the registry would speak plain HTTP; put a reverse proxy in front for TLS"),
    unneeded("http.http2"),
    ignored("http.h2c", ""),

    refused("notifications", "the events would be lost"),
    refused("proxy", "the registry would not fetch what it does not have"),
    unneeded("redis"),
    ignored("health", ""),

    used("catalog.maxentries"),
    used("tags.maxtags"),

    ignored("validation.enabled", "write `validation.disabled`"),
    used("validation.disabled"),
    ignored("validation.manifests.urls", ""),
    used("validation.manifests.indexes.platforms"),
    ignored("validation.manifests.indexes.platformlist", ""),
    used("validation.manifests.images.blobs"),

    ignored("policy", ""),
    ignored("compatibility", "distribution 3 has no such key either"),
    ignored("reporting", "distribution 3 has no such key either"),
];

/// What an unknown name in these sections would be: a driver or an access controller that nobody
/// has heard of, which must not be passed over.
pub(super) fn names_a_driver(section: &str) -> Option<&'static str> {
    match section {
        "storage" => Some("a storage driver"),
        "auth" => Some("an access controller"),
        _ => None,
    }
}

const fn used(path: &'static str) -> Key {
    key(path, Support::Used, false)
}

const fn verbatim(path: &'static str) -> Key {
    key(path, Support::Used, true)
}

const fn unneeded(path: &'static str) -> Key {
    key(path, Support::Unneeded, false)
}

const fn ignored(path: &'static str, advice: &'static str) -> Key {
    key(path, Support::Ignored(advice), false)
}

const fn refused(path: &'static str, reason: &'static str) -> Key {
    key(path, Support::Refused(reason), false)
}

const fn forbidden(path: &'static str, reason: &'static str) -> Key {
    key(path, Support::Forbidden(reason), false)
}

const fn key(path: &'static str, support: Support, verbatim: bool) -> Key {
    Key { path, support, verbatim }
}

/// What a path of the file leads to.
pub(super) enum Known {
    Key(&'static Key),
    /// A section that holds known keys.
    Section,
}

/// Looks up a key or section by its names from the top.
pub(super) fn find(path: &[String]) -> Option<Known> {
    if let Some(key) = KEYS.iter().find(|key| matches(key.path, path)) {
        return Some(Known::Key(key));
    }
    let is_section = sections().any(|section| matches(section, path));
    is_section.then_some(Known::Section)
}

fn matches(pattern: &str, path: &[String]) -> bool {
    let mut names = pattern.split('.');
    path.iter().all(|name| names.next().is_some_and(|known| known == "*" || known == name))
        && names.next().is_none()
}

/// What the rest of a variable's name, after `REGISTRY_`, leads to.
pub(super) enum Target {
    /// A key or a section, to be set to the variable's value.
    Set { path: Vec<String>, verbatim: bool },
    /// A name of the user's own in a section, such as a header. In lower case.
    SetFree { section: Vec<String>, name: String, verbatim: bool },
    /// A place inside a section that is not looked into.
    Inside(&'static Key),
    /// A name in a section of drivers that is none of the known ones.
    Driver { section: &'static str, name: String },
}

/// Resolves `HTTP_DEBUG_ADDR`. Names are upper case, as `distribution` wants them; the free part
/// of a name (a header, a log field) may be in any case and is lower-cased.
///
/// `distribution` matches Go's field names. They are the YAML keys in upper case for every key of
/// [`KEYS`] that is used here.
pub(super) fn find_variable(name: &str) -> Option<Target> {
    let exact = KEYS
        .iter()
        .map(|key| (key.path, key.verbatim))
        .chain(sections().map(|section| (section, false)))
        .find(|(path, _)| variable(path) == name);
    if let Some((path, verbatim)) = exact {
        let path = path.split('.').map(str::to_owned).collect();
        return Some(Target::Set { path, verbatim });
    }
    let inside = KEYS.iter().find_map(|key| {
        let section = key.path.strip_suffix(".*");
        let free = below(name, section.unwrap_or(key.path))?;
        match (section, key.support) {
            (Some(section), _) => Some(Target::SetFree {
                section: section.split('.').map(str::to_owned).collect(),
                name: free.to_ascii_lowercase(),
                verbatim: key.verbatim,
            }),
            (None, Support::Used) => None,
            (None, _) => Some(Target::Inside(key)),
        }
    });
    inside.or_else(|| {
        // A misspelt `STORAGE_MAINTENANCE_…` names no driver; a first name that is unknown does.
        ["storage", "auth"].into_iter().find_map(|section| {
            let first = below(name, section)?.split('_').next()?.to_ascii_lowercase();
            let path = [section.to_owned(), first.clone()];
            find(&path).is_none().then_some(Target::Driver { section, name: first })
        })
    })
}

/// The rest of a variable's name below a section.
fn below<'a>(name: &'a str, section: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(&variable(section))?.strip_prefix('_')?;
    (!rest.is_empty()).then_some(rest)
}

fn variable(path: &str) -> String {
    path.to_ascii_uppercase().replace('.', "_")
}

/// The key that someone who wrote `path` may have meant, if one is near.
pub(super) fn nearest(path: &str) -> Option<&'static str> {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let limit = (name.len() / 3).max(1);
    named()
        .filter_map(|known| {
            let (known_parent, known_name) = known.rsplit_once('.').unwrap_or(("", known));
            let elsewhere = usize::from(known_parent != parent);
            let distance = edits(&name.to_ascii_lowercase(), known_name) + elsewhere;
            (distance <= limit).then_some((distance, known))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The variable that someone who set `REGISTRY_<name>` may have meant, if one is near.
pub(super) fn nearest_variable(name: &str) -> Option<String> {
    let limit = (name.len() / 4).clamp(1, 4);
    named()
        .filter_map(|known| {
            let known = variable(known);
            let distance = edits(&name.to_ascii_uppercase(), &known);
            (distance <= limit).then_some((distance, known))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| format!("REGISTRY_{known}"))
}

/// The names that may stand directly in a section (`""` is the top), in the order of the table.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let rest = if section.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        if let Some(name) = rest.and_then(|rest| rest.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// Keys and sections that can be suggested.
fn named() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.path).filter(|path| !path.ends_with('*')).chain(sections())
}

/// The sections around the keys, some more than once.
fn sections() -> impl Iterator<Item = &'static str> {
    KEYS.iter().flat_map(|key| key.path.match_indices('.').map(|(dot, _)| key.path.split_at(dot).0))
}

/// How many characters must be put in, taken out or exchanged to make one text of the other.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, character) in left.chars().enumerate() {
        let mut next = vec![index + 1];
        for ((other, above), diagonal) in right.iter().zip(row.iter().skip(1)).zip(&row) {
            let before = next.last().copied().unwrap_or_default();
            let exchanged = diagonal + usize::from(character != *other);
            next.push(exchanged.min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_by_its_own_name_and_variable() {
        for key in KEYS {
            let path: Vec<String> = key.path.split('.').map(str::to_owned).collect();
            assert!(matches!(find(&path), Some(Known::Key(found)) if found.path == key.path));
            if !key.path.ends_with('*') {
                let Some(Target::Set { path: found, .. }) = find_variable(&variable(key.path))
                else {
                    panic!("{}", key.path);
                };
                assert_eq!(found, path);
            }
        }
    }

    #[test]
    fn nearest_is_what_was_meant() {
        for (written, meant) in [
            ("http.adr", Some("http.addr")),
            ("http.Addr", Some("http.addr")),
            ("htpp", Some("http")),
            ("rootdirectory", Some("storage.filesystem.rootdirectory")),
            ("storage.filesystem.rootdir", None),
            ("delete", Some("storage.delete")),
            ("http.relativeurl", Some("http.relativeurls")),
            ("log.level2", Some("log.level")),
            ("http.port", None),
            ("unrelated", None),
        ] {
            assert_eq!(nearest(written), meant, "{written}");
        }
        assert_eq!(nearest_variable("HTTP_ADR").as_deref(), Some("REGISTRY_HTTP_ADDR"));
        assert_eq!(
            nearest_variable("STORAGE_DELETE_ENABLE").as_deref(),
            Some("REGISTRY_STORAGE_DELETE_ENABLED")
        );
        assert_eq!(nearest_variable("SOMETHING_ELSE_ENTIRELY"), None);
    }

    #[test]
    fn edits_are_counted() {
        for (left, right, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(edits(left, right), count, "{left} {right}");
        }
    }
}
