//! What images out of files are to be called.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use layout::{Entry, Label};
use oci::{Digest, Reference, RepositoryName, Tag};

use crate::transfer::ImageName;

/// What is known about all entries of an index.
#[derive(Debug, Default)]
pub(super) struct Survey {
    wanted: Option<ImageName>,
    entries: u64,
    /// Those with a tag of their own.
    tagged: u64,
    /// Those with the tag that was asked for.
    same_tag: u64,
    manifests: Named<Digest>,
    repositories: Named<RepositoryName>,
}

/// What entries name.
#[derive(Debug, Default, Eq, PartialEq)]
enum Named<T> {
    #[default]
    Nothing,
    One(T),
    Several,
}

impl<T: Clone + PartialEq> Named<T> {
    fn add(&mut self, name: &T) {
        match self {
            Self::Nothing => *self = Self::One(name.clone()),
            Self::One(known) if known == name => {}
            Self::One(_) | Self::Several => *self = Self::Several,
        }
    }
}

impl Survey {
    /// `wanted` is what the image, or the repository of all images, is to be called.
    pub(super) fn new(wanted: Option<ImageName>) -> Self {
        Self { wanted, ..Self::default() }
    }

    pub(super) fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        let Ok((descriptor, label)) = &entry.found else { return };
        self.manifests.add(&descriptor.digest);
        if let Some(Label::Full(repository, _)) = label {
            self.repositories.add(repository);
        }
        if let Some(tag) = tag_of(label.as_ref()) {
            self.tagged += 1;
            let wanted = self.wanted.as_ref().and_then(|name| name.tag.as_ref());
            self.same_tag += u64::from(Some(tag) == wanted);
        }
    }

    /// The rule by which all get their names. Fails if one is wanted and none stands out.
    pub(super) fn finish(self) -> Result<Names, String> {
        let entries = self.entries;
        let rule = match self.wanted {
            None => match self.repositories {
                Named::One(repository) => Rule::Own { home: Some(repository) },
                Named::Nothing | Named::Several => Rule::Own { home: None },
            },
            Some(ImageName { repository, tag: None }) => Rule::Repository(repository),
            Some(ImageName { repository, tag: Some(tag) }) => {
                let choice = match (self.manifests, self.tagged, self.same_tag) {
                    (Named::One(_), _, _) => Choice::Only,
                    (_, 1, _) => Choice::Tagged,
                    (_, _, 1) => Choice::SameTag,
                    _ => {
                        return Err(format!(
                            "there are {entries} images here, and which one is {repository}:{tag} \
                             can not be told: with `--name {repository}` all are taken, each with \
                             the tag that it has"
                        ));
                    }
                };
                Rule::One { repository, tag, choice }
            }
        };
        Ok(Names { entries, rule, seen: Given::default() })
    }
}

/// What images are to be called.
#[derive(Debug)]
pub(super) struct Names {
    entries: u64,
    rule: Rule,
    seen: Given,
}

#[derive(Debug)]
enum Rule {
    /// As they are called; what has no name belongs to `home`.
    Own { home: Option<RepositoryName> },
    /// In this repository, with the tags that they have.
    Repository(RepositoryName),
    /// One of them is called so. What has no tag goes with it: most often it is a signature.
    One { repository: RepositoryName, tag: Tag, choice: Choice },
}

/// Which one it is.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// There is no other.
    Only,
    /// That which has a tag.
    Tagged,
    /// That which has the same tag already.
    SameTag,
}

impl Names {
    /// How many entries there are.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Repository and tag of an entry that leads to `target`; `None` if it is not asked for. Fails
    /// if that can not be told, or if another entry before had the same name.
    pub(super) fn of(
        &mut self,
        label: Option<&Label>,
        target: &Digest,
    ) -> Result<Option<ImageName>, String> {
        let own_tag = tag_of(label);
        let (repository, tag) = match (&self.rule, label) {
            (Rule::Repository(repository), _)
            | (Rule::Own { .. }, Some(Label::Full(repository, _))) => (repository, own_tag),
            (Rule::One { repository, tag, choice }, _) => match (choice, own_tag) {
                (Choice::Only, _) | (Choice::Tagged, Some(_)) => (repository, Some(tag)),
                (Choice::SameTag, Some(own)) if own == tag => (repository, Some(tag)),
                (Choice::Tagged | Choice::SameTag, None) => (repository, None),
                (Choice::SameTag, Some(_)) => return Ok(None),
            },
            (Rule::Own { home: Some(home) }, None) => (home, None),
            (Rule::Own { .. }, Some(Label::Tag(tag))) => {
                return Err(format!(
                    "it has the tag {tag} but no repository: name that with `--name REPOSITORY`"
                ));
            }
            (Rule::Own { home: None }, None) => {
                return Err("it has no name: give it one with `--name REPOSITORY:TAG`".to_owned());
            }
        };
        if let Some(tag) = tag {
            self.seen.check(repository, tag, target)?;
        }
        Ok(Some(ImageName { repository: repository.clone(), tag: tag.cloned() }))
    }
}

fn tag_of(label: Option<&Label>) -> Option<&Tag> {
    match label {
        Some(Label::Tag(tag) | Label::Full(_, Reference::Tag(tag))) => Some(tag),
        _ => None,
    }
}

/// Names that were given, and what each leads to: hashed, which takes less room and is as good.
#[derive(Debug, Default)]
struct Given {
    hash: RandomState,
    names: HashSet<u64>,
    targets: HashSet<u64>,
}

impl Given {
    /// Refuses a name that had another target before.
    fn check(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        target: &Digest,
    ) -> Result<(), String> {
        let with_target = self.hash.hash_one((repository, tag, target));
        if self.targets.contains(&with_target) {
            return Ok(());
        }
        if self.names.insert(self.hash.hash_one((repository, tag))) {
            self.targets.insert(with_target);
            return Ok(());
        }
        Err(format!("{repository}:{tag} is there more than once, for different manifests"))
    }
}
