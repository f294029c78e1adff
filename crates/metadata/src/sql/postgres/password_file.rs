//! Passwords in a file, as libpq has them: lines of `HOST:PORT:DATABASE:USER:PASSWORD`, of which the
//! first that fits counts. A field `*` fits everything; `\` stands before a `:` or `\` of a field.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::{fs, io};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// PostgreSQL's own port.
const PORT: u16 = 5432;

/// Where servers have their sockets. Files call that `localhost`.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// What others may not do with the file.
const OTHERS: u32 = 0o077;

/// A file that may be there.
#[derive(Clone, Debug)]
pub(super) struct PasswordFile {
    pub(super) path: PathBuf,
    /// Somebody has named it: it is missed if it is not there.
    pub(super) is_named: bool,
}

/// What a password is for.
struct Place {
    /// More than one name may mean the same.
    hosts: Vec<String>,
    port: u16,
}

impl PasswordFile {
    /// The password for all hosts of `config`, if there is one. The file may change, so it is read
    /// each time. Fails with a reason that has no password in it.
    pub(super) fn find(&self, config: &Config) -> Result<Option<String>, String> {
        let problem = |reason: String| format!("password file {}: {reason}", self.path.display());
        let text = match self.read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_named => {
                return Ok(None);
            }
            Err(error) => return Err(problem(error.to_string())),
        };
        let user = config.get_user().unwrap_or_default();
        let database = config.get_dbname().unwrap_or(user);
        let places = places(config);
        let mut found = places.iter().map(|place| password(&text, place, database, user));
        let first = found.next().flatten();
        // All hosts are tried with the same one, and none may see that of another.
        if found.any(|other| other != first) {
            let reason = "expected one password for all hosts of the URL, found several, or none \
                          for some of them";
            return Err(problem(reason.to_owned()));
        }
        match first {
            None if self.is_named => Err(problem(format!(
                "no line is for the user {user:?} and the database {database:?}"
            ))),
            first => Ok(first),
        }
    }

    fn read(&self) -> io::Result<String> {
        let metadata = fs::metadata(&self.path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("expected a file"));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            let reason = format!("expected that nobody else may read it (0600), found {mode:04o}");
            return Err(io::Error::other(reason));
        }
        fs::read_to_string(&self.path)
    }
}

fn places(config: &Config) -> Vec<Place> {
    let ports = config.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(PORT);
    let names = |host: &Host| match host {
        Host::Tcp(name) => vec![name.clone()],
        Host::Unix(path) => {
            let path = path.display().to_string();
            let is_usual = SOCKETS.contains(&path.as_str());
            let usual = is_usual.then(|| "localhost".to_owned());
            usual.into_iter().chain([path]).collect()
        }
    };
    let hosts: Vec<_> = match config.get_hosts() {
        [] => config.get_hostaddrs().iter().map(|address| vec![address.to_string()]).collect(),
        hosts => hosts.iter().map(names).collect(),
    };
    let places = hosts.into_iter().enumerate();
    places.map(|(index, hosts)| Place { hosts, port: port(index) }).collect()
}

/// The password of the first line that fits; an empty one is none.
fn password(text: &str, place: &Place, database: &str, user: &str) -> Option<String> {
    let port = place.port.to_string();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut fitting = lines.filter_map(|line| {
        let [host, of_port, of_database, of_user, password] = fields(line)?;
        let fits = |field: &str, value: &str| field == "*" || field == value;
        let is_host = place.hosts.iter().any(|name| fits(&host, name));
        let is_it = is_host
            && fits(&of_port, &port)
            && fits(&of_database, database)
            && fits(&of_user, user);
        is_it.then_some(password)
    });
    fitting.next().filter(|password| !password.is_empty())
}

/// The five fields of a line. The last one goes on to its end.
fn fields(line: &str) -> Option<[String; 5]> {
    let mut fields = [const { String::new() }; 5];
    let mut rest = line.chars();
    for (index, field) in fields.iter_mut().enumerate() {
        loop {
            match rest.next() {
                Some('\\') => field.extend(rest.next()),
                Some(':') if index < 4 => break,
                Some(other) => field.push(other),
                None if index < 4 => return None,
                None => break,
            }
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# a comment:*:*:*:wrong\n\
        too:short\n\
        db:5432:orlop:ada:first\n\
        db:*:orlop:ada:second\n\
        localhost:*:*:ada:local\n\
        /run/pg:*:*:*:socket\n\
        2001\\:db8\\:\\:1:*:*:*:six\n\
        many:*:*:b\\:o\\\\b:a:b\\:c\\\\d\n\
        empty:*:*:*:\r\n\
        *:*:other:*:last\r\n";

    /// What a file of this mode says for this URL.
    fn found_in(text: &str, mode: u32, url: &str) -> Result<Option<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        PasswordFile { path, is_named: false }.find(&url.parse().unwrap())
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        for (url, password) in [
            ("postgres://ada@db/orlop", Some("first")),
            ("postgres://ada@db:5433/orlop", Some("second")),
            ("postgres://ada@db:1,db:2/orlop", Some("second")),
            ("postgres://bob@db/orlop", None),
            ("postgres://ada@db/other", Some("last")),
            // Without a database, that of the user's name is meant.
            ("postgres://other@db", Some("last")),
            ("postgres://ada@%2Fvar%2Frun%2Fpostgresql/x", Some("local")),
            ("postgres://ada@%2Frun%2Fpg/x", Some("socket")),
            ("postgres://ada@[2001:db8::1]/x", Some("six")),
            ("postgres://b%3Ao%5Cb@many/x", Some("a:b:c\\d")),
            ("postgres://ada@empty/x", None),
        ] {
            let found = found_in(FILE, 0o600, url).unwrap();
            assert_eq!(found.as_deref(), password, "{url}");
        }
    }

    #[test]
    fn what_keeps_a_password_back_is_told() {
        let url = "postgres://ada@db/orlop";
        let error = found_in(FILE, 0o640, url).unwrap_err();
        assert!(error.contains("nobody else may read it (0600), found 0640"), "{error}");
        let hosts = "postgres://ada@db,another/orlop";
        let error = found_in(FILE, 0o600, hosts).unwrap_err();
        assert!(error.contains("one password for all hosts"), "{error}");

        let missing = |is_named| PasswordFile { path: "/nowhere/passwords".into(), is_named };
        let config = url.parse().unwrap();
        assert_eq!(missing(false).find(&config), Ok(None));
        let error = missing(true).find(&config).unwrap_err();
        assert!(error.starts_with("password file /nowhere/passwords: "), "{error}");
    }
}
