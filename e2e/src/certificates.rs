//! Certificates, made by OpenSSL as guides tell users to.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::scenario::Stage;

/// The name that certificates of registries are for, beside 127.0.0.1. No
/// resolver knows it.
pub(crate) const NAME: &str = "registry.test";

/// A certificate and its key, in PEM files.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// An authority of the stage's own.
pub(crate) struct Authority<'a> {
    stage: &'a Stage,
    own: Certificate,
}

impl<'a> Authority<'a> {
    pub(crate) fn new(stage: &'a Stage, name: &str) -> Result<Self> {
        let own = Certificate::at(stage, name);
        let subject = format!("/CN={name}");
        make(stage, &own, &subject, &[])?;
        Ok(Self { stage, own })
    }

    /// The file that clients are given.
    pub(crate) fn file(&self) -> &Path {
        &self.own.certificate
    }

    /// For a server with [`NAME`], 127.0.0.1 and localhost, in files of this
    /// name, old ones replaced.
    pub(crate) fn server(&self, name: &str) -> Result<Certificate> {
        let names = format!("subjectAltName=DNS:{NAME},DNS:localhost,IP:127.0.0.1");
        self.issue(name, &["-addext", &names, "-addext", "extendedKeyUsage=serverAuth"])
    }

    /// For a client of this name.
    pub(crate) fn client(&self, name: &str) -> Result<Certificate> {
        self.issue(name, &["-addext", "extendedKeyUsage=clientAuth"])
    }

    fn issue(&self, name: &str, extensions: &[&str]) -> Result<Certificate> {
        let issued = Certificate::at(self.stage, name);
        let (certificate, key) =
            (self.own.certificate.to_string_lossy(), self.own.key.to_string_lossy());
        let mut arguments = vec!["-CA", &certificate, "-CAkey", &key];
        arguments.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
        arguments.extend(extensions);
        make(self.stage, &issued, &format!("/CN={name}"), &arguments)?;
        Ok(issued)
    }
}

impl Certificate {
    fn at(stage: &Stage, name: &str) -> Self {
        let file = |ending| stage.path(&format!("{name}.{ending}"));
        Self { certificate: file("crt"), key: file("key") }
    }
}

fn make(stage: &Stage, files: &Certificate, subject: &str, arguments: &[&str]) -> Result<()> {
    stage
        .client("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-nodes", "-days", "30", "-subj", subject])
        .args(arguments)
        .arg("-keyout")
        .arg(&files.key)
        .arg("-out")
        .arg(&files.certificate)
        .succeed()?;
    Ok(())
}
