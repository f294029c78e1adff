//! Links as objects (see [`Links`]): for buckets that the distribution registry has used.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::future::Future as StdFuture;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use objects::Objects;
use oci::{Digest, RepositoryName, Tag};
use tokio::task::JoinSet;

use super::content::read_small;
use super::{ObjectStore, writing};
use crate::links::{BadLink, Link, LinkKind, LinkName, Links, Listing};
use crate::links::{Repositories, RepositoryFolder};
use crate::{Error, ErrorKind, Future, layout};

/// A link has 71 or 135 bytes.
const MAX_LINK: u64 = 1024;

/// Requests that are under way at once.
const AT_ONCE: usize = 16;

/// The parts of a repository that are no part of a name.
const RESERVED: [&str; 3] = ["_layers", "_manifests", "_uploads"];

impl Links for ObjectStore {
    fn any(&self) -> Future<'_, Result<bool, Error>> {
        Box::pin(async move {
            let page = self.objects.list(&layout::repositories_key(), true, None).await?;
            Ok(!page.folders.is_empty() || !page.objects.is_empty())
        })
    }

    fn has<'a>(&'a self, repository: &'a RepositoryName) -> Future<'a, Result<bool, Error>> {
        Box::pin(async move {
            for part in ["_layers/", "_manifests/"] {
                let prefix = format!("{}{part}", layout::repository_key(repository));
                if !self.objects.list(&prefix, false, None).await?.objects.is_empty() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    fn repositories(&self) -> Future<'_, Result<Repositories, Error>> {
        Box::pin(async move {
            let prefix = layout::repositories_key();
            let mut walk = Walk::default();
            let mut next = None;
            loop {
                let page = self.objects.list(&prefix, false, next).await?;
                for (key, _) in &page.objects {
                    walk.see(key.strip_prefix(&prefix).unwrap_or(key));
                }
                next = page.next;
                if next.is_none() {
                    return Ok(walk.end());
                }
            }
        })
    }

    fn list<'a>(
        &'a self,
        repository: &'a RepositoryName,
        kind: LinkKind,
    ) -> Future<'a, Result<Listing, Error>> {
        Box::pin(async move {
            let root = layout::repository_key(repository);
            let mut listing = Listing::default();
            match kind {
                LinkKind::Layers => {
                    self.list_digests(&root, "_layers", LinkName::Layer, &mut listing).await?;
                }
                LinkKind::Revisions => {
                    let part = "_manifests/revisions";
                    self.list_digests(&root, part, LinkName::Revision, &mut listing).await?;
                }
                LinkKind::Tags => {
                    for name in self.names(&format!("{root}_manifests/tags/")).await? {
                        match name.parse::<Tag>() {
                            Ok(tag) => listing.names.push(LinkName::Tag(tag)),
                            Err(_) => listing.strange.push(format!("_manifests/tags/{name}")),
                        }
                    }
                }
            }
            listing.names.sort_unstable();
            Ok(listing)
        })
    }

    fn read<'a>(
        &'a self,
        repository: &'a RepositoryName,
        names: Vec<LinkName>,
    ) -> Future<'a, Result<Vec<Link>, Error>> {
        Box::pin(async move {
            let read = |name| read_link(Arc::clone(&self.objects), repository.clone(), name);
            at_once(names, read).await
        })
    }

    fn write<'a>(
        &'a self,
        repository: &'a RepositoryName,
        links: Vec<(LinkName, Digest)>,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            let write = |(name, target): (LinkName, Digest)| {
                let objects = Arc::clone(&self.objects);
                let key = layout::link_key(repository, &name);
                async move {
                    let content = vec![Bytes::from(target.to_string())];
                    objects.put(&key, content).await.map_err(writing)
                }
            };
            at_once(links, write).await?.into_iter().collect()
        })
    }

    fn remove<'a>(
        &'a self,
        repository: &'a RepositoryName,
        names: Vec<LinkName>,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            let remove = |name: LinkName| {
                let objects = Arc::clone(&self.objects);
                let key = layout::link_key(repository, &name);
                async move {
                    if let LinkName::Tag(_) = name {
                        let tag = key.strip_suffix("current/link").unwrap_or(&key);
                        for (key, _) in objects::list_all(&*objects, tag, false).await?.objects {
                            objects.delete(&key).await.map_err(writing)?;
                        }
                    }
                    objects.delete(&key).await.map_err(writing)
                }
            };
            at_once(names, remove).await?.into_iter().collect()
        })
    }

    fn settle_links(&self) -> Future<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl ObjectStore {
    async fn list_digests(
        &self,
        repository: &str,
        part: &str,
        name: fn(Digest) -> LinkName,
        listing: &mut Listing,
    ) -> Result<(), Error> {
        for algorithm in self.names(&format!("{repository}{part}/")).await? {
            let folder = format!("{part}/{algorithm}");
            if !["sha256", "sha512"].contains(&algorithm.as_str()) {
                listing.strange.push(folder);
                continue;
            }
            for hex in self.names(&format!("{repository}{folder}/")).await? {
                match format!("{algorithm}:{hex}").parse() {
                    Ok(digest) => listing.names.push(name(digest)),
                    Err(_) => listing.strange.push(format!("{folder}/{hex}")),
                }
            }
        }
        Ok(())
    }

    /// What lies one level below `prefix`.
    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let page = objects::list_all(&*self.objects, prefix, true).await?;
        let names = page.folders.iter().chain(page.objects.iter().map(|(key, _)| key));
        Ok(names.filter_map(|key| key.strip_prefix(prefix)).map(str::to_owned).collect())
    }
}

/// Repositories, as the keys of their links tell.
#[derive(Default)]
struct Walk {
    found: BTreeMap<String, Seen>,
    strange: Vec<String>,
}

#[derive(Default)]
struct Seen {
    has_manifest: bool,
    uploads: BTreeSet<String>,
}

impl Walk {
    fn see(&mut self, key: &str) {
        let reserved = RESERVED.iter().filter_map(|part| {
            let at = key.find(&format!("/{part}/"))?;
            Some((at, *part, &key[at + part.len() + 2..]))
        });
        let Some((at, part, rest)) = reserved.min() else {
            self.strange.push(format!("{key}: it is not part of the layout"));
            return;
        };
        let seen = self.found.entry(key[..at].to_owned()).or_default();
        match part {
            "_manifests" => {
                seen.has_manifest |= rest.starts_with("revisions/") && rest.ends_with("/link");
            }
            "_uploads" => {
                seen.uploads.extend(rest.split('/').next().map(str::to_owned));
            }
            _ => {}
        }
    }

    fn end(self) -> Repositories {
        let mut end = Repositories { strange: self.strange, ..Repositories::default() };
        for (name, Seen { has_manifest, uploads }) in self.found {
            match name.parse::<RepositoryName>() {
                Ok(name) => {
                    let uploads = uploads.len() as u64;
                    end.found.push(RepositoryFolder { name, has_manifest, uploads });
                }
                Err(error) => end.strange.push(format!("{name}: {error}")),
            }
        }
        end
    }
}

async fn read_link(objects: Arc<dyn Objects>, repository: RepositoryName, name: LinkName) -> Link {
    let key = layout::link_key(&repository, &name);
    let (target, modified) = match read_small(&*objects, &key, MAX_LINK).await {
        Ok((bytes, _)) if bytes.is_empty() => (Err(BadLink::Empty), 0),
        Ok((bytes, modified)) => {
            let text = String::from_utf8_lossy(&bytes);
            let not_a_digest = |_| BadLink::NotADigest(text.chars().take(80).collect());
            let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            let modified = i64::try_from(since.as_micros()).unwrap_or(0);
            (text.parse::<Digest>().map_err(not_a_digest), modified)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => (Err(BadLink::Missing), 0),
        Err(error) => (Err(BadLink::Unreadable(error.to_string())), 0),
    };
    let size = match &target {
        Ok(digest) => objects.find(&layout::data_key(digest)).await.ok().flatten(),
        Err(_) => None,
    };
    Link { name, target, size: size.map(|found| found.size), modified }
}

/// Does `work` for each of `items`, several at once, and returns what came of it in their order.
async fn at_once<T, R, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Result<Vec<R>, Error>
where
    R: Send + 'static,
    F: StdFuture<Output = R> + Send + 'static,
{
    let mut done = BTreeMap::new();
    let mut running = JoinSet::new();
    let mut items = items.into_iter().enumerate();
    loop {
        while running.len() < AT_ONCE
            && let Some((place, item)) = items.next()
        {
            let work = work(item);
            running.spawn(async move { (place, work.await) });
        }
        match running.join_next().await {
            Some(Ok((place, result))) => drop(done.insert(place, result)),
            Some(Err(error)) => {
                return Err(Error::of(ErrorKind::Other, "ask the store".to_owned(), error));
            }
            None => return Ok(done.into_values().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_seen_in_keys() {
        let mut walk = Walk::default();
        for key in [
            "team/app/_layers/sha256/aa/link",
            "team/app/_manifests/tags/v1/current/link",
            "team/app/_manifests/revisions/sha256/bb/link",
            "team/app/_uploads/1/data",
            "team/app/_uploads/1/startedat",
            "team/app/_uploads/2/data",
            "team/_layers/sha256/aa/link",
            "BAD/_layers/sha256/aa/link",
            "stray",
        ] {
            walk.see(key);
        }
        let end = walk.end();
        let found = end.found.iter();
        let found = found.map(|found| (found.name.as_str(), found.has_manifest, found.uploads));
        assert_eq!(found.collect::<Vec<_>>(), [("team", false, 0), ("team/app", true, 2)]);
        assert_eq!(end.strange.len(), 2, "{:?}", end.strange);
    }
}
