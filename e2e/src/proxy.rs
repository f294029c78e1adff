//! nginx in front, with the configurations of `docs/reverse-proxy.md`: what
//! users copy is what is tried here, with other ports and paths.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::certificates::Authority;
use crate::curl::Reply;
use crate::docker::Docker;
use crate::http::{sha256, text, with_query};
use crate::image::{self, media_type};
use crate::process::Daemon;
use crate::registry::{Registry, Setup, free_port};
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("proxy: TLS at nginx", 120, tls),
    Scenario::new("proxy: below a path that the registry knows", 60, prefix),
    Scenario::new("proxy: below a path that nginx cuts off", 60, cut),
    Scenario::new("proxy: a load balancer", 120, balancer),
];

const GUIDE: &str = include_str!("../../docs/reverse-proxy.md");

/// An address that is nobody's (RFC 5737), as a client may claim to have it.
const CLAIMED: &str = "203.0.113.9";

fn tls(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    stage.with_registry(|registry| {
        let server = replace(&block("nginx", "server_name")?, &[(UPSTREAM, &registry.host)])?;
        let nginx = Nginx::start(stage, &server)?;
        let name = format!("{}/team/app:v1", nginx.host);
        docker.build(&name, 2)?;
        let pushed = docker.push(&name)?;
        docker.remove(&name)?;
        let pulled = docker.pull(&name)?;
        ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");
        nginx.copy_with_skopeo()?;
        nginx.look_at_urls("")?;

        nginx.claim_an_address()?;
        let log = registry.log();
        ensure!(!log.contains(CLAIMED), "a client's word counts in the log:\n{log}");
        Ok(())
    })
}

fn prefix(stage: &Stage) -> Result<()> {
    let configuration = format!("version: 0.1\n{}", block("yaml", "prefix:")?);
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        let location = block("nginx", "it is handed on as it came")?;
        let nginx = Nginx::start(stage, &with_location(&location, registry)?)?;
        nginx.look_at_urls("/registry")
    })
}

fn cut(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let configuration = block("yaml", "  host:")?;
    let configuration = replace(&configuration, &[("www.example.com", &address)])?;
    let configuration = format!("version: 0.1\n{configuration}");
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        let location = block("nginx", "it takes the place of")?;
        let nginx = Nginx::start_on(stage, port, &with_location(&location, registry)?)?;
        nginx.look_at_urls("/registry")
    })
}

/// One of the two servers behind it is down.
fn balancer(stage: &Stage) -> Result<()> {
    let trusted = block("yaml", "trustedproxies")?;
    let configuration = replace(&trusted, &[("10.0.0.0/8", "127.0.0.0/8")])?;
    let configuration = format!("version: 0.1\n{configuration}");
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        let server = server_start()?;
        let (_, rest) = server.split_once("registry.example.com;").context("no server_name")?;
        let down = format!("127.0.0.1:{}", free_port()?);
        let server = replace(
            &block("nginx", "upstream registry")?,
            &[
                ("    # ssl_certificate and the rest as above", rest),
                ("10.0.0.11:5000", &down),
                ("10.0.0.12:5000", &registry.host),
            ],
        )?;
        let nginx = Nginx::start(stage, &server)?;
        nginx.copy_with_skopeo()?;
        nginx.look_at_urls("")?;

        nginx.claim_an_address()?;
        let log = registry.log();
        ensure!(log.contains(CLAIMED), "the client's address is not in the log:\n{log}");
        Ok(())
    })
}

/// Where the registry is in the guide's configurations.
const UPSTREAM: &str = "127.0.0.1:5000";

/// The guide's server for TLS in front of the registry, with another location
/// beside it.
pub(crate) fn server_with(registry: &Registry, location: &str) -> Result<String> {
    const ROOT: &str = "    location / {";
    let root = format!("{location}\n{ROOT}");
    replace(&block("nginx", "server_name")?, &[(UPSTREAM, &registry.host), (ROOT, &root)])
}

/// The guide's server for TLS with another `location`.
fn with_location(location: &str, registry: &Registry) -> Result<String> {
    let server = server_start()?;
    let location = replace(location, &[(UPSTREAM, &registry.host)])?;
    Ok(format!("{server}{location}\n}}\n"))
}

/// The guide's server for TLS, cut before its `location`.
fn server_start() -> Result<String> {
    let server = block("nginx", "server_name")?;
    let (server, _) = server.split_once("    location / {").context("no location")?;
    Ok(server.to_owned())
}

/// The first block of the guide in this language with this text in it.
fn block(language: &str, text: &str) -> Result<String> {
    let fence = format!("```{language}\n");
    GUIDE
        .split(&fence)
        .skip(1)
        .filter_map(|rest| rest.split_once("```"))
        .map(|(block, _)| block.to_owned())
        .find(|block| block.contains(text))
        .with_context(|| format!("the guide has no {language} block with {text:?}"))
}

/// With every one of these texts replaced; each must be there.
pub(crate) fn replace(text: &str, replacements: &[(&str, &str)]) -> Result<String> {
    replacements.iter().try_fold(text.to_owned(), |text, (from, to)| {
        ensure!(text.contains(from), "no {from:?} in the guide's block:\n{text}");
        Ok(text.replace(from, to))
    })
}

/// nginx with TLS on a port of its own.
pub(crate) struct Nginx<'a> {
    stage: &'a Stage,
    pub(crate) host: String,
    authority: Authority<'a>,
    /// Stopped when this is dropped.
    _daemon: Daemon,
}

impl<'a> Nginx<'a> {
    pub(crate) fn start(stage: &'a Stage, server: &str) -> Result<Self> {
        Self::start_on(stage, free_port()?, server)
    }

    /// With a configuration of the guide, whose addresses of registries have
    /// been replaced already.
    fn start_on(stage: &'a Stage, port: u16, server: &str) -> Result<Self> {
        let authority = Authority::new(stage, "authority")?;
        let certificate = authority.server("nginx")?;
        let host = format!("127.0.0.1:{port}");
        let server = replace(
            server,
            &[
                ("listen 443 ", &format!("listen {host} ")),
                ("/etc/nginx/fullchain.pem", &certificate.certificate.to_string_lossy()),
                ("/etc/nginx/key.pem", &certificate.key.to_string_lossy()),
            ],
        )?;
        let folder = stage.folder("nginx")?;
        let file = stage.file(
            "nginx.conf",
            format!(
                "user root;\ndaemon off;\nworker_processes 1;\npid nginx.pid;\n\
                 error_log stderr warn;\nevents {{}}\nhttp {{\naccess_log off;\n\
                 client_body_temp_path body;\nproxy_temp_path proxy;\n\
                 fastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
                 {server}\n}}\n"
            ),
        )?;
        let mut daemon = stage.daemon("nginx", "nginx", |command| {
            command.arg("-p").arg(&folder).arg("-c").arg(&file).args(["-e", "stderr"]);
        })?;
        wait_until(stage.remaining()?, || {
            daemon.is_running()?;
            Ok(std::net::TcpStream::connect(&host)?)
        })?;
        Ok(Self { stage, host, authority, _daemon: daemon })
    }

    pub(crate) fn curl(&self, arguments: &[&str], status: u16) -> Result<Reply> {
        self.stage
            .curl()
            .args(["--http2", "--cacert"])
            .arg(self.authority.file())
            .args(arguments)
            .reply(status)
    }

    fn copy_with_skopeo(&self) -> Result<()> {
        let (layout, digest) = image::runnable(self.stage, "behind-nginx")?;
        let folder = self.stage.folder("certificates")?;
        std::fs::copy(self.authority.file(), folder.join("ca.crt"))?;
        let folder = folder.to_string_lossy();
        let source = format!("oci:{}", layout.name("v1"));
        let url = format!("docker://{}/team/skopeo:v1", self.host);
        let skopeo = |arguments: &[&str]| self.stage.client("skopeo").args(arguments);
        skopeo(&["copy", "--dest-cert-dir", &folder, &source, &url]).succeed()?;
        let inspected = skopeo(&["inspect", "--cert-dir", &folder, &url]).json()?;
        ensure!(text(&inspected, "Digest")? == digest, "{inspected}");
        Ok(())
    }

    /// Pushes something with two tags and lists them, by the URLs that the
    /// registry gives.
    fn look_at_urls(&self, path: &str) -> Result<()> {
        let origin = format!("https://{}", self.host);
        let repository = format!("{origin}{path}/v2/team/urls");
        // More than nginx takes of a body unless it is told otherwise.
        let config = image::pseudo_random("urls", 3_000_000);
        let digest = sha256(&config);
        let file = self.stage.file("config", &config)?;
        let file = file.to_string_lossy();
        let opened = self.curl(&["-X", "POST", &format!("{repository}/blobs/uploads/")], 202)?;
        let location = self.url(&opened, "location")?;
        ensure!(location.starts_with(&format!("{repository}/blobs/uploads/")), "{opened:?}");
        let stored =
            self.curl(&["-X", "PUT", "-T", &file, &with_query(&location, "digest", &digest)], 201)?;
        let location = self.url(&stored, "location")?;
        ensure!(location == format!("{repository}/blobs/{digest}"), "{stored:?}");
        self.curl(&["--head", &location], 200)?;

        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [],
            "config": {
                "mediaType": media_type::OCI_CONFIG, "digest": digest, "size": config.len()
            },
        });
        let manifest_digest = sha256(manifest.to_string().as_bytes());
        let file = self.stage.file("manifest", manifest.to_string())?;
        let file = file.to_string_lossy();
        let header = format!("content-type: {}", media_type::OCI_MANIFEST);
        for tag in ["a", "b"] {
            let url = format!("{repository}/manifests/{tag}");
            let stored = self.curl(&["-H", &header, "-X", "PUT", "-T", &file, &url], 201)?;
            let location = self.url(&stored, "location")?;
            ensure!(location == format!("{repository}/manifests/{manifest_digest}"), "{stored:?}");
        }
        let page = self.curl(&[&format!("{repository}/tags/list?n=1")], 200)?;
        ensure!(page.body.contains(r#""tags":["a"]"#), "{page:?}");
        let next = self.url(&page, "link")?;
        ensure!(next.starts_with(&format!("{repository}/tags/list?")), "{page:?}");
        let page = self.curl(&[&next], 200)?;
        ensure!(page.body.contains(r#""tags":["b"]"#), "{page:?}");
        Ok(())
    }

    /// The URL in a header, whole, as a client makes it of a path.
    fn url(&self, reply: &Reply, header: &str) -> Result<String> {
        let value = reply.header(header)?;
        let url = value.split_once('>').map_or(value, |(url, _)| url).trim_start_matches('<');
        Ok(match url.strip_prefix('/') {
            Some(path) => format!("https://{}/{path}", self.host),
            None => url.to_owned(),
        })
    }

    fn claim_an_address(&self) -> Result<()> {
        let header = format!("X-Forwarded-For: {CLAIMED}");
        self.curl(&["-H", &header, &format!("https://{}/v2/", self.host)], 200)?;
        Ok(())
    }
}
