//! Who may do what: password files, rules and token servers, with the clients
//! that log in.

mod autoredirect;
mod flood;
mod passwords;
mod rules;
mod token;
mod token_server;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use data_encoding::BASE64;

use crate::docker::Docker;
use crate::process::Client;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("access: docker login, push, pull and logout", 120, passwords::docker),
    Scenario::new("access: podman, skopeo and crane log in", 120, passwords::others),
    Scenario::new("access: a password file that changes", 60, passwords::changed),
    Scenario::new("access: a password file named by variables", 60, passwords::variables),
    Scenario::new("access: a missing password file is made", 60, passwords::missing),
    Scenario::new("access: everyone may pull, ci may push", 120, rules::docker),
    Scenario::new("access: rules with skopeo, podman and crane", 60, rules::others),
    Scenario::new("access: what rules hide", 60, rules::hidden),
    Scenario::new("access: docker with a token server", 120, token::docker),
    Scenario::new("access: skopeo and crane with a token server", 120, token::others),
    Scenario::new("access: docker pushes a plugin with a token", 120, token::plugins),
    Scenario::new("access: a token server behind the same nginx", 240, autoredirect::behind_nginx),
    Scenario::new("access: a flood of wrong passwords", 120, flood::docker),
    Scenario::new("access: the keys of a token server by URL", 90, token::keys_by_url),
];

/// A password file as Apache's `htpasswd` makes it.
pub(crate) fn password_file(stage: &Stage, users: &[(&str, &str)]) -> Result<PathBuf> {
    let mut lines = String::new();
    for (user, password) in users {
        let line = stage.client("htpasswd").args(["-Bbn", user, password]).text()?;
        lines.push_str(&line);
        lines.push('\n');
    }
    stage.file("htpasswd", lines)
}

/// The value of an `Authorization` header.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

/// `docker login`, with the password as a careful user gives it.
fn docker_login<'a>(docker: &Docker<'a>, host: &str, user: &str, password: &str) -> Client<'a> {
    docker.client(&["login", "--username", user, "--password-stdin", host]).input(password)
}

/// crane, which speaks plain HTTP with an address only if it is told to.
fn crane<'a>(stage: &'a Stage, arguments: &[&str]) -> Client<'a> {
    stage.client("crane").arg("--insecure").args(arguments)
}

/// The password in a log line that shows it once.
fn logged(log: &str, field: &str) -> Result<String> {
    let (_, rest) = log
        .rsplit_once(&format!("{field}="))
        .with_context(|| format!("no {field} in the log:\n{log}"))?;
    Ok(rest.split_whitespace().next().unwrap_or_default().trim_matches('"').to_owned())
}
