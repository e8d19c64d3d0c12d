//! RabbitMQ: messages and rates of a queue, by the management API, or by AMQP its messages alone.

use serde::Deserialize;

use super::amqp::{self, Question};
use super::{Node, Poll, host_port};
use crate::encode::{base64_encode, escape, escape_segment, percent_decode};
use crate::formats::url::Url;
use crate::polling::failed;
use crate::polling::request::{Header, Request};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{AuthMode, AzureCloud, QueueOperation, RabbitMqSource};
use crate::scaling::queue::RABBITMQ_SCHEMES;

/// The API leaves out both lengths while it does not know them: of a queue whose node is down, and before the first
/// statistics.
#[derive(Clone, Debug, Deserialize)]
struct Queue {
    messages: Option<f64>,
    messages_ready: Option<f64>,
    /// Absent as long as nothing was published or delivered.
    #[serde(default)]
    message_stats: Stats,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Stats {
    publish_details: Rate,
    deliver_get_details: Rate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Rate {
    rate: f64,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Queue>,
    page_count: u64,
}

pub(super) fn ask(poll: &Poll<'_>, source: &RabbitMqSource) -> Result<f64, PollError> {
    let host = poll.given(source.host.as_deref(), &["host"]).ok_or_else(|| poll.missing("host"))?;
    let url = Url::parse_of(&RABBITMQ_SCHEMES, host);
    let url = url.map_err(|why| poll.auth.fault(&format!("parameter host {why}")))?;
    let is_amqp = url.scheme.starts_with("amqp");
    if let Some(protocol) = poll.auth.optional("protocol")
        && (protocol == "amqp" && !is_amqp || protocol == "http" && is_amqp)
    {
        let message = format!("parameter protocol is {protocol}, and host has the scheme {}", url.scheme);
        return Err(poll.auth.fault(&message));
    }
    let vhost = poll.given(source.vhost.as_deref(), &["vhostName"]);
    if is_amqp {
        return by_amqp(poll, source, &url, vhost);
    }
    let asked = format!("{}{}", url.server(), path(&url, vhost, source));
    let query = source.regex.map_or(String::new(), |regex| {
        let (name, size) = (escape(&source.queue), regex.page_size);
        format!("?page=1&use_regex=true&pagination=false&name={name}&page_size={size}")
    });
    let tls = poll.tls(source.unsafe_ssl)?;
    let headers = headers(poll, &url)?;
    let request = Request { headers, tls, ..Request::get(format!("{asked}{query}"), url.server()) };
    let request = if poll.auth.optional("oauthTokenURI").is_some() {
        let purpose = crate::identity::Purpose {
            url: &url.server(),
            aws_service: "",
            aws_region: None,
            azure_cloud: AzureCloud::Public,
        };
        poll.identity.prove(None, &[AuthMode::OAuth], &poll.auth, purpose)?.apply(request, poll.at)?
    } else {
        request
    };
    let body = poll.get(request, &asked).map_err(|error| {
        let is_missing = source.regex.is_none() && error.message.contains("status 404");
        if !is_missing {
            return error;
        }
        let what = format!("{} has no queue {} in that virtual host (status 404)", url.server(), source.queue);
        failed(ErrorClass::Status, what)
    })?;
    measure(&body, source, &asked)
}

/// Returns the number that the source asks for, by this answer.
pub(super) fn measure(body: &[u8], source: &RabbitMqSource, asked: &str) -> Result<f64, PollError> {
    number(&read(body, source, asked)?, source, asked)
}

fn by_amqp(poll: &Poll<'_>, source: &RabbitMqSource, url: &Url, vhost: Option<&str>) -> Result<f64, PollError> {
    if source.needs_management_api() {
        return Err(poll.auth.fault(
            "parameter host is of AMQP, by which only QueueLength is known, of one queue and without excludeUnacknowledged: \
             name the management API",
        ));
    }
    let is_encrypted = url.scheme == "amqps";
    let port = url.port.unwrap_or(if is_encrypted { 5671 } else { 5672 });
    let place = format!("{}:{port}", url.host);
    let (host, port) = host_port(&place).ok_or_else(|| poll.auth.fault("parameter host names no host"))?;
    let decoded = |text: &str| String::from_utf8_lossy(&percent_decode(text)).into_owned();
    let (user, password) = match (poll.auth.optional("username"), poll.auth.optional("password")) {
        (Some(user), Some(password)) => (user.to_owned(), password.to_owned()),
        (None, None) => {
            let given = url.user.as_deref().unwrap_or("guest:guest");
            let (user, password) = given.split_once(':').unwrap_or((given, ""));
            (decoded(user), decoded(password))
        }
        _ => return Err(poll.auth.fault("parameters username and password go together")),
    };
    let written = decoded(url.path.trim_start_matches('/'));
    amqp::ready(
        poll,
        &Question {
            node: &Node::new(&url.scheme, host, port),
            tls: is_encrypted.then(|| poll.tls(source.unsafe_ssl)).transpose()?,
            user: &user,
            password: &password,
            vhost: vhost.unwrap_or(if written.is_empty() { "/" } else { &written }),
            queue: &source.queue,
        },
    )
}

fn headers(poll: &Poll<'_>, url: &Url) -> Result<Vec<Header>, PollError> {
    let value = match (poll.auth.optional("username"), poll.auth.optional("password")) {
        (Some(user), Some(password)) => {
            Some(format!("Basic {}", base64_encode(format!("{user}:{password}").as_bytes())))
        }
        (None, None) => url.basic_credentials(),
        _ => return Err(poll.auth.fault("parameters username and password go together")),
    };
    Ok(value.map(|value| Header { name: "Authorization".to_owned(), value, secret: true }).into_iter().collect())
}

/// The last part of the URL's path is the virtual host, those before it are a prefix of the API.
fn path(url: &Url, vhost: Option<&str>, source: &RabbitMqSource) -> String {
    let (prefix, last) = url.path.rsplit_once('/').unwrap_or(("", ""));
    let written = String::from_utf8_lossy(&percent_decode(last)).into_owned();
    let vhost = match vhost {
        Some(vhost) => vhost,
        None if written.is_empty() => "/",
        None => &written,
    };
    let queues = format!("{}/api/queues/{}", prefix.trim_end_matches('/'), escape_segment(vhost));
    if source.regex.is_some() { queues } else { format!("{queues}/{}", escape_segment(&source.queue)) }
}

fn read(body: &[u8], source: &RabbitMqSource, asked: &str) -> Result<Queue, PollError> {
    let strange = |_| failed(ErrorClass::Response, format!("{asked} answered something that is not RabbitMQ's JSON"));
    let Some(regex) = source.regex else {
        return serde_json::from_slice(body).map_err(strange);
    };
    let page: Page = serde_json::from_slice(body).map_err(strange)?;
    if page.page_count > 1 {
        let message = format!("{asked} has more than {} queues that match, so raise pageSize", regex.page_size);
        return Err(failed(ErrorClass::Query, message));
    }
    Ok(together(&page.items, regex.operation))
}

fn together(queues: &[Queue], operation: QueueOperation) -> Queue {
    let all = |of: &dyn Fn(&Queue) -> f64| {
        let numbers = queues.iter().map(of);
        match operation {
            _ if queues.is_empty() => 0.0,
            QueueOperation::Sum => numbers.sum(),
            // A page has far fewer queues than 2^53.
            #[expect(clippy::cast_precision_loss)]
            QueueOperation::Average => numbers.sum::<f64>() / queues.len() as f64,
            QueueOperation::Max => numbers.fold(0.0, f64::max),
        }
    };
    // Of several queues nothing is known unless it is known of each.
    let known = |of: fn(&Queue) -> Option<f64>| {
        queues.iter().all(|queue| of(queue).is_some()).then(|| all(&|queue| of(queue).unwrap_or_default()))
    };
    Queue {
        messages: known(|queue| queue.messages),
        messages_ready: known(|queue| queue.messages_ready),
        message_stats: Stats {
            publish_details: Rate { rate: all(&|queue| queue.message_stats.publish_details.rate) },
            deliver_get_details: Rate { rate: all(&|queue| queue.message_stats.deliver_get_details.rate) },
        },
    }
}

/// Returns the number that the source asks for. A queue of unknown length has no statistics, so that its rates are unknown,
/// too.
fn number(queue: &Queue, source: &RabbitMqSource, asked: &str) -> Result<f64, PollError> {
    let messages = if source.excludes_unacknowledged { queue.messages_ready } else { queue.messages };
    let messages = messages.filter(|messages| *messages >= 0.0).ok_or_else(|| {
        let which = match source.regex {
            None => format!("queue {} has", source.queue),
            Some(_) => format!("each queue has that matches {}", source.queue),
        };
        failed(ErrorClass::Response, format!("{asked} does not know how many messages {which}"))
    })?;
    let Stats { publish_details, deliver_get_details } = &queue.message_stats;
    let number = source.measure.number(messages, publish_details.rate, deliver_get_details.rate, source.activation.0);
    if number.is_finite() {
        Ok(number)
    } else {
        Err(failed(ErrorClass::Response, format!("{asked} has no finite number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::{Exact, QueueMeasure, QueueRegex, Server};

    fn source(measure: QueueMeasure, regex: Option<QueueOperation>) -> RabbitMqSource {
        RabbitMqSource {
            server: Server::Written("http://rabbit:15672".to_owned()),
            host: None,
            vhost: None,
            queue: "or/ders".to_owned(),
            measure,
            regex: regex.map(|operation| QueueRegex { operation, page_size: 100 }),
            excludes_unacknowledged: false,
            activation: Exact(5.0),
            unsafe_ssl: false,
            timeout: None,
        }
    }

    #[test]
    fn paths() {
        let plain = source(QueueMeasure::Length, None);
        for (host, vhost, expected) in [
            ("http://r:15672/", None, "/api/queues/%2F/or%2Fders"),
            ("http://r:15672", None, "/api/queues/%2F/or%2Fders"),
            ("http://r:15672/shop", None, "/api/queues/shop/or%2Fders"),
            ("http://r:15672/%2F", None, "/api/queues/%2F/or%2Fders"),
            ("http://r:15672/rabbit/shop", None, "/rabbit/api/queues/shop/or%2Fders"),
            ("http://r:15672/shop", Some("a/b"), "/api/queues/a%2Fb/or%2Fders"),
        ] {
            assert_eq!(path(&Url::parse(host).unwrap(), vhost, &plain), expected, "{host}");
        }
        let regex = source(QueueMeasure::Length, Some(QueueOperation::Sum));
        assert_eq!(path(&Url::parse("http://r:15672/").unwrap(), None, &regex), "/api/queues/%2F");
    }

    #[test]
    fn measures() {
        let queue = |messages: f64, published: f64, delivered: f64| Queue {
            messages: Some(messages),
            messages_ready: Some(messages - 1.0),
            message_stats: Stats {
                publish_details: Rate { rate: published },
                deliver_get_details: Rate { rate: delivered },
            },
        };
        use QueueMeasure::{DeliverGetRate, ExpectedConsumptionTime, Length, MessageRate, PublishedToDeliveredRatio};
        for (kind, messages, published, delivered, expected) in [
            (Length, 7.0, 0.0, 0.0, 7.0),
            (MessageRate, 5.0, 2.0, 0.0, 2.0),
            // Messages that wait keep the trigger active, whatever the rate.
            (MessageRate, 6.0, 2.0, 0.0, 5.001),
            (MessageRate, 6.0, 9.0, 0.0, 9.0),
            (DeliverGetRate, 6.0, 9.0, 3.0, 3.0),
            (PublishedToDeliveredRatio, 6.0, 0.0, 3.0, 0.0),
            (PublishedToDeliveredRatio, 6.0, 9.0, 3.0, 3.0),
            (PublishedToDeliveredRatio, 6.0, 9.0, 0.0, 5.001),
            (ExpectedConsumptionTime, 0.0, 9.0, 3.0, 0.0),
            (ExpectedConsumptionTime, 6.0, 9.0, 3.0, 4.0),
            (ExpectedConsumptionTime, 6.0, 9.0, 0.0, 5.001),
        ] {
            let number = number(&queue(messages, published, delivered), &source(kind, None), "").unwrap();
            assert!((number - expected).abs() < 1e-9, "{kind:?} {messages} {published} {delivered}: {number}");
        }
        let ready = RabbitMqSource { excludes_unacknowledged: true, ..source(Length, None) };
        assert_eq!(number(&queue(7.0, 0.0, 0.0), &ready, ""), Ok(6.0));
    }

    /// Regression: a queue whose node is down has no `messages`, and was taken for an empty one.
    #[test]
    fn a_queue_of_unknown_length_is_not_empty() {
        use QueueMeasure::{DeliverGetRate, ExpectedConsumptionTime, Length, MessageRate, PublishedToDeliveredRatio};
        let of = |body: &str, measure, operation, excludes_unacknowledged| {
            let source = RabbitMqSource { excludes_unacknowledged, ..source(measure, operation) };
            read(body.as_bytes(), &source, "http://r/api").and_then(|queue| number(&queue, &source, "http://r/api"))
        };
        let unknown = |result: Result<f64, PollError>, words: &str| {
            let error = result.unwrap_err();
            assert_eq!(error.class, ErrorClass::Response);
            assert_eq!(error.message, format!("http://r/api does not know how many messages {words}"));
        };
        let down = r#"{"name":"or/ders","state":"down"}"#;
        for measure in [Length, MessageRate, DeliverGetRate, PublishedToDeliveredRatio, ExpectedConsumptionTime] {
            unknown(of(down, measure, None, false), "queue or/ders has");
        }
        unknown(of(r#"{"messages":7}"#, Length, None, true), "queue or/ders has");
        unknown(of(r#"{"messages_ready":7}"#, Length, None, false), "queue or/ders has");
        // Rates are absent as long as nothing was published or delivered.
        for measure in [DeliverGetRate, PublishedToDeliveredRatio] {
            assert_eq!(of(r#"{"messages":7}"#, measure, None, false), Ok(0.0));
        }
        let one_of_two = r#"{"items":[{"messages":7},{"state":"down"}],"page_count":1}"#;
        for operation in [QueueOperation::Sum, QueueOperation::Average, QueueOperation::Max] {
            unknown(of(one_of_two, Length, Some(operation), false), "each queue has that matches or/ders");
        }
        for body in ["{}", r#"{"page_count":1}"#, r#"{"items":[]}"#] {
            let error = of(body, Length, Some(QueueOperation::Sum), false).unwrap_err();
            assert!(error.message.contains("not RabbitMQ's JSON"), "{body}: {}", error.message);
        }
    }

    #[test]
    fn answers() {
        let of = |body: &str, operation| {
            let queue = read(body.as_bytes(), &source(QueueMeasure::Length, operation), "http://r/api");
            queue.map(|queue| queue.messages.unwrap()).map_err(|error| error.message)
        };
        assert_eq!(of(r#"{"messages":7,"messages_ready":3,"other":[]}"#, None), Ok(7.0));
        let two = r#"{"items":[{"messages":7},{"messages":2}],"page_count":1}"#;
        use QueueOperation::{Average, Max, Sum};
        for (operation, expected) in [(Sum, 9.0), (Average, 4.5), (Max, 7.0)] {
            assert_eq!(of(two, Some(operation)), Ok(expected), "{operation:?}");
            assert_eq!(of(r#"{"items":[],"page_count":0}"#, Some(operation)), Ok(0.0));
        }
        assert!(of(r#"{"items":[],"page_count":2}"#, Some(Sum)).unwrap_err().contains("raise pageSize"));
        assert!(of("<html>", None).unwrap_err().contains("not RabbitMQ's JSON"));
    }
}
