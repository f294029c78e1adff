//! The password file, and the first user when there is none.

use std::collections::HashMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use data_encoding::BASE64URL;

use crate::Error;

/// The user that is made when the file is missing; registry:2 calls it so.
const FIRST_USER: &str = "docker";

/// Users and the hashes of their passwords.
pub(crate) struct Users {
    hashes: HashMap<String, Arc<str>>,
    /// A hash that no password has, as costly as those of the file.
    pub(crate) dummy: Arc<str>,
}

impl Users {
    /// Parses lines of `user:hash`. Lines that can not be used are left out with a warning: one
    /// bad line must not lock everybody out. `path` is for messages.
    pub(crate) fn parse(content: &[u8], path: &Path) -> Self {
        let path = path.display();
        let mut hashes = HashMap::new();
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            let Ok(line) = str::from_utf8(line).map(str::trim) else {
                tracing::warn!(%path, line = number, "left out: the line is not UTF-8");
                continue;
            };
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((user, hash)) = line.split_once(':') else {
                tracing::warn!(%path, line = number, "left out: expected user:hash");
                continue;
            };
            if cost(hash).is_none() {
                tracing::warn!(
                    %path, line = number, user,
                    "this user can not log in: only bcrypt is understood; use htpasswd -B"
                );
                // A later line takes the place of an earlier one, even so.
                hashes.remove(user);
                continue;
            }
            hashes.insert(user.to_owned(), Arc::from(hash));
        }
        let cost = hashes.values().filter_map(|hash| cost(hash)).max().unwrap_or(DEFAULT_COST);
        Self { hashes, dummy: dummy(cost) }
    }

    /// The hash of this user's password.
    pub(crate) fn hash(&self, user: &str) -> Option<&Arc<str>> {
        self.hashes.get(user)
    }
}

/// What registry:2 makes.
const DEFAULT_COST: u32 = 10;

/// The cost of a bcrypt hash of one of the kinds that are understood.
fn cost(hash: &str) -> Option<u32> {
    let known = ["$2a$", "$2b$", "$2y$"].iter().any(|kind| hash.starts_with(kind));
    let parts = hash.parse::<bcrypt::HashParts>().ok().filter(|_| known)?;
    (4..=31).contains(&parts.get_cost()).then(|| parts.get_cost())
}

fn dummy(cost: u32) -> Arc<str> {
    // The hash of nothing that can be found: its last part was not made by bcrypt.
    format!("$2y${cost:02}$......................{}", "O".repeat(31)).into()
}

/// Makes the file, with one user and a random password that is told once, if it is missing.
pub(crate) fn provide(path: &Path) -> Result<(), Error> {
    if path.exists() {
        return Ok(());
    }
    let failed = |error| Error::File { path: path.to_owned(), error };
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::Random)?;
    let password = BASE64URL.encode(&random);
    let hash = bcrypt::hash(&password, DEFAULT_COST)
        .map_err(|error| failed(io::Error::other(error.to_string())))?;
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match opened {
        Ok(file) => file,
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    file.write_all(format!("{FIRST_USER}:{hash}\n").as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    tracing::warn!(
        path = %path.display(), user = FIRST_USER, password,
        "the password file was missing and has been made, with one user; the password is shown \
         this once"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HASH: &str = "$2y$05$fCjtdWLoMoJtxzUzBmWNkOW2tjHvcDpVuW7ZUaoj8bE5nq3gW8iK6";

    #[test]
    fn odd_lines_lock_nobody_out() {
        let content = format!(
            "# comment\n\n no colon \nalice:{HASH}\r\nbob:{{SHA}}fEqNCco3Yq9h5ZUglD3CZJT4lBs=\n\
             carol:$2x$05$fCjtdWLoMoJtxzUzBmWNkOW2tjHvcDpVuW7ZUaoj8bE5nq3gW8iK6\n\
             dave:$2y$99$x\n:{HASH}\nerin:{HASH}\nerin:plain\n"
        );
        let mut content = content.into_bytes();
        content.extend_from_slice(b"\xff:x\nzoe:");
        content.extend_from_slice(HASH.as_bytes());
        let users = Users::parse(&content, Path::new("htpasswd"));
        let mut names = users.hashes.keys().map(String::as_str).collect::<Vec<_>>();
        names.sort_unstable();
        assert_eq!(names, ["", "alice", "zoe"]);
    }

    #[test]
    fn guessing_an_unknown_user_costs_as_much() {
        let content = format!("alice:{HASH}\n");
        for (content, expected) in [(content.as_bytes(), 5), (b"", DEFAULT_COST)] {
            let users = Users::parse(content, Path::new("htpasswd"));
            assert_eq!(cost(&users.dummy), Some(expected));
        }
        let cheap = dummy(4);
        assert!(!bcrypt::verify("password", &cheap).unwrap());
    }

    #[test]
    fn a_missing_file_is_made_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth/htpasswd");
        provide(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let content = std::fs::read(&path).unwrap();
        assert!(Users::parse(&content, &path).hash(FIRST_USER).is_some());
        provide(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), content, "what is there stays");
    }
}
