//! Numbers for Prometheus, beside those of Debian's docker-registry.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::image::{self, Layout};
use crate::registry::Registry;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("metrics: the names and labels of registry:2", 60, names)];

/// How names begin that only the other has: `docs/operate.md` says why.
const ABSENT: [&str; 3] = ["go_", "promhttp_", "registry_storage_cache_"];

/// Dashboards and alerts find what they look for.
fn names(stage: &Stage) -> Result<()> {
    let (layout, digest) = image::runnable(stage, "counted")?;
    let mut peer = stage.start_peer("peer")?;
    use_it(stage, &peer, &layout, &digest)?;
    let expected = series(&peer.metrics()?);
    peer.stop()?;
    stage.with_registry(|registry| {
        use_it(stage, registry, &layout, &digest)?;
        let metrics = registry.metrics()?;
        let found = series(&metrics);
        let missing: Vec<_> = expected
            .difference(&found)
            .filter(|series| !ABSENT.iter().any(|start| series.starts_with(start)))
            .collect();
        ensure!(expected.len() > 40 && missing.is_empty(), "{missing:?} are not in\n{metrics}");
        for action in ["GetContent", "PutContent", "Move"] {
            let line = format!(
                "registry_storage_action_seconds_count{{driver=\"filesystem\",action=\"{action}\"}}"
            );
            ensure!(metrics.contains(&line), "no {line} in\n{metrics}");
        }
        Ok(())
    })
}

/// Something for every handler.
fn use_it(stage: &Stage, registry: &Registry, layout: &Layout, digest: &str) -> Result<()> {
    let name = registry.name("team/app:v1");
    let crane = |arguments: &[&str]| stage.client("crane").arg("--insecure").args(arguments);
    crane(&["push"]).arg(&layout.folder).arg(&name).succeed()?;
    crane(&["validate", "--remote", &name]).succeed()?;
    crane(&["ls", &registry.name("team/app")]).succeed()?;
    crane(&["catalog", &registry.host]).succeed()?;
    crane(&["delete", &registry.name(&format!("team/app@{digest}"))]).succeed()?;
    Ok(())
}

/// Every name with those of its labels, and with the handler, which are the
/// same in both. A status or an action may come in one only.
fn series(metrics: &str) -> BTreeSet<String> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let ids = lines.filter_map(|line| line.rsplit_once(' ').map(|(id, _)| id));
    ids.map(|id| {
        let (name, labels) = id.split_once('{').unwrap_or((id, ""));
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| {
            let (key, _) = label.split_once('=')?;
            Some(if key == "handler" { label } else { key })
        });
        let labels: BTreeSet<&str> = labels.collect();
        format!("{name} {labels:?}")
    })
    .collect()
}
