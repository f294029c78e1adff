//! Who may do what, as clients see it.

// Clippy lets tests panic, but not yet the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod htpasswd;
mod routes;
mod rules;
mod token;

use std::path::Path;
use std::time::Duration;

use auth::htpasswd::{Config, Htpasswd};
use auth::{Access, Action, Rule, Rules, Who};
use data_encoding::BASE64;
use http::Method;

use support::{Answer, TestRegistry};

/// A registry with this access, and images that were there before.
async fn registry_with(access: Access, images: &[&str]) -> TestRegistry {
    let mut registry = TestRegistry::new().await;
    for name in images {
        registry.push_image(name, "v1", name).await;
    }
    let mut config = web::Config::new(None, true);
    config.access = access;
    let service = web::Service::new(registry.registry.clone(), config, web::Metrics::default());
    registry.service = service;
    registry
}

/// Writes a password file with users whose passwords are their names.
fn write_users(path: &Path, users: &[&str]) {
    let line = |user: &&str| format!("{user}:{}\n", bcrypt::hash(user, 4).unwrap());
    std::fs::write(path, users.iter().map(line).collect::<String>()).unwrap();
}

/// Asks until the answer has this status: a changed file of passwords is seen soon, not at once.
async fn get_until(registry: &TestRegistry, target: &str, credentials: &str, status: u16) {
    let ask = async {
        // Wrong passwords are counted.
        while get(registry, target, credentials).await.status != status {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_mins(1), ask).await;
    assert!(found.is_ok(), "GET {target} never has status {status}");
}

fn htpasswd(path: &Path) -> Htpasswd {
    let realm = "Registry Realm".to_owned();
    Htpasswd::new(Config { realm, path: path.to_owned(), count_attempts: None }).unwrap()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

async fn ask(registry: &TestRegistry, method: Method, target: &str, credentials: &str) -> Answer {
    let mut request = registry.request(method, target);
    if !credentials.is_empty() {
        request = request.header("authorization", credentials);
    }
    request.send().await
}

async fn get(registry: &TestRegistry, target: &str, credentials: &str) -> Answer {
    ask(registry, Method::GET, target, credentials).await
}

fn rule(repositories: &[&str], users: &[&str], actions: &[Action]) -> Rule {
    Rule {
        repositories: repositories.iter().map(|text| text.parse().unwrap()).collect(),
        users: users.iter().map(|text| Who::from(*text)).collect(),
        actions: actions.to_vec(),
    }
}

/// Everyone may pull from the library, who is logged in from the teams, and CI may push anywhere.
fn house_rules() -> Rules {
    Rules::new([
        rule(&["library/**"], &["anonymous"], &[Action::Pull]),
        rule(&["team/**"], &["*"], &[Action::Pull]),
        rule(&["**"], &["ci"], &[Action::Push]),
        rule(&["team/app"], &["jo"], &[Action::Push, Action::Delete]),
    ])
}
