//! A registry that trusts a token server.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::token_server::{ISSUER, PASSWORD, SERVICE, Signature, TokenServer, USER};
use super::{crane, docker_login};
use crate::docker::Docker;
use crate::http::text;
use crate::image;
use crate::registry::{Registry, Setup};
use crate::scenario::{Stage, wait_until};

fn with_token_server(
    stage: &Stage,
    signature: Signature,
    more: &str,
    play: impl FnOnce(&mut Registry, &TokenServer<'_>) -> Result<()>,
) -> Result<()> {
    let server = TokenServer::new(stage, signature)?;
    let key = match signature {
        Signature::Rsa => "rootcertbundle",
        Signature::Elliptic => "jwks",
    };
    let configuration = configuration(&server, key, &server.trusted.display().to_string())? + more;
    server.serve(|| {
        stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
            play(registry, &server)
        })
    })
}

/// That of a registry that finds the keys of the token server at `place`.
fn configuration(server: &TokenServer<'_>, key: &str, place: &str) -> Result<String> {
    Ok(format!(
        "version: 0.1\nauth:\n  token:\n    realm: {}\n    service: {SERVICE}\n    \
         issuer: {ISSUER}\n    {key}: {place}\n",
        server.realm()?,
    ))
}

pub(super) fn docker(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    with_token_server(stage, Signature::Rsa, "", |registry, server| {
        let name = registry.name("public/app:v1");
        docker.build(&name, 2)?;
        docker.client(&["push", &name]).fail()?;
        let said = docker_login(&docker, &registry.host, USER, "wrong").fail()?;
        ensure!(said.contains("wrong password"), "{said}");
        docker_login(&docker, &registry.host, USER, PASSWORD).succeed()?;
        let pushed = docker.push(&name)?;

        let other = registry.name("team/app:v1");
        docker.client(&["tag", &name, &other]).succeed()?;
        let output = docker.client(&["push", &other]).text()?;
        ensure!(output.contains("Mounted from public/app"), "nothing was mounted:\n{output}");
        let asked = server.asked(Some(USER));
        let both = |scopes: &Vec<String>| {
            scopes.iter().any(|scope| scope == "repository:public/app:pull")
                && scopes.iter().any(|scope| scope.starts_with("repository:team/app:"))
        };
        ensure!(asked.iter().any(both), "no token was for both repositories: {asked:?}");

        let denied = registry.name("secret/app:v1");
        docker.client(&["tag", &name, &denied]).succeed()?;
        let said = docker.client(&["push", &denied]).fail()?;
        ensure!(said.contains("denied"), "{said}");

        docker.client(&["logout", &registry.host]).succeed()?;
        docker.remove(&name)?;
        let pulled = docker.pull(&name)?;
        ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");
        docker.remove(&other)?;
        let said = docker.client(&["pull", &other]).fail()?;
        ensure!(said.contains("denied"), "{said}");
        Ok(())
    })
}

pub(super) fn others(stage: &Stage) -> Result<()> {
    let (layout, digest) = image::runnable(stage, "tokens")?;
    let source = format!("oci:{}", layout.name("v1"));
    with_token_server(stage, Signature::Elliptic, "", |registry, _| {
        let refused = registry
            .http
            .send("POST", "/v2/team/app/blobs/uploads/", &[], &[] as &[u8])?
            .expect(401)?;
        let challenge = refused.required_header("www-authenticate")?;
        ensure!(
            challenge.ends_with(&format!(
                "service=\"{SERVICE}\",scope=\"repository:team/app:pull,push\""
            )),
            "challenged with {challenge}"
        );

        let skopeo = |arguments: &[&str]| stage.client("skopeo").args(arguments);
        let login = ["login", "--tls-verify=false", "--username", USER, "--password-stdin"];
        skopeo(&login).arg(&registry.host).input("wrong").fail()?;
        skopeo(&login).arg(&registry.host).input(PASSWORD).succeed()?;
        let first = registry.docker_url("public/skopeo:v1");
        skopeo(&["copy", "--dest-tls-verify=false", &source, &first]).succeed()?;
        let copy = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &first];
        skopeo(&copy).arg(registry.docker_url("team/skopeo:v1")).succeed()?;
        let said = skopeo(&copy).arg(registry.docker_url("secret/skopeo:v1")).fail()?;
        ensure!(said.contains("denied"), "{said}");
        skopeo(&["logout", &registry.host]).succeed()?;
        let inspect = ["inspect", "--tls-verify=false"];
        let inspected = skopeo(&inspect).arg(&first).json()?;
        ensure!(text(&inspected, "Digest")? == digest, "{inspected}");
        skopeo(&inspect).arg(registry.docker_url("team/skopeo:v1")).fail()?;

        let first = registry.name("public/crane:v1");
        crane(stage, &["push"]).arg(&layout.folder).arg(&first).fail()?;
        crane(stage, &["auth", "login", &registry.host, "-u", USER, "-p", PASSWORD]).succeed()?;
        crane(stage, &["push"]).arg(&layout.folder).arg(&first).succeed()?;
        let copy = ["copy", &first];
        crane(stage, &copy).arg(registry.name("team/crane:v1")).succeed()?;
        let said = crane(stage, &copy).arg(registry.name("secret/crane:v1")).fail()?;
        ensure!(said.contains("401 Unauthorized"), "{said}");
        crane(stage, &["auth", "logout", &registry.host]).succeed()?;
        ensure!(crane(stage, &["digest", &first]).text()? == digest);
        crane(stage, &["digest"]).arg(registry.name("team/crane:v1")).fail()?;
        Ok(())
    })
}

/// The storage is for Debian's docker-registry, with which this can be tried.
const CLASSES: &str = "
policy: {repository: {classes: [image, plugin]}}
storage: {filesystem: {rootdirectory: unset}}
http: {addr: unset}
";

/// Docker asks for a token for plugins, and gets one for `team/` only.
pub(super) fn plugins(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    let folder = stage.folder("plugin")?;
    image::write_program(&folder.join("rootfs"))?;
    with_token_server(stage, Signature::Rsa, CLASSES, |registry, server| {
        docker_login(&docker, &registry.host, USER, PASSWORD).succeed()?;
        let create = |name: &str| {
            // Docker does not make the same one twice.
            std::fs::write(folder.join("rootfs/name"), name)?;
            let config = json!({
                "description": name, "documentation": "", "entrypoint": ["/bin/busybox"],
                "interface": {"types": ["e2e.nothing/1.0"], "socket": "nothing.sock"},
            });
            std::fs::write(folder.join("config.json"), config.to_string())?;
            docker.client(&["plugin", "create", name]).arg(&folder).succeed()
        };

        let name = registry.name("team/plugin:v1");
        create(&name)?;
        docker.client(&["plugin", "push", &name]).succeed()?;
        let asked = server.asked(Some(USER)).concat();
        let scope = "repository(plugin):team/plugin:pull,push";
        ensure!(asked.iter().any(|asked| asked == scope), "Docker asked for {asked:?}");
        docker.client(&["plugin", "rm", &name]).succeed()?;
        let install = ["plugin", "install", "--disable", "--grant-all-permissions", &name];
        docker.client(&install).succeed()?;

        let denied = registry.name("public/plugin:v1");
        create(&denied)?;
        // What it says is only that its second try, with TLS, went wrong.
        docker.client(&["plugin", "push", &denied]).fail()?;
        let log = registry.log();
        let refused = ["PUT", "/v2/public/plugin/manifests/v1", "403"];
        let is_refusal = |line: &str| refused.iter().all(|part| line.contains(part));
        ensure!(log.lines().any(is_refusal), "no manifest was refused:\n{log}");
        // An image may go there.
        let image = registry.name("public/app:v1");
        docker.build(&image, 1)?;
        docker.push(&image)?;
        Ok(())
    })
}

/// The registry asks for a new key at most every 10 seconds.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn keys_by_url(stage: &Stage) -> Result<()> {
    let server = TokenServer::new(stage, Signature::Elliptic)?;
    let configuration = configuration(&server, "jwks", &server.keys()?)?;
    server.serve(|| {
        stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
            let status = |token: &str| -> Result<u16> {
                let authorization = format!("Bearer {token}");
                let headers = [("authorization", authorization.as_str())];
                Ok(registry.http.send("GET", "/v2/", &headers, &[] as &[u8])?.status())
            };
            let until_good = |token: &str| -> Result<()> {
                wait_until(PATIENCE, || {
                    ensure!(status(token)? == 200, "no token is good:\n{}", registry.log());
                    Ok(())
                })
            };
            ensure!(status(&server.token(None, &[])?)? == 401, "a token without keys is good");
            let log = registry.log();
            ensure!(log.contains("/keys: expected status 200, found 503"), "{log}");

            server.publish("second")?;
            let second = server.token(None, &[])?;
            until_good(&second)?;
            server.publish("third")?;
            until_good(&server.token(None, &[])?)?;
            ensure!(status(&second)? == 401, "a key that is gone is good");
            server.withdraw();
            let last = server.token(None, &[])?;
            ensure!(status(&last)? == 200, "the keys that are known went with the server");
            Ok(())
        })
    })
}
