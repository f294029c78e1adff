//! Whether anything goes on in a connection that carries many requests.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// What goes on in a connection of HTTP/2. Clones share it.
///
/// In HTTP/1, a client that sends no request or takes no answer leaves the socket idle or full, and
/// that is seen there. In HTTP/2 it can keep the socket busy and not allow a byte of an answer to
/// leave.
#[derive(Clone, Default)]
pub(crate) struct Activity {
    shared: Arc<Mutex<State>>,
}

struct State {
    /// Requests that were not answered to the end.
    requests: usize,
    /// Among them answers that are on their way.
    answers: usize,
    /// When a request or a piece of an answer last came or went.
    last: Instant,
}

impl Default for State {
    fn default() -> Self {
        Self { requests: 0, answers: 0, last: Instant::now() }
    }
}

/// A request; it ends when this goes.
pub(crate) struct RequestActivity(Activity);

/// The body of an answer that is on its way.
pub(crate) struct WatchedBody<B> {
    body: B,
    request: RequestActivity,
}

impl Activity {
    /// A request has come.
    pub(crate) fn begin(&self) -> RequestActivity {
        let mut state = self.state();
        state.requests += 1;
        state.last = Instant::now();
        RequestActivity(self.clone())
    }

    /// Ends when there has been no request for `idle`, or when no answer has gone on for `stall`
    /// though there are some.
    pub(crate) async fn stopped(&self, idle: Duration, stall: Duration) {
        loop {
            let end = {
                let state = self.state();
                match (state.requests, state.answers) {
                    (0, _) => Some(state.last + idle),
                    // The server is at work, or waits for a body, which has its own patience.
                    (_, 0) => None,
                    _ => Some(state.last + stall),
                }
            };
            let now = Instant::now();
            match end {
                Some(end) if end <= now => return,
                Some(end) => tokio::time::sleep_until(end).await,
                None => tokio::time::sleep(idle.min(stall)).await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestActivity {
    /// The answer begins.
    pub(crate) fn watch<B>(self, body: B) -> WatchedBody<B> {
        let mut state = self.0.state();
        state.answers += 1;
        state.last = Instant::now();
        drop(state);
        WatchedBody { body, request: self }
    }
}

impl Drop for RequestActivity {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        state.last = Instant::now();
    }
}

impl<B> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        self.request.0.state().answers -= 1;
    }
}

impl<B: Body + Unpin> Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.request.0.state().last = Instant::now();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    const IDLE: Duration = Duration::from_mins(1);
    const STALL: Duration = Duration::from_secs(30);

    async fn time_of(activity: &Activity) -> Duration {
        let begin = Instant::now();
        activity.stopped(IDLE, STALL).await;
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_ends() {
        let activity = Activity::default();
        assert_eq!(time_of(&activity).await.as_secs(), 60);
        drop(activity.begin());
        assert_eq!(time_of(&activity).await.as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_waited_for_and_a_stalled_answer_is_not() {
        let activity = Activity::default();
        let request = activity.begin();
        let waiting = tokio::time::timeout(10 * IDLE, activity.stopped(IDLE, STALL));
        assert!(waiting.await.is_err());
        let body = request.watch(Full::new(bytes::Bytes::from_static(b"layer")));
        assert_eq!(time_of(&activity).await.as_secs(), 30);
        body.collect().await.unwrap();
        assert_eq!(time_of(&activity).await.as_secs(), 60);
    }
}
