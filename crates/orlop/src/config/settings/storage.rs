//! `storage`, and the middleware in front of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::client::{Url, UrlError};
use web::redirect::Redirect;

use super::super::duration;
use super::super::error::ConfigError;
use super::super::kind;
use super::buckets::{self, Bucket, Maker};
use super::section::Section;

/// `storage`: where the bytes are and how long leftovers stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) place: Place,
    /// Whether clients may delete.
    pub(crate) delete_enabled: bool,
    /// Whether pushes and deletes are refused.
    pub(crate) read_only: bool,
    /// None: abandoned uploads are kept.
    pub(crate) upload_purging: Option<UploadPurging>,
    /// Whether clients may be sent elsewhere for content.
    pub(crate) redirect: bool,
    /// None: what is asked for again is read from the store again.
    pub(crate) disk_cache: Option<DiskCache>,
    /// In the order of the file: the first is nearest to the store.
    pub(crate) middleware: Vec<StorageMiddleware>,
}

/// Where the bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Folder(PathBuf),
    /// In memory, until the server ends.
    Memory,
    Bucket(Bucket),
}

impl Place {
    /// What `distribution` calls this kind of store.
    pub(crate) fn driver(&self) -> &'static str {
        match self {
            Self::Folder(_) => "filesystem",
            Self::Memory => "inmemory",
            Self::Bucket(bucket) => bucket.driver(),
        }
    }

    /// The data folder, if there is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Memory | Self::Bucket(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Memory => f.write_str("memory"),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

/// `storage.cache.disk`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskCache {
    pub(crate) folder: PathBuf,
    /// Bytes.
    pub(crate) max_size: u64,
}

/// `storage.maintenance.uploadpurging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UploadPurging {
    /// How long an upload may lie untouched before it is removed; above zero.
    pub(crate) age: Duration,
    /// How often such uploads are looked for; above zero.
    pub(crate) interval: Duration,
    /// Whether they are left where they are.
    pub(crate) dry_run: bool,
}

/// `middleware.storage`: what changes the URLs that clients are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StorageMiddleware {
    /// Clients are sent to this URL with the content's place in the store behind it.
    Redirect { base_url: String },
    /// Clients are sent to this URL with the content's key in the bucket behind it, signed for this
    /// time with this key.
    CloudFront {
        base_url: String,
        private_key: PathBuf,
        key_pair_id: String,
        lifetime: Duration,
        /// Who gets the bucket's own URL; nobody without it.
        passed_by: Option<AmazonNetworks>,
    },
    /// The parts of a URL that are changed.
    Rewrite { scheme: Option<String>, host: Option<String>, trim_path_prefix: Option<String> },
}

/// Networks of Amazon: where their list is, and which of them are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AmazonNetworks {
    pub(crate) list: Url,
    /// Above zero.
    pub(crate) update_interval: Duration,
    /// Empty: all.
    pub(crate) regions: Vec<String>,
}

pub(super) fn read(root: &Section<'_>) -> Result<Storage, ConfigError> {
    let storage = root.section("storage");
    let purging = storage.section("maintenance.uploadpurging");
    let place = place(&storage)?;
    Ok(Storage {
        disk_cache: disk_cache(&storage.section("cache.disk"), &place)?,
        middleware: middleware(&root.section("middleware"), &place)?,
        place,
        delete_enabled: storage.is_on("delete.enabled")?,
        read_only: storage.is_on("maintenance.readonly.enabled")?,
        upload_purging: if purging.is_on("enabled")? {
            Some(UploadPurging {
                age: purging.must_duration("age")?,
                interval: purging.must_duration("interval")?,
                dry_run: purging.is_on("dryrun")?,
            })
        } else {
            None
        },
        redirect: !storage.is_on("redirect.disable")?,
    })
}

fn place(storage: &Section<'_>) -> Result<Place, ConfigError> {
    if storage.names("inmemory") {
        return Ok(Place::Memory);
    }
    if let Some(bucket) = buckets::read(storage)? {
        return Ok(Place::Bucket(bucket));
    }
    Ok(Place::Folder(storage.path("filesystem.rootdirectory")?.unwrap_or_default()))
}

/// The least bytes of a cache on disk, so that a small layer has room.
const LEAST_CACHE: u64 = 1 << 20;

fn disk_cache(section: &Section<'_>, place: &Place) -> Result<Option<DiskCache>, ConfigError> {
    if !section.is_set() {
        return Ok(None);
    }
    if !matches!(place, Place::Bucket(_)) {
        return Err(section.unfit("", "is for an object store, and the store is none"));
    }
    let Some(folder) = section.path("path")? else {
        return Err(section.unfit("path", "is needed"));
    };
    let max_size = section.must_size("maxsize")?;
    if max_size < LEAST_CACHE {
        return Err(section.unfit("maxsize", "has no room for anything: at least 1MiB"));
    }
    Ok(Some(DiskCache { folder, max_size }))
}

fn middleware(section: &Section<'_>, place: &Place) -> Result<Vec<StorageMiddleware>, ConfigError> {
    let mut found = Vec::new();
    for entry in section.sections("storage") {
        if entry.is_on("disabled")? {
            continue;
        }
        let options = entry.section("options");
        match entry.must_text("name")?.to_ascii_lowercase().as_str() {
            "redirect" => {
                let is_url = |text: &str| {
                    let is_target = Redirect::default().push_target(text);
                    (is_target && kind::Kind::Url.accepts(text)).then(|| text.to_owned())
                };
                let base_url =
                    entry.must("options.baseurl", is_url).map_err(|error| match error {
                        // In the table it is a text: other middleware takes it without a scheme.
                        ConfigError::Wrong { origin, key, found, .. } if options.is_set() => {
                            let expected = kind::Kind::Url.expected();
                            ConfigError::Wrong { origin, key, expected, found }
                        }
                        _ => entry.unfit("name", "needs options.baseurl"),
                    })?;
                found.push(StorageMiddleware::Redirect { base_url });
            }
            "rewrite" => found.push(StorageMiddleware::Rewrite {
                scheme: options.text("scheme")?.map(|scheme| scheme.to_ascii_lowercase()),
                host: options.text("host")?,
                trim_path_prefix: options.text("trimpathprefix")?,
            }),
            _ => found.push(cloudfront(&entry, &options, place)?),
        }
    }
    Ok(found)
}

/// How long a signed URL is good if nobody says so.
const URL_LIFETIME: Duration = Duration::from_mins(20);

fn cloudfront(
    entry: &Section<'_>,
    options: &Section<'_>,
    place: &Place,
) -> Result<StorageMiddleware, ConfigError> {
    let base_url = options.must("baseurl", |text| {
        let has_scheme = text.contains("://");
        let url = if has_scheme { text.to_owned() } else { format!("https://{text}") };
        Redirect::default().push_target(&url).then_some(url)
    })?;
    let private_key = PathBuf::from(options.must_text("privatekey")?);
    let key_pair_id = options.must_text("keypairid")?;
    let lifetime = options.get("duration", duration::parse)?.unwrap_or(URL_LIFETIME);
    let Place::Bucket(Bucket { maker: Maker::S3(bucket), .. }) = place else {
        return Err(entry.unfit("name", "cloudfront goes with storage.s3 only"));
    };
    // Behind it are keys of the bucket.
    let root = bucket.root.trim_matches('/');
    let slash = if root.is_empty() { "" } else { "/" };
    let base_url = format!("{}{slash}{root}", base_url.trim_end_matches('/'));
    let passed_by = amazon_networks(options)?;
    Ok(StorageMiddleware::CloudFront { base_url, private_key, key_pair_id, lifetime, passed_by })
}

/// Where Amazon lists its networks, and how often to look if nobody says so.
const NETWORKS_URL: &str = "https://ip-ranges.amazonaws.com/ip-ranges.json";
const NETWORKS_UPDATE: Duration = Duration::from_hours(12);

/// `ipfilteredby`, and what goes with it.
fn amazon_networks(options: &Section<'_>) -> Result<Option<AmazonNetworks>, ConfigError> {
    let regions = match options.text("ipfilteredby")?.map(|by| by.to_ascii_lowercase()).as_deref() {
        None | Some("none") => return Ok(None),
        Some("awsregion") => {
            let text = options.text("awsregion")?.unwrap_or_default();
            let regions = text.split(',').map(str::trim).filter(|region| !region.is_empty());
            let regions: Vec<String> = regions.map(ToOwned::to_owned).collect();
            if regions.is_empty() {
                let reason = "awsregion needs regions, such as awsregion: us-east-1, us-west-2";
                return Err(options.unfit("ipfilteredby", reason));
            }
            regions
        }
        Some(_) => Vec::new(),
    };
    let list = options.text("iprangesurl")?.unwrap_or_else(|| NETWORKS_URL.to_owned());
    Ok(Some(AmazonNetworks {
        list: list
            .parse()
            .map_err(|error: UrlError| options.unfit("iprangesurl", &error.to_string()))?,
        update_interval: options
            .get("updatefrequency", duration::parse)?
            .unwrap_or(NETWORKS_UPDATE),
        regions,
    }))
}
