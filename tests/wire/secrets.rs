//! Secrets in a manifest appear in nothing that is derived from it.

use hpalite::scaling::model::ApiGroup;
use hpalite::wire::scaled_object;
use serde_json::{Value, json};

fn object(trigger: &Value) -> Value {
    json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"name": "web"}, "triggers": [trigger]},
    })
}

fn prometheus(name: &str, value: &str) -> Value {
    let mut metadata = json!({"serverAddress": "http://p:9090", "query": "up", "threshold": "5"});
    metadata[name] = value.into();
    json!({"type": "prometheus", "metadata": metadata})
}

fn metrics_api(name: &str, value: &str) -> Value {
    let mut metadata = json!({"url": "http://api/x", "valueLocation": "a", "targetValue": "5"});
    metadata[name] = value.into();
    json!({"type": "metrics-api", "metadata": metadata})
}

#[test]
fn no_secret_is_recorded_or_reported() {
    let triggers = [
        prometheus("serverAddress", "http://user:s3cret@p:9090"),
        prometheus("serverAddress", "http://user:s3cret@p:port"),
        prometheus("serverAddress", "http://user:s3c ret@p"),
        prometheus("serverAddress", "ftp://user:s3cret@p"),
        prometheus("serverAddress", "user:s3cret@p:9090"),
        prometheus("serverAddress", &format!("http://user:{}s3cret@p:port", "s3cret".repeat(40))),
        prometheus("serverAddress", "http://user:s3cret@p?x=1"),
        prometheus("customHeaders", "Authorization=Basic s3cret"),
        prometheus("customHeaders", "Authorization=Basic s3cret=="),
        prometheus("customHeaders", "Authorization: Bearer s3cret"),
        prometheus("customHeaders", "X-Api-Key=a,s3cret"),
        prometheus("customHeaders", "=s3cret"),
        prometheus("customHeaders", "X-Auth=s3cret\u{7}"),
        prometheus("queryParameters", "api_key=s3cret"),
        prometheus("queryParameters", "token=s3cret=="),
        prometheus("bearerToken", "s3cret"),
        prometheus("password", "s3cret"),
        prometheus("key", "-----BEGIN PRIVATE KEY-----\ns3cret"),
        metrics_api("url", "http://user:s3cret@api/x?token=s3cret"),
        metrics_api("url", "http://user:s3cret@api:port/x?token=s3cret"),
        metrics_api("url", "http://api:port/x?api_key=s3cret"),
        metrics_api("apiKey", "s3cret"),
        json!({"type": "rabbitmq", "metadata": {"host": "amqp://user:s3cret@rabbit/v", "connectionString": "s3cret"}}),
    ];
    let mut refused = 0;
    for trigger in triggers {
        let object = object(&trigger);
        let read = scaled_object::from_slice(
            ApiGroup::KedaSh,
            object.to_string().as_bytes(),
            &hpalite::wire::Servers::default(),
        )
        .unwrap();
        let mut texts = vec![read.spec_json.to_string()];
        let report = super::check(&object.to_string());
        texts.extend(report.findings.iter().map(ToString::to_string));
        match &read.definition {
            Ok(definition) => {
                texts.extend(definition.triggers.iter().filter_map(|trigger| trigger.source.query()).map(|query| {
                    let (server, query) = query.shown();
                    format!("{server} {query}")
                }));
                // The recorded spec is read again to explain decisions.
                let again = json!({"metadata": {"name": "web"}, "spec": serde_json::from_str::<Value>(&read.spec_json).unwrap()});
                let again = scaled_object::from_value(ApiGroup::KedaSh, again, &hpalite::wire::Servers::default())
                    .unwrap()
                    .object;
                assert!(again.definition.is_ok(), "{}: {:?}", read.spec_json, again.definition);
            }
            Err(invalid) => {
                refused += 1;
                texts.push(invalid.message());
            }
        }
        for text in texts {
            assert!(!text.contains("s3c") && !text.contains("ret@"), "{trigger}\n{text}");
        }
    }
    assert!(refused >= 10, "{refused}");
}
