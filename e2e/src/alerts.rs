//! The alerts and the dashboard of `deploy`: their own tools find nothing wrong
//! in them, and a real Prometheus that asks a real Orlop finds every number
//! that they name.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::guide::OPERATE;
use crate::http::{Http, array, text};
use crate::ports::free_port;
use crate::postgres::Database;
use crate::process::Daemon;
use crate::registry::Setup;
use crate::scenario::{Scenario, Stage, wait_until};
use crate::{image, yaml};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("alerts: promtool's checks and tests of the rules", 60, rules),
    Scenario::new("alerts: Prometheus has what alerts and dashboard ask for", 120, numbers),
];

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus");
const TESTS: &str = include_str!("../../deploy/prometheus/rules.test.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/orlop.json");

/// One in which each number has a reason to be there.
const CONFIGURATION: &str = "
version: 0.1
auth: {htpasswd: {realm: registry, path: htpasswd}}
health: {storagedriver: {enabled: true}}
";
const PASSWORD: &str = "testpassword";

fn rules(stage: &Stage) -> Result<()> {
    let promtool = |what: [&str; 3]| {
        let (verb, file) = (&what[..2], Path::new(FOLDER).join(what[2]));
        stage.client("promtool").args(verb).arg(file).succeed()
    };
    promtool(["check", "rules", "rules.yml"])?;
    promtool(["test", "rules", "rules.test.yml"])?;
    for alert in alerts(stage)? {
        let name = text(&alert, "alert")?;
        ensure!(TESTS.contains(&format!("alertname: {name}\n")), "{name} has no test");
        ensure!(OPERATE.contains(&format!("`{name}`")), "docs/operate.md does not explain {name}");
    }
    Ok(())
}

fn numbers(stage: &Stage) -> Result<()> {
    let line = stage.client("htpasswd").args(["-Bbn", "testuser", PASSWORD]).text()?;
    stage.file("htpasswd", line)?;
    let operators = format!("127.0.0.1:{}", free_port()?);
    let database = Database::start(stage)?;
    let mut setup = Setup { configuration: Some(CONFIGURATION), ..database.setup() };
    setup.environment.push(("REGISTRY_HTTP_DEBUG_ADDR", operators.clone()));
    stage.with_registry_set_up(&setup, |registry| {
        let prometheus = Prometheus::start(stage, &operators)?;
        let (layout, _) = image::runnable(stage, "watched")?;
        let name = registry.name("team/app:v1");
        let crane = |arguments: &[&str]| stage.client("crane").arg("--insecure").args(arguments);
        let login = ["auth", "login", &registry.host, "--username", "testuser", "--password"];
        crane(&login).arg(PASSWORD).succeed()?;
        let traffic = || {
            crane(&["push"]).arg(&layout.folder).arg(&name).succeed()?;
            crane(&["validate", "--remote", &name]).succeed()?;
            crane(&["ls", &registry.name("team/app")]).succeed()
        };
        traffic()?;

        let metrics = Http::new(&operators, stage.remaining()?).get("/metrics")?.expect(200)?;
        let metrics = String::from_utf8(metrics.body)?;
        for alert in alerts(stage)? {
            for name in names(text(&alert, "expr")?) {
                ensure!(metrics.contains(&format!("\n{name}")), "{alert}: there is no {name}");
            }
        }
        for (panel, query) in queries()? {
            wait_until(Duration::from_secs(30), || {
                traffic()?;
                let answer = prometheus.ask(&query)?;
                ensure!(!array(&answer, "result").is_empty(), "{panel}: {query}: {answer}");
                Ok(())
            })?;
        }
        prometheus.is_quiet()
    })
}

/// The names of Orlop's numbers in a query.
fn names(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| ["orlop_", "registry_", "process_"].iter().any(|it| word.starts_with(it)))
}

fn alerts(stage: &Stage) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(Path::new(FOLDER).join("rules.yml"))?;
    let documents = yaml::documents(stage, &text)?;
    let groups = documents.first().context("no rules")?;
    let rules = array(groups, "groups").iter().flat_map(|group| array(group, "rules")).cloned();
    Ok(rules.collect())
}

/// The title of each panel of the dashboard with each of its queries, as
/// Grafana would send it.
fn queries() -> Result<Vec<(String, String)>> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let mut queries = Vec::new();
    for panel in array(&dashboard, "panels") {
        for target in array(panel, "targets") {
            let query = text(target, "expr")?;
            ensure!(query.contains(r#"{job=~"$job", instance=~"$instance""#), "{query}");
            let query = query.replace("$job", "orlop").replace("$instance", ".+");
            let query = query.replace("$__rate_interval", "15s");
            ensure!(!query.contains('$'), "an unknown variable in {query}");
            queries.push((text(panel, "title")?.to_owned(), query));
        }
    }
    ensure!(queries.len() > 20, "{queries:?}");
    Ok(queries)
}

/// A Prometheus that asks one Orlop every second, with the alerts.
struct Prometheus {
    process: Daemon,
    http: Http,
}

impl Prometheus {
    fn start(stage: &Stage, operators: &str) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let configuration = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [Path::new(FOLDER).join("rules.yml")],
            "scrape_configs": [
                {"job_name": "orlop", "static_configs": [{"targets": [operators]}]},
            ],
        });
        let file = stage.file("prometheus.yml", configuration.to_string())?;
        let mut process = stage.daemon("prometheus", "prometheus", |command| {
            command
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", stage.path("prometheus").display()))
                .arg(format!("--web.listen-address={address}"));
        })?;
        let http = Http::new(&address, stage.remaining()?);
        wait_until(Duration::from_secs(30), || {
            process.is_running()?;
            http.get("/-/ready")?.expect(200)
        })?;
        Ok(Self { process, http })
    }

    /// What its interface says.
    fn data(&self, path: &str) -> Result<Value> {
        let mut answer = self.http.get(&format!("/api/v1/{path}"))?.expect(200)?.json()?;
        answer.get_mut("data").map(Value::take).context("an answer without data")
    }

    fn ask(&self, query: &str) -> Result<Value> {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        self.data(&format!("query?query={query}"))
    }

    /// It could work out every rule, and none of them gives an alarm.
    fn is_quiet(&self) -> Result<()> {
        let rules = self.data("rules")?;
        let groups = array(&rules, "groups").iter();
        let rules = groups.flat_map(|group| array(group, "rules")).collect::<Vec<_>>();
        ensure!(rules.len() >= 10, "{rules:?}{}", self.process.log_tail());
        for rule in rules {
            let is = |name: &str, value: &str| rule.get(name).is_some_and(|found| found == value);
            ensure!(is("health", "ok") && is("state", "inactive"), "{rule}");
        }
        Ok(())
    }
}
