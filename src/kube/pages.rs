//! Reads lists in pages that are as small as they must be to fit into a body.

use std::ops::ControlFlow;
use std::time::Instant;

use serde::de::DeserializeOwned;

use super::client::{Client, decode};
use super::error::Error;
use super::page_size::PageSize;
use super::request::{ListOptions, Request, RequestError};
use super::watch::Page;

impl Client {
    /// Reads a list page by page, and hands over each item until `each` breaks. `request` makes a request of options, in
    /// which continue token and resource version change, and the limit gets smaller where it must. With `ends_at` all pages
    /// together have until then, and no request is repeated.
    ///
    /// # Errors
    /// When a page cannot be read, or an item of one.
    pub(crate) fn list<T: DeserializeOwned>(
        &self,
        options: &ListOptions<'_>,
        request: impl Fn(&ListOptions<'_>) -> Result<Request, RequestError>,
        ends_at: Option<Instant>,
        mut each: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut size = if options.limit == 0 { PageSize::default() } else { PageSize::new(options.limit) };
        let mut resource_version = options.resource_version;
        let mut token: Option<String> = None;
        loop {
            let options = ListOptions {
                limit: size.items(),
                continue_token: token.as_deref(),
                resource_version: resource_version.filter(|_| token.is_none()),
                ..options.clone()
            };
            let request = request(&options)?;
            let body = match ends_at {
                Some(at) => self.send_until(&request, at),
                None => self.send_whole(&request),
            };
            let body = match body {
                // The API server gives all that its cache has in one page, whatever the limit is, when it is asked for
                // version zero.
                Err(Error::TooLarge { .. }) if resource_version.take().is_some() || size.shrink() => continue,
                body => body?,
            };
            size.fitted(body.bytes.len());
            let page = Page::decode(&body.bytes)?;
            for item in page.raw_items() {
                if each(decode(item.get().as_bytes())?).is_break() {
                    return Ok(());
                }
            }
            match page.metadata.continue_token {
                next if next.is_empty() => return Ok(()),
                next => token = Some(next),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead, BufReader, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;
    use crate::kube::config::ClusterConfig;
    use crate::kube::resources::PODS;
    use crate::kube::watch::Lines;

    #[derive(Deserialize)]
    struct Item {
        n: usize,
    }

    /// Starts an API server with objects of these sizes. As the real one does, it ignores the limit of a list of version
    /// zero. Each list that it is asked for is reported.
    fn serve(sizes: Vec<usize>) -> (Client, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(ClusterConfig::of_server(listener.local_addr().unwrap()));
        let (asked, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(&stream).lines();
                let query = lines.next().unwrap().unwrap().replace(" HTTP/1.1", "");
                assert!(lines.any(|line| line.unwrap().is_empty()));
                let number = |name: &str| {
                    let (_, rest) = query.split_once(&format!("{name}="))?;
                    rest.split('&').next().unwrap().parse::<usize>().ok()
                };
                let start = number("continue").unwrap_or(0);
                let limit = if number("resourceVersion").is_some() { usize::MAX } else { number("limit").unwrap() };
                let _ = asked.send(query.split_once('?').unwrap().1.to_owned());
                let end = start.saturating_add(limit).min(sizes.len());
                let item = |n: usize| format!("{{\"n\":{n},\"x\":\"{}\"}}", "x".repeat(sizes[n]));
                let items: Vec<String> = (start..end).map(item).collect();
                let next = if end < sizes.len() { end.to_string() } else { String::new() };
                let meta = format!("{{\"resourceVersion\":\"7\",\"continue\":\"{next}\"}}");
                let items = items.join(",");
                let body = format!("{{\"kind\":\"ThingList\",\"metadata\":{meta},\"items\":[{items}]}}");
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                // The client closes the connection when a body is too large.
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        (client, requests)
    }

    fn listed(client: &Client, limit: u32) -> Vec<usize> {
        let options = ListOptions { limit, resource_version: Some("0"), ..ListOptions::default() };
        let mut found = Vec::new();
        let request = |options: &ListOptions<'_>| PODS.list(Some("shop"), options);
        let each = |item: Item| {
            found.push(item.n);
            ControlFlow::Continue(())
        };
        client.list(&options, request, None, each).unwrap();
        found
    }

    /// Regression: a list of a tenant's large pods took 64 MiB, in each of eight threads.
    #[test]
    fn large_objects_come_in_small_pages_and_small_ones_in_few() {
        let (client, requests) = serve([vec![1_500_000; 12], vec![100; 88]].concat());
        assert_eq!(listed(&client, 16), (0..100).collect::<Vec<_>>());
        let asked: Vec<String> = requests.try_iter().collect();
        let (from_cache, others) = asked.split_first().unwrap();
        assert_eq!(from_cache, "limit=16&resourceVersion=0");
        assert_eq!(others[..4], ["limit=16", "limit=8", "limit=4", "limit=4&continue=4"]);
        assert!(others.len() <= 15, "{others:?}");

        let (client, requests) = serve(vec![1_500_000]);
        assert_eq!(listed(&client, 0), [0]);
        assert_eq!(requests.try_iter().count(), 1);
        let (client, requests) = serve(vec![5_000; 500]);
        assert_eq!(listed(&client, 0).len(), 500);
        assert_eq!(requests.try_iter().count(), 1);
    }

    /// Regression: one object of 1.5 MiB of what JSON writes as `\u003c` was never read, so that no list of its kind ended.
    #[test]
    fn the_largest_object_fits_into_a_page_and_into_a_line() {
        let largest = 6 * 1_572_864;
        let (client, _) = serve(vec![100, largest, 100]);
        assert_eq!(listed(&client, 0), [0, 1, 2]);
        let page = ListOptions { limit: 1, continue_token: Some("1"), ..ListOptions::default() };
        assert!(client.send_for_watch(&PODS.list(Some("shop"), &page).unwrap()).is_ok());
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; largest + 1_000]);
        lines.push(b"\n");
        assert_eq!(lines.next_line().unwrap().map(<[u8]>::len), Some(largest + 1_000));
    }

    /// Regression: all threads that read from the API server could hold large answers at the same time.
    #[test]
    fn two_large_answers_at_a_time() {
        let (large, _) = serve(vec![2_000_000]);
        let (small, _) = serve(vec![900_000]);
        let list = PODS.list(Some("shop"), &ListOptions { limit: 1, ..ListOptions::default() }).unwrap();
        let held = [large.send_whole(&list).unwrap(), large.send_whole(&list).unwrap()];
        let late = large.send_within(&list, Duration::from_millis(300)).unwrap_err();
        assert!(matches!(&late, Error::Timeout { .. }) && late.is_retryable(), "{late}");
        assert!(small.send(&list).is_ok(), "a small answer waits for nobody");
        drop(held);
        assert!(large.send(&list).is_ok());
    }
}
