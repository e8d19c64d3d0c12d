//! Declares every subcommand and flag once: the parser, the help, the manual page, the completions and `k8s/flags.md`
//! use these tables.

/// One flag.
pub(super) struct Flag {
    /// The name without its dashes.
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    /// A second name for the same flag.
    pub(super) alias: Option<&'static str>,
    pub(super) takes: Takes,
    pub(super) is_repeatable: bool,
    /// The environment variable that gives the value if the flag is absent.
    pub(super) env: Option<&'static str>,
    pub(super) default: Option<&'static str>,
    /// What the flag does, with units. Default, variable and repetition are added from the fields above.
    pub(super) help: &'static str,
}

/// What follows a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// Without a value it means true; a value is joined by `=`, as for Go's flags.
    Truth,
    /// A value of this name.
    Value(&'static str),
    OneOf(&'static [&'static str]),
}

pub(super) struct Subcommand {
    pub(super) name: &'static str,
    /// The operand after the flags, and its description.
    pub(super) operand: Option<(&'static str, &'static str)>,
    pub(super) about: &'static str,
    pub(super) flags: &'static [Flag],
    /// A text below the flags.
    pub(super) note: &'static str,
}

const fn flag(long: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { long, short: None, alias: None, takes, is_repeatable: false, env: None, default: None, help }
}

const fn switch(long: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Nothing, help)
}

const fn value(long: &'static str, name: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Value(name), help)
}

impl Flag {
    const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    const fn env(self, name: &'static str) -> Self {
        Self { env: Some(name), ..self }
    }

    const fn default(self, value: &'static str) -> Self {
        Self { default: Some(value), ..self }
    }

    const fn repeatable(self) -> Self {
        Self { is_repeatable: true, ..self }
    }
}

const KUBECONFIG: Flag =
    value("kubeconfig", "FILE", "API server and credentials; without it the pod's service account").env("KUBECONFIG");
const CONTEXT: Flag = value("context", "NAME", "context of the kubeconfig instead of its current one");
const DB: Flag = value("db", "FILE", "the daemon's database").env("HPALITE_DB").default("/data/hpalite.db");
const SERVICE: Flag =
    value("service", "NAME.NS", "Service that the API server reaches hpalite by, whose name the certificate has")
        .env("HPALITE_SERVICE")
        .default("hpalite.hpalite");
const APISERVICE: Flag =
    value("apiservice", "NAME", "APIService that leads to hpalite, whose caBundle the daemon keeps")
        .env("HPALITE_APISERVICE")
        .default("v1beta1.external.metrics.k8s.io");
const JSON: Flag = switch("json", "findings, or the answer, as JSON");
const OUTPUT_JSON: Flag = flag("output", Takes::OneOf(&["json"]), "the same as --json").short('o');
const OBJECT: Option<(&str, &str)> =
    Some(("NAMESPACE/NAME", "the ScaledObject, or hpa/NAMESPACE/NAME; also as -n NAMESPACE NAME"));
const OBJECT_NAMESPACE: Flag = value("namespace", "NS", "namespace of the object, where NAME stands alone").short('n');
const MOVE_TIMEOUT: Flag = value("timeout", "SECONDS", "until it must be done").default("60");
const DRY_RUN: Flag = switch("dry-run", "say what would be done");
const ALLOW_NETWORK: Flag = value(
    "allow-network",
    "CIDR",
    "let triggers ask loopback, link-local or metadata addresses in it; the variable separates them by commas",
)
.repeatable()
.env("HPALITE_ALLOW_NETWORKS");

/// As KEDA writes them. Versions before 1.2 are allowed and not spoken.
const TLS_VERSIONS: &[&str] = &["TLS10", "TLS11", "TLS12", "TLS13"];

const PROMETHEUS_SERVER: Flag =
    value("prometheus-server", "URL", "the server of prometheus triggers and annotated HPAs that name none")
        .env("HPALITE_PROMETHEUS_SERVER");
const ADDITIONAL_PROMETHEUS_SERVERS: Flag = value(
    "additional-prometheus-servers",
    "NAME=URL",
    "a server that annotated HPAs name by this alias; several are separated by commas",
)
.alias("additional-prometheus-server")
.repeatable()
.env("HPALITE_ADDITIONAL_PROMETHEUS_SERVERS");

const CA_DIR: Flag =
    value("ca-dir", "DIR", "more CA certificates for metric servers; without it /custom/ca, if that is there")
        .repeatable();
const ADAPTER_CONFIG: Flag = value(
    "adapter-config",
    "FILE",
    "prometheus-adapter's configuration file: serve custom.metrics.k8s.io and external metrics by its rules, from \
     --prometheus-server; a changed file is used within seconds",
)
.env("HPALITE_ADAPTER_CONFIG");
const FORWARD_EXTERNAL_METRICS: Flag = value(
    "forward-external-metrics",
    "URL",
    "https://NAME.NS:PORT of another adapter, which is asked for external metrics that nobody here gives; the variable \
     separates them by commas",
)
.repeatable()
.env("HPALITE_FORWARD_EXTERNAL_METRICS");
const FORWARD_TOKEN_FILE: Flag = value(
    "forward-token-file",
    "FILE",
    "holds the token that those adapters get, for example of an account that may read external metrics and nothing else; \
     without it none is sent",
)
.env("HPALITE_FORWARD_TOKEN_FILE");
const FORWARD_INSECURE: Flag = flag(
    "forward-insecure-skip-tls-verify",
    Takes::Truth,
    "do not verify the certificates of those adapters, for those that make their own; otherwise --ca-dir has their CA",
)
.env("HPALITE_FORWARD_INSECURE_SKIP_TLS_VERIFY")
.default("false");

pub(super) const RUN: Subcommand = Subcommand {
    name: "run",
    operand: None,
    about: "scale ScaledObjects until SIGTERM",
    flags: &[
        KUBECONFIG,
        value("db", "FILE", "SQLite state and history").env("HPALITE_DB").default("/data/hpalite.db"),
        value("retain-samples", "AGE", "how long every sample is kept: 12h, 30d")
            .env("HPALITE_RETAIN_SAMPLES")
            .default("3d"),
        value("retain-minutes", "AGE", "how long samples rolled up by minute are kept")
            .env("HPALITE_RETAIN_MINUTES")
            .default("7d"),
        value("retain-hours", "AGE", "how long samples rolled up by hour are kept")
            .env("HPALITE_RETAIN_HOURS")
            .default("90d"),
        value("retain-history", "AGE", "how long decisions, replica changes, errors and old definitions are kept")
            .env("HPALITE_RETAIN_HISTORY")
            .default("30d"),
        value("db-max-size", "SIZE", "beyond it the oldest go before their time, samples first; 0 for no limit")
            .env("HPALITE_DB_MAX_SIZE")
            .default("480MB"),
        value("listen", "ADDR", "aggregated API over TLS").env("HPALITE_LISTEN").default("[::]:6443"),
        value("http", "ADDR", "/healthz, /livez, /readyz and /metrics, plain HTTP")
            .env("HPALITE_HTTP")
            .default("[::]:8080"),
        value("ui", "ADDR", "read-only page, plain HTTP; '' for none").env("HPALITE_UI").default("127.0.0.1:8081"),
        value("namespace", "NS", "watch this namespace only, without it all; the variable separates them by commas")
            .repeatable()
            .env("WATCH_NAMESPACE"),
        value(
            "watch-label-selector",
            "SELECTOR",
            "watch ScaledObjects and annotated HPAs with these labels only, as kubectl -l takes them; without it all",
        )
        .env("WATCH_LABEL_SELECTOR"),
        value(
            "watch-label-selector-for-triggerauth",
            "SELECTOR",
            "watch TriggerAuthentications and ClusterTriggerAuthentications with these labels only; without it all",
        )
        .env("WATCH_LABEL_SELECTOR_FOR_TRIGGERAUTH"),
        flag(
            "shadow",
            Takes::Truth,
            "record what would be done and write nothing to the API server, beside KEDA for example",
        )
        .env("HPALITE_SHADOW")
        .default("false"),
        SERVICE,
        APISERVICE,
        value(
            "tls-cert-file",
            "FILE",
            "serve this certificate instead of making one; a changed file is served within seconds",
        ),
        value("tls-private-key-file", "FILE", "its key; the two go together, and the caBundle is then yours"),
        flag("tls-min-version", Takes::OneOf(TLS_VERSIONS), "of whoever reads the aggregated API; below TLS12 nothing is served")
            .env("KEDA_SERVICE_MIN_TLS_VERSION")
            .default("TLS12"),
        PROMETHEUS_SERVER,
        ADDITIONAL_PROMETHEUS_SERVERS,
        ADAPTER_CONFIG,
        flag(
            "custom-metrics",
            Takes::Truth,
            "keep the certificates of the APIServices of custom.metrics.k8s.io, for Object and Pods metrics of annotated \
             HPAs; rules do so as well",
        )
        .env("HPALITE_CUSTOM_METRICS")
        .default("false"),
        value("metrics-relist-interval", "DURATION", "how often the series of those rules are listed")
            .env("HPALITE_METRICS_RELIST_INTERVAL")
            .default("10m"),
        value(
            "metrics-max-age",
            "DURATION",
            "series without a sample for this long need not be listed; without it --metrics-relist-interval",
        )
        .env("HPALITE_METRICS_MAX_AGE"),
        flag(
            "explain-all-hpas",
            Takes::Truth,
            "remember and explain every HPA of the watched namespaces, also those whose metrics others give, as cpu",
        )
        .env("HPALITE_EXPLAIN_ALL_HPAS")
        .default("false"),
        FORWARD_EXTERNAL_METRICS,
        FORWARD_TOKEN_FILE,
        FORWARD_INSECURE,
        value("poll-threads", "N", "queries under way at once").env("HPALITE_POLL_THREADS").default("32"),
        value(
            "prometheus-max-qps",
            "N",
            "questions a second to one metric server, after a burst of one second's; 0 for no limit",
        )
        .env("HPALITE_PROMETHEUS_MAX_QPS")
        .default("0"),
        value(
            "prometheus-max-concurrency",
            "N",
            "questions under way at one metric server; 0 for three quarters of all that may be under way",
        )
        .env("HPALITE_PROMETHEUS_MAX_CONCURRENCY")
        .default("0"),
        flag(
            "group-queries",
            Takes::Truth,
            "ask a Prometheus one query for many that differ in the value of one label, where the answers are the same",
        )
        .env("HPALITE_GROUP_QUERIES")
        .default("true"),
        value("query-timeout", "MS", "of triggers that set none; at most 30000")
            .env("KEDA_HTTP_DEFAULT_TIMEOUT")
            .default("3000"),
        flag("http-min-tls-version", Takes::OneOf(TLS_VERSIONS), "of metric servers and secret stores; below TLS12 none is asked")
            .env("KEDA_HTTP_MIN_TLS_VERSION")
            .default("TLS12"),
        flag("http-disable-keep-alive", Takes::Truth, "connect to metric servers anew for each request")
            .env("KEDA_HTTP_DISABLE_KEEP_ALIVE")
            .default("false"),
        CA_DIR,
        ALLOW_NETWORK,
        flag(
            "instance-metadata",
            Takes::Truth,
            "podIdentity may use the identity of the instance, from the metadata service of Amazon or Google",
        )
        .env("HPALITE_INSTANCE_METADATA")
        .default("false"),
        value(
            "identity-server",
            "SERVER",
            "host, or scheme://host:port, with * for any text, that may get tokens of our podIdentity beside Azure's and \
             Google's own Prometheus, and a Vault that of our account; the variable separates them by commas",
        )
        .repeatable()
        .env("HPALITE_IDENTITY_SERVERS"),
        value("cluster-namespace", "NS", "where ClusterTriggerAuthentications find Secrets; without it our own")
            .env("KEDA_CLUSTER_OBJECT_NAMESPACE"),
        value("filepath-auth-root-path", "DIR", "below which ClusterTriggerAuthentications may read files"),
        flag("leader-elect", Takes::Truth, "act only while holding the Lease named and placed like --service")
            .env("HPALITE_LEADER_ELECT")
            .default("true"),
        value("leader-elect-lease-duration", "D", "as in Kubernetes' own components")
            .env("KEDA_OPERATOR_LEADER_ELECTION_LEASE_DURATION")
            .default("15s"),
        value("leader-elect-renew-deadline", "D", "at most 4/5 of the Lease's duration")
            .env("KEDA_OPERATOR_LEADER_ELECTION_RENEW_DEADLINE")
            .default("10s"),
        value("leader-elect-retry-period", "D", "at most half of the renew deadline")
            .env("KEDA_OPERATOR_LEADER_ELECTION_RETRY_PERIOD")
            .default("2s"),
        flag(
            "allow-cross-namespace-services",
            Takes::Truth,
            "aggregateFromKubeServiceEndpoints asks Services of other namespaces too",
        )
        .env("HPALITE_ALLOW_CROSS_NAMESPACE_SERVICES")
        .default("false"),
        flag("keda-metrics", Takes::Truth, "/metrics has KEDA's names too, with a series for each trigger")
            .env("HPALITE_KEDA_METRICS")
            .default("true"),
        value("drain", "SECONDS", "go on serving after SIGTERM while endpoints spread")
            .env("HPALITE_DRAIN")
            .default("2"),
        flag("log-format", Takes::OneOf(&["logfmt", "json"]), "how lines of the log are written")
            .env("HPALITE_LOG_FORMAT")
            .default("logfmt"),
        flag(
            "log-time-encoding",
            Takes::OneOf(&["rfc3339", "rfc3339nano", "iso8601", "epoch", "millis", "nano"]),
            "how they write the time; the first three are one, in milliseconds, the others numbers since 1970",
        )
        .env("HPALITE_LOG_TIME_ENCODING")
        .default("rfc3339"),
    ],
    note: "RUST_LOG sets the log level; default info.",
};

pub(super) const CHECK: Subcommand = Subcommand {
    name: "check",
    operand: Some(("FILE...", "YAML or JSON, - for standard input")),
    about: "say what is wrong with manifests, without a cluster",
    flags: &[PROMETHEUS_SERVER, ADDITIONAL_PROMETHEUS_SERVERS, JSON, OUTPUT_JSON],
    note: "Exit code 1 for errors, 2 for files that cannot be read.",
};

pub(super) const SQL: Subcommand = Subcommand {
    name: "sql",
    operand: Some(("STATEMENT", "SQL, or .tables, .schema, .help")),
    about: "one read-only statement on the recorded history, safe beside the daemon",
    flags: &[
        DB,
        flag("format", Takes::OneOf(&["table", "csv", "json"]), "how rows are written")
            .short('o')
            .alias("output")
            .default("table"),
        value("timeout", "SECONDS", "of the statement").default("10"),
        value("limit", "N", "rows at most").default("1000"),
        value("backup", "FILE", "write a consistent copy instead"),
    ],
    note: "",
};

pub(super) const WHY: Subcommand = Subcommand {
    name: "why",
    operand: OBJECT,
    about: "what moved an object's replicas, and what holds them, from the recorded history",
    flags: &[
        OBJECT_NAMESPACE,
        DB,
        value("at", "TIME", "14:03, 14:03:15, RFC 3339 or -5m, in UTC; without it now"),
        value("since", "DURATION", "everything since then, for example 2h or 7d"),
        JSON,
        OUTPUT_JSON,
    ],
    note: "The JSON is described in sql/why.md.",
};

pub(super) const HISTORY: Subcommand = Subcommand {
    name: "history",
    operand: OBJECT,
    about: "plot one ScaledObject's values, thresholds, replicas and events, safe beside the daemon",
    flags: &[
        OBJECT_NAMESPACE,
        DB,
        value("since", "DURATION", "how far back, as 90s, 45m, 2h, 7d").default("2h"),
        value(
            "width",
            "N",
            "columns, 40 to 300, without it the terminal's; with --csv or --json how many points at most, up to 2000, \
             without it 500",
        ),
        switch("ascii", "no characters beyond ASCII"),
        switch("csv", "the points instead of a plot"),
        switch("json", "everything instead of a plot"),
        flag("output", Takes::OneOf(&["csv", "json"]), "the same as --csv or --json").short('o'),
        value("group", "GROUP", "keda.sh, keda.k8s.io or autoscaling, where several have an object of this name"),
    ],
    note: "",
};

pub(super) const REPLAY: Subcommand = Subcommand {
    name: "replay",
    operand: Some((
        "NAMESPACE/NAME",
        "the ScaledObject, or hpa/NAMESPACE/NAME; also as -n NAMESPACE NAME; none with --all or --demo",
    )),
    about: "what would have happened with other settings: replay the recorded load, today's beside each candidate's",
    flags: &[
        OBJECT_NAMESPACE,
        DB,
        value("since", "DURATION", "how far back, up to 100d").default("7d"),
        value("until", "TIME", "the end instead of now: 14:03, RFC 3339 or -5m, in UTC"),
        value(
            "set",
            "PATH=VALUE",
            "a candidate: today's settings but for this; what belongs together is joined by a comma, as \
             spec.cooldownPeriod=60,spec.maxReplicaCount=9; null takes a field away",
        )
        .repeatable(),
        value("candidate", "FILE", "a candidate: a manifest of YAML or JSON, - for standard input").repeatable(),
        switch(
            "suggest",
            "look for a threshold, stabilization and cooldown that meet the goal at the fewest pod-hours",
        ),
        value(
            "at-most-above-target",
            "PERCENT",
            "the goal of --suggest: the share of time above today's target, without it 1%",
        ),
        value("from-prometheus", "URL", "ask this Prometheus for the answers that the history lacks"),
        value("pod-start", "DURATION", "from a scale-out until its pods are ready, without it as the history shows it"),
        value("horizontal-pod-autoscaler-sync-period", "DURATION", "as kube-controller-manager has it").default("15s"),
        value("horizontal-pod-autoscaler-downscale-stabilization", "DURATION", "as kube-controller-manager has it")
            .default("5m"),
        switch(
            "all",
            "every object of the history, or of -n NS, a line each, the worst first; with one --set beside today's settings",
        ),
        switch("demo", "replay a made-up week of a service, without a cluster and without a database"),
        value("width", "N", "columns of the plot, 40 to 300, without it the terminal's"),
        switch("ascii", "no characters beyond ASCII"),
        JSON,
        OUTPUT_JSON,
        value("group", "GROUP", "keda.sh, keda.k8s.io or autoscaling, where several have an object of this name"),
    ],
    note: "What is assumed and how far the model is off is part of the answer; see k8s/replay.md.",
};

pub(super) const COMPARE: Subcommand = Subcommand {
    name: "compare",
    operand: OBJECT,
    about: "where a shadow would have had other replicas than its target had, how long, and why",
    flags: &[
        OBJECT_NAMESPACE,
        DB,
        value("since", "DURATION", "how far back, as 90s, 45m, 2h, 7d").default("7d"),
        JSON,
        OUTPUT_JSON,
        value("group", "GROUP", "keda.sh, keda.k8s.io or autoscaling, where several have an object of this name"),
    ],
    note: "What is wanted is before the policies and the stabilization window of the HPA.",
};

pub(super) const DOCTOR: Subcommand = Subcommand {
    name: "doctor",
    operand: None,
    about: "say what is wrong with the installation in a cluster, why, and what mends it; changes nothing",
    flags: &[
        KUBECONFIG,
        CONTEXT,
        SERVICE,
        APISERVICE,
        value("namespace", "NS", "ScaledObjects and rights in this namespace only").short('n'),
        value("listen", "ADDR", "where the daemon's API port can be reached from here; without it its own, in its pod"),
        value("db", "FILE", "the daemon's database; without it /data/hpalite.db, if that is here"),
        PROMETHEUS_SERVER,
        ADDITIONAL_PROMETHEUS_SERVERS,
        ADAPTER_CONFIG,
        FORWARD_EXTERNAL_METRICS,
        FORWARD_TOKEN_FILE,
        FORWARD_INSECURE,
        CA_DIR,
        ALLOW_NETWORK,
        JSON,
        OUTPUT_JSON,
    ],
    note: "Exit code 1 for errors, 2 if the cluster cannot be asked.",
};

pub(super) const TAKEOVER: Subcommand = Subcommand {
    name: "takeover",
    operand: None,
    about: "let the APIServices route to hpalite where KEDA, prometheus-adapter, kube-metrics-adapter or another has them, \
            once hpalite is ready and KEDA's operator is scaled to 0; what was there is put back if metrics that HPAs could \
            read before cannot be read then",
    flags: &[
        KUBECONFIG,
        CONTEXT,
        SERVICE,
        APISERVICE,
        flag(
            "metrics",
            Takes::OneOf(&["external", "custom", "both"]),
            "whose APIServices: of external metrics, of metrics of pods and other objects, or of both",
        )
        .default("external"),
        MOVE_TIMEOUT,
        switch("force", "although KEDA's operator runs"),
        switch("leave-unserved", "although objects of KEDA are there that hpalite does not run, such as ScaledJobs"),
        DRY_RUN,
    ],
    note: "Exit code 1 if refused or put back, 2 if the cluster cannot be asked.",
};

pub(super) const UNINSTALL: Subcommand = Subcommand {
    name: "uninstall",
    operand: None,
    about: "take out of the cluster, in the right order, what would hang without hpalite",
    flags: &[
        KUBECONFIG,
        CONTEXT,
        SERVICE,
        APISERVICE,
        MOVE_TIMEOUT,
        DRY_RUN,
        switch("keep-crds", "stop hpalite; ScaledObjects, HPAs and CRDs stay, without finalizers"),
        switch(
            "delete-scaledobjects",
            "they go, with their HPAs, authentications and the CRDs, while hpalite runs; nothing is done without either \
             of the two while there are any",
        ),
    ],
    note: "Exit code 1 if refused or not complete, 2 if the cluster cannot be asked.",
};

const FROZEN: Option<(&str, &str)> = Some(("NAMESPACE/NAME", "one ScaledObject instead of whole namespaces"));
const FROZEN_NAMESPACE: Flag =
    value("namespace", "NS", "all of this namespace, by annotations of the Namespace").short('n');
const ALL: Flag = switch("all", "all namespaces with ScaledObjects");

pub(super) const FREEZE: Subcommand = Subcommand {
    name: "freeze",
    operand: FROZEN,
    about: "pause scaling until a time, by the pause annotations, and say of each object what that means",
    flags: &[
        FROZEN_NAMESPACE,
        ALL,
        switch("at-current", "at the replicas that there are, which is the default"),
        value("replicas", "N", "at this many replicas"),
        value("until", "TIME", "when it ends by itself: RFC 3339, or a duration as 45m, 2h, 7d"),
        value("reason", "TEXT", "shown on the object, in its history and by hpalite why"),
        KUBECONFIG,
        CONTEXT,
        SERVICE,
        DRY_RUN,
    ],
    note: "Exit code 1 if refused for some, 2 if the cluster cannot be asked.",
};

pub(super) const THAW: Subcommand = Subcommand {
    name: "thaw",
    operand: FROZEN,
    about: "end before its time what hpalite freeze began; pauses made otherwise stay",
    flags: &[FROZEN_NAMESPACE, ALL, KUBECONFIG, CONTEXT, DRY_RUN],
    note: "Exit code 1 if refused, 2 if the cluster cannot be asked.",
};

pub(super) const STATUS: Subcommand = Subcommand {
    name: "status",
    operand: None,
    about: "one screen of the installation: leader, version, metric servers, and the objects, those in trouble first",
    flags: &[
        value("namespace", "NS", "objects of this namespace only").short('n'),
        switch("watch", "draw it again and again until Ctrl-C").short('w'),
        value("interval", "SECONDS", "between two drawings").default("5"),
        JSON,
        OUTPUT_JSON,
        DB,
        KUBECONFIG,
        CONTEXT,
        SERVICE,
        APISERVICE,
    ],
    note: "What cannot be read is said in its place. The JSON is described in sql/status.md.",
};

pub(super) const PAGE: Subcommand = Subcommand {
    name: "page",
    operand: None,
    about: "bring the page of the pod to this machine, on loopback, until Ctrl-C",
    flags: &[
        value("port", "N", "port of this machine; 0 for any that is free").default("8081"),
        KUBECONFIG,
        CONTEXT,
        INSTALLATION,
    ],
    note: "",
};

const INSTALLATION: Flag = value(
    "service",
    "NAME.NS",
    "Service of the installation that is meant; without it the one that the metrics API is behind, or hpalite.hpalite",
);

/// What `kubectl hpalite` takes with each command that is carried out in the pod.
pub(super) const PLUGIN: &[Flag] = &[KUBECONFIG, CONTEXT, INSTALLATION];

pub(super) const COMPLETION: Subcommand = Subcommand {
    name: "completion",
    operand: Some(("SHELL", "bash, zsh or fish")),
    about: "print what makes a shell complete subcommands and flags: source <(hpalite completion bash)",
    flags: &[],
    note: "",
};

pub(super) const MAN: Subcommand = Subcommand {
    name: "man",
    operand: None,
    about: "print the manual page: hpalite man | man -l -",
    flags: &[],
    note: "",
};

pub(super) const VERSION: Subcommand =
    Subcommand { name: "version", operand: None, about: "print the version", flags: &[], note: "" };

/// All subcommands in the order in which the help shows them.
pub(super) const SUBCOMMANDS: [&Subcommand; 17] = [
    &RUN,
    &CHECK,
    &SQL,
    &WHY,
    &HISTORY,
    &REPLAY,
    &COMPARE,
    &STATUS,
    &PAGE,
    &DOCTOR,
    &TAKEOVER,
    &UNINSTALL,
    &FREEZE,
    &THAW,
    &COMPLETION,
    &MAN,
    &VERSION,
];

pub(super) fn find(name: &str) -> Option<&'static Subcommand> {
    SUBCOMMANDS.into_iter().find(|subcommand| subcommand.name == name)
}
