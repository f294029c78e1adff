//! What images are called in layouts and archives.

use std::collections::BTreeMap;

use oci::{Digest, Reference, RepositoryName, Tag};

use crate::error::shorten;
use crate::{IMAGE_NAME, REF_NAME};

/// The host that Docker names do not show.
const DOCKER_HOSTS: [&str; 2] = ["docker.io", "index.docker.io"];

/// What an image is called.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Label {
    /// By its full name.
    Full(RepositoryName, Reference),
    /// By a tag, of whichever repository.
    Tag(Tag),
}

impl Label {
    /// What the annotations of a descriptor say; `None` if they say nothing.
    pub(crate) fn of(annotations: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        let reference = annotations.get(REF_NAME).filter(|text| !text.is_empty());
        let name = annotations.get(IMAGE_NAME).filter(|text| !text.is_empty());
        match (reference, name) {
            // Docker keeps the tag in one, the name in the other.
            (Some(reference), Some(name)) if is_tag(reference) => Self::parse(name).map(Some),
            (Some(text), _) | (None, Some(text)) => Self::parse(text).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Reads `[HOST/]REPOSITORY[:TAG|@DIGEST]`, or a tag alone. The host is left out: this is
    /// another registry.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("the name {:?}: {error}", shorten(text));
        if is_tag(text) {
            return text.parse().map(Self::Tag).map_err(|error| failed(&error));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let name = without_host(name);
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (name, None),
        };
        let repository = repository.parse().map_err(|error| failed(&error))?;
        let reference = match (tag, digest) {
            (Some(tag), _) => Reference::Tag(tag.parse().map_err(|error| failed(&error))?),
            (None, Some(digest)) => {
                Reference::Digest(digest.parse::<Digest>().map_err(|error| failed(&error))?)
            }
            (None, None) => Reference::Tag("latest".parse().map_err(|error| failed(&error))?),
        };
        Ok(Self::Full(repository, reference))
    }
}

/// The full name of an image as [`Label`] reads it, and as Docker and containerd do.
pub fn spell(repository: &RepositoryName, reference: &Reference) -> String {
    let repository = repository.as_str();
    // Else the first part would be taken for a host.
    let host = if without_host(repository) == repository { "" } else { "localhost/" };
    match reference {
        Reference::Tag(tag) => format!("{host}{repository}:{tag}"),
        Reference::Digest(digest) => format!("{host}{repository}@{digest}"),
    }
}

fn is_tag(text: &str) -> bool {
    !text.contains(['/', ':', '@'])
}

/// Docker's rule: the first part of a name is a host if it could not be anything else.
fn without_host(name: &str) -> &str {
    match name.split_once('/') {
        Some((host, rest)) if DOCKER_HOSTS.contains(&host) => {
            rest.strip_prefix("library/").unwrap_or(rest)
        }
        Some((host, rest)) if is_host(host) => rest,
        _ => name,
    }
}

fn is_host(part: &str) -> bool {
    part.contains(|c: char| c == '.' || c == ':' || c.is_ascii_uppercase()) || part == "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match Label::parse(text) {
            Ok(Label::Full(repository, Reference::Tag(tag))) => format!("{repository} {tag}"),
            Ok(Label::Full(repository, Reference::Digest(digest))) => {
                format!("{repository} {digest:.13}")
            }
            Ok(Label::Tag(tag)) => format!("tag {tag}"),
            Err(error) => error,
        }
    }

    #[test]
    fn names_lose_their_host() {
        let digest = Digest::sha256(b"");
        for (text, expected) in [
            ("v1", "tag v1".to_owned()),
            ("app:v1", "app v1".to_owned()),
            ("team/app:v1", "team/app v1".to_owned()),
            ("team/app", "team/app latest".to_owned()),
            ("localhost:5000/team/app:v1", "team/app v1".to_owned()),
            ("localhost/app:v1", "app v1".to_owned()),
            ("registry.example/app:v1", "app v1".to_owned()),
            ("REGISTRY/app:v1", "app v1".to_owned()),
            ("docker.io/library/alpine:3", "alpine 3".to_owned()),
            ("docker.io/grafana/grafana:9", "grafana/grafana 9".to_owned()),
            ("library/alpine:3", "library/alpine 3".to_owned()),
            (&format!("app:v1@{digest}"), "app v1".to_owned()),
            (&format!("app@{digest}"), format!("app {digest:.13}")),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert!(read("team/App:v1").starts_with("the name \"team/App:v1\": "));
    }

    #[test]
    fn what_is_spelt_is_read_again() {
        for repository in ["app", "team/app", "library/alpine", "my.app/x", "localhost/x", "a.b"] {
            let repository: RepositoryName = repository.parse().unwrap();
            let tag: Reference = "v1".parse().unwrap();
            let digest = Reference::Digest(Digest::sha256(b""));
            for reference in [tag, digest] {
                let text = spell(&repository, &reference);
                let label = Label::parse(&text).unwrap();
                assert_eq!(label, Label::Full(repository.clone(), reference), "{text}");
            }
        }
    }

    #[test]
    fn annotations_of_docker_and_of_others() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Label::of(&pairs.collect()).unwrap()
        };
        let full = Label::parse("app:v1").unwrap();
        let docker = [(REF_NAME, "v1"), (IMAGE_NAME, "docker.io/library/app:v1")];
        assert_eq!(of(&docker), Some(full.clone()));
        assert_eq!(of(&[(REF_NAME, "app:v1")]), Some(full.clone()));
        assert_eq!(of(&[(IMAGE_NAME, "app:v1")]), Some(full));
        assert_eq!(of(&[(REF_NAME, "v1")]), Some(Label::parse("v1").unwrap()));
        assert_eq!(of(&[("other", "v1")]), None);
    }
}
