//! Lists: tags of a repository, repositories of the registry.

use anyhow::{Context as _, ensure};

use super::{Extra, Row};
use crate::http::{Request, Sink};
use crate::load;
use crate::seed::{LIST_LENGTH, TAGS, repository_name, tag_name};
use crate::server::Server;
use crate::unit::Unit;

pub(super) fn rows() -> Vec<Row> {
    let tags = format!("/v2/{TAGS}/tags/list");
    let last_tags = format!("{tags}?n=100&last={}", tag_name(LIST_LENGTH - 101));
    let last_repositories =
        format!("/v2/_catalog?n=100&last={}", repository_name(LIST_LENGTH - 101));
    vec![
        // docker-registry ignores n here and sends all.
        row("tag list of 10,000, n=100", format!("{tags}?n=100"), "tags", 100),
        row("tag list of 10,000, all", tags, "tags", LIST_LENGTH).only(Extra::Long),
        row("catalogue of 10,000, n=100", "/v2/_catalog?n=100".to_owned(), "repositories", 100),
        row("tag list of 10,000, last page", last_tags, "tags", 100),
        row("catalogue of 10,000, last page", last_repositories, "repositories", 100),
    ]
}

fn row(name: &str, target: String, field: &'static str, length: u64) -> Row {
    Row::new(name, Unit::Latency, move |server, pass| {
        let request = Request::new("GET", server.address(), &target, &[]);
        if pass.round == 0 {
            check(server, &request, field, length)?;
        }
        load::run(server, pass.scale.timed(1), |_| {
            let mut client = server.client();
            let request = &request;
            Ok(move |_| Ok(client.send(request, Sink::Discard)?.expect(200, "list")?.received))
        })
    })
    .needs_lists()
}

/// One list, with at least as many entries as were asked for.
fn check(server: &Server, request: &Request, field: &str, length: u64) -> anyhow::Result<()> {
    let mut body = Vec::new();
    server.client().send(request, Sink::Keep(&mut body))?.expect(200, "list")?;
    let list: serde_json::Value = serde_json::from_slice(&body)?;
    let found = list.get(field).and_then(|entries| entries.as_array()).context("no list")?.len();
    ensure!(found as u64 >= length, "expected {length} {field}, found {found}");
    Ok(())
}
