//! Content negotiation: which of the two forms of JSON a client accepts.
//!
//! Pure. A clause for another kind of object (`as`, `g`, `v`: a Table) does not accept plain JSON and is ignored,
//! unless it is the one that is served. A client of an older version of aggregated discovery gets plain discovery.

use super::{Request, Response};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `application/json`.
    Plain,
    /// `application/json` holding an `APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.
    AggregatedDiscovery,
}

/// Returns the form of the most preferred clause that can be met; None if there is none. `aggregated` says whether the
/// second form exists.
pub fn choose(request: &Request, aggregated: bool) -> Option<Form> {
    let mut clauses: Vec<Clause<'_>> = request
        .header_values("accept")
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(Clause::parse)
        .collect();
    if clauses.is_empty() {
        return Some(Form::Plain);
    }
    clauses.retain(|clause| clause.quality > 0.0);
    // The sort is stable, so the client's order decides among equals.
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    let met = clauses.iter().find_map(|clause| clause.form(aggregated));
    // Aggregators of other versions fall back to plain discovery anyway; a 406 would only cost them a request.
    let older = || aggregated && clauses.iter().any(Clause::is_discovery);
    met.or_else(|| older().then_some(Form::Plain))
}

/// 406, worded as by Kubernetes.
pub fn not_acceptable() -> Response {
    let message = "only the following media types are accepted: application/json";
    Response::status(406, "NotAcceptable", message)
}

struct Clause<'a> {
    media: &'a str,
    quality: f32,
    group: Option<&'a str>,
    version: Option<&'a str>,
    kind: Option<&'a str>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Clause<'a> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        let mut clause = Clause { media, quality: 1.0, group: None, version: None, kind: None };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                // As in the kube-apiserver, a malformed one is ignored.
                "q" => clause.quality = value.parse().unwrap_or(1.0),
                "g" => clause.group = Some(value),
                "v" => clause.version = Some(value),
                "as" => clause.kind = Some(value),
                _ => {}
            }
        }
        clause
    }

    fn form(&self, aggregated: bool) -> Option<Form> {
        let is = |media: &str| self.media.eq_ignore_ascii_case(media);
        let is_json = is("application/json");
        match (self.group, self.version, self.kind) {
            (None, None, None) if is_json || is("*/*") || is("application/*") => Some(Form::Plain),
            (Some(_), Some("v2"), Some("APIGroupDiscoveryList")) if aggregated && self.is_discovery() => {
                Some(Form::AggregatedDiscovery)
            }
            _ => None,
        }
    }

    /// Returns true for aggregated discovery of any version.
    fn is_discovery(&self) -> bool {
        self.media.eq_ignore_ascii_case("application/json") && self.group == Some("apidiscovery.k8s.io")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::request;

    #[test]
    #[rustfmt::skip] // one case a line
    fn clauses() {
        const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        const SHUFFLED: &str = "application/json; as=APIGroupDiscoveryList ;v=v2; g=apidiscovery.k8s.io";
        const BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let (plain, v2) = (Some(Form::Plain), Some(Form::AggregatedDiscovery));
        for (accept, for_documents, for_discovery) in [
            ("", plain, plain),
            ("*/*", plain, plain),
            ("application/*", plain, plain),
            ("application/json", plain, plain),
            ("Application/JSON; charset=utf-8", plain, plain),
            ("application/json, */*", plain, plain),
            ("application/vnd.kubernetes.protobuf, */*", plain, plain),
            ("application/vnd.kubernetes.protobuf", None, None),
            ("text/html", None, None),
            ("text/*", None, None),
            ("application/json;q=0", None, None),
            ("application/json;q=0.0, text/html", None, None),
            ("application/json;q=x", plain, plain),
            (V2, None, v2),
            (SHUFFLED, None, v2),
            (BETA, None, plain),
            (&format!("{BETA};q=0"), None, None),
            (&format!("{BETA},{V2}"), None, v2),
            (&format!("{V2},{BETA},application/json"), plain, v2),
            (&format!("{BETA},application/json"), plain, plain),
            (&format!("application/json,{V2}"), plain, plain),
            (&format!("application/json;q=0.5,{V2};q=0.9"), plain, v2),
            (&format!("{TABLE},application/json"), plain, plain),
            (TABLE, None, None),
            (",,", plain, plain),
            (";", None, None),
        ] {
            let request = request("GET", "/", &[("Accept", accept)]);
            assert_eq!(choose(&request, false), for_documents, "{accept}");
            assert_eq!(choose(&request, true), for_discovery, "{accept}");
        }
        let two = request("GET", "/", &[("Accept", "text/html"), ("accept", "*/*")]);
        assert_eq!(choose(&two, false), plain);
        assert_eq!(choose(&request("GET", "/", &[]), false), plain);
    }
}
