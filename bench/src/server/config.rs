//! How each program is told what to do: its configuration file and its command line.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use super::Server;
use super::kind::Kind;
use super::setup::{ISSUER, REALM, SERVICE, Setup};
use crate::engines::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY};

impl Server {
    /// Writes the configuration and makes the command that starts the server with it.
    pub(super) fn command(&self) -> anyhow::Result<Command> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        match self.kind {
            Kind::Orlop | Kind::DockerRegistry | Kind::Distribution => {
                fs::write(self.config(), self.registry_config())?;
                command.arg("serve").arg(self.config());
                // Otherwise it looks for somebody who collects traces.
                command.env("OTEL_TRACES_EXPORTER", "none");
            }
            Kind::Zot => {
                fs::write(self.config(), self.zot_config())?;
                command.arg("serve").arg(self.config());
            }
            Kind::Nginx => {
                fs::write(self.config(), self.nginx_config())?;
                command.arg("-p").arg(&self.folder).arg("-c").arg(self.config());
                command.arg("-e").arg(self.log());
            }
            Kind::Bare => {
                command.arg("bare").arg(self.address.to_string()).arg(&self.data);
            }
        }
        Ok(command)
    }

    fn config(&self) -> PathBuf {
        // zot goes by the ending.
        self.folder.join(if self.kind == Kind::Zot { "config.json" } else { "config.yml" })
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Orlop understands what registry:2 and registry:3 do.
    fn registry_config(&self) -> String {
        format!(
            "version: 0.1\n\
             log:\n  level: error\n  accesslog:\n    disabled: true\n\
             storage:\n{}  delete:\n    enabled: true\n  \
             cache:\n    blobdescriptor: inmemory\n  \
             maintenance:\n    uploadpurging:\n      enabled: false\n\
             {}http:\n  addr: {}\n  secret: bench\n{}",
            self.driver(),
            self.database(),
            self.address,
            self.access()
        )
    }

    /// Where the content is.
    fn driver(&self) -> String {
        let Some(bucket) = &self.behind.bucket else {
            return format!("  filesystem:\n    rootdirectory: {}\n", self.data.display());
        };
        format!(
            "  s3:\n    bucket: {BUCKET}\n    region: {REGION}\n    regionendpoint: {}\n    \
             accesskey: {ACCESS_KEY}\n    secretkey: {SECRET_KEY}\n    secure: false\n    \
             v4auth: true\n    forcepathstyle: true\n    rootdirectory: /{}\n  \
             redirect:\n    disable: {}\n",
            bucket.endpoint,
            bucket.folder,
            self.setup != Setup::Redirects
        )
    }

    /// Only Orlop has one.
    fn database(&self) -> String {
        let Some(database) = self.behind.database.as_ref().filter(|_| self.kind == Kind::Orlop)
        else {
            return String::new();
        };
        let staleness = if self.setup == Setup::Stale { "  staleness: 1s\n" } else { "" };
        format!("database:\n  url: {}\n{staleness}", database.url)
    }

    /// The last part of what is under `http`, and what comes after that.
    fn access(&self) -> String {
        let certificate = self.keys.certificate.display();
        match self.setup {
            Setup::Tls => {
                let key = self.keys.key.display();
                format!("  tls:\n    certificate: {certificate}\n    key: {key}\n")
            }
            Setup::Password => {
                let path = self.keys.htpasswd.display();
                format!("auth:\n  htpasswd:\n    realm: bench\n    path: {path}\n")
            }
            Setup::Token => format!(
                "auth:\n  token:\n    realm: {REALM}\n    service: {SERVICE}\n    \
                 issuer: {ISSUER}\n    rootcertbundle: {certificate}\n"
            ),
            _ => String::new(),
        }
    }

    /// With `commit`, what it has answered is on the disk, as the others do.
    fn zot_config(&self) -> String {
        let tls = (self.setup == Setup::Tls)
            .then(|| json!({ "cert": self.keys.certificate, "key": self.keys.key }));
        let driver = self.behind.bucket.as_ref().map(|bucket| {
            json!({
                "name": "s3",
                "rootdirectory": format!("/{}", bucket.folder),
                "bucket": BUCKET,
                "region": REGION,
                "regionendpoint": bucket.endpoint,
                "accesskey": ACCESS_KEY,
                "secretkey": SECRET_KEY,
                "secure": false,
            })
        });
        json!({
            "distSpecVersion": "1.0.1",
            "storage": {
                "rootDirectory": self.data,
                "storageDriver": driver,
                "dedupe": false,
                "gc": false,
                "commit": true,
            },
            "http": {
                "address": self.address.ip().to_string(),
                "port": self.address.port().to_string(),
                "tls": tls,
            },
            "log": { "level": "error", "output": self.log() },
        })
        .to_string()
    }

    fn nginx_config(&self) -> String {
        let folder = self.folder.display();
        // Otherwise the worker gives root away and cannot read the temporary folder.
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("    {name}_temp_path {folder}/{name};\n"))
            .concat();
        let (ssl, tls) = if self.setup == Setup::Tls {
            let (certificate, key) = (self.keys.certificate.display(), self.keys.key.display());
            let tls = format!(
                "    ssl_certificate {certificate};\n    ssl_certificate_key {key};\n    \
                 ssl_protocols TLSv1.3;\n    ssl_session_cache shared:bench:10m;\n"
            );
            (" ssl", tls)
        } else {
            ("", String::new())
        };
        format!(
            "{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\n\
             events {{ worker_connections 2048; }}\n\
             http {{\n    access_log off;\n    sendfile on;\n    tcp_nopush on;\n    \
             keepalive_requests 1000000000;\n    keepalive_timeout 300s;\n    \
             open_file_cache max=20000 inactive=300s;\n    open_file_cache_valid 300s;\n    \
             default_type application/octet-stream;\n{tls}{paths}    \
             server {{\n        listen {}{ssl};\n        root {};\n        \
             location = /v2/ {{ return 200 '{{}}'; }}\n    }}\n}}\n",
            self.address,
            self.data.display()
        )
    }
}
