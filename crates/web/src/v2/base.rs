//! `/v2/`: is this a registry, and may I?

use http::{Method, StatusCode};

use crate::error::{Error, Result};
use crate::service::{Request, json};

pub(crate) fn handle(request: &Request<'_>) -> Result {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(json(StatusCode::OK, "{}".to_owned())),
        _ => Err(Error::method(&[Method::GET, Method::HEAD])),
    }
}
