//! The official OCI conformance suite: everything on, nothing failed, nothing
//! skipped.

use anyhow::{Context as _, Result, ensure};

use crate::registry::Setup;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("conformance: version 1.1", 180, version_1_1),
    Scenario::new("conformance: version dev", 180, version_dev),
    Scenario::new("conformance: version dev, sparse", 180, sparse),
];

/// Lets a manifest name layers, and an index images, that are not there; and
/// layers that are kept elsewhere, as without a configuration.
const SPARSE: &str = "
version: 0.1
validation:
  manifests:
    indexes: {platforms: none}
    images: {blobs: none}
    urls: {allow: ['^https?://']}
";

/// How many bad checks are told; one fault can make hundreds.
const COMPLAINTS: usize = 30;

/// What version 1.1 leaves off, though a registry may have it.
const OPTIONAL: [&str; 4] = [
    "OCI_API_BLOBS_UPLOAD_CANCEL",
    "OCI_API_BLOBS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_TAG_PARAM",
];

fn version_1_1(stage: &Stage) -> Result<()> {
    run(stage, "1.1", false)
}

fn version_dev(stage: &Stage) -> Result<()> {
    run(stage, "dev", false)
}

fn sparse(stage: &Stage) -> Result<()> {
    run(stage, "dev", true)
}

fn run(stage: &Stage, version: &str, sparse: bool) -> Result<()> {
    // Of an object store's answers, which are none of ours, the suite would ask for headers.
    let environment = vec![("REGISTRY_STORAGE_REDIRECT_DISABLE", "true".to_owned())];
    let configuration = sparse.then_some(SPARSE);
    let setup = Setup { configuration, environment, ..Setup::default() };
    stage.with_registry_set_up(&setup, |registry| {
        let folder = stage.path("results");
        let mut suite = stage
            .client("conformance")
            .env("OCI_REGISTRY", &registry.host)
            .env("OCI_TLS", "disabled")
            .env("OCI_VERSION", version)
            .env("OCI_DATA_SPARSE", sparse.to_string())
            .env("OCI_RESULTS_DIR", &folder);
        for name in OPTIONAL {
            suite = suite.env(name, "true");
        }
        // Its exit code says less than its reports.
        let ended = suite.outcome()?;
        let read = |name| {
            std::fs::read_to_string(folder.join(name))
                .with_context(|| format!("the suite wrote no {name}:{}", ended.said()))
        };
        let (rows, checks) = (read("results.yaml")?, read("junit.xml")?);
        let mut complaints = bad_rows(&rows, sparse);
        complaints.extend(bad_checks(&checks)?);
        ensure!(complaints.is_empty(), "the suite is not content:{}", complaints.concat());
        Ok(())
    })
}

/// `results.yaml` ends with a status for every API and kind of data. Only
/// sparse manifests may be switched off, and only where they are not tested.
fn bad_rows(results: &str, sparse: bool) -> Vec<String> {
    let rows = results.lines().filter_map(|line| line.split_once(": "));
    rows.filter(|(name, status)| match *status {
        "FAIL" | "Skip" | "Error" => true,
        "Disabled" => sparse || name.trim() != "Sparse Manifests",
        _ => false,
    })
    .map(|(name, status)| format!("\n    {status} {}", name.trim()))
    .collect()
}

/// `junit.xml` has the totals, and an element for every check.
fn bad_checks(report: &str) -> Result<Vec<String>> {
    let totals = report
        .split_once("<testsuite ")
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or(report, |(tag, _)| tag);
    let checks: usize = attribute(totals, "tests")
        .and_then(|count| count.parse().ok())
        .context("the suite does not say how many checks it made")?;
    ensure!(checks > 700, "the suite made only {checks} checks");
    let mut bad: Vec<String> = ["failures", "errors", "skipped", "disabled"]
        .iter()
        .filter_map(|name| Some((name, attribute(totals, name)?)))
        .filter(|(_, count)| count != "0")
        .map(|(name, count)| format!("\n    {count} {name} in {checks} checks"))
        .collect();
    let checks = report.split("<testcase ").skip(1);
    bad.extend(checks.filter_map(complaint).take(COMPLAINTS));
    Ok(bad)
}

/// What to print of a check that did not pass.
fn complaint(check: &str) -> Option<String> {
    let status = attribute(check, "status")?;
    if status == "passed" {
        return None;
    }
    let name = attribute(check, "name")?;
    let said = check
        .split_once("<system-out>")
        .and_then(|(_, rest)| rest.split_once("</system-out>"))
        .map_or(String::new(), |(said, _)| unescape(said));
    Some(format!("\n    {status} {name}: {}", said.trim().replace('\n', "; ")))
}

/// The value of an attribute of an XML element's opening tag.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(unescape(value))
}

fn unescape(text: &str) -> String {
    text.replace("&#xA;", "\n")
        .replace("&#x9;", " ")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_row_that_was_not_tested_may_be_disabled() {
        let rows = "apis:\n  Ping: Pass\n  Tag delete: Skip\ndata:\n  Image: FAIL\n  \
                    Tag Param: Disabled\n  Sparse Manifests: Disabled\n";
        assert_eq!(
            bad_rows(rows, false),
            ["\n    Skip Tag delete", "\n    FAIL Image", "\n    Disabled Tag Param"]
        );
        assert_eq!(bad_rows(rows, true).len(), 4);
    }

    #[test]
    fn a_failed_check_is_told_with_what_the_suite_said() {
        let report = "<testsuites tests=\"800\" failures=\"1\">\n\
             <testsuite name=\"t\" tests=\"800\" failures=\"1\" errors=\"0\">\n\
             <testcase name=\"t/ping\" status=\"passed\"></testcase>\n\
             <testcase name=\"t/get\" status=\"failure\">\
             <system-out>expected [200]&#xA;found &lt;404&gt;</system-out></testcase>";
        assert_eq!(
            bad_checks(report).unwrap(),
            ["\n    1 failures in 800 checks", "\n    failure t/get: expected [200]; found <404>"]
        );
    }

    #[test]
    fn a_report_of_few_checks_is_no_pass() {
        let report = "<testsuite name=\"t\" tests=\"12\" failures=\"0\" errors=\"0\">";
        assert!(bad_checks(report).is_err());
    }
}
