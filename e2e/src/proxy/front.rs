//! What stands in front of the registry, and clients that go through it.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::certificates::Authority;
use crate::curl::Reply;
use crate::guide::replace;
use crate::http::{sha256, text, with_query};
use crate::image::{self, media_type};
use crate::ports::free_port;
use crate::process::Daemon;
use crate::scenario::{Stage, wait_until};

/// An address that is nobody's (RFC 5737), as a client may claim to have it.
pub(super) const CLAIMED: &str = "203.0.113.9";

/// A program with TLS on a port of its own, which hands requests on.
pub(crate) struct Front<'a> {
    stage: &'a Stage,
    pub(crate) host: String,
    authority: Authority<'a>,
    /// Stopped when this is dropped.
    _daemon: Daemon,
}

impl<'a> Front<'a> {
    /// With a configuration of the guide, whose addresses of registries have
    /// been replaced already.
    pub(crate) fn nginx(stage: &'a Stage, server: &str) -> Result<Self> {
        Self::nginx_on(stage, free_port()?, server)
    }

    pub(super) fn nginx_on(stage: &'a Stage, port: u16, server: &str) -> Result<Self> {
        let authority = Authority::new(stage, "authority")?;
        let certificate = authority.server("front")?;
        let host = format!("127.0.0.1:{port}");
        let server = replace(
            server,
            &[
                ("listen 443 ", &format!("listen {host} ")),
                ("/etc/nginx/fullchain.pem", &certificate.certificate.to_string_lossy()),
                ("/etc/nginx/key.pem", &certificate.key.to_string_lossy()),
            ],
        )?;
        let daemon = start_nginx(stage, &host, &server)?;
        Ok(Self { stage, host, authority, _daemon: daemon })
    }

    /// The same.
    pub(super) fn haproxy(stage: &'a Stage, configuration: &str) -> Result<Self> {
        let authority = Authority::new(stage, "authority")?;
        let issued = authority.server("front")?;
        let mut pem = std::fs::read(&issued.certificate)?;
        pem.append(&mut std::fs::read(&issued.key)?);
        let pem = stage.file("front.pem", pem)?;
        let host = format!("127.0.0.1:{}", free_port()?);
        let configuration = replace(
            configuration,
            &[
                ("bind :443 ", &format!("bind {host} ")),
                ("/etc/haproxy/registry.pem", &pem.to_string_lossy()),
            ],
        )?;
        let daemon = start_haproxy(stage, &host, &configuration)?;
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

    pub(super) fn copy_with_skopeo(&self) -> Result<()> {
        let (layout, digest) = image::runnable(self.stage, "behind")?;
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
    pub(super) fn look_at_urls(&self, path: &str) -> Result<()> {
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

    pub(super) fn claim_an_address(&self) -> Result<()> {
        let header = format!("X-Forwarded-For: {CLAIMED}");
        self.curl(&["-H", &header, &format!("https://{}/v2/", self.host)], 200)?;
        Ok(())
    }
}

/// nginx with this `server`, as soon as it takes connections.
pub(super) fn start_nginx(stage: &Stage, host: &str, server: &str) -> Result<Daemon> {
    let line = nginx_command(stage, server)?;
    let daemon = stage.daemon("nginx", "env", |command| {
        command.args(line);
    })?;
    wait_for(stage, host, daemon)
}

/// nginx with this `server`, as a program and its arguments.
pub(crate) fn nginx_command(stage: &Stage, server: &str) -> Result<Vec<String>> {
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
    let [folder, file] = [folder, file].map(|path| path.to_string_lossy().into_owned());
    let line = ["nginx", "-p", &folder, "-c", &file, "-e", "stderr"];
    Ok(line.map(str::to_owned).to_vec())
}

/// HAProxy with this configuration, likewise.
pub(super) fn start_haproxy(stage: &Stage, host: &str, configuration: &str) -> Result<Daemon> {
    let file = stage.file("haproxy.cfg", configuration)?;
    let daemon = stage.daemon("haproxy", "haproxy", |command| {
        command.arg("-db").arg("-f").arg(&file);
    })?;
    wait_for(stage, host, daemon)
}

fn wait_for(stage: &Stage, host: &str, mut daemon: Daemon) -> Result<Daemon> {
    wait_until(stage.remaining()?, || {
        daemon.is_running()?;
        Ok(std::net::TcpStream::connect(host)?)
    })?;
    Ok(daemon)
}
