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
/// After a list that failed, of a Prometheus that starts for example.
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
                self.due = None;
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
        match Resources::read(&adapter.client) {
            // The same ones stay, since metrics are kept by their place among them.
            Ok(found) if self.resources.as_deref() == Some(&found) => {}
            Ok(found) => self.resources = Some(Arc::new(found)),
            Err(error) => warn!(error:% = error; "resources of the cluster are not known, for rules"),
        }
        let Some(resources) = self.resources.clone() else {
            self.due = Some(Instant::now() + AGAIN_AFTER);
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
        let errors: Vec<String> = registry.errors().map(|(rule, error)| format!("{rule}: {error}")).collect();
        let again = if errors.is_empty() { adapter.settings.relist_interval } else { AGAIN_AFTER };
        self.due = Some(Instant::now() + again.min(adapter.settings.relist_interval));
        if (before.objects_len(), before.external_len()) != (registry.objects_len(), registry.external_len()) {
            let (objects, external) = (registry.objects_len(), registry.external_len());
            info!(objects, external; "metrics of rules listed");
        }
        *adapter.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
        self.logged.retain(|text| errors.contains(text));
        errors.into_iter().for_each(|error| self.log_once(format!("series of {error}")));
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
