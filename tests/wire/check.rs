//! `check` for its users: lines, warnings, several objects, exit codes, both output formats.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use hpalite::check::{self, Outcome, Severity};
use hpalite::wire::Servers;
use serde_json::Value;

const GOOD: &str = r#"
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {name: web}
  triggers:
  - type: prometheus
    metadata:
      serverAddress: http://prometheus:9090
      query: sum(rate(http_requests_total[2m]))
      threshold: "100"
"#;

fn lines(text: &str) -> Vec<String> {
    super::check(text).findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_manifest_gives_nothing() {
    let report = super::check(GOOD);
    assert_eq!((report.findings.len(), report.objects, report.outcome()), (0, 1, Outcome::Clean));
}

#[test]
fn our_own_samples_are_good() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("k8s/samples");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let report = check::files_report(&[path], &Servers::default());
        assert_eq!(report.outcome(), Outcome::Clean, "{:#?}", report.findings);
    }
}

#[test]
fn lines_point_into_the_file() {
    let text = format!("# first\n{GOOD}---\n{}", GOOD.replace("name: web", "name: api").replace("\"100\"", "lots"));
    assert_eq!(
        lines(&text),
        ["file.yaml:26: ScaledObject shop/api: spec.triggers[0].metadata.threshold: \"lots\" is not a number \
          (write a number such as \"75\" or \"0.5\")"]
    );
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}},
        {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObjectList", "items": [
            {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "a"}, "spec": {"triggers": 5}}
        ]}
    ]}"#;
    assert_eq!(
        lines(list),
        [
            "file.yaml: ScaledObject default/a: spec.scaleTargetRef.name: is missing (write the name of the Deployment or other workload to scale)",
            "file.yaml: ScaledObject default/a: spec.triggers: must be a list, is the number 5",
        ]
    );
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: keda.sh/v1alpha1\n  kind: TriggerAuthentication\n  metadata: {name: a}\n  spec:\n    filePath: x\n";
    assert!(
        lines(list)[0].starts_with("file.yaml:8: TriggerAuthentication default/a: spec.filePath: "),
        "{:?}",
        lines(list)
    );
}

#[test]
fn a_trigger_that_the_formula_leaves_out_is_reported() {
    let text = GOOD
        .replace("  triggers:\n", "  advanced: {scalingModifiers: {formula: load * 2, target: \"5\"}}\n  triggers:\n")
        .replace("- type: prometheus", "- {type: prometheus, name: load, metadata: {serverAddress: \"http://p\", query: up, threshold: \"0\"}}\n  - type: prometheus\n    name: other");
    let report = super::check(&text);
    assert_eq!(report.outcome(), Outcome::Clean, "{:?}", report.findings);
    let findings: Vec<_> = report.findings.iter().map(|f| (f.field.as_str(), f.message.as_str())).collect();
    assert_eq!(findings, [("spec.triggers[1].name", "the formula does not read this trigger")]);
}

#[test]
fn warnings_do_not_fail() {
    let text = r#"
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: web
  annotations: {autoscaling.keda.sh/paused-scale-in: "no"}
spec:
  scaleTargetRef: {name: web}
  minReplicaCount: 1
  cooldownPeriod: 60
  triggers:
  - type: prometheus
    metadata:
      serverAddress: http://me:secret@prometheus:9090
      query: up
      threshold: "5"
      treshold: "6"
      metricName: load
      bearerToken: secret
      azureManagedPrometheusResourceURL: https://prometheus.monitor.azure.com
    authenticationRef: {name: prometheus}
"#;
    let report = super::check(text);
    assert_eq!(report.outcome(), Outcome::Clean);
    assert!(report.findings.iter().all(|finding| finding.severity == Severity::Warning));
    let found: Vec<(String, String, Option<u64>)> =
        report.findings.iter().map(|f| (f.field.clone(), f.fix.clone(), f.line)).collect();
    let expected = [
        ("spec.cooldownPeriod", "behavior", 10),
        ("spec.triggers[0].metadata.treshold", "did you mean threshold?", 17),
        ("spec.triggers[0].metadata.bearerToken", "TriggerAuthentication", 19),
        ("spec.triggers[0].metadata.azureManagedPrometheusResourceURL", "write cloud", 20),
        ("spec.triggers[0].metadata.metricName", "remove it", 18),
        ("spec.triggers[0].metadata.serverAddress", "authModes basic", 14),
        ("metadata.annotations[autoscaling.keda.sh/paused-scale-in]", "write \"true\" or \"false\"", 6),
        ("spec.triggers[0].authenticationRef.name", "in the cluster", 21),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((field, fix, line), expected) in found.iter().zip(expected) {
        assert_eq!((field.as_str(), *line), (expected.0, Some(expected.2)));
        assert!(fix.contains(expected.1), "{field}: {fix}");
    }
}

#[test]
fn objects_are_compared_with_each_other() {
    let other = GOOD.replace("{name: web, namespace", "{name: web-2, namespace");
    assert_eq!(
        lines(&format!("{GOOD}---{other}")),
        [
            "file.yaml:18: ScaledObject shop/web-2: spec.scaleTargetRef: the workload 'web' of type 'apps/v1.Deployment' is \
          already managed by the ScaledObject 'web' (put the triggers of both into one ScaledObject)"
        ]
    );
    let legacy = other
        .replace("keda.sh/v1alpha1", "keda.k8s.io/v1alpha1")
        .replace("scaleTargetRef: {name", "scaleTargetRef: {deploymentName")
        .replace("query:", "metricName: load\n      query:");
    let found = lines(&format!("{GOOD}---{legacy}"));
    assert!(found.iter().any(|line| line.contains("the workload 'web'")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("the HPA 'keda-hpa-web' is already managed")), "{found:?}");
    let elsewhere = other.replace("namespace: shop", "namespace: staging");
    assert!(lines(&format!("{GOOD}---{elsewhere}")).is_empty());
    assert!(lines(&format!("{GOOD}---{GOOD}"))[0].contains("shop/web is in the files more than once"));
}

#[test]
fn percent_of_requests_that_are_not_made_are_worth_a_word() {
    let object = "apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {name: web}
  minReplicaCount: 1
  triggers:
  - {type: cpu, metricType: Utilization, metadata: {value: \"60\"}}
  - {type: memory, metricType: Utilization, metadata: {value: \"60\", containerName: app}}
  - {type: memory, metricType: AverageValue, metadata: {value: 200Mi}}
";
    let workload = |resources: &str| {
        let containers = format!("[{{name: app, resources: {resources}}}, {{name: sidecar}}]");
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: shop}}\n\
             spec: {{template: {{spec: {{containers: {containers}}}}}}}\n"
        )
    };
    let of = |container: &str, line: u64, index: u64, resource: &str| {
        format!(
            "file.yaml:{line}: ScaledObject shop/web: spec.triggers[{index}]: warning: the scaledobject has a {resource} trigger but \
             the container {container} doesn't have the {resource} request defined (set resources.requests.{resource}, \
             unless a LimitRange does)"
        )
    };
    let sidecar = of("sidecar", 8, 0, "cpu");
    assert_eq!(
        lines(&format!("{object}{}", workload("{}"))),
        [of("app", 8, 0, "cpu"), sidecar.clone(), of("app", 9, 1, "memory")]
    );
    let some = workload("{requests: {cpu: 500m}, limits: {memory: 1Gi}}");
    assert_eq!(lines(&format!("{object}{some}")), std::slice::from_ref(&sidecar));
    let nothing = workload("{requests: {cpu: 0, memory: 1}}");
    assert_eq!(lines(&format!("{object}{nothing}")), [of("app", 8, 0, "cpu"), sidecar]);
    assert!(lines(object).is_empty(), "the Deployment is not in the files");
    let zero = object.replace("minReplicaCount: 1", "minReplicaCount: 0");
    assert!(
        lines(&zero)[0].contains("scaledobject has only cpu/memory triggers AND minReplica is 0"),
        "{:?}",
        lines(&zero)
    );
}

#[test]
fn an_authentication_in_another_file_is_found() {
    let object = format!("{GOOD}    authenticationRef: {{name: prometheus}}\n");
    let authentication = "apiVersion: keda.sh/v1alpha1\nkind: TriggerAuthentication\nmetadata: {name: prometheus, namespace: shop}\nspec: {}\n";
    let mut check = check::Check::default();
    check.file("a", &object);
    check.file("b", authentication);
    assert!(check.finish().findings.is_empty());
    assert_eq!(
        lines(&object),
        ["file.yaml:13: ScaledObject shop/web: spec.triggers[0].authenticationRef.name: warning: \
          TriggerAuthentication shop/prometheus is not in the files (make sure that it is in the cluster)"]
    );
}

#[test]
fn a_server_that_nobody_names_is_missed_as_far_as_the_files_tell() {
    let object = format!("{GOOD}    authenticationRef: {{name: prometheus}}\n")
        .replace("      serverAddress", "      # serverAddress");
    let authentication = |spec: &str| {
        format!(
            "apiVersion: keda.sh/v1alpha1\nkind: TriggerAuthentication\nmetadata: {{name: prometheus, namespace: shop}}\n\
             spec: {{secretTargetRef: [{{parameter: {spec}, name: p, key: k}}]}}\n"
        )
    };
    let found = |servers: &str, spec: &str| {
        let mut check = check::Check::with(Servers::parse(servers, &[]).unwrap());
        check.file("a", &object);
        check.file("b", &authentication(spec));
        let findings = check.finish().findings;
        findings.iter().map(|found| format!("{}: {} ({})", found.field, found.message, found.fix)).collect::<Vec<_>>()
    };
    assert_eq!(found("", "serverAddress"), [""; 0]);
    assert_eq!(found("http://of-all", "token"), [""; 0]);
    assert_eq!(
        found("", "token"),
        [
            "spec.triggers[0].metadata.serverAddress: no server is named, and TriggerAuthentication shop/prometheus has no \
          parameter serverAddress (write one of them, or name a server for all with --prometheus-server)"
        ]
    );
    let bare = lines(&GOOD.replace("      serverAddress", "      # serverAddress"));
    assert_eq!(bare.len(), 1, "{bare:?}");
    for words in ["serverAddress", "authenticationRef", "--prometheus-server"] {
        assert!(bare[0].contains(words), "{bare:?}");
    }
}

#[test]
fn files_exit_codes_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let good = write("good.yaml", GOOD);
    let bad = write("bad.yaml", &GOOD.replace("\"100\"", "100"));
    let broken = write("broken.yaml", "a: [1\n---\nb: {\n");
    let missing = folder.path().join("missing.yaml");
    let run = |files: &[&PathBuf], json: bool| {
        let files: Vec<PathBuf> = files.iter().copied().cloned().collect();
        let mut out = Vec::new();
        let code = check::run(&files, &Servers::default(), &mut out, json);
        let outcome = check::files_report(&files, &Servers::default()).outcome();
        assert_eq!(code, ExitCode::from(outcome.code()));
        (outcome.code(), String::from_utf8(out).unwrap())
    };
    assert_eq!(run(&[&good], false), (0, "1 objects checked, 0 errors, 0 warnings\n".to_owned()));
    assert_eq!(run(&[&bad], false).0, 1);
    assert_eq!(run(&[&missing, &good], false).0, 2);
    let (code, text) = run(&[&broken, &bad], false);
    assert_eq!(code, 2, "{text}");
    assert_eq!(text.matches("is not valid YAML").count(), 2, "{text}");
    assert!(text.contains("must be a quoted string, is the number 100"), "{text}");
    let (code, text) = run(&[&bad], true);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["errors"], &report["objects"]), (1, &1.into(), &1.into()));
    assert_eq!(report["findings"][0]["field"], "spec.triggers[0].metadata.threshold");
    assert_eq!(report["findings"][0]["line"], 12);
    assert_eq!(report["findings"][0]["fix"], "write threshold: \"100\"");
}

#[test]
fn hostile_text_is_refused_and_not_followed() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    for text in
        [bomb, &"[".repeat(100_000), &format!("{{\"a\":{}", "[".repeat(100_000)), "\0\0\0", "%YAML 1.2\n---\n%%%: ["]
    {
        let report = super::check(text);
        assert_eq!(report.outcome(), Outcome::Unreadable, "{}", &text[..text.len().min(40)]);
    }
}

/// What the API server refuses by its CRDs or by itself, although the readers ignore it.
#[test]
fn what_the_api_server_refuses_is_an_error() {
    for (from, to, expected) in [
        (
            "  triggers:",
            "  minReplicas: 1\n  triggers:",
            "spec.minReplicas: unknown field: kubectl refuses it, other clients drop it (did you mean minReplicaCount?)",
        ),
        (
            "  triggers:",
            "  behavior: {}\n  triggers:",
            "spec.behavior: unknown field: kubectl refuses it, other clients drop it (it belongs at spec.advanced.horizontalPodAutoscalerConfig.behavior or spec.fallback.behavior)",
        ),
        (
            "{name: web}",
            "{name: web, knid: StatefulSet}",
            "spec.scaleTargetRef.knid: unknown field: kubectl refuses it, other clients drop it (did you mean kind?)",
        ),
        (
            "{name: web}",
            "{nmae: web}",
            "spec.scaleTargetRef.nmae: unknown field: kubectl refuses it, other clients drop it (did you mean name?)",
        ),
        (
            "{name: web}",
            "{deploymentName: web}",
            "spec.scaleTargetRef.name: is missing (write name: web; deploymentName is of keda.k8s.io)",
        ),
        ("namespace: shop", "namespace: Shop", "metadata.namespace: \"Shop\" cannot name a namespace"),
        (
            "namespace: shop",
            "namespace: shop, labels: {a: b c}",
            "metadata.labels[a]: \"b c\" cannot be the value of a label",
        ),
        ("name: web, n", "name: Web, n", "metadata.name: \"Web\" cannot name an object"),
        (
            "  triggers:",
            "  fallback: {failureThreshold: 1, replicas: 1, behavior: \"\"}\n  triggers:",
            "spec.fallback.behavior: \"\" is no fallback behavior",
        ),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD);
        let found = lines(&text);
        assert!(found.len() == 1 && found[0].contains(expected), "{from}: {found:?}");
    }
    let long = GOOD.replace("sum(", &format!("sum({}", "x".repeat(20_000)));
    assert!(lines(&long)[0].contains("has 20034 characters, and 16384 are allowed"), "{:?}", lines(&long));
}

#[test]
fn what_nobody_runs_is_named_and_fails() {
    for (text, expected) in [
        (
            "apiVersion: keda.sh/v1alpha1\nkind: ScaledJob\nmetadata: {name: ci}\n",
            "a ScaledJob is not run by hpalite: nothing would start its jobs",
        ),
        (
            "apiVersion: http.keda.sh/v1alpha1\nkind: HTTPScaledObject\nmetadata: {name: ci}\n",
            "HTTPScaledObject is of KEDA's HTTP add-on",
        ),
        (
            "apiVersion: eventing.keda.sh/v1alpha1\nkind: CloudEventSource\nmetadata: {name: ci}\n",
            "CloudEventSource is not run by hpalite",
        ),
        ("apiVersion: keda.sh/v1\nkind: ScaledObject\nmetadata: {name: ci}\n", "(write apiVersion: keda.sh/v1alpha1)"),
        ("kind: ScaledObject\nmetadata: {name: ci}\n", "apiVersion: is missing"),
        ("metadata: {name: ci}\nspec: {scaleTargetRef: {name: web}}\n", "kind: is missing"),
    ] {
        let report = super::check(text);
        assert_eq!((report.outcome(), report.objects), (Outcome::Problems, 0), "{text}");
        assert!(
            report.findings.len() == 1 && report.findings[0].to_string().contains(expected),
            "{:?}",
            report.findings
        );
    }
    let values = super::check("replicas: 3\n");
    assert_eq!((values.outcome(), values.findings.len()), (Outcome::Clean, 1));
    let mut out = Vec::new();
    super::check("apiVersion: v1\nkind: Service\n").print_text(&mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().starts_with("nothing to check: "));
}

#[test]
fn a_key_that_stands_twice_is_a_warning() {
    let text = GOOD.replace("  triggers:\n", "  minReplicaCount: 5\n  minReplicaCount: 200\n  triggers:\n");
    let found = lines(&text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("file.yaml:8: ScaledObject shop/web: spec.minReplicaCount: warning: stands twice"),
        "{found:?}"
    );
    let joined = format!("{}{}", GOOD.trim_start(), GOOD.trim_start().replace("name: web, n", "name: api, n"));
    let joined = lines(&joined);
    assert_eq!(joined.len(), 1, "{joined:?}");
    assert!(
        joined[0].starts_with("file.yaml:12: ScaledObject shop/api: apiVersion: warning: a second object begins here"),
        "{joined:?}"
    );
    // The last one counts, as on the server.
    assert!(found[1].contains("MinReplicaCount=200 must be less than MaxReplicaCount=100"), "{found:?}");
}

#[test]
fn templates_are_to_be_rendered_first() {
    const RENDER: &str = "is a template, not a manifest (render it first: helm template CHART | hpalite check -)";
    let template = "{{- if .Values.keda.enabled }}\napiVersion: keda.sh/v1alpha1\nkind: ScaledObject\n{{- end }}\n";
    assert_eq!(lines(&format!("{template}---\n{template}")), [format!("file.yaml:1: {RENDER}")]);
    let named = GOOD
        .replace("name: web, n", "name: \"{{ .Values.name }}\", n")
        .replace("scaleTargetRef: {name: web}", "scaleTargetRef: {name: '{{ include \"app.name\" . }}'}");
    let found = lines(&named);
    assert!(found.len() == 1 && found[0].ends_with(RENDER), "{found:?}");
    // Braces of Prometheus or Alertmanager are not Helm's.
    assert!(lines(&GOOD.replace("total[2m]", "total{a=\"{{b}}\"}[2m]")).is_empty());
}

#[test]
fn a_fault_in_one_document_leaves_the_others_checked_in_plain_words() {
    for (broken, words) in [
        ("a: [1\nb: 2\n", "a [ or { is not closed"),
        ("a: {b: 1\n", "a [ or { is not closed"),
        ("a:\n\tb: 1\n", "with blanks, not with tabs"),
        ("a: \"x\nb: 1\n", "a quote is not closed"),
        ("a: b: c\n", "put texts with \": \" into quotes"),
        ("a: 1\n  b: 2\n", "look at their indentation"),
        ("a: @x\n", "put it into quotes"),
        ("a: *x\n", "a * or & begins the name of an anchor: put the text into quotes"),
        ("a: \"\\q\"\n", "begins an escape"),
        ("a: `x`\n", "put it into quotes"),
        ("- a\nb: 1\n", "look at their indentation"),
    ] {
        let report = super::check(&format!("{broken}---{}", GOOD.replace("\"100\"", "lots")));
        let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        assert_eq!((report.outcome(), report.objects, found.len()), (Outcome::Unreadable, 1, 2), "{broken}: {found:?}");
        assert!(found[0].contains("is not valid YAML: ") && found[0].contains(words), "{broken}: {found:?}");
        for jargon in ["DuplicateKeyPolicy", "Options", "serde", "scalar", "parser", "token"] {
            assert!(!found[0].contains(jargon), "{found:?}");
        }
    }
}

#[test]
fn a_formula_of_several_lines_is_shown_with_a_mark() {
    let formula = "  advanced:\n    scalingModifiers:\n      target: \"1\"\n      formula: |\n        max(\n          load + 1,\n          now().Hour() > 7 ? 1 : 0\n        )\n  triggers:\n";
    let text = GOOD.replace("  triggers:\n", formula).replace("- type", "- name: load\n    type");
    let report = super::check(&text);
    let mut out = Vec::new();
    report.print_text(&mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("formula, line 3, column 3: the function now() is not supported: formulas know no dates and times (a cron trigger"), "{out}");
    assert!(out.contains("\n      now().Hour() > 7 ? 1 : 0\n      ^\n"), "{out}");
}

#[test]
fn a_timeout_without_a_unit_is_milliseconds() {
    let found = lines(&GOOD.replace("      threshold", "      timeout: \"5\"\n      threshold"));
    assert!(
        found.len() == 1 && found[0].contains("warning: \"5\" is 5 milliseconds") && found[0].contains("\"5s\""),
        "{found:?}"
    );
    for fine in ["5s", "5000", "5ms"] {
        assert!(
            lines(&GOOD.replace("      threshold", &format!("      timeout: \"{fine}\"\n      threshold"))).is_empty()
        );
    }
}

#[test]
fn counts_do_not_work_as_values_in_all() {
    let cron = "- {type: cron, metricType: Value, metadata: {timezone: Etc/UTC, start: \"0 8 * * *\", end: \"0 9 * * *\", desiredReplicas: \"3\"}}";
    let pods = "- {type: kubernetes-workload, metricType: Value, metadata: {podSelector: app=a, value: \"2\"}}";
    for (trigger, words) in [(cron, "Value has no effect on a cron trigger"), (pods, "Value makes the HPA multiply")] {
        let text = format!("{GOOD}  {trigger}\n");
        let report = super::check(&text);
        assert_eq!(report.outcome(), Outcome::Clean);
        assert!(report.findings.len() == 1 && report.findings[0].message.contains(words), "{:?}", report.findings);
    }
    let formula = format!(
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: web}}\nspec:\n  scaleTargetRef: {{name: web}}\n  \
         advanced: {{scalingModifiers: {{formula: hours, target: \"1\", metricType: Value}}}}\n  triggers:\n  {}\n",
        cron.replace("metricType: Value", "name: hours")
    );
    let found = lines(&formula);
    assert!(found.len() == 1 && found[0].contains("does not fall as replicas come"), "{found:?}");
}

/// With a formula no trigger of any type needs a target of its own.
#[test]
fn a_formula_stands_in_for_every_target() {
    let triggers = [
        "{type: metrics-api, name: a, metadata: {url: \"http://stats.shop:8080/value\", valueLocation: value}}",
        "{type: kubernetes-workload, name: b, metadata: {podSelector: app=worker}}",
        "{type: prometheus, name: c, metadata: {serverAddress: \"http://p:9090\", query: up}}",
    ];
    let text = |advanced: &str| {
        format!(
            "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: web}}\nspec:\n  scaleTargetRef: {{name: web}}\n\
             {advanced}  triggers:\n  - {}\n",
            triggers.join("\n  - ")
        )
    };
    assert!(lines(&text("  advanced: {scalingModifiers: {formula: a + b + c, target: \"2\"}}\n")).is_empty());
    let without: Vec<String> = lines(&text(""));
    assert_eq!(without.iter().filter(|line| line.contains("missing required parameter")).count(), 3, "{without:?}");
}

/// One mistake is one error, wherever its consequences appear.
#[test]
fn what_follows_from_a_mistake_is_not_another() {
    let spec = GOOD.lines().skip_while(|line| !line.starts_with("spec:"));
    let indented: String = spec.map(|line| format!("  {line}\n")).collect();
    let under_metadata =
        format!("apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata:\n  name: web\n{indented}");
    let triggers_outside = GOOD.replace("  triggers:\n  - type", "triggers:\n  - type");
    for (text, expected) in [
        (
            under_metadata,
            "metadata.spec: unknown field: kubectl refuses it, other clients drop it (it belongs beside metadata: indent it less)",
        ),
        (
            triggers_outside,
            "triggers: unknown field: kubectl refuses it, other clients drop it (it belongs at spec.triggers)",
        ),
        (GOOD.replace("{name: web}", "web"), "spec.scaleTargetRef: must be an object, is the string \"web\""),
        (
            GOOD.replace("    metadata:\n", "    metadata: [a]\n")
                .split("      serverAddress")
                .next()
                .unwrap()
                .to_owned(),
            "spec.triggers[0].metadata: must be an object, is a list",
        ),
        (
            GOOD.replace("  triggers:", "  trigger:"),
            "spec.trigger: unknown field: kubectl refuses it, other clients drop it (did you mean triggers?)",
        ),
        (
            GOOD.replace("\"100\"", "\u{201c}100\u{201d}"),
            "(write straight quotes, which are the only ones of YAML: \"75\")",
        ),
    ] {
        let found = lines(&text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}{found:#?}");
    }
}

#[test]
fn rules_of_prometheus_adapter_are_checked_wherever_they_stand() {
    let file = "rules:\n- seriesQuery: rate(up[1m])\n  metricsQuery: <<.Series>>\n  resources: {template: <<.Resource>>}\n\
                resourceRules: {}\n";
    let expected = |field: &str| format!("{field}rules[0].seriesQuery: \"rate(up[1m])\" is no series selector");
    let found = lines(file);
    assert!(found[0].starts_with(&format!("file.yaml:2: {}", expected(""))), "{found:#?}");
    assert!(
        found[1].contains("resourceRules: warning: metrics.k8s.io is not served")
            && found[1].contains("metrics-server")
    );
    let report = super::check(file);
    assert_eq!((report.outcome(), report.objects), (Outcome::Problems, 1));
    let indented = file.replace('\n', "\n    ");
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: adapter-config, namespace: monitoring}}\ndata:\n  \
         config.yaml: |\n    {indented}\n"
    );
    let found = lines(&map);
    let start = format!("file.yaml:5: ConfigMap monitoring/adapter-config: {}", expected("data[config.yaml]."));
    assert!(found[0].starts_with(&start), "{found:#?}");
    let broken = map.replace("rules:", "rules: [");
    assert!(lines(&broken)[0].contains("data[config.yaml]: line"), "{:#?}", lines(&broken));
    // Prometheus' own rules, and other ConfigMaps, are nobody's business here.
    for other in
        ["rules:\n- {alert: a, expr: b}\n", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {a: b}\n"]
    {
        assert!(!lines(other).iter().any(|line| line.contains("seriesQuery")), "{other}");
    }
}

#[test]
fn the_overlay_s_rules_are_good() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("k8s/overlays/prometheus-adapter/config.yaml");
    let report = check::files_report(&[path], &Servers::default());
    assert_eq!((report.findings.len(), report.objects), (0, 1), "{:#?}", report.findings);
}
