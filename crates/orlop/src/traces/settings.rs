//! The standard variables of OpenTelemetry, as far as they concern traces over HTTP.
//!
//! As its specification wants it, an empty variable is none, and one that can not be understood is
//! named and passed over: traces never keep the registry from starting.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use net::client::Url;
use percent_encoding::percent_decode_str;

use super::context::Sampler;

/// Where collectors listen on their own machine.
const ENDPOINT: &str = "http://localhost:4318/v1/traces";

/// How long a collector may take, unless the variables say otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(super) endpoint: Url,
    /// They may hold secrets, and are marked so.
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) encoding: Encoding,
    /// Certificates in PEM that are trusted beside the system's.
    pub(super) authorities: Option<PathBuf>,
    pub(super) sampler: Sampler,
    /// What sends them: names and values.
    pub(super) resource: Vec<(String, String)>,
}

/// How spans are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// Variables, and what is to be said about them.
struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    warnings: Vec<String>,
}

/// A variable that is set.
struct Given {
    name: String,
    value: String,
}

impl Settings {
    /// What the variables ask for; `None` if they ask for no traces. Also what an operator has to
    /// know about them, without their values where these may be secret.
    pub(crate) fn read(variable: &dyn Fn(&str) -> Option<String>) -> (Option<Self>, Vec<String>) {
        let mut reader = Reader { variable, warnings: Vec::new() };
        let settings = if reader.wants_traces() { reader.settings() } else { None };
        (settings, reader.warnings)
    }
}

impl Reader<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The variable for traces, or else the one for everything.
    fn get_for_traces(&self, name: &str) -> Option<Given> {
        ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"].into_iter().find_map(|prefix| {
            let name = format!("{prefix}{name}");
            self.get(&name).map(|value| Given { name, value })
        })
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// `OTEL_TRACES_EXPORTER` decides; without it, whether somebody has said where traces go.
    fn wants_traces(&mut self) -> bool {
        if self.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return false;
        }
        let Some(exporters) = self.get("OTEL_TRACES_EXPORTER") else {
            return self.get_for_traces("ENDPOINT").is_some();
        };
        let mut wants = false;
        for exporter in exporters.split(',').map(str::trim) {
            match exporter {
                "otlp" => wants = true,
                "none" | "" => {}
                other => self.warn(format!(
                    "OTEL_TRACES_EXPORTER: {other:?} is not supported; otlp and none are"
                )),
            }
        }
        wants
    }

    fn settings(&mut self) -> Option<Settings> {
        let encoding = self.encoding()?;
        let endpoint = self.endpoint()?;
        for name in ["CLIENT_KEY", "CLIENT_CERTIFICATE"] {
            if let Some(Given { name, .. }) = self.get_for_traces(name) {
                self.warn(format!("{name} is not supported and has no effect"));
            }
        }
        if let Some(Given { name, value }) = self.get_for_traces("COMPRESSION")
            && value != "none"
        {
            self.warn(format!("{name}: traces are sent without compression"));
        }
        let headers = self.headers(&endpoint);
        Some(Settings {
            endpoint,
            headers,
            timeout: self.timeout(),
            encoding,
            authorities: self.get_for_traces("CERTIFICATE").map(|file| PathBuf::from(file.value)),
            sampler: self.sampler(),
            resource: self.resource(),
        })
    }

    fn encoding(&mut self) -> Option<Encoding> {
        let Some(Given { name, value }) = self.get_for_traces("PROTOCOL") else {
            return Some(Encoding::Protobuf);
        };
        match value.as_str() {
            "http/protobuf" => Some(Encoding::Protobuf),
            "http/json" => Some(Encoding::Json),
            other => {
                self.warn(format!(
                    "{name}: {other:?} is not supported, so no traces are sent; use http/protobuf \
                     and the collector's port for it, usually 4318"
                ));
                None
            }
        }
    }

    fn endpoint(&mut self) -> Option<Url> {
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let of_all = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let (name, url) = match (self.get(own), self.get(of_all)) {
            (Some(url), _) => (own, url),
            (None, Some(base)) => (of_all, format!("{}/v1/traces", base.trim_end_matches('/'))),
            (None, None) => (of_all, ENDPOINT.to_owned()),
        };
        url.parse().map_err(|error| self.warn(format!("{name}: {error}; no traces are sent"))).ok()
    }

    fn headers(&mut self, endpoint: &Url) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(list) = self.get_for_traces("HEADERS") else { return headers };
        let variable = &list.name;
        for (name, value) in self.pairs(variable, &list.value) {
            let header = HeaderName::from_str(&name).ok().zip(HeaderValue::from_str(&value).ok());
            let Some((name, mut value)) = header else {
                self.warn(format!("{variable}: something that is no header is left out"));
                continue;
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        if !headers.is_empty() && !endpoint.is_protected() {
            self.warn(format!(
                "{variable}: whoever is on the way to the collector can read them; use https"
            ));
        }
        headers
    }

    fn timeout(&mut self) -> Duration {
        let Some(Given { name, value }) = self.get_for_traces("TIMEOUT") else { return TIMEOUT };
        match value.parse() {
            Ok(milliseconds) if milliseconds > 0 => Duration::from_millis(milliseconds),
            _ => {
                self.warn(format!("{name}: expected milliseconds, found {value:?}; it is 10000"));
                TIMEOUT
            }
        }
    }

    fn sampler(&mut self) -> Sampler {
        let kind = self.get("OTEL_TRACES_SAMPLER");
        let kind = kind.as_deref().unwrap_or("parentbased_always_on");
        let (follows_parent, root) = match kind.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, kind),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => self.ratio(),
            _ => {
                self.warn(format!(
                    "OTEL_TRACES_SAMPLER: {kind:?} is not supported; it is parentbased_always_on"
                ));
                return Sampler { follows_parent: true, ratio: 1.0 };
            }
        };
        Sampler { follows_parent, ratio }
    }

    fn ratio(&mut self) -> f64 {
        let Some(text) = self.get("OTEL_TRACES_SAMPLER_ARG") else { return 1.0 };
        match text.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            _ => {
                self.warn(format!(
                    "OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1, found {text:?}; it is 1"
                ));
                1.0
            }
        }
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let list = self.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let mut resource = vec![
            ("service.name".to_owned(), "orlop".to_owned()),
            ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let mut given = self.pairs("OTEL_RESOURCE_ATTRIBUTES", &list);
        given.extend(self.get("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name)));
        for (name, value) in given {
            resource.retain(|(known, _)| *known != name);
            resource.push((name, value));
        }
        resource
    }

    /// A list `name=value,name=value` with percent-encoded values.
    fn pairs(&mut self, variable: &str, list: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let pair = item.split_once('=').and_then(|(name, value)| {
                let text = |part: &str| {
                    let text = percent_decode_str(part.trim()).decode_utf8().ok()?;
                    Some(text.into_owned())
                };
                Some((text(name).filter(|name| !name.is_empty())?, text(value)?))
            });
            match pair {
                Some(pair) => pairs.push(pair),
                // Not repeated: it may be a part of a secret.
                None => self.warn(format!(
                    "{variable}: expected name=value,name=value; something else is left out"
                )),
            }
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Option<Settings>, Vec<String>) {
        Settings::read(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn good(variables: &[(&str, &str)]) -> Settings {
        let (settings, warnings) = read(variables);
        assert_eq!(warnings, <[String; 0]>::default());
        settings.unwrap()
    }

    #[test]
    fn traces_are_off_unless_somebody_asks() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        for off in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "r"), ("OTEL_TRACES_SAMPLER", "always_on")],
            &[("OTEL_TRACES_EXPORTER", "none"), endpoint],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[("OTEL_SDK_DISABLED", "True"), ("OTEL_TRACES_EXPORTER", "otlp"), endpoint],
        ] {
            let (settings, warnings) = read(off);
            assert!(settings.is_none() && warnings.is_empty(), "{off:?}: {warnings:?}");
        }
        let (settings, warnings) = read(&[("OTEL_TRACES_EXPORTER", "console")]);
        assert!(settings.is_none());
        assert_eq!(
            warnings,
            ["OTEL_TRACES_EXPORTER: \"console\" is not supported; otlp and none are"]
        );
        let grpc = [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), endpoint];
        let (settings, warnings) = read(&grpc);
        assert!(settings.is_none());
        assert!(warnings.len() == 1 && warnings[0].contains("use http/protobuf"), "{warnings:?}");
    }

    #[test]
    fn where_they_go() {
        let of_all = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        for (variables, url) in [
            (&[("OTEL_TRACES_EXPORTER", "otlp")][..], ENDPOINT),
            (&[(of_all, "http://c:4318")], "http://c:4318/v1/traces"),
            (&[(of_all, "https://c/base/")], "https://c/base/v1/traces"),
            (&[(of_all, "http://c"), (own, "http://d/in")], "http://d/in"),
        ] {
            assert_eq!(good(variables).endpoint.to_string(), url);
        }
        let (settings, warnings) = read(&[(of_all, "https://ada:word@c")]);
        assert!(settings.is_none());
        assert!(!format!("{warnings:?}").contains("word@"), "{warnings:?}");
    }

    #[test]
    fn everything_else() {
        let settings = good(&[
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20a%3Db, x-tenant=1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=a%2Cb,service.name=x"),
            ("OTEL_SERVICE_NAME", "registry"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        assert_eq!(settings.encoding, Encoding::Json);
        assert_eq!(settings.headers["authorization"], "Bearer a=b");
        assert_eq!(settings.headers["x-tenant"], "1");
        assert!(!format!("{settings:?}").contains("Bearer"), "{settings:?}");
        assert_eq!(settings.timeout, Duration::from_millis(1500));
        assert_eq!(settings.sampler, Sampler { follows_parent: true, ratio: 0.25 });
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            settings.resource,
            [
                pair("service.version", env!("CARGO_PKG_VERSION")),
                pair("deployment.environment.name", "a,b"),
                pair("service.name", "registry"),
            ]
        );
        assert_eq!(
            good(&[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_TRACES_SAMPLER", "always_off")])
                .sampler,
            Sampler { follows_parent: false, ratio: 0.0 }
        );
    }

    #[test]
    fn what_is_not_understood_is_named_and_keeps_its_secret() {
        let (settings, warnings) = read(&[
            ("OTEL_TRACES_EXPORTER", "otlp,zipkin"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret,b\u{1}=secret,%ff=secret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ]);
        assert_eq!(settings.unwrap().timeout, TIMEOUT);
        assert_eq!(warnings.len(), 8, "{warnings:#?}");
        let all = warnings.concat();
        assert!(!all.contains("secret"), "{warnings:#?}");
        assert!(all.contains("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: expected"), "{warnings:#?}");
    }
}
