//! Requests by curl, for what [`crate::http`] does not speak: TLS, HTTP/2,
//! unix sockets.

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::Client;
use crate::scenario::Stage;

/// What curl printed of an answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// `1.1` or `2`.
    pub(crate) version: String,
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Stage {
    pub(crate) fn curl(&self) -> Client<'_> {
        self.client("curl").args(["--silent", "--show-error", "--include", "--max-time", "30"])
    }
}

impl Client<'_> {
    /// Runs it; it must get an answer with this status.
    pub(crate) fn reply(self, status: u16) -> Result<Reply> {
        let printed = self.text()?;
        let reply = parse(&printed).with_context(|| format!("not an answer: {printed}"))?;
        ensure!(reply.status == status, "expected {status}, found {printed}");
        Ok(reply)
    }
}

impl Reply {
    /// The values of a header that may be there several times.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Result<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        match found.next() {
            Some((_, value)) => Ok(value),
            None => bail!("no {name} header in {self:?}"),
        }
    }
}

fn parse(printed: &str) -> Option<Reply> {
    let mut text = printed.replace('\r', "");
    // What came before the answer: 100 Continue.
    while text.starts_with("HTTP/1.1 100") {
        text = text.split_once("\n\n")?.1.to_owned();
    }
    let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let version = first.next()?.strip_prefix("HTTP/")?.to_owned();
    let status = first.next()?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Some(Reply { version, status, headers, body: body.to_owned() })
}
