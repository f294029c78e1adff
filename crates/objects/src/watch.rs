//! Who hears of the requests that are sent to a store.

use std::fmt;
use std::sync::Arc;

use ::http::{Method, StatusCode};

/// Is told of each request, also of those that are repeats.
#[derive(Clone, Default)]
pub struct Watch(Option<Arc<Tell>>);

type Tell = dyn Fn(&Method, Outcome) + Send + Sync;

/// What has become of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was answered.
    Answered(StatusCode),
    /// There was no answer.
    Failed,
    /// It was answered, and the answer broke off.
    Broken,
}

impl Outcome {
    /// What it is called where outcomes are counted.
    pub fn label(self) -> &'static str {
        match self {
            Self::Answered(status) if status.is_server_error() => "5xx",
            Self::Answered(status) if status.is_client_error() => "4xx",
            Self::Answered(status) if status.is_redirection() => "3xx",
            Self::Answered(_) => "2xx",
            Self::Failed => "failed",
            Self::Broken => "broken",
        }
    }
}

impl Watch {
    /// Calls `tell` when it is known what has become of a request. One whose answer broke off has
    /// been answered before.
    pub fn new(tell: impl Fn(&Method, Outcome) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(crate) fn tell(&self, method: &Method, outcome: Outcome) {
        if let Some(tell) = &self.0 {
            tell(method, outcome);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
