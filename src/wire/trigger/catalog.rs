//! Names of KEDA's trigger types, to distinguish one that is not served from a misspelt one, and what to use instead.

const SERVED: &str = "";
const EXPORTER: &str = "have an exporter's metrics scraped by Prometheus, and use a prometheus trigger";
const SERVICE: &str = "use a metrics-api trigger that asks the same service over HTTP";
const API: &str = "use a metrics-api trigger that asks its HTTP API";

/// Each type with the nearest way to the same number.
const KNOWN: &[(&str, &str)] = &[
    ("activemq", EXPORTER),
    ("apache-kafka", SERVED),
    ("arangodb", EXPORTER),
    ("artemis-queue", EXPORTER),
    ("aws-cloudwatch", SERVED),
    ("aws-dynamodb", EXPORTER),
    ("aws-dynamodb-streams", EXPORTER),
    ("aws-kinesis-stream", EXPORTER),
    ("aws-sqs-queue", SERVED),
    ("azure-app-insights", EXPORTER),
    ("azure-blob", EXPORTER),
    ("azure-data-explorer", EXPORTER),
    ("azure-eventhub", EXPORTER),
    ("azure-log-analytics", EXPORTER),
    ("azure-monitor", EXPORTER),
    ("azure-pipelines", API),
    ("azure-queue", EXPORTER),
    ("azure-servicebus", SERVED),
    ("beanstalkd", EXPORTER),
    ("cassandra", EXPORTER),
    ("clickhouse", EXPORTER),
    ("couchdb", EXPORTER),
    ("cpu", SERVED),
    ("cron", SERVED),
    ("datadog", API),
    ("dynatrace", API),
    ("elastic-forecast", API),
    ("elasticsearch", API),
    ("etcd", EXPORTER),
    ("external", SERVICE),
    ("external-push", SERVICE),
    ("forgejo-runner", API),
    ("gcp-cloudtasks", EXPORTER),
    ("gcp-pubsub", EXPORTER),
    ("gcp-spanner", EXPORTER),
    ("gcp-stackdriver", EXPORTER),
    ("gcp-storage", EXPORTER),
    ("github-runner", API),
    ("graphite", SERVED),
    ("huawei-cloudeye", EXPORTER),
    ("ibmmq", EXPORTER),
    ("influxdb", SERVED),
    ("kafka", SERVED),
    ("kubernetes-resource", SERVED),
    ("kubernetes-workload", SERVED),
    ("liiklus", EXPORTER),
    ("loki", SERVED),
    ("memory", SERVED),
    ("metrics-api", SERVED),
    ("mongodb", EXPORTER),
    ("mssql", EXPORTER),
    ("mysql", EXPORTER),
    ("nats-jetstream", SERVED),
    ("new-relic", API),
    ("nsq", EXPORTER),
    ("opensearch", API),
    ("openstack-metric", EXPORTER),
    ("openstack-swift", EXPORTER),
    ("postgresql", SERVED),
    ("predictkube", API),
    ("prometheus", SERVED),
    ("pulsar", EXPORTER),
    ("rabbitmq", SERVED),
    ("redis", SERVED),
    ("redis-cluster", SERVED),
    ("redis-cluster-streams", SERVED),
    ("redis-sentinel", SERVED),
    ("redis-sentinel-streams", SERVED),
    ("redis-streams", SERVED),
    ("selenium-grid", API),
    ("solace-direct-messaging", EXPORTER),
    ("solace-event-queue", EXPORTER),
    ("solarwinds", API),
    ("solr", EXPORTER),
    ("splunk", API),
    ("splunk-observability", API),
    ("stan", EXPORTER),
    ("sumologic", API),
    ("temporal", EXPORTER),
];

pub(super) fn is_known(kind: &str) -> bool {
    KNOWN.iter().any(|(name, _)| *name == kind)
}

/// Returns what to use in place of a type that is not served.
pub(super) fn instead_of(kind: &str) -> &'static str {
    KNOWN.iter().find(|(name, _)| *name == kind).map_or(SERVED, |(_, way)| *way)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The types in the schema of KEDA's scalers: 2.20.2, and those that are new since.
    const SCHEMA: &str = "activemq apache-kafka arangodb artemis-queue aws-cloudwatch aws-dynamodb aws-dynamodb-streams \
        aws-kinesis-stream aws-sqs-queue azure-app-insights azure-blob azure-data-explorer azure-eventhub \
        azure-log-analytics azure-monitor azure-pipelines azure-queue azure-servicebus beanstalkd cassandra \
        clickhouse couchdb cpu cron datadog dynatrace elastic-forecast elasticsearch etcd external \
        external-push forgejo-runner gcp-cloudtasks gcp-pubsub gcp-spanner gcp-stackdriver gcp-storage \
        github-runner graphite huawei-cloudeye ibmmq influxdb kafka kubernetes-resource kubernetes-workload \
        liiklus loki memory metrics-api mongodb mssql mysql nats-jetstream new-relic nsq opensearch \
        openstack-metric openstack-swift postgresql predictkube prometheus pulsar rabbitmq redis \
        redis-cluster redis-cluster-streams redis-sentinel redis-sentinel-streams redis-streams \
        selenium-grid solace-direct-messaging solace-event-queue solarwinds solr splunk splunk-observability \
        sumologic temporal";

    #[test]
    fn every_type_of_kedas_schema_is_known() {
        let unknown: Vec<&str> = SCHEMA.split(' ').filter(|name| !is_known(name)).collect();
        assert_eq!(unknown, [""; 0]);
        // NATS Streaming left KEDA, and objects may still have it.
        let beyond: Vec<&str> =
            KNOWN.iter().map(|(name, _)| *name).filter(|name| !SCHEMA.split(' ').any(|known| known == *name)).collect();
        assert_eq!(beyond, ["stan"]);
        assert!(KNOWN.is_sorted(), "in alphabetical order");
    }
}
