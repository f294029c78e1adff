//! YAML, read by Python: nothing else here needs a parser.

use anyhow::Result;
use serde_json::Value;

use crate::process::Client;
use crate::scenario::Stage;

const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/kubernetes-validate");

/// Debian's Python with the packages that `install.sh` has installed for it.
pub(crate) fn python(stage: &Stage) -> Client<'_> {
    stage.client("/usr/bin/python3").env("PYTHONPATH", PACKAGES)
}

/// All documents of a text that are not empty.
pub(crate) fn documents(stage: &Stage, text: &str) -> Result<Vec<Value>> {
    let program = "import json, sys, yaml\n\
                   print(json.dumps([it for it in yaml.safe_load_all(sys.stdin) if it]))";
    let documents = python(stage).args(["-c", program]).input(text).json()?;
    Ok(serde_json::from_value(documents)?)
}
