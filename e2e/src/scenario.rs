//! What a scenario is, and the stage that it plays on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::other_stores::OtherStore;
use crate::seaweedfs::SeaweedFs;

/// One thing that a user of the registry does, with the outcome that is due.
pub(crate) struct Scenario {
    /// What `--filter` looks at: the client, then what it does.
    pub(crate) name: &'static str,
    /// How long it may take on a busy machine; the client that is running
    /// then is killed.
    pub(crate) deadline: Duration,
    /// Only with `--long`.
    pub(crate) long: bool,
    pub(crate) run: fn(&Stage) -> Result<()>,
}

impl Scenario {
    pub(crate) const fn new(
        name: &'static str,
        deadline_seconds: u64,
        run: fn(&Stage) -> Result<()>,
    ) -> Self {
        Self { name, deadline: Duration::from_secs(deadline_seconds), long: false, run }
    }

    pub(crate) const fn long(self) -> Self {
        Self { long: true, ..self }
    }
}

/// Where registries keep their content.
#[derive(Clone)]
pub(crate) enum Store {
    /// In a folder, with the database beside it.
    Folder,
    /// In an object store that speaks S3.
    S3(Arc<SeaweedFs>),
    /// In another one.
    Other(Arc<OtherStore>),
}

/// What one scenario has to itself: a folder, a deadline, and the registry
/// binary that it is to start.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    binary: PathBuf,
    end: Instant,
    store: Store,
}

impl Stage {
    pub(crate) fn new(binary: &Path, deadline: Duration, store: Store) -> Result<Self> {
        // Short, because the path of a unix socket may have 107 characters.
        let folder = tempfile::Builder::new()
            .prefix("e2e-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        let (binary, end) = (binary.to_owned(), Instant::now() + deadline);
        Ok(Self { folder, binary, end, store })
    }

    /// What a registry needs to keep its content and facts under this name.
    pub(crate) fn store_environment(&self, name: &str) -> Result<Vec<(&'static str, String)>> {
        let stage = self.folder.path().file_name().unwrap_or_default();
        let folder = format!("{}/{name}", stage.to_string_lossy());
        let mut environment = match &self.store {
            Store::Folder => {
                let folder = self.folder(name)?.to_string_lossy().into_owned();
                return Ok(vec![("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", folder)]);
            }
            Store::S3(server) => server.environment(&folder),
            Store::Other(server) => server.environment(&folder),
        };
        let database = self.path(&format!("{name}.sqlite"));
        environment.push(("REGISTRY_DATABASE_URL", format!("sqlite://{}", database.display())));
        Ok(environment)
    }

    /// The object store that this plays on.
    pub(crate) fn s3(&self) -> Result<&SeaweedFs> {
        match &self.store {
            Store::S3(server) => Ok(server),
            Store::Folder | Store::Other(_) => bail!("this scenario needs an S3 store"),
        }
    }

    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// A path inside the scenario's own folder, which is removed with it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new empty folder inside the scenario's own.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(path)
    }

    /// A new file inside the scenario's own folder.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, content)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// What is left of the deadline; an error if nothing is.
    pub(crate) fn remaining(&self) -> Result<Duration> {
        let remaining = self.end.saturating_duration_since(Instant::now());
        ensure!(!remaining.is_zero(), "the scenario's deadline has passed");
        Ok(remaining)
    }
}

impl Drop for Stage {
    /// A daemon that had to be killed may leave mounts, and a folder with a
    /// mount in it cannot be removed; nor can one in which a container's last
    /// helper is still writing.
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| Path::new(point).starts_with(self.folder.path()));
        for point in points {
            let _ = std::process::Command::new("umount").args(["--lazy", point]).output();
        }
        let _ =
            wait_until(Duration::from_secs(2), || Ok(std::fs::remove_dir_all(self.folder.path())?));
    }
}

/// Polls until the event has happened; the last reason why not is the error.
pub(crate) fn wait_until<T>(limit: Duration, mut event: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match event() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("waited {} s", limit.as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
