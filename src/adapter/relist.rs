//! The thread that follows the file of rules and lists the series that they are about.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::Adapter;
use super::registry::{Lister, Registry};
use super::resources::Resources;
use crate::clock::wall_millis;
use crate::polling::request::Request;
use crate::polling::transport::Reply;
use crate::prometheus::{query, vector};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::UnixMillis;
use crate::wire::adapter::{self, Reading};

/// The kubelet updates the files of a ConfigMap within about a minute; reading one costs little.
const LOOK_AT_FILE: Duration = Duration::from_secs(2);
/// After a list that failed, of a Prometheus that starts for example, or of a group of the API whose server is away.
const AGAIN_AFTER: Duration = Duration::from_secs(15);
/// Time limit of one list of names, which nobody waits for.
const LIST_WITHIN: Duration = Duration::from_secs(30);

/// After so many lists without an answer the rest are not asked this time, which would take as long each.
const SILENT_MAX: usize = 2;

pub(super) fn start(adapter: &Arc<Adapter>) -> std::io::Result<()> {
    // It ends with the adapter, whose reads keep it.
    let adapter = Arc::downgrade(adapter);
    std::thread::Builder::new().name("adapter".to_owned()).spawn(move || run(&adapter))?;
    Ok(())
}

fn run(adapter: &Weak<Adapter>) {
    let mut follower = Follower::default();
    while let Some(adapter) = adapter.upgrade() {
        follower.look(&adapter);
        drop(adapter);
        std::thread::park_timeout(LOOK_AT_FILE);
    }
}

/// What the thread remembers.
#[derive(Default)]
struct Follower {
    /// The text that was read last, usable or not.
    seen: Option<String>,
    /// The last one that was.
    reading: Option<Reading>,
    resources: Option<Arc<Resources>>,
    due: Option<Instant>,
    /// When series are listed again though the resources stay the same.
    series_due: Option<Instant>,
    /// What was logged as a problem.
    logged: Vec<String>,
}

impl Follower {
    fn look(&mut self, adapter: &Adapter) {
        match read(&adapter.settings.config) {
            Ok(text) if self.seen.as_ref() != Some(&text) => self.follow(adapter, text),
            Ok(_) => {}
            Err(error) => {
                let file = adapter.settings.config.display();
                let text = format!("--adapter-config: {file}: {error}; what was read before holds");
                self.log_once(text);
            }
        }
        if self.reading.is_some() && self.due.is_none_or(|due| Instant::now() >= due) {
            self.list(adapter);
        }
    }

    fn follow(&mut self, adapter: &Adapter, text: String) {
        match adapter::parse(&text) {
            Ok(reading) => {
                for problem in &reading.problems {
                    warn!(field = problem.field, error = problem.message, fix = problem.fix; "rule is left out");
                }
                for warning in &reading.warnings {
                    warn!(field = warning.field, error = warning.message, fix = warning.fix; "rules are doubtful");
                }
                let (custom, external) = (reading.rules.custom.len(), reading.rules.external.len());
                let (file, problems) = (adapter.settings.config.display(), reading.problems.len());
                info!(file:%, custom, external, problems; "rules of prometheus-adapter read");
                self.reading = Some(reading);
                (self.due, self.series_due) = (None, None);
            }
            Err(error) => {
                let file = adapter.settings.config.display();
                self.log_once(format!("--adapter-config: {file} {error}; what was read before holds"));
            }
        }
        self.seen = Some(text);
    }

    fn list(&mut self, adapter: &Adapter) {
        let Some(reading) = &self.reading else { return };
        let known = self.resources.clone().unwrap_or_default();
        let mut problems = Vec::new();
        match Resources::read(&adapter.client, &known) {
            Ok((found, silent)) => {
                let problem = |group| format!("{group} does not say what its resources are; those known before hold");
                problems.extend(silent.into_iter().map(problem));
                if self.resources.is_none() || *known != found {
                    (self.resources, self.series_due) = (Some(Arc::new(found)), None);
                }
            }
            Err(error) => problems.push(format!("resources of the cluster are not known: {error}")),
        }
        let soon = Instant::now() + AGAIN_AFTER.min(adapter.settings.relist_interval);
        let is_whole = problems.is_empty();
        // A group whose server stays away must not make Prometheus list everything four times a minute.
        let are_listed = self.series_due.is_some_and(|due| Instant::now() < due);
        let Some(resources) = self.resources.clone().filter(|_| !are_listed) else {
            problems.into_iter().for_each(|problem| self.log_once(problem));
            self.due = if is_whole { self.series_due } else { Some(soon) };
            return;
        };
        let mut lister = Names {
            adapter,
            since: UnixMillis(wall_millis() - i64::try_from(adapter.settings.max_age.as_millis()).unwrap_or(i64::MAX)),
            asked: HashMap::new(),
            silent: 0,
        };
        let before = adapter.registry();
        let registry = Registry::list(&reading.rules, reading.problems.len(), resources, &before, &mut lister);
        problems.extend(registry.errors().map(|(rule, error)| format!("series of {rule}: {error}")));
        let are_listed = registry.failing() == 0;
        self.series_due = Some(if are_listed { Instant::now() + adapter.settings.relist_interval } else { soon });
        self.due = if is_whole { self.series_due } else { Some(soon) };
        if (before.objects_len(), before.external_len()) != (registry.objects_len(), registry.external_len()) {
            let (objects, external) = (registry.objects_len(), registry.external_len());
            info!(objects, external; "metrics of rules listed");
        }
        *adapter.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
        self.logged.retain(|text| problems.contains(text));
        problems.into_iter().for_each(|problem| self.log_once(problem));
    }

    /// Logs a lasting problem once.
    fn log_once(&mut self, text: String) {
        /// More different problems than this are logged again.
        const REMEMBERED: usize = 1_000;
        if self.logged.len() > REMEMBERED {
            self.logged.clear();
        }
        if !self.logged.contains(&text) {
            warn!(error = text; "rules of prometheus-adapter");
            self.logged.push(text);
        }
    }
}

fn read(file: &Path) -> Result<String, std::io::Error> {
    let mut text = String::new();
    // One byte more shows that it is too large.
    std::fs::File::open(file)?.take(adapter::BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Names, or why they are not known.
type List = Result<Arc<[String]>, String>;

/// Lists names, each list once.
struct Names<'a> {
    adapter: &'a Adapter,
    since: UnixMillis,
    /// By endpoint and selector.
    asked: HashMap<(&'static str, String), List>,
    /// Lists that the server did not answer.
    silent: usize,
}

impl Names<'_> {
    fn ask(&mut self, endpoint: &'static str, selector: &str) -> List {
        if let Some(known) = self.asked.get(&(endpoint, selector.to_owned())) {
            return known.clone();
        }
        let source = self.adapter.source(String::new());
        let names = if self.silent < SILENT_MAX {
            let request = query::build_list(&source, endpoint, selector, self.since);
            request.and_then(|request| self.exchange(request)).map(Arc::from).map_err(|error| {
                let is_silent = matches!(error.class, ErrorClass::Connect | ErrorClass::Tls | ErrorClass::Timeout);
                self.silent += usize::from(is_silent);
                error.message
            })
        } else {
            Err("Prometheus did not answer the lists before this one".to_owned())
        };
        self.asked.insert((endpoint, selector.to_owned()), names.clone());
        names
    }

    fn exchange(&self, request: Request) -> Result<Vec<String>, PollError> {
        let read = |reply: Reply| vector::parse_names(&reply.server, reply.status, &reply.body);
        self.adapter.exchange(("", "series"), request, (LIST_WITHIN, Instant::now() + LIST_WITHIN), read)
    }
}

impl Lister for Names<'_> {
    fn labels(&mut self, selector: &str) -> Result<Arc<[String]>, String> {
        self.ask("labels", selector)
    }

    fn metrics(&mut self, selector: &str) -> Result<Arc<[String]>, String> {
        self.ask("label/__name__/values", selector)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::config::AdapterSettings;
    use crate::kube::fake;
    use crate::outbound::names::{self, Names as OutboundNames};
    use crate::polling::proxy::ProxySettings;
    use crate::polling::tls::Roots;
    use crate::polling::transport::{Transport, TransportConfig};

    const RELIST: Duration = Duration::from_mins(10);

    fn adapter(answer: impl FnMut(&str, &[u8]) -> (u16, String) + Send + 'static) -> Adapter {
        let transport = TransportConfig {
            roots: Roots::load(None, &[]),
            proxy: ProxySettings::from_variables(|_| None),
            default_timeout: RELIST,
            user_agent: "hpalite/test".to_owned(),
            names: Arc::new(OutboundNames::new(names::THREADS)),
            rules: Arc::default(),
            tls_min: Default::default(),
            keep_alive: true,
            poll_threads: 1,
        };
        Adapter {
            settings: AdapterSettings {
                config: "rules.yaml".into(),
                server: "http://prometheus.example.org".to_owned(),
                relist_interval: RELIST,
                max_age: RELIST,
                query_timeout: RELIST,
            },
            client: fake::client(answer),
            transport: Arc::new(Transport::new(transport).unwrap()),
            turns: None,
            registry: Default::default(),
            reads: Default::default(),
        }
    }

    /// Regression: one unanswered request made a group's kinds unknown, and with them its objects' metrics, until the next
    /// list ten minutes later.
    #[test]
    fn a_group_that_does_not_answer_keeps_its_kinds_and_is_asked_again_soon() {
        let ingresses = Arc::new(Mutex::new(200));
        let code = Arc::clone(&ingresses);
        let adapter = adapter(move |path, _| match path {
            "GET /apis" => {
                let group = r#"{"name":"networking.k8s.io","preferredVersion":{"version":"v1"}}"#;
                (200, format!(r#"{{"groups":[{group}]}}"#))
            }
            "GET /api/v1" => (200, r#"{"resources":[{"name":"pods","namespaced":true,"kind":"Pod"}]}"#.to_owned()),
            "GET /apis/networking.k8s.io/v1" => {
                let list = r#"{"resources":[{"name":"ingresses","namespaced":true,"kind":"Ingress"}]}"#;
                (*code.lock().unwrap(), list.to_owned())
            }
            path => panic!("{path}"),
        });
        let mut follower = Follower { reading: Some(Reading::default()), ..Follower::default() };
        let mut look = |answer| {
            *ingresses.lock().unwrap() = answer;
            follower.list(&adapter);
            let in_time = |due: Option<Instant>, time| due.unwrap() <= Instant::now() + time;
            let is_known = follower.resources.as_ref().unwrap().find("ingress", "").is_some();
            let series_soon = in_time(follower.series_due, AGAIN_AFTER);
            (is_known, in_time(follower.due, AGAIN_AFTER), series_soon)
        };
        assert_eq!(look(503), (false, true, false), "nothing was known before");
        assert_eq!(look(200), (true, false, false));
        assert_eq!(look(503), (true, true, false), "the series need not be listed again");
        assert_eq!(look(200), (true, false, false));
        assert_eq!(look(404), (false, false, false), "the group is gone");
    }
}
