//! TokenReviews and SubjectAccessReviews by the API server.

use std::time::{Duration, Instant};

use crate::http::User;
use crate::http::attributes::Attributes;
use crate::http::reviews::{self, AccessReviewer, AccessVerdict, ReviewError, TokenReviewer, TokenVerdict};
use crate::kube::client::Client;
use crate::kube::error::Error;
use crate::kube::request::Resource;

const TOKEN_REVIEWS: Resource = Resource::new("authentication.k8s.io", "v1", "tokenreviews", false);
const ACCESS_REVIEWS: Resource = Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews", false);
/// Attempts per review, 100 ms apart unless the API server asks for a longer pause. One that restarts is back within
/// seconds, but each waiting request occupies a worker.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// For all attempts together: the deadline that a handler may take for a review.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks the API server for reviews.
pub(super) struct Reviewer {
    client: Client,
    limit: Duration,
}

impl Reviewer {
    pub(super) fn new(client: Client) -> Self {
        Self { client, limit: LIMIT }
    }

    fn ask(&self, resource: &Resource, body: &[u8]) -> Result<Vec<u8>, ReviewError> {
        let ends_at = Instant::now() + self.limit;
        let left = || ends_at.saturating_duration_since(Instant::now());
        let mut tries = 0;
        loop {
            tries += 1;
            let sent = resource
                .create(None, body.to_vec())
                .map_err(Error::from)
                .and_then(|request| self.client.send_within(&request, left()));
            let error = match sent {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = error.retry_after().unwrap_or(PAUSE);
            if !error.is_retryable() || tries == TRIES || pause >= left() {
                return Err(ReviewError::Ask(error.to_string()));
            }
            std::thread::park_timeout(pause);
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

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::kube::config::ClusterConfig;

    fn reviewer(listener: &TcpListener, limit: Duration) -> Reviewer {
        Reviewer { client: Client::new(ClusterConfig::of_server(listener.local_addr().unwrap())), limit }
    }

    /// Regression: each attempt had time limits of its own, so that an unanswered review occupied its worker for 45 s.
    #[test]
    fn all_attempts_share_one_time_limit() {
        // The kernel accepts connections, and nobody answers.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let review = TokenReviewer::review(&reviewer(&listener, Duration::from_millis(200)), "token");
        assert!(matches!(review, Err(ReviewError::Ask(_))), "{review:?}");
        listener.set_nonblocking(true).unwrap();
        let connections = std::iter::from_fn(|| match listener.accept() {
            Ok(connection) => Some(connection),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        });
        assert_eq!(connections.count(), 1, "the first attempt takes all the time that there is");
    }

    #[test]
    fn what_the_server_asks_to_repeat_is_repeated_within_the_time_limit() {
        for (first, expected) in
            [("503 X", true), ("429 X\r\nretry-after: 1", true), ("429 X\r\nretry-after: 3600", false)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let reviewer = reviewer(&listener, Duration::from_secs(60));
            std::thread::spawn(move || {
                let user = r#"{"kind":"TokenReview","status":{"authenticated":true,"user":{"username":"u"}}}"#;
                for (status, body) in [(first, ""), ("201 X", user)] {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut read = Vec::new();
                    // The review is a JSON object.
                    while !read.ends_with(b"}}") {
                        let mut byte = [0];
                        stream.read_exact(&mut byte).unwrap();
                        read.push(byte[0]);
                    }
                    let length = body.len();
                    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                    stream.write_all((head + body).as_bytes()).unwrap();
                }
            });
            assert_eq!(TokenReviewer::review(&reviewer, "token").is_ok(), expected, "{first}");
        }
    }
}
