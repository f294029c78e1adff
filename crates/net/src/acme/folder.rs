//! Where certificates and keys are kept.
//!
//! A certificate is a file with the name of its host, which holds the key and then the chain, as
//! PEM: what Go's autocert keeps in its `DirCache`, in both directions.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Error;

/// Our account with the authority. Not autocert's, whose account is of no use without its client.
const ACCOUNT: &str = "orlop_account.json";

pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| Error::Folder { path: path.to_owned(), source })?;
        Ok(Self(path.to_owned()))
    }

    pub(super) fn read_certificate(&self, host: &str) -> Result<Option<String>, Error> {
        self.read(host)
    }

    pub(super) fn write_certificate(&self, host: &str, pem: &str) -> Result<(), Error> {
        self.write(host, pem)
    }

    pub(super) fn read_account(&self) -> Result<Option<String>, Error> {
        self.read(ACCOUNT)
    }

    pub(super) fn write_account(&self, json: &str) -> Result<(), Error> {
        self.write(ACCOUNT, json)
    }

    fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.0.join(name);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(|source| Error::Folder { path, source }),
        }
    }

    /// The old content or the new, whatever happens meanwhile. Only we can read it.
    fn write(&self, name: &str, content: &str) -> Result<(), Error> {
        let path = self.0.join(name);
        let new = self.0.join(format!(".{name}.new"));
        let written = (|| {
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.0)?.sync_all()
        })();
        written.map_err(|source| Error::Folder { path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_written_is_read_by_us_alone() {
        let outer = tempfile::tempdir().unwrap();
        let folder = Folder::open(&outer.path().join("cache")).unwrap();
        assert_eq!(folder.read_certificate("a.test").unwrap(), None);
        folder.write_certificate("a.test", "one").unwrap();
        folder.write_certificate("a.test", "two").unwrap();
        assert_eq!(folder.read_certificate("a.test").unwrap().as_deref(), Some("two"));
        let path = outer.path().join("cache/a.test");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(outer.path().join("cache")).unwrap().count(), 1);
    }
}
