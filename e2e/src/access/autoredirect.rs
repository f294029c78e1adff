//! A token server that nginx has beside the registry: clients are sent to the
//! address that they asked, whatever the registry's own is.

use anyhow::{Context as _, Result, ensure};

use super::token_server::{ISSUER, PASSWORD, SERVICE, Signature, TokenServer, USER};
use super::{crane, docker_login};
use crate::docker::Docker;
use crate::guide::replace;
use crate::http::text;
use crate::image;
use crate::proxy::{Front, server_with};
use crate::registry::Setup;
use crate::scenario::Stage;

/// What nginx says of a request in the guide.
const HOST: &str = "proxy_set_header Host              $http_host;";
const PROTO: &str = "proxy_set_header X-Forwarded-Proto $scheme;";
const FORWARDED: &str = r#"proxy_set_header Forwarded         "";"#;

/// The same in one header, and the registry's own address in `Host`.
const NEW: &str =
    r#"proxy_set_header Forwarded 'for=$remote_addr;proto=$scheme;host="$http_host"';"#;

pub(super) fn behind_nginx(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    let server = TokenServer::new(stage, Signature::Elliptic)?;
    let configuration = format!(
        "version: 0.1\nauth:\n  token:\n    realm: https://nobody.invalid/token\n    \
         service: {SERVICE}\n    issuer: {ISSUER}\n    jwks: {}\n    autoredirect: true\n",
        server.trusted.display()
    );
    let location =
        format!("    location /auth/token {{ proxy_pass http://{}/token; }}", server.address()?);
    server.serve(|| {
        stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
            let guide = server_with(registry, &location)?;
            let plain = replace(&guide, &[("listen 443 ssl http2;", "listen 443 ;")])?;
            let forwarded = replace(&guide, &[(HOST, ""), (PROTO, ""), (FORWARDED, NEW)])?;
            for (layers, (name, scheme, configuration)) in
                [("guide", "https", guide), ("plain", "http", plain), ("new", "https", forwarded)]
                    .into_iter()
                    .enumerate()
            {
                let nginx = Front::nginx(stage, &configuration)?;
                let (_, port) = nginx.host.split_once(':').context("no port")?;
                // By name, because crane follows no challenge to a private address.
                let host = format!("localhost:{port}");
                let refused = nginx.curl(&[&format!("{scheme}://{host}/v2/")], 401)?;
                let challenge = refused.header("www-authenticate")?;
                let realm = format!("Bearer realm=\"{scheme}://{host}/auth/token\",");
                ensure!(challenge.starts_with(&realm), "{name}: challenged with {challenge}");
                log_in_and_push(stage, &docker, &host, name, layers + 1)?;
            }
            Ok(())
        })
    })
}

/// docker, skopeo and crane.
fn log_in_and_push(
    stage: &Stage,
    docker: &Docker<'_>,
    host: &str,
    name: &str,
    layers: usize,
) -> Result<()> {
    let (layout, digest) = image::runnable(stage, &format!("behind-{name}"))?;

    let image = format!("{host}/public/docker-{name}:v1");
    docker.build(&image, layers)?;
    docker.client(&["push", &image]).fail()?;
    docker_login(docker, host, USER, PASSWORD).succeed()?;
    let pushed = docker.push(&image)?;
    docker.client(&["logout", host]).succeed()?;
    docker.remove(&image)?;
    let pulled = docker.pull(&image)?;
    ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");

    let url = format!("docker://{host}/public/skopeo-{name}:v1");
    let source = format!("oci:{}", layout.name("v1"));
    let skopeo = |arguments: &[&str]| stage.client("skopeo").args(arguments);
    let copy = ["copy", "--dest-tls-verify=false", &source, &url];
    skopeo(&copy).fail()?;
    skopeo(&["login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, host]).succeed()?;
    skopeo(&copy).succeed()?;
    skopeo(&["logout", host]).succeed()?;
    let inspected = skopeo(&["inspect", "--tls-verify=false", &url]).json()?;
    ensure!(text(&inspected, "Digest")? == digest, "{inspected}");

    let image = format!("{host}/public/crane-{name}:v1");
    crane(stage, &["auth", "login", host, "-u", USER, "-p", PASSWORD]).succeed()?;
    crane(stage, &["push"]).arg(&layout.folder).arg(&image).succeed()?;
    crane(stage, &["auth", "logout", host]).succeed()?;
    ensure!(crane(stage, &["digest", &image]).text()? == digest);
    Ok(())
}
