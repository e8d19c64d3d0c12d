//! A number in a ConfigMap or a Secret, which the resolver of parameters has read.

use super::answer;
use crate::polling::{Parameters, failed};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::ResourceSource;

/// Returns the number of a kubernetes-resource trigger.
///
/// # Errors
/// Class `Query`, naming the object and its key, if there is no number.
pub fn read(source: &ResourceSource, parameters: &Parameters) -> Result<f64, PollError> {
    let text = parameters.get(ResourceSource::PARAMETER).map(String::as_str).unwrap_or_default();
    let place = source.to_string();
    let number = match &source.location {
        None => answer::text_number(text).map_err(|why| failed(ErrorClass::Query, format!("{place}: {why}")))?,
        Some((format, location)) => answer::parse(&place, 200, text.as_bytes(), *format, location)?,
    };
    Ok(if source.is_whole { number.trunc() } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::BodyFormat;

    #[test]
    fn numbers() {
        let of = |text: &str, location: Option<(BodyFormat, &str)>, is_whole| {
            let source = ResourceSource {
                is_secret: false,
                name: "limits".to_owned(),
                key: "jobs".to_owned(),
                location: location.map(|(format, text)| (format, text.to_owned())),
                is_whole,
                server: crate::scaling::model::Server::Elsewhere(String::new()),
            };
            let parameters = [(ResourceSource::PARAMETER.to_owned(), text.to_owned())].into();
            read(&source, &parameters).map_err(|error| error.message)
        };
        assert_eq!(of(" 7.5\n", None, false), Ok(7.5));
        assert_eq!(of("7.5", None, true), Ok(7.0));
        assert_eq!(of("2k", None, false), Ok(2000.0));
        assert_eq!(of(r#"{"a":{"b":"1500m"}}"#, Some((BodyFormat::Json, "a.b")), false), Ok(1.5));
        assert_eq!(of("a:\n  b: 3\n", Some((BodyFormat::Yaml, "a.b")), false), Ok(3.0));
        for (text, location) in [("", None), ("secret", None), ("{}", Some((BodyFormat::Json, "a"))), ("NaN", None)] {
            let said = of(text, location, false).unwrap_err();
            assert!(said.contains("key jobs of ConfigMap limits") && !said.contains("secret"), "{said}");
        }
    }
}
