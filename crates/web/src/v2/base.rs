//! `/v2/`: is this a registry, and may I?

use http::StatusCode;

use crate::Response;
use crate::service::json;

pub(crate) fn handle() -> Response {
    json(StatusCode::OK, "{}".to_owned())
}
