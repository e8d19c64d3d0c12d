//! `--from-prometheus`: asks a Prometheus for the answers that the history lacks.
//!
//! Owns how much is asked: a query is asked for the time before its first recorded answer, one value each polling
//! interval, in stretches that fit into one answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::track::SourceId;
use super::{Candidate, Recorded, record};
use crate::outbound::names::{self, Names};
use crate::outbound::networks::Rules;
use crate::polling::proxy::ProxySettings;
use crate::polling::tls::Roots;
use crate::polling::transport::{Transport, TransportConfig};
use crate::prometheus::{query, range as answer};
use crate::scaling::model::{PrometheusSource, Query, UnixMillis};
use crate::store::SampleValue;
use crate::store::read::Range;
use crate::wire::time::format_seconds;

/// Values in one answer: Prometheus gives 11,000 at most, and 5,000 have some 150 kB of the 1 MiB that is read.
const VALUES_MAX: i64 = 5_000;
/// Values of one query: a month at 15 s. Over a longer time they are farther apart.
const VALUES_IN_ALL: i64 = 180_000;
/// Of one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks what the settings need and the history does not have.
///
/// # Errors
/// Why a query was not answered.
pub(super) fn fill(recorded: &mut Recorded, settings: &[&Candidate], url: &str, range: Range) -> Result<(), String> {
    let transport = Transport::new(TransportConfig {
        roots: Roots::load(std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from).as_deref(), &[]),
        proxy: ProxySettings::from_variables(|name| std::env::var(name).ok()),
        default_timeout: TIMEOUT,
        user_agent: format!("hpalite/{}", env!("CARGO_PKG_VERSION")),
        names: Arc::new(Names::new(names::THREADS)),
        // Whoever types an address may ask it.
        rules: Arc::new(Rules {
            allowed: ["0.0.0.0/0", "::/0"].iter().filter_map(|all| all.parse().ok()).collect(),
            own: Vec::new(),
        }),
        tls_min: Default::default(),
        keep_alive: true,
        poll_threads: 1,
    })
    .map_err(|error| format!("--from-prometheus: cannot start: {error}"))?;
    let mut wanted: BTreeMap<SourceId, (PrometheusSource, i64)> = BTreeMap::new();
    for candidate in settings {
        let interval = i64::try_from(candidate.definition.polling_interval.as_millis()).unwrap_or(i64::MAX);
        for trigger in &candidate.definition.triggers {
            let Some(Query::Prometheus(source)) = trigger.source.query() else { continue };
            let (_, known) = wanted
                .entry(SourceId::of(&trigger.kind, &trigger.source).among(&recorded.tracks))
                .or_insert_with(|| (PrometheusSource::clone(source), interval));
            *known = interval.min(*known);
        }
    }
    for (id, (source, interval)) in wanted {
        let source = PrometheusSource {
            server_address: url.to_owned(),
            // As recorded they are masked.
            custom_headers: Vec::new(),
            ..source
        };
        let begins = range.from - record::WARM_UP_MS;
        let known = recorded.tracks.get(&id).and_then(super::Track::first_at);
        let ends = known.unwrap_or(range.to);
        let step = interval.max((ends - begins) / VALUES_IN_ALL).max(1_000);
        if ends - begins <= step {
            continue;
        }
        let track = recorded.tracks.entry(id).or_default();
        let mut from = begins;
        while from < ends {
            let to = (from + step * (VALUES_MAX - 1)).min(ends - 1);
            let mut values = ask(&transport, &source, from, to, step)?.into_iter().peekable();
            for at in (from..=to).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
                // Where a query has no result at a time, the range has no value.
                match values.next_if(|(when, _)| *when <= at) {
                    Some((_, value)) => track.push(at, &SampleValue::Number(value)),
                    None => track.push(at, &SampleValue::Outcome("empty".into())),
                }
            }
            from += step * VALUES_MAX;
        }
        track.sort();
        recorded.fetched.push(format!(
            "until {} the answers to {:?} are what --from-prometheus has of that time, one each {} s",
            format_seconds(UnixMillis(ends)),
            source.query,
            step / 1000
        ));
    }
    Ok(())
}

fn ask(
    transport: &Transport,
    source: &PrometheusSource,
    from: i64,
    to: i64,
    step: i64,
) -> Result<Vec<(i64, f64)>, String> {
    let step = Duration::from_millis(u64::try_from(step).unwrap_or(u64::MAX));
    let said = |error: crate::scaling::event::PollError| format!("--from-prometheus: {}", error.message);
    let request = query::build_range(source, UnixMillis(from), UnixMillis(to), step).map_err(said)?;
    let read = |reply: crate::polling::transport::Reply| answer::parse(&reply.server, reply.status, &reply.body);
    transport.exchange(request, TIMEOUT, Instant::now() + TIMEOUT, read).and_then(|values| values).map_err(said)
}
