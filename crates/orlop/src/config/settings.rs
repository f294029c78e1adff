//! From the tree to typed settings: defaults and the check of every value.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::duration;
use super::error::ConfigError;
use super::schema::wrong;
use super::tree::{self, Node, Value};
use super::{Config, Formatter, Http, Level, Log, Require, Secret, Storage, Validation};

/// Where `registry:2` keeps its data.
const SYSTEM_DATA: &str = "/var/lib/registry";
const DAY: Duration = Duration::from_hours(24);
/// As many results as `distribution` gives at most in one page.
const PAGE: u32 = 1000;

/// What holds where the configuration says nothing.
pub(super) struct Defaults {
    address: &'static str,
    root_directory: PathBuf,
    delete_enabled: bool,
}

impl Defaults {
    /// With a configuration file: those of `distribution`.
    pub(super) fn of_distribution() -> Self {
        Self { address: ":5000", root_directory: PathBuf::from(SYSTEM_DATA), delete_enabled: false }
    }

    /// Without one: a registry for the person at this machine.
    pub(super) fn of_a_first_start(environment: &BTreeMap<String, String>) -> Self {
        Self {
            address: "127.0.0.1:5000",
            root_directory: user_data(environment),
            delete_enabled: true,
        }
    }
}

/// The folder for this user's data (XDG Base Directory Specification), or the system's folder for
/// a user without a home.
fn user_data(environment: &BTreeMap<String, String>) -> PathBuf {
    let absolute = |name: &str| {
        let path = environment.get(name).map(Path::new)?;
        path.is_absolute().then(|| path.to_owned())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .map_or_else(|| PathBuf::from(SYSTEM_DATA), |data| data.join("orlop"))
}

/// Reads every key that this version acts on.
pub(super) fn read(
    root: &Node,
    defaults: Defaults,
    warnings: &mut Vec<String>,
) -> Result<Config, ConfigError> {
    let mut reader = Reader { root, warnings };
    reader.version()?;
    Ok(Config {
        log: reader.log()?,
        http: reader.http(defaults.address)?,
        storage: reader.storage(defaults.root_directory, defaults.delete_enabled)?,
        validation: reader.validation()?,
        catalog_max_entries: reader.catalog_max_entries()?,
        tags_max: reader.tags_max()?,
    })
}

struct Reader<'a> {
    root: &'a Node,
    warnings: &'a mut Vec<String>,
}

/// The sections, in the order of the reference.
impl Reader<'_> {
    fn version(&self) -> Result<(), ConfigError> {
        match self.root.get("version") {
            Some(node) if text_of(node) != Some("0.1") => {
                Err(wrong(node, "version", "0.1, the only version there is"))
            }
            _ => Ok(()),
        }
    }

    fn log(&self) -> Result<Log, ConfigError> {
        let level = self.one_of(
            "log.level",
            "error, warn, info or debug",
            &[
                ("error", Level::Error),
                ("warn", Level::Warn),
                ("warning", Level::Warn),
                ("info", Level::Info),
                ("debug", Level::Debug),
            ],
        )?;
        let formatter = self.one_of(
            "log.formatter",
            "text or json (logstash comes with a later version)",
            &[("text", Formatter::Text), ("json", Formatter::Json)],
        )?;
        let mut fields = BTreeMap::new();
        for (name, node) in self.entries("log.fields")? {
            let key = format!("log.fields.{name}");
            let value = text_of(node).ok_or_else(|| wrong(node, &key, "a text"))?;
            fields.insert(name.clone(), value.to_owned());
        }
        Ok(Log {
            level: level.unwrap_or(Level::Info),
            formatter: formatter.unwrap_or(Formatter::Text),
            access_log: !self.boolean("log.accesslog.disabled")?.unwrap_or(false),
            fields,
        })
    }

    fn http(&mut self, default_address: &str) -> Result<Http, ConfigError> {
        self.one_of("http.net", "tcp (unix comes with a later version)", &[("tcp", ())])?;
        let debug_addr = self.address("http.debug.addr")?;
        Ok(Http {
            addr: self.address("http.addr")?.unwrap_or_else(|| default_address.to_owned()),
            secret: self.text("http.secret")?.map(Secret::new),
            host: self.host()?,
            relative_urls: self.boolean("http.relativeurls")?.unwrap_or(false),
            headers: self.headers()?,
            // Below the ten seconds that `docker stop` waits before it kills.
            drain_timeout: self.duration("http.draintimeout")?.unwrap_or(Duration::from_secs(8)),
            prometheus_path: self.prometheus_path()?.filter(|_| debug_addr.is_some()),
            debug_addr,
        })
    }

    fn host(&self) -> Result<Option<String>, ConfigError> {
        let Some(host) = self.text("http.host")? else {
            return Ok(None);
        };
        let authority = ["https://", "http://"]
            .into_iter()
            .find_map(|scheme| host.strip_prefix(scheme))
            .map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        match authority {
            Some(name) if !name.is_empty() && !name.contains(['/', '?', '#', '@', ' ']) => {
                Ok(Some(host.strip_suffix('/').unwrap_or(&host).to_owned()))
            }
            _ => Err(self.wrong_at(
                "http.host",
                "a URL without a path, such as https://registry.example.com",
            )),
        }
    }

    fn headers(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let mut headers = Vec::new();
        for (name, node) in self.entries("http.headers")? {
            let key = format!("http.headers.{name}");
            if !is_header_name(name) {
                return Err(wrong(
                    node,
                    &key,
                    "a header's name (letters, digits and `-`) as the key",
                ));
            }
            let values = match &node.value {
                Value::Null => &[],
                Value::List(values) => values.as_slice(),
                Value::Scalar(_) | Value::Map(_) => std::slice::from_ref(node),
            };
            for value in values {
                let text = text_of(value).filter(|text| is_header_value(text));
                let text = text.ok_or_else(|| {
                    wrong(value, &key, "a header's value (one line of ASCII), or a list of them")
                })?;
                headers.push((name.clone(), text.to_owned()));
            }
        }
        Ok(headers)
    }

    /// Our own default: whoever opens the debug address gets metrics without asking twice.
    fn prometheus_path(&self) -> Result<Option<String>, ConfigError> {
        const PATH: &str = "http.debug.prometheus.path";
        let path = self.text(PATH)?.unwrap_or_else(|| "/metrics".to_owned());
        if !path.starts_with('/') {
            return Err(self.wrong_at(PATH, "a path that starts with `/`"));
        }
        let enabled = self.boolean("http.debug.prometheus.enabled")?;
        Ok((enabled != Some(false)).then_some(path))
    }

    fn storage(
        &mut self,
        default_root: PathBuf,
        default_delete: bool,
    ) -> Result<Storage, ConfigError> {
        let root = self.text("storage.filesystem.rootdirectory")?;
        let age = "storage.maintenance.uploadpurging.age";
        let interval = "storage.maintenance.uploadpurging.interval";
        Ok(Storage {
            root_directory: root.map_or(default_root, PathBuf::from),
            delete_enabled: self.boolean("storage.delete.enabled")?.unwrap_or(default_delete),
            upload_age: self.positive_duration(age)?.unwrap_or(7 * DAY),
            upload_purge_interval: self.positive_duration(interval)?.unwrap_or(DAY),
            upload_purging: self.upload_purging()?,
        })
    }

    fn upload_purging(&mut self) -> Result<bool, ConfigError> {
        const DRY_RUN: &str = "storage.maintenance.uploadpurging.dryrun";
        if self.boolean(DRY_RUN)? == Some(true) {
            let origin = self.origin(DRY_RUN);
            self.warnings.push(format!(
                "{origin}{DRY_RUN}: abandoned uploads are kept; this version of Orlop does not list them"
            ));
            return Ok(false);
        }
        let enabled = self.boolean("storage.maintenance.uploadpurging.enabled")?;
        Ok(enabled.unwrap_or(true))
    }

    fn validation(&self) -> Result<Validation, ConfigError> {
        let index_children = self.one_of(
            "validation.manifests.indexes.platforms",
            "all or none (list comes with a later version)",
            &[("all", Require::All), ("none", Require::None)],
        )?;
        let image_blobs = self.one_of(
            "validation.manifests.images.blobs",
            "all or none",
            &[("all", Require::All), ("none", Require::None)],
        )?;
        let disabled = self.boolean("validation.disabled")?.unwrap_or(false);
        Ok(Validation {
            index_children: match index_children {
                _ if disabled => Require::None,
                chosen => chosen.unwrap_or(Require::All),
            },
            // `validation.disabled` leaves blobs alone, in `distribution` too.
            image_blobs: image_blobs.unwrap_or(Require::All),
        })
    }

    /// As in `distribution`, zero and less mean the default.
    fn catalog_max_entries(&self) -> Result<u32, ConfigError> {
        let limit = self.whole_number("catalog.maxentries", "a whole number")?;
        Ok(limit.and_then(to_page).unwrap_or(PAGE))
    }

    /// As in `distribution`, zero means the default and less is an error.
    fn tags_max(&self) -> Result<u32, ConfigError> {
        let expected = "a whole number, 0 or more";
        match self.whole_number("tags.maxtags", expected)? {
            Some(..0) => Err(self.wrong_at("tags.maxtags", expected)),
            limit => Ok(limit.and_then(to_page).unwrap_or(PAGE)),
        }
    }
}

/// The kinds of values. Each gives nothing for a key that is absent or null.
impl Reader<'_> {
    fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        self.value(key, "a text", |text| Some(text.to_owned()))
            .map(|text| text.filter(|text| !text.is_empty()))
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.value(key, "true or false", tree::as_bool)
    }

    fn whole_number(&self, key: &str, expected: &str) -> Result<Option<i64>, ConfigError> {
        self.value(key, expected, |text| text.parse().ok())
    }

    fn one_of<T: Copy>(
        &self,
        key: &str,
        expected: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        if self.text(key)?.is_none() {
            return Ok(None);
        }
        self.value(key, expected, |text| {
            choices
                .iter()
                .find_map(|(name, choice)| name.eq_ignore_ascii_case(text).then_some(*choice))
        })
    }

    fn address(&self, key: &str) -> Result<Option<String>, ConfigError> {
        if self.text(key)?.is_none() {
            return Ok(None);
        }
        self.value(
            key,
            "host:port, or :port for all addresses, such as 127.0.0.1:5000, [::1]:5000, :5000",
            |text| is_address(text).then(|| text.to_owned()),
        )
    }

    fn duration(&mut self, key: &str) -> Result<Option<Duration>, ConfigError> {
        let text = self.text(key)?.unwrap_or_default();
        if let Some(number @ 1..1_000_000) = duration::bare_number(&text) {
            let origin = self.origin(key);
            self.warnings.push(format!(
                "{origin}{key}: {number} without a unit means {number} nanoseconds; \
                 write {number}s for seconds"
            ));
        }
        self.value(key, "a duration such as 8s, 1m30s or 168h", duration::parse)
    }

    fn positive_duration(&mut self, key: &str) -> Result<Option<Duration>, ConfigError> {
        match self.duration(key)? {
            Some(Duration::ZERO) => Err(self.wrong_at(key, "a duration above zero")),
            other => Ok(other),
        }
    }

    fn value<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(node) = self.root.get(key) else {
            return Ok(None);
        };
        let parsed = text_of(node).and_then(parse);
        parsed.map_or_else(|| Err(wrong(node, key, expected)), |value| Ok(Some(value)))
    }

    fn entries(&self, section: &str) -> Result<&[(String, Node)], ConfigError> {
        match self.root.get(section) {
            None => Ok(&[]),
            Some(Node { value: Value::Map(entries), .. }) => Ok(entries),
            Some(node) => Err(wrong(node, section, "a section (`key: value` lines below it)")),
        }
    }

    /// Where a key stands, as the start of a message.
    fn origin(&self, key: &str) -> String {
        let node = self.root.get(key);
        node.map(|node| format!("{}: ", node.origin)).unwrap_or_default()
    }

    fn wrong_at(&self, key: &str, expected: &str) -> ConfigError {
        wrong(self.root.get(key).unwrap_or(self.root), key, expected)
    }
}

fn text_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(text) => Some(text),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// A page size, which has no use above 2^32 - 1; nothing for zero and less.
fn to_page(number: i64) -> Option<u32> {
    (number > 0).then(|| u32::try_from(number).unwrap_or(u32::MAX))
}

/// Go's form of a listening address: an empty host means every address of the machine.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_ok = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => {
            let address = inner.split_once('%').map_or(inner, |(address, _zone)| address);
            address.parse::<Ipv6Addr>().is_ok()
        }
        None => {
            !host.contains([':', '/', '[', ']', '@', '"', '\''])
                && !host.contains(char::is_whitespace)
        }
    };
    host_ok && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// RFC 9110 §5.1: a token.
fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// RFC 9110 §5.5, without its obsolete bytes above ASCII.
fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}
