//! The stage: a control plane, a metric server and the daemon, with a link to each that can fail; the objects that are
//! watched, and the judgement of each trial.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::{Cluster, Daemon, free_port, service_account_kubeconfig, wait_until};
use super::control_plane::Identities;
use super::fake_prometheus::{FakePrometheus, Reply};
use super::link::Link;
use super::process::Process;

pub(crate) const NAMESPACE: &str = "faults";
/// The name under which the metric server is known.
pub(crate) const SERVER_NAME: &str = "metrics.test";
/// Far longer than a recovery may take: the longest backoff is a minute.
const RECOVERY_MAX: Duration = Duration::from_secs(150);
/// A watch of hpalite that failed again and again waits this long, and the history knows of scales by it.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// Some polls of each object.
const LAST_LOOK: Duration = Duration::from_secs(10);
/// Each trial ends with one replica more, so that the HPA need not wait for its stabilization window, until one more is
/// within the HPA's tolerance of 10 %.
const STEADY: std::ops::Range<i64> = 3..9;

/// A Lease that expires while one waits for it.
pub(crate) const ARGUMENTS: [&str; 8] = [
    "--namespace",
    NAMESPACE,
    "--leader-elect-lease-duration",
    "4s",
    "--leader-elect-renew-deadline",
    "3s",
    "--leader-elect-retry-period",
    "500ms",
];

/// What the metric server answers with.
pub(crate) type Answers = Box<dyn Fn(f64) -> Reply + Send>;

/// What a fault reports.
pub(crate) enum Outcome {
    /// It was made; what is to be said of it beside the log.
    Made(String),
    /// It cannot be made here, and why.
    NotTried(String),
    /// It has waited for the recovery itself: how long that took.
    Judged { recovered: Duration, seen: String },
    /// It did not recover.
    Failed(String),
}

pub(crate) struct Row {
    outcome: Result<Duration, String>,
    wrong: usize,
    seen: String,
    pub(crate) is_tried: bool,
}

impl Row {
    /// Whether nothing is wrong with what was tried.
    pub(crate) fn is_good(&self) -> bool {
        self.wrong == 0 && self.outcome.is_ok()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_tried {
            let wrong = if self.wrong > 0 { self.wrong.to_string() } else { String::new() };
            return write!(f, "{:>9} {wrong:>6}  {}", "", self.seen);
        }
        let recovered = self.outcome.as_ref().map_or("never".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
        write!(f, "{recovered:>9} {:>6}  {}", self.wrong, self.seen)?;
        match &self.outcome {
            Err(why) => write!(f, "   FAILED: {why}"),
            Ok(_) if self.wrong > 0 => write!(f, "   FAILED"),
            Ok(_) => Ok(()),
        }
    }
}

/// What `hpalite why` has to say of a fault: words about an object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Explanation {
    /// Of the time of the trial.
    Of(&'static str, &'static str),
    /// Of the moment when half of the fault was over.
    Meanwhile(&'static str, &'static str),
}

pub(crate) type Explanations = &'static [Explanation];

/// A Deployment as the API server has it. The generation rises with every change of its spec, so none goes unnoticed.
pub(crate) type Seen = BTreeMap<&'static str, (i64, i64)>;

pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) identities: Identities,
    pub(crate) values: Arc<Mutex<BTreeMap<String, f64>>>,
    pub(crate) answers: Arc<Mutex<Answers>>,
    source: FakePrometheus,
    /// From the daemon to the metric server, by its first address.
    pub(crate) to_source: Link,
    pub(crate) to_api: Link,
    pub(crate) hosts: PathBuf,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) kills: u64,
    steady: i64,
    /// The Deployments as they have to be after all that was done on purpose.
    expected: Seen,
    /// What moved without being asked to in this trial: how often, and in words.
    wrong: usize,
    moved: Vec<String>,
    /// When this trial began, and what `why` has to say about it.
    began: Instant,
    middle: Instant,
    /// The numbers of replicas that each Deployment has had since then, and had before.
    paths: BTreeMap<&'static str, Vec<i64>>,
    paths_since: i64,
    explanations: Explanations,
    peak_mb_max: f64,
}

/// Objects that must not move while a fault lasts; the first two are made to move afterwards.
pub(crate) const OBJECTS: [&str; 4] = ["steady", "asleep", "cooling", "paused"];

impl Stage {
    pub(crate) fn build(kills: u64) -> Self {
        let identities = Identities::make();
        let cluster = Cluster::start(&[&format!("--apiserver-arg={}", identities.argument())]);
        cluster.install();
        cluster.kubectl(&["create", "namespace", NAMESPACE]);
        let values = Arc::<Mutex<BTreeMap<String, f64>>>::default();
        let answers: Arc<Mutex<Answers>> = Arc::new(Mutex::new(Box::new(right)));
        let (shown, answer) = (Arc::clone(&values), Arc::clone(&answers));
        let source = FakePrometheus::start(move |request| {
            let asked = format!("{}{}", request.target, request.body);
            let shown = shown.lock().unwrap();
            let value = shown.iter().find(|(name, _)| asked.contains(name.as_str())).map_or(0.0, |(_, value)| *value);
            drop(shown);
            answer.lock().unwrap()(value)
        });
        let to_source = Link::start(source.address);
        let api: SocketAddr = cluster.env("APISERVER_URL").trim_start_matches("https://").parse().unwrap();
        let to_api = Link::at(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())), api);
        let hosts = cluster.folder.join("hosts");
        let mut stage = Self {
            cluster,
            identities,
            values,
            answers,
            source,
            to_source,
            to_api,
            hosts,
            daemon: None,
            kills,
            steady: STEADY.start,
            expected: Seen::new(),
            wrong: 0,
            moved: Vec::new(),
            began: Instant::now(),
            middle: Instant::now(),
            paths: BTreeMap::new(),
            paths_since: 0,
            explanations: &[],
            peak_mb_max: 0.0,
        };
        stage.point_name_at("127.0.0.1");
        stage.identities.issue_token(&stage.cluster, "first");
        let folder = stage.folder();
        let db = folder.path().join("hpalite.db");
        let daemon = stage.spawn(stage.program(), db, folder);
        stage.lead(&daemon);
        stage.daemon = Some(daemon);
        stage.people();
        stage.expected = stage.seen();
        stage.begin_paths(0);
        stage
    }

    pub(crate) fn folder(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(&self.cluster.folder).expect("a temporary folder")
    }

    /// The program, with a file of hosts of its own if that is possible here.
    pub(crate) fn program(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_hpalite");
        if !self.has_names() {
            return Command::new(binary);
        }
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", r#"mount --bind "$0" /etc/hosts && exec "$@""#]).arg(&self.hosts).arg(binary);
        command
    }

    pub(crate) fn has_names(&self) -> bool {
        let tried = Command::new("unshare").args(["-m", "mount", "--bind", "/etc/hosts", "/etc/hosts"]).output();
        tried.is_ok_and(|output| output.status.success())
    }

    pub(crate) fn point_name_at(&self, address: &str) {
        // In place: another file would not be the one that is mounted.
        std::fs::write(&self.hosts, format!("127.0.0.1 localhost\n{address} {SERVER_NAME}\n")).expect("hosts written");
    }

    /// Starts a daemon that reaches everything over links.
    pub(crate) fn spawn(&self, program: Command, db: PathBuf, folder: tempfile::TempDir) -> Daemon {
        let mut config: Value = serde_json::from_str(&service_account_kubeconfig(&self.cluster)).unwrap();
        self.identities.enter(&mut config, &format!("https://{}", self.to_api.address()));
        Daemon::spawn_as(&self.cluster, program, &config.to_string(), db, &ARGUMENTS, folder)
    }

    /// Waits until this daemon acts, and points the API at it.
    pub(crate) fn lead(&self, daemon: &Daemon) {
        wait_until("the daemon to be ready", RECOVERY_MAX, || (daemon.readiness() == "ok").then_some(()));
        daemon.route(&self.cluster);
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a daemon")
    }

    /// Takes the daemon to end it.
    pub(crate) fn take(&mut self) -> Daemon {
        let daemon = self.daemon.take().expect("a daemon");
        self.weigh(&daemon);
        daemon
    }

    /// Notes how much memory a daemon has had at most, before it ends.
    pub(crate) fn weigh(&mut self, daemon: &Daemon) {
        self.peak_mb_max = self.peak_mb_max.max(Process(daemon.pid()).memory().peak_mb);
    }

    /// Replaces the daemon by one in the same folder with another database.
    pub(crate) fn replace(&mut self, program: Command, db: PathBuf) {
        let (_, folder) = self.take().stop();
        self.start(program, db, folder);
    }

    /// Replaces the daemon by one in another folder.
    pub(crate) fn replace_in(&mut self, program: Command, db: PathBuf, folder: tempfile::TempDir) {
        drop(self.take().stop());
        self.start(program, db, folder);
    }

    fn start(&mut self, program: Command, db: PathBuf, folder: tempfile::TempDir) {
        let daemon = self.spawn(program, db, folder);
        self.lead(&daemon);
        self.daemon = Some(daemon);
    }

    fn people(&mut self) {
        let host = if self.has_names() { SERVER_NAME.to_owned() } else { self.to_source.address().ip().to_string() };
        let server = format!("http://{host}:{}", self.to_source.address().port());
        for (name, replicas) in OBJECTS.into_iter().zip([1, 0, 1, 4]) {
            self.cluster.deployment(NAMESPACE, name, replicas);
        }
        self.set("steady", self.steady as f64 * 10.0);
        self.set("asleep", 0.0);
        self.set("cooling", 5.0);
        self.set("paused", 100.0);
        let object = |name: &str, spec: Value, annotations: Value| {
            let mut object = json!({
                "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
                "metadata": { "name": name, "namespace": NAMESPACE, "annotations": annotations },
                "spec": {
                    "scaleTargetRef": { "name": name }, "pollingInterval": 1, "maxReplicaCount": 80,
                    "triggers": [{ "type": "prometheus", "metadata": {
                        "serverAddress": server, "query": name, "threshold": "10", "timeout": "2000",
                    } }],
                },
            });
            for (key, value) in spec.as_object().unwrap() {
                object["spec"][key] = value.clone();
            }
            object.to_string()
        };
        self.cluster.apply(&object("steady", json!({ "minReplicaCount": 1 }), json!({})));
        self.cluster.apply(&object("asleep", json!({ "cooldownPeriod": 2 }), json!({})));
        // Its cooldown is longer than the bench, and shorter than a step of the clock.
        self.cluster.apply(&object("cooling", json!({ "cooldownPeriod": 3_000 }), json!({})));
        let paused = json!({ "autoscaling.keda.sh/paused-replicas": "4" });
        self.cluster.apply(&object("paused", json!({}), paused));
        self.wait("steady", self.steady);
        wait_until("cooling to be active", RECOVERY_MAX, || self.condition("cooling", "Active", "True"));
        self.set("cooling", 0.0);
        wait_until("cooling to cool down", RECOVERY_MAX, || self.condition("cooling", "Active", "False"));
    }

    pub(crate) fn condition(&self, name: &str, kind: &str, status: &str) -> Option<()> {
        let object = self.cluster.get("scaledobject", NAMESPACE, name)?;
        (super::cluster::condition(&object, kind)?.0 == status).then_some(())
    }

    pub(crate) fn set(&self, name: &str, value: f64) {
        self.values.lock().unwrap().insert(name.to_owned(), value);
    }

    pub(crate) fn answer(&self, answers: impl Fn(f64) -> Reply + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
        // Those that hang from before would hang for ever.
        self.source.close_connections();
    }

    pub(crate) fn queries(&self) -> usize {
        self.source.requests().len()
    }

    pub(crate) fn source_address(&self) -> SocketAddr {
        self.source.address
    }

    pub(crate) fn wait(&self, name: &'static str, replicas: i64) {
        wait_until(&format!("{name} at {replicas}"), RECOVERY_MAX, || {
            (self.cluster.replicas(NAMESPACE, name) == Some(replicas)).then_some(())
        });
    }

    pub(crate) fn seen(&self) -> Seen {
        let of = |name: &'static str| {
            let found = self.cluster.get("deployment", NAMESPACE, name).expect("the Deployment");
            let number = |value: &Value| value.as_i64().unwrap_or(0);
            (name, (number(&found["metadata"]["generation"]), number(&found["spec"]["replicas"])))
        };
        OBJECTS.into_iter().map(of).collect()
    }

    /// Compares the Deployments with what they have to be. What is wrong counts once: from now on that is what they have
    /// to be.
    pub(crate) fn look(&mut self, when: &str) {
        let seen = self.seen();
        for (name, (generation, replicas)) in &seen {
            let (expected, before) = self.expected[name];
            if (expected, before) != (*generation, *replicas) {
                // Two changes that cancel each other out show in the generation alone.
                self.wrong += usize::try_from((generation - expected).abs()).unwrap_or(1).max(1);
                self.moved.push(format!("{name} {before}→{replicas}, {} writes, {when}", generation - expected));
                self.paths.entry(name).or_default().push(*replicas);
            }
        }
        self.expected = seen;
    }

    /// These Deployments are as they have to be: somebody else has judged how they got there.
    pub(crate) fn accept(&mut self, names: &[&'static str]) {
        let seen = self.seen();
        self.expected.extend(names.iter().map(|name| (*name, seen[name])));
        self.begin_paths(0);
    }

    /// Something was made to have these numbers of replicas on purpose, one after the other.
    pub(crate) fn expect(&mut self, name: &'static str, path: &[i64]) {
        let expected = self.expected.get_mut(name).expect("a Deployment");
        *expected = (expected.0 + i64::try_from(path.len()).unwrap(), *path.last().expect("a number"));
        self.paths.entry(name).or_default().extend(path);
    }

    /// Something else than a Deployment was not as it has to be.
    pub(crate) fn blame(&mut self, what: String) {
        self.wrong += 1;
        self.moved.push(what);
    }

    /// From now on the history has what follows, and so many changes of before that it may have seen late.
    fn begin_paths(&mut self, before: usize) {
        self.paths_since = unix_ms();
        for (name, (_, replicas)) in &self.expected {
            let path = self.paths.entry(name).or_default();
            match before {
                // As long as a path with one change of before.
                0 => *path = vec![*replicas; 2],
                _ => drop(path.drain(..path.len().saturating_sub(before + 1))),
            }
        }
    }

    /// Makes one fault, and waits until hpalite scales again by itself. What has moved is looked for before that and after
    /// it, and once more when the next trial begins.
    pub(crate) fn trial(
        &mut self,
        lasts: Duration,
        fault: fn(&mut Self, Duration) -> Outcome,
        explanations: Explanations,
    ) -> Row {
        (self.began, self.middle, self.explanations) = (Instant::now(), Instant::now() + lasts / 2, explanations);
        self.look("before the fault");
        self.begin_paths(1);
        let log_before = self.daemon().log();
        let (mut seen, outcome, is_tried) = match fault(self, lasts) {
            Outcome::NotTried(why) => (format!("NOT TRIED: {why}"), Ok(Duration::ZERO), false),
            Outcome::Judged { recovered, seen } => (seen, Ok(recovered), true),
            Outcome::Failed(why) => (String::new(), Err(why), true),
            Outcome::Made(told) => {
                let ended = Instant::now();
                self.look("during the fault");
                let log = self.daemon().log();
                let log = log.strip_prefix(&log_before).unwrap_or(&log);
                let parts = [told, complaints(log)];
                let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                let recovered = self.recover(ended).and_then(|time| self.is_told().map(|()| time));
                (parts.join("; "), recovered, true)
            }
        };
        self.look("in the recovery");
        let daemon = self.daemon.take().expect("a daemon");
        self.weigh(&daemon);
        self.daemon = Some(daemon);
        for moved in std::mem::take(&mut self.moved) {
            seen = format!("{seen}; WRONG: {moved}");
        }
        Row { outcome, wrong: std::mem::take(&mut self.wrong), seen, is_tried }
    }

    /// Returns what moved after the last trial, given the time to.
    pub(crate) fn last_look(&mut self) -> Vec<String> {
        pass(LAST_LOOK);
        self.look("after the last fault");
        std::mem::take(&mut self.moved)
    }

    /// Gives both ways of scaling something to do; returns how long after `ended` both have done it.
    pub(crate) fn recover(&mut self, ended: Instant) -> Result<Duration, String> {
        self.steady += 1;
        self.set("steady", self.steady as f64 * 10.0);
        self.set("asleep", 5.0);
        let until = ended + RECOVERY_MAX;
        let replicas = |stage: &Self, name| stage.cluster.replicas(NAMESPACE, name);
        while replicas(self, "steady") != Some(self.steady) || replicas(self, "asleep") != Some(1) {
            if Instant::now() >= until {
                let seen = OBJECTS.map(|name| format!("{name} {:?}", replicas(self, name)));
                return Err(format!("not within {RECOVERY_MAX:?}: {seen:?}\n{}", tail(&self.daemon().log())));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let recovered = ended.elapsed();
        self.expect("steady", &[self.steady]);
        self.set("asleep", 0.0);
        if !STEADY.contains(&self.steady) {
            self.steady = STEADY.start;
            self.set("steady", self.steady as f64 * 10.0);
            self.wait("steady", self.steady);
            self.expect("steady", &[self.steady]);
        }
        self.wait("asleep", 0);
        self.expect("asleep", &[1, 0]);
        // The next trial begins with conditions that are as they should be.
        for (name, kind, status) in [("steady", "Ready", "True"), ("asleep", "Active", "False")] {
            let described = format!("{name} to be {kind}={status}");
            wait_until(&described, RECOVERY_MAX, || self.condition(name, kind, status));
        }
        Ok(recovered)
    }

    /// How many replicas `steady` has between two trials.
    pub(crate) fn steady(&self) -> i64 {
        self.steady
    }

    /// What `hpalite why` says of an object, with its errors.
    fn why(&self, name: &str, when: [&str; 2]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_hpalite"))
            .args(["why", &format!("{NAMESPACE}/{name}"), when[0], when[1], "--db"])
            .arg(self.daemon().db())
            .output()
            .expect("hpalite why can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("{}{errors}", String::from_utf8_lossy(&output.stdout))
    }

    /// `hpalite why` explains the newest scales, and names the fault. What the history has beside them is wrong.
    pub(crate) fn is_told(&mut self) -> Result<(), String> {
        let began = Instant::now();
        let path = &self.paths["steady"];
        let newest = if path.len() > 2 { format!("→{} by the HPA", path[path.len() - 1]) } else { String::new() };
        let outcome = loop {
            // Rounded up, and some time before.
            let since = format!("{}s", self.began.elapsed().as_secs() + 2);
            let middle = format!("-{}s", self.middle.elapsed().as_secs());
            let mut asked: BTreeMap<(&str, &str), String> = BTreeMap::new();
            let scales = [("asleep", "1→0 by hpalite"), ("steady", newest.as_str())];
            let wanted = scales.into_iter().map(|(name, words)| (name, ["--since", &since], words));
            let explanations = self.explanations.iter().map(|explanation| match explanation {
                Explanation::Of(name, words) => (*name, ["--since", &since], *words),
                Explanation::Meanwhile(name, words) => (*name, ["--at", &middle], *words),
            });
            let missing = wanted.chain(explanations).filter(|(name, when, words)| {
                !asked.entry((name, when[0])).or_insert_with(|| self.why(name, *when)).contains(words)
            });
            let missing: Vec<_> = missing.map(|(name, [when, _], words)| format!("{name} {when}: {words}")).collect();
            if missing.is_empty() || began.elapsed() > TOLD_WITHIN {
                if !missing.is_empty() || std::env::var_os("HPALITE_FAULTS_WHY").is_some() {
                    asked.iter().for_each(|((name, when), text)| println!("--- why {name} {when}\n{text}"));
                }
                break if missing.is_empty() { Ok(()) } else { Err(format!("why does not say {missing:?}")) };
            }
            std::thread::park_timeout(Duration::from_millis(100));
        };
        if began.elapsed() > Duration::from_secs(5) {
            println!("why needed {:.1} s after the recovery to say all of it", began.elapsed().as_secs_f64());
        }
        for invented in self.invented() {
            self.blame(invented);
        }
        outcome
    }

    /// Returns changes of replicas that the history has, and that never happened. Of several it may have the sum.
    fn invented(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, path) in &self.paths {
            let statement = format!(
                "SELECT from_replicas, to_replicas, actor, source FROM v_replica_change WHERE name = '{name}' \
                 AND from_replicas IS NOT NULL AND at_unix_ms >= {} ORDER BY at_unix_ms",
                self.paths_since
            );
            let mut left = path.as_slice();
            for row in self.daemon().sql(&statement) {
                let skip = |path: &[i64], to: &Value| path.iter().position(|count| *to == *count);
                let from = skip(left, &row["from_replicas"]);
                let to = from.and_then(|from| Some(from + 1 + skip(&left[from + 1..], &row["to_replicas"])?));
                match to {
                    Some(to) => left = &left[to..],
                    None => found.push(format!("the history has of {name}, which went {path:?}: {row}")),
                }
            }
        }
        found
    }

    pub(crate) fn peak_mb_max(&self) -> f64 {
        self.peak_mb_max
    }
}

pub(crate) fn right(value: f64) -> Reply {
    Reply::value(&value.to_string())
}

pub(crate) fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Lets a fault last.
pub(crate) fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// Returns the distinct messages of warnings and errors, with how often each was logged.
fn complaints(log: &str) -> String {
    let mut found: Vec<(&str, usize)> = Vec::new();
    for line in log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")) {
        let Some((_, rest)) = line.split_once(" msg=") else { continue };
        let message = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
        let message = message.unwrap_or_else(|| rest.split(' ').next().unwrap_or_default());
        match found.iter_mut().find(|(known, _)| *known == message) {
            Some((_, count)) => *count += 1,
            None => found.push((message, 1)),
        }
    }
    found.iter().map(|(message, count)| format!("{message} ×{count}")).collect::<Vec<_>>().join(", ")
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
