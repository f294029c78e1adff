//! Names and passwords in a file, as Apache's `htpasswd -B` writes it.

mod passwords;
mod users;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use passwords::Passwords;
pub(crate) use passwords::Postponed;
use users::Users;

use crate::credentials::Basic;
use crate::watched::Watched;
use crate::{CountAttempts, Error, challenge};

/// Where passwords are, and what clients are told about it.
#[derive(Clone)]
pub struct Config {
    /// What the challenge calls the place that a password is for.
    pub realm: String,
    /// The file: a line `user:hash` for each user, where the hash is one of bcrypt. It is made,
    /// with one user, if it is missing.
    pub path: PathBuf,
    /// Where several servers count wrong passwords together. `None`: each counts for itself.
    pub count_attempts: Option<CountAttempts>,
}

/// Checks passwords against a file, which is read again when it changes.
pub struct Htpasswd {
    realm: String,
    file: Watched<Users>,
    passwords: Passwords,
}

impl Htpasswd {
    /// Opens the password file, or makes it.
    pub fn new(config: Config) -> Result<Self, Error> {
        let Config { realm, path, count_attempts } = config;
        users::provide(&path)?;
        let name = path.clone();
        let file = Watched::open(&path, move |content| Ok(Users::parse(content, &name)))?;
        let passwords = Passwords::new(count_attempts).map_err(|_| Error::Random)?;
        Ok(Self { realm, file, passwords })
    }

    pub(crate) fn compared(&self) -> u64 {
        self.passwords.compared()
    }

    pub(crate) fn realm(&self) -> &str {
        &self.realm
    }

    /// What changes with the user's password; `None` if there is no such user.
    pub(crate) fn fingerprint(&self, user: &str) -> Option<String> {
        let users = self.file.get();
        let hash = digest::digest(&digest::SHA256, users.hash(user)?.as_bytes());
        Some(BASE64URL_NOPAD.encode(hash.as_ref()))
    }

    pub(crate) fn challenge(&self) -> String {
        challenge::basic(&self.realm)
    }

    /// The user's name if the password is right; `None` if it is wrong.
    pub(crate) async fn check(
        &self,
        basic: &Basic,
        address: IpAddr,
    ) -> Result<Option<Arc<str>>, Postponed> {
        let users = self.file.get();
        let known = users.hash(&basic.user);
        // An unknown user takes as long as a known one.
        let hash = known.unwrap_or(&users.dummy);
        let right = self.passwords.verify(address, &basic.user, &basic.password, hash).await?;
        Ok((right && known.is_some()).then(|| basic.user.as_str().into()))
    }
}
