//! Databases of series that are asked over HTTP: Graphite and InfluxDB.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Poll;
use crate::encode::escape;
use crate::formats::url::Url;
use crate::polling::failed;
use crate::polling::request::{Header, Method, Request};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{GraphiteSource, InfluxApi, InfluxSource};

pub(super) fn graphite(poll: &Poll<'_>, source: &GraphiteSource) -> Result<f64, PollError> {
    let url = Url::parse(&source.server_address).map_err(|why| poll.auth.fault(&format!("serverAddress {why}")))?;
    let asked = format!("{}{}/render", url.server(), url.path.trim_end_matches('/'));
    let to = format!("{asked}?from={}&target={}&format=json", escape(&source.from), escape(&source.query));
    let modes = if source.is_basic { vec![crate::scaling::model::AuthMode::Basic] } else { Vec::new() };
    let headers = poll.auth.header(&modes)?;
    let headers = headers.into_iter().collect();
    let request = Request { headers, tls: poll.tls(false)?, ..Request::get(to, url.server()) };
    let body = poll.get(request, &asked)?;
    newest(&body).map_err(|why| failed(ErrorClass::Query, format!("{asked} {why}")))
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    datapoints: Vec<(Option<f64>, Value)>,
}

/// Returns the newest value of the only series, which counts as 0 if there is none.
pub(super) fn newest(body: &[u8]) -> Result<f64, &'static str> {
    let series: Vec<Series> =
        serde_json::from_slice(body).map_err(|_| "answered something that is not Graphite's JSON")?;
    match &series[..] {
        [] => Ok(0.0),
        [only] if only.datapoints.is_empty() => Ok(0.0),
        [only] => {
            let newest = only.datapoints.iter().rev().find_map(|(value, _)| *value);
            newest.filter(|value| value.is_finite()).ok_or("returned no value but null: widen queryTime")
        }
        _ => Err("returned several series, and one is wanted"),
    }
}

pub(super) fn influxdb(poll: &Poll<'_>, source: &InfluxSource) -> Result<f64, PollError> {
    let server = poll.given(source.server_url.as_deref(), &["serverURL"]).ok_or_else(|| poll.missing("serverURL"))?;
    let url = Url::parse(server).map_err(|why| poll.auth.fault(&format!("parameter serverURL {why}")))?;
    let token = poll.auth.optional("authToken");
    let given = |written: &Option<String>, name: &str| {
        poll.given(written.as_deref(), &[name]).map(str::to_owned).ok_or_else(|| poll.missing(name))
    };
    let (path, scheme, kind, body) = match &source.api {
        InfluxApi::Flux { organization } => {
            let organization = given(organization, "organizationName")?;
            // Without annotations, which are lines that say the types of columns.
            let body =
                json!({ "query": source.query, "type": "flux", "dialect": { "header": true, "annotations": [] } });
            (format!("/api/v2/query?org={}", escape(&organization)), "Token", "application/csv", body)
        }
        InfluxApi::Version3 { database, is_sql, .. } => {
            let path = if *is_sql { "/api/v3/query_sql" } else { "/api/v3/query_influxql" };
            let body = json!({ "db": given(database, "database")?, "q": source.query, "format": "json" });
            (path.to_owned(), "Bearer", "application/json", body)
        }
    };
    let header = |name: &str, value: String, secret| Header { name: name.to_owned(), value, secret };
    let mut headers =
        vec![header("Content-Type", "application/json".to_owned(), false), header("Accept", kind.to_owned(), false)];
    if let Some(token) = token {
        headers.push(poll.auth.secret_header("Authorization", format!("{scheme} {token}"), "authToken")?);
    }
    let base = format!("{}{}", url.server(), url.path.trim_end_matches('/'));
    let asked = format!("{base}{}", path.split('?').next().unwrap_or_default());
    let request = Request {
        method: Method::Post,
        headers,
        form: Some(body.to_string()),
        tls: poll.tls(source.unsafe_ssl)?,
        ..Request::get(format!("{base}{path}"), url.server())
    };
    let body = poll.get(request, &asked)?;
    let found = match &source.api {
        InfluxApi::Flux { .. } => first_of_csv(&body),
        InfluxApi::Version3 { metric_key, .. } => last_of_rows(&body, metric_key),
    };
    found.map_err(|why| failed(ErrorClass::Query, format!("{asked} {why}")))
}

/// Returns `_value` of the first record of annotated CSV.
pub(super) fn first_of_csv(body: &[u8]) -> Result<f64, &'static str> {
    const STRANGE: &str = "answered something that is not InfluxDB's CSV";
    let text = std::str::from_utf8(body).map_err(|_| STRANGE)?;
    let mut records = Records(text).filter(|record| record.iter().any(|field| !field.is_empty()));
    let mut records = records.by_ref().filter(|record| !record[0].starts_with('#'));
    let Some(names) = records.next() else { return Err("returned no result") };
    let Some(at) = names.iter().position(|name| name == "_value") else {
        let is_error = names.iter().any(|name| name == "error");
        return Err(if is_error { "failed while the query ran" } else { "returned no column _value" });
    };
    let value = records.next().and_then(|record| record.get(at).cloned()).ok_or("returned no result")?;
    value.parse().ok().filter(|value: &f64| value.is_finite()).ok_or("returned a _value that is no number")
}

/// Records of CSV (RFC 4180), as fields without their quotes.
struct Records<'a>(&'a str);

impl Iterator for Records<'_> {
    type Item = Vec<String>;

    fn next(&mut self) -> Option<Vec<String>> {
        if self.0.is_empty() {
            return None;
        }
        let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
        let mut end = self.0.len();
        let mut characters = self.0.char_indices().peekable();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' if is_quoted && characters.peek().is_some_and(|(_, next)| *next == '"') => {
                    characters.next();
                    field.push('"');
                }
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
                '\n' if !is_quoted => {
                    end = at + 1;
                    break;
                }
                '\r' if !is_quoted => {}
                c => field.push(c),
            }
        }
        fields.push(field);
        self.0 = &self.0[end..];
        Some(fields)
    }
}

/// Returns this column of the last row.
pub(super) fn last_of_rows(body: &[u8], column: &str) -> Result<f64, &'static str> {
    let rows: Vec<Map<String, Value>> =
        serde_json::from_slice(body).map_err(|_| "answered something that is not InfluxDB's JSON")?;
    // As in KEDA, no row at all is 0.
    let Some(row) = rows.last() else { return Ok(0.0) };
    let value = row.get(column).ok_or("returned no column metricKey")?;
    value.as_f64().ok_or("returned something in the column metricKey that is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphites_series() {
        for (body, expected) in [
            (r#"[{"target":"a","datapoints":[[1,10],[2.5,20],[null,30]]}]"#, Ok(2.5)),
            ("[]", Ok(0.0)),
            (r#"[{"target":"a","datapoints":[]}]"#, Ok(0.0)),
            (r#"[{"datapoints":[[null,10]]}]"#, Err("returned no value but null: widen queryTime")),
            (r#"[{"datapoints":[]},{"datapoints":[]}]"#, Err("returned several series, and one is wanted")),
            (r#"[{"datapoints":[[1]]}]"#, Err("answered something that is not Graphite's JSON")),
            ("<html>", Err("answered something that is not Graphite's JSON")),
        ] {
            assert_eq!(newest(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn csv() {
        let names = ",result,table,_time,_value,host\r\n";
        for (body, expected) in [
            (format!("{names},_result,0,2026-01-01T00:00:00Z,42.5,\"a,\"\"b\"\r\n,_result,0,t,1,x\r\n\r\n"), Ok(42.5)),
            (format!("#datatype,string,long\r\n\r\n{names},\"a\nb\",0,t,7,x"), Ok(7.0)),
            (names.to_owned(), Err("returned no result")),
            ("\r\n".to_owned(), Err("returned no result")),
            (format!("{names},r,0,t,seven,x"), Err("returned a _value that is no number")),
            (format!("{names},r,0,t,NaN,x"), Err("returned a _value that is no number")),
            (format!("{names},r,0"), Err("returned no result")),
            (",error,reference\r\n,secret words,1\r\n".to_owned(), Err("failed while the query ran")),
            ("<html>".to_owned(), Err("returned no column _value")),
        ] {
            assert_eq!(first_of_csv(body.as_bytes()), expected, "{body}");
        }
        assert!(first_of_csv(b"\xff").is_err());
    }

    #[test]
    fn rows() {
        for (body, expected) in [
            (r#"[{"n":1},{"n":2.5,"time":"t"}]"#, Ok(2.5)),
            ("[]", Ok(0.0)),
            (r#"[{"m":1}]"#, Err("returned no column metricKey")),
            (r#"[{"n":"1"}]"#, Err("returned something in the column metricKey that is no number")),
            ("{}", Err("answered something that is not InfluxDB's JSON")),
        ] {
            assert_eq!(last_of_rows(body.as_bytes(), "n"), expected, "{body}");
        }
    }
}
