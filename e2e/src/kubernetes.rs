//! The Helm chart of `deploy/helm`, as far as it can be tried without a
//! cluster: it is linted and rendered, what comes out is compared with
//! Kubernetes' schemas, and Orlop is started with the configuration in it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::guide::DEPLOY;
use crate::http::{array, text};
use crate::process::Client;
use crate::registry::Setup;
use crate::scenario::{Scenario, Stage};
use crate::yaml;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("kubernetes: the chart, linted and rendered", 180, chart),
    Scenario::new("kubernetes: values that would lose data are refused", 60, refusals),
    Scenario::new("kubernetes: plain manifests are what the chart renders", 60, manifests),
];

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/orlop");
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes");

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

/// The first version that the chart is for, and the newest whose schemas there
/// are.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];

/// Everything that can be switched on.
const EVERYTHING: &str = "
secret:
  REGISTRY_DATABASE_URL: postgres://orlop:secret@db.example.com/orlop
  REGISTRY_STORAGE_AZURE_ACCOUNTKEY: c2VjcmV0
config:
  storage:
    azure: {accountname: images, container: images}
    maintenance: {uploadpurging: {age: 24h}}
autoscaling: {enabled: true}
tls: {secretName: orlop-tls}
htpasswd: {secretName: orlop-htpasswd}
drain: {waitSeconds: 5, seconds: 30}
ingress:
  enabled: true
  className: nginx
  hosts: [registry.example.com]
  tls: [{hosts: [registry.example.com], secretName: registry-tls}]
networkPolicy:
  enabled: true
  monitoring: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
metrics:
  serviceMonitor: {enabled: true, labels: {release: prometheus}}
  prometheusRule: {enabled: true}
  dashboard: {enabled: true}
extraEnv: [{name: AWS_REGION, value: eu-west-1}]
extraVolumes: [{name: scratch, emptyDir: {}}]
extraVolumeMounts: [{name: scratch, mountPath: /scratch}]
imagePullSecrets: [{name: pull}]
tolerations: [{operator: Exists}]
nodeSelector: {kubernetes.io/os: linux}
priorityClassName: high
podLabels: {azure.workload.identity/use: 'true'}
";

/// A cache on disk, for which there is nothing but a folder of the node.
const CACHE: &str = "
existingSecret: orlop-secrets
config:
  storage:
    gcs: {bucket: images}
    cache: {disk: {path: /var/cache/orlop, maxsize: 20GiB}}
";

/// One server whose database is a file on a volume of its own.
const FILE: &str = "
config:
  storage: {s3: {bucket: a, region: b}}
  database: {url: 'sqlite:///facts/metadata.sqlite'}
extraVolumes: [{name: facts, persistentVolumeClaim: {claimName: facts}}]
extraVolumeMounts: [{name: facts, mountPath: /facts}]
";

/// Several servers on a volume that all of them mount.
const SHARED_VOLUME: &str = "
replicas: 2
existingSecret: orlop-secrets
persistence: {accessModes: [ReadWriteMany], storageClassName: shared}
";

fn chart(stage: &Stage) -> Result<()> {
    let version = stage.client(&stage.binary().to_string_lossy()).arg("--version").text()?;
    let shown = helm(stage, "show").args(["chart", CHART]).text()?;
    let app_version = version.trim_start_matches("orlop ");
    ensure!(shown.contains(&format!("appVersion: {app_version}")), "{version}, but {shown}");

    let replicated = DEPLOY.block("yaml", "existingSecret")?;
    let kinds = |values: &str| -> Result<Vec<String>> {
        let file = stage.file("values.yaml", values)?;
        let linted = helm(stage, "lint").args(["--strict", CHART, "--values"]).arg(&file).text()?;
        ensure!(!linted.contains("WARNING"), "{linted}");
        let rendered = Rendered::new(stage, &file)?;
        rendered.check_schemas()?;
        rendered.check_pods()?;
        rendered.check_configuration()?;
        rendered.check_rules()?;
        rendered
            .documents
            .iter()
            .map(|document| text(document, "kind").map(str::to_owned))
            .collect()
    };
    let has = |kinds: &[String], kind: &str| kinds.iter().any(|found| found == kind);

    let single = kinds("")?;
    ensure!(has(&single, "PersistentVolumeClaim"), "{single:?}");
    ensure!(!has(&single, "Secret") && !has(&single, "PodDisruptionBudget"), "{single:?}");
    let replicated = kinds(&replicated)?;
    ensure!(has(&replicated, "PodDisruptionBudget"), "{replicated:?}");
    ensure!(!has(&replicated, "PersistentVolumeClaim"), "{replicated:?}");
    let shared = kinds(SHARED_VOLUME)?;
    ensure!(has(&shared, "PersistentVolumeClaim"), "{shared:?}");
    kinds(CACHE)?;
    kinds(FILE)?;
    let everything = kinds(EVERYTHING)?;
    for kind in ["Secret", "Ingress", "HorizontalPodAutoscaler", "NetworkPolicy", "ServiceMonitor"]
    {
        ensure!(has(&everything, kind), "no {kind} among {everything:?}");
    }
    serves(stage)
}

/// Orlop runs with the configuration of the default values, and answers where
/// the probes ask.
fn serves(stage: &Stage) -> Result<()> {
    let rendered = Rendered::new(stage, &stage.file("values.yaml", "")?)?;
    let configuration = rendered.configuration()?;
    let container = rendered.container()?;
    let strategy = |values: &str| -> Result<Value> {
        let rendered = Rendered::new(stage, &stage.file("values.yaml", values)?)?;
        Ok(at(rendered.find("Deployment")?, "/spec/strategy/type")?.clone())
    };
    ensure!(strategy("")? == "Recreate" && strategy(FILE)? == "Recreate", "two at a time");
    ensure!(strategy(SHARED_VOLUME)? == "RollingUpdate" && strategy(CACHE)? == "RollingUpdate");
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = at(container, &format!("/{probe}/httpGet/path"))?;
            registry.operators(path.as_str().context("a path")?)?.expect(200)?;
        }
        Ok(())
    })
}

fn refusals(stage: &Stage) -> Result<()> {
    let store = "config.storage.s3={\"bucket\": \"a\", \"region\": \"b\"}";
    for (values, message) in [
        (&["replicas=2"][..], "need PostgreSQL"),
        (&["existingSecret=a", "replicas=2"], "need an object store"),
        (&["secret.REGISTRY_DATABASE_URL=postgres://a@b/c", "replicas=2"], "an object store"),
        (&["autoscaling.enabled=true"], "need PostgreSQL"),
        (&["config.storage.s3.bucket=a"], "need PostgreSQL"),
        (&["config.http.addr=:80"], "config/http/addr"),
        (&["config.http.draintimeout=1s"], "config/http/draintimeout"),
        (&["config.storage=inmemory"], "config/storage"),
        (&["config.storage.s3.bucket=a", "config.storage.gcs.bucket=a"], "s3 gcs"),
        (&["existingSecret=a", "secret.REGISTRY_HTTP_SECRET=b"], "existingSecret and secret"),
        (&["config.database.url=postgres://a:b@c/d", "replicas=2"], "REGISTRY_DATABASE_URL"),
        (&["config.database.url=sqlite:///a", "replicas=2"], "a file of SQLite"),
        (&["secret.REGISTRY_DATABASE_URL=sqlite:///a", "autoscaling.enabled=true"], "of SQLite"),
        (&["existingSecret=a", "replicas=2", "config.storage.inmemory.a=b"], "is in memory"),
        (&["persistence.size=20GB"], "persistence/size"),
        (&["replica=2"], "replica"),
        (&["persistence.accessModes={ReadOnlyMany}"], "accessModes"),
        (&["ingress.enabled=true"], "ingress.hosts"),
    ] {
        let set = values.iter().flat_map(|value| ["--set", value]);
        let said = helm(stage, "template").args(["orlop", CHART]).args(set).fail()?;
        ensure!(said.contains(message), "{values:?}: {said}");
    }
    let scaled = ["autoscaling.enabled=true", "autoscaling.minReplicas=11", "existingSecret=a"];
    let set = scaled.iter().flat_map(|value| ["--set", value]);
    let said =
        helm(stage, "template").args(["orlop", CHART, "--set-json", store]).args(set).fail()?;
    ensure!(said.contains("more than maxReplicas"), "{said}");
    for key in secret_keys()? {
        let value = format!("config.{key}=hidden");
        let said = helm(stage, "template").args(["orlop", CHART, "--set", &value]).fail()?;
        let variable = format!("REGISTRY_{}", key.replace('.', "_").to_uppercase());
        // Only the command line has the value.
        let shown = said.matches("hidden").count();
        ensure!(said.contains(&variable) && shown == 1, "{key}: {said}");
    }
    let given = ["--set-json", store, "--set", "existingSecret=a"];
    helm(stage, "template").args(["orlop", CHART]).args(given).succeed()?;
    Ok(())
}

/// What docs/configuration.md calls a secret, but for lists, which have no variable of their own.
fn secret_keys() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(CONFIGURATION)?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | secret |"));
    let keys = rows.map(|(key, _)| key.split(".<").next().unwrap_or(key).to_owned());
    let keys = keys.filter(|key| !key.contains("[]")).collect::<Vec<_>>();
    ensure!(keys.len() > 10, "{keys:?}");
    Ok(keys)
}

fn manifests(stage: &Stage) -> Result<()> {
    let values = Path::new(MANIFESTS).join("values.yaml");
    let rendered = Rendered::new(stage, &values)?;
    let kept = std::fs::read_to_string(Path::new(MANIFESTS).join("orlop.yaml"))?;
    ensure!(
        kept.trim_end() == rendered.text,
        "deploy/kubernetes/orlop.yaml is not what the chart renders: run the command in \
         deploy/kubernetes/values.yaml"
    );
    Ok(())
}

/// What the chart makes of a file of values.
struct Rendered<'a> {
    stage: &'a Stage,
    text: String,
    documents: Vec<Value>,
}

impl<'a> Rendered<'a> {
    fn new(stage: &'a Stage, values: &Path) -> Result<Self> {
        let text = helm(stage, "template")
            .args(["orlop", CHART, "--namespace", "registry", "--values"])
            .arg(values)
            .text()?;
        let documents = yaml::documents(stage, &text)?;
        Ok(Self { stage, text, documents })
    }

    fn find(&self, kind: &str) -> Result<&Value> {
        let mut found = self.documents.iter().filter(|document| document["kind"] == kind);
        found.next().with_context(|| format!("no {kind} in\n{}", self.text))
    }

    fn container(&self) -> Result<&Value> {
        at(self.find("Deployment")?, "/spec/template/spec/containers/0")
    }

    fn configuration(&self) -> Result<String> {
        let text = at(self.find("ConfigMap")?, "/data/config.yml")?;
        Ok(text.as_str().context("config.yml is no text")?.to_owned())
    }

    /// No field is unknown to Kubernetes, and none is of another type.
    fn check_schemas(&self) -> Result<()> {
        let file = self.stage.file("rendered.yaml", &self.text)?;
        for version in VERSIONS {
            let outcome = yaml::python(self.stage)
                .args(["-m", "kubernetes_validate", "--strict", "-k", version])
                .arg(&file)
                .succeed()?;
            let said = String::from_utf8([outcome.stdout, outcome.stderr].concat())?;
            let passed = said.matches(" passed for resource ").count();
            // There are no schemas of what Prometheus' operator adds.
            let unknown = said.matches("monitoring.coreos.com").count();
            ensure!(passed + unknown == self.documents.len(), "{version}: {said}");
        }
        Ok(())
    }

    /// Nobody's user, nothing written, time to end, and a place for each mount.
    fn check_pods(&self) -> Result<()> {
        let pod = at(self.find("Deployment")?, "/spec/template/spec")?;
        let container = self.container()?;
        ensure!(at(pod, "/securityContext/runAsNonRoot")? == true, "{pod}");
        ensure!(at(container, "/securityContext/readOnlyRootFilesystem")? == true, "{pod}");
        ensure!(at(pod, "/automountServiceAccountToken")? == false, "{pod}");
        let volumes = array(pod, "volumes").iter().map(|volume| &volume["name"]);
        let mounts = array(container, "volumeMounts").iter().map(|mount| &mount["name"]);
        ensure!(volumes.eq(mounts), "{pod}");

        let seconds = |value: &Value| value.as_u64().context("no number of seconds");
        let grace = seconds(at(pod, "/terminationGracePeriodSeconds")?)?;
        let pause = seconds(at(container, "/lifecycle/preStop/sleep/seconds")?)?;
        let configuration = self.configuration()?;
        let drain = configuration.split("draintimeout: ").nth(1).context("no draintimeout")?;
        let drain = drain.split('s').next().context("no seconds")?.parse::<u64>()?;
        ensure!(grace > pause + drain, "{grace} s for {pause} s and {drain} s");
        Ok(())
    }

    /// Orlop finds nothing wrong in `config.yml` and the variables of the
    /// Secret, not even a key that it does not know.
    fn check_configuration(&self) -> Result<()> {
        let file = self.stage.file("rendered-config.yml", self.configuration()?)?;
        let orlop = self
            .stage
            .client(&self.stage.binary().to_string_lossy())
            .args(["config", "check", "--strict"])
            .arg(&file)
            .env("REGISTRY_DATABASE_URL", "postgres://orlop@db.example.com/orlop");
        let secret = self.find("Secret").and_then(|secret| at(secret, "/stringData")).ok();
        let variables = secret.and_then(Value::as_object).into_iter().flatten();
        let orlop = variables.fold(orlop, |orlop, (name, value)| {
            orlop.env(name, value.as_str().unwrap_or_default())
        });
        orlop.succeed()?;
        Ok(())
    }

    /// The alerts are those of the file, whole.
    fn check_rules(&self) -> Result<()> {
        let Ok(rule) = self.find("PrometheusRule") else { return Ok(()) };
        let rules = self.stage.file("rendered-rules.json", at(rule, "/spec")?.to_string())?;
        self.stage.client("promtool").args(["check", "rules"]).arg(rules).succeed()?;
        Ok(())
    }
}

fn at<'a>(value: &'a Value, pointer: &str) -> Result<&'a Value> {
    value.pointer(pointer).with_context(|| format!("no {pointer} in {value}"))
}

fn helm<'a>(stage: &'a Stage, verb: &str) -> Client<'a> {
    stage.client("helm").arg(verb)
}
