//! Azure Service Bus: active messages of a queue or a subscription, by the management API (Atom over HTTP).

use ring::hmac;

use super::Poll;
use crate::encode::{base64_encode, escape, escape_segment};
use crate::formats::url::Url;
use crate::formats::xml;
use crate::identity::Purpose;
use crate::polling::failed;
use crate::polling::request::{Header, Request};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{PodIdentity, ServiceBusEntity, ServiceBusSource};

const VERSION: &str = "2021-05";

/// How long a signature is valid, in seconds: clocks differ by less, and a poll takes less.
const VALID: i64 = 300;

/// What a connection string has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Connection<'a> {
    endpoint: &'a str,
    key: Option<(&'a str, &'a str)>,
    signature: Option<&'a str>,
    is_emulator: bool,
}

pub(super) fn ask(poll: &Poll<'_>, source: &ServiceBusSource) -> Result<f64, PollError> {
    let path = path(&source.entity);
    let (server, proof) = match poll.pod_identity {
        Some(identity @ PodIdentity::AzureWorkload { .. }) => {
            let namespace = source.namespace.as_deref().ok_or_else(|| poll.auth.fault("namespace is not set"))?;
            (format!("https://{namespace}.{}", source.cloud.service_bus()), Err(identity))
        }
        _ => {
            let text = poll.auth.optional("connection").ok_or_else(|| poll.missing("connection"))?;
            let connection =
                read_connection(text).map_err(|why| poll.auth.fault(&format!("parameter connection {why}")))?;
            let server = server(&connection);
            let signed = sign(&connection, &format!("{server}{path}"), poll.at.0.div_euclid(1000) + VALID);
            (server, Ok(signed))
        }
    };
    let asked = format!("{server}{path}");
    let url =
        Url::parse(&asked).map_err(|why| poll.auth.fault(&format!("parameter connection: its endpoint {why}")))?;
    let to = format!("{asked}?api-version={VERSION}");
    let mut request = Request::get(to, url.server());
    match proof {
        Ok(value) => request.headers.push(Header { name: "Authorization".to_owned(), value, secret: true }),
        Err(identity) => {
            let purpose = Purpose { url: &server, aws_service: "", aws_region: None, azure_cloud: source.cloud };
            request = poll.identity.prove(Some(identity), &[], &poll.auth, purpose)?.apply(request, poll.at)?;
        }
    }
    let missing = || failed(ErrorClass::Query, format!("{server} has no {}", source.entity));
    let body = poll
        .get(request, &asked)
        .map_err(|error| if error.message.contains("status 404") { missing() } else { error })?;
    match read(&body, &source.entity) {
        Ok(count) => count.ok_or_else(missing),
        Err(()) => {
            Err(failed(ErrorClass::Response, format!("{asked} answered something that is not Service Bus' XML")))
        }
    }
}

fn path(entity: &ServiceBusEntity) -> String {
    // Names may have slashes, which are those of the path.
    let name = |name: &str| name.split('/').map(escape_segment).collect::<Vec<_>>().join("/");
    match entity {
        ServiceBusEntity::Queue(queue) => format!("/{}", name(queue)),
        ServiceBusEntity::Subscription { topic, subscription } => {
            format!("/{}/Subscriptions/{}", name(topic), escape_segment(subscription))
        }
    }
}

/// Reads `Endpoint=sb://…/;SharedAccessKeyName=…;SharedAccessKey=…`.
fn read_connection(text: &str) -> Result<Connection<'_>, &'static str> {
    let mut found = Connection::default();
    let (mut name, mut key) = (None, None);
    for part in text.split(';').filter(|part| !part.trim().is_empty()) {
        let (word, value) = part.split_once('=').ok_or("is not of the form name=value;name=value")?;
        match word.trim().to_ascii_lowercase().as_str() {
            "endpoint" => found.endpoint = value.trim(),
            "sharedaccesskeyname" => name = Some(value.trim()),
            "sharedaccesskey" => key = Some(value.trim()),
            "sharedaccesssignature" => found.signature = Some(value.trim()),
            "usedevelopmentemulator" => found.is_emulator = value.trim().eq_ignore_ascii_case("true"),
            // Such as EntityPath.
            _ => {}
        }
    }
    found.key = name.zip(key);
    if found.endpoint.strip_prefix("sb://").is_none_or(|host| host.trim_end_matches('/').is_empty()) {
        return Err("has no Endpoint=sb://…");
    }
    if found.key.is_none() && found.signature.is_none() {
        return Err("has neither SharedAccessKeyName and SharedAccessKey nor a SharedAccessSignature");
    }
    Ok(found)
}

fn server(connection: &Connection<'_>) -> String {
    let host = connection.endpoint.trim_start_matches("sb://").trim_end_matches('/');
    // The emulator, which runs beside what is developed, has no certificate.
    format!("{}://{host}", if connection.is_emulator { "http" } else { "https" })
}

/// The header that proves the right to a resource until this time, in seconds since 1970.
fn sign(connection: &Connection<'_>, resource: &str, until: i64) -> String {
    let Some((name, key)) = connection.key else {
        return connection.signature.unwrap_or_default().to_owned();
    };
    let resource = escape(&resource.to_lowercase());
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let signature = hmac::sign(&key, format!("{resource}\n{until}").as_bytes());
    let signature = escape(&base64_encode(signature.as_ref()));
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={until}&skn={}", escape(name))
}

/// Returns the count, `None` if the entity is not there: a feed without entries.
pub(super) fn read(body: &[u8], entity: &ServiceBusEntity) -> Result<Option<f64>, ()> {
    let text = std::str::from_utf8(body).map_err(|_| ())?;
    let kind = match entity {
        ServiceBusEntity::Queue(_) => "QueueDescription",
        ServiceBusEntity::Subscription { .. } => "SubscriptionDescription",
    };
    let find = |path: &str| xml::find(text, path).map_err(|_| ());
    if let Some(count) = find(&format!("entry.content.{kind}.CountDetails.ActiveMessageCount"))? {
        return count.as_str().and_then(|text| text.parse::<u32>().ok()).map(|count| Some(f64::from(count))).ok_or(());
    }
    if find("feed")?.is_some() { Ok(None) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> ServiceBusEntity {
        ServiceBusEntity::Queue("a/b c".to_owned())
    }

    fn subscription() -> ServiceBusEntity {
        ServiceBusEntity::Subscription { topic: "t".to_owned(), subscription: "s".to_owned() }
    }

    #[test]
    fn connections() {
        let text = "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=a=b=";
        let read = read_connection(text).unwrap();
        assert_eq!(read.key, Some(("Root", "a=b=")));
        // The signature is that of Python's `hmac`.
        assert_eq!(
            sign(&read, "https://ns.servicebus.windows.net/Orders", 1_700_000_300),
            "SharedAccessSignature sr=https%3A%2F%2Fns.servicebus.windows.net%2Forders&\
             sig=FzuwiwtiAjJeem4RugB3btVJVM2CFlFx4fTYoJM1AP4%3D&se=1700000300&skn=Root"
        );
        assert_eq!(server(&read), "https://ns.servicebus.windows.net");
        let emulator =
            format!("{}; UseDevelopmentEmulator=true;", text.replace("ns.servicebus.windows.net/", "h:5300"));
        assert_eq!(server(&read_connection(&emulator).unwrap()), "http://h:5300");
        let shared = read_connection("Endpoint=sb://ns/;SharedAccessSignature=SharedAccessSignature sr=x").unwrap();
        assert_eq!(sign(&shared, "https://ns/q", 1), "SharedAccessSignature sr=x");
        for bad in ["x", "Endpoint=sb:///;SharedAccessSignature=x", "Endpoint=https://h;SharedAccessSignature=x"] {
            assert!(read_connection(bad).is_err(), "{bad}");
        }
        assert!(read_connection("Endpoint=sb://h;SharedAccessKey=x").unwrap_err().contains("neither"));
        assert_eq!(path(&queue()), "/a/b%20c");
        assert_eq!(path(&subscription()), "/t/Subscriptions/s");
    }

    #[test]
    fn answers() {
        let entry = |kind: &str, count: &str| {
            format!(
                "<entry xmlns=\"a\"><title>q</title><content type=\"application/xml\"><{kind} xmlns:d2p1=\"b\">\
                 <MessageCount>99</MessageCount><CountDetails><d2p1:ActiveMessageCount>{count}</d2p1:ActiveMessageCount>\
                 <d2p1:DeadLetterMessageCount>4</d2p1:DeadLetterMessageCount></CountDetails></{kind}></content></entry>"
            )
        };
        assert_eq!(read(entry("QueueDescription", "7").as_bytes(), &queue()), Ok(Some(7.0)));
        assert_eq!(read(entry("SubscriptionDescription", "7").as_bytes(), &subscription()), Ok(Some(7.0)));
        assert_eq!(read(b"<feed xmlns=\"a\"><title>Publicly Listed Services</title></feed>", &queue()), Ok(None));
        for bad in ["", "<html/>", "{}", &entry("QueueDescription", "-1"), &entry("TopicDescription", "1")] {
            assert_eq!(read(bad.as_bytes(), &queue()), Err(()), "{bad}");
        }
    }
}
