//! The four ways to ask clients for a certificate (`http.tls.clientauth`).

use anyhow::{Result, ensure};

use super::{certificates_folder, configuration, with_tls};
use crate::certificates::{Authority, Certificate};
use crate::http::text;
use crate::image;
use crate::podman::podman;
use crate::scenario::Stage;

/// Each with whom it lets in: clients without a certificate, with one of the
/// authority, and with one of another.
const MODES: [(&str, [bool; 3]); 4] = [
    ("request-client-cert", [true, true, true]),
    ("require-any-client-cert", [false, true, true]),
    ("verify-client-cert-if-given", [true, true, false]),
    ("require-and-verify-client-cert", [false, true, false]),
];

pub(super) fn modes(stage: &Stage) -> Result<()> {
    let authority = Authority::new(stage, "authority")?;
    let server = authority.server("server")?;
    let own = authority.client("client")?;
    let stranger = Authority::new(stage, "stranger")?.client("strange-client")?;
    let (layout, digest) = image::runnable(stage, "known")?;
    let source = format!("oci:{}", layout.name("v1"));
    for (mode, [unknown_enters, own_enters, stranger_enters]) in MODES {
        let more =
            format!("    clientcas: [{}]\n    clientauth: {mode}\n", authority.file().display());
        with_tls(stage, &configuration(&server, &more), |registry| {
            let url = format!("https://{}/v2/", registry.host);
            let curl = |certificate: Option<&Certificate>, enters: bool| {
                let mut curl = stage.curl().arg("--cacert").arg(authority.file()).arg(&url);
                if let Some(Certificate { certificate, key }) = certificate {
                    curl = curl.arg("--cert").arg(certificate).arg("--key").arg(key);
                }
                if enters { curl.reply(200).map(drop) } else { curl.fail().map(drop) }
            };
            curl(None, unknown_enters)?;
            curl(Some(&own), own_enters)?;
            curl(Some(&stranger), stranger_enters)?;

            // Where podman and skopeo look for certificates by themselves.
            let folder = stage.path("home/.config/containers/certs.d").join(&registry.host);
            let image = registry.docker_url(&format!("team/{mode}:v1"));
            let skopeo = |arguments: &[&str]| stage.client("skopeo").args(arguments);
            certificates_folder(&folder, &authority, None)?;
            let pushed = skopeo(&["copy", &source, &image]);
            if unknown_enters {
                pushed.succeed()?;
            } else {
                let said = pushed.fail()?;
                ensure!(said.contains("certificate required"), "{mode}: {said}");
            }
            certificates_folder(&folder, &authority, Some(&own))?;
            skopeo(&["copy", &source, &image]).succeed()?;
            let inspected = skopeo(&["inspect", &image]).json()?;
            ensure!(text(&inspected, "Digest")? == digest, "{mode}: {inspected}");
            podman(stage).args(["pull", image.trim_start_matches("docker://")]).succeed()?;
            Ok(())
        })?;
    }
    Ok(())
}
