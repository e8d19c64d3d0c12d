//! TokenReviews and SubjectAccessReviews by the API server.

use std::time::Duration;

use crate::http::User;
use crate::http::attributes::Attributes;
use crate::http::reviews::{self, AccessReviewer, AccessVerdict, ReviewError, TokenReviewer, TokenVerdict};
use crate::kube::client::Client;
use crate::kube::error::Error;
use crate::kube::request::Resource;

const TOKEN_REVIEWS: Resource = Resource::new("authentication.k8s.io", "v1", "tokenreviews", false);
const ACCESS_REVIEWS: Resource = Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews", false);
/// Attempts per review, 100 ms apart. An API server that restarts is back within seconds, but each waiting request
/// occupies a worker.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// Asks the API server for reviews.
pub(super) struct Reviewer {
    pub(super) client: Client,
}

impl Reviewer {
    fn ask(&self, resource: &Resource, body: &[u8]) -> Result<Vec<u8>, ReviewError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let sent = resource
                .create(None, body.to_vec())
                .map_err(Error::from)
                .and_then(|request| self.client.send(&request));
            match sent {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_retryable() && tries < TRIES => std::thread::park_timeout(PAUSE),
                Err(error) => return Err(ReviewError::Ask(error.to_string())),
            }
        }
    }
}

impl TokenReviewer for Reviewer {
    fn review(&self, token: &str) -> Result<TokenVerdict, ReviewError> {
        reviews::read_token_review(&self.ask(&TOKEN_REVIEWS, &reviews::token_review(token))?)
    }
}

impl AccessReviewer for Reviewer {
    fn review(&self, user: &User, attributes: &Attributes) -> Result<AccessVerdict, ReviewError> {
        reviews::read_access_review(&self.ask(&ACCESS_REVIEWS, &reviews::access_review(user, attributes))?)
    }
}
