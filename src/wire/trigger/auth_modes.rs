//! `authModes`: how a trigger authenticates to its server. Knows no trigger type.

use super::super::fields::{Diagnostics, quoted};
use super::Context;
use crate::scaling::model::{AuthMode, Step};
use crate::spelling::nearest;

const NAMES: &[(&str, AuthMode)] = &[
    ("apiKey", AuthMode::ApiKey),
    ("basic", AuthMode::Basic),
    ("tls", AuthMode::Tls),
    ("bearer", AuthMode::Bearer),
    ("custom", AuthMode::Custom),
    ("oauth", AuthMode::OAuth),
];

/// Reads the modes, which must be `known` to the trigger type; `None` if a problem was reported.
pub(super) fn read(context: &Context<'_>, known: &[AuthMode], report: &mut Diagnostics) -> Option<Vec<AuthMode>> {
    let parameters = &context.parameters;
    let name = if parameters.get("authModes").is_some() { "authModes" } else { "authMode" };
    let Some(text) = parameters.get(name) else {
        return Some(Vec::new());
    };
    let known: Vec<_> = NAMES.iter().filter(|(_, mode)| known.contains(mode)).collect();
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let mut modes = Vec::new();
    let mut failed = false;
    for word in text.split(',').map(str::trim) {
        match known.iter().find(|(known, _)| *known == word) {
            Some((_, mode)) if !modes.contains(mode) => modes.push(*mode),
            Some(_) => {}
            None => {
                let fix = nearest(word, &names)
                    .map_or_else(|| format!("write one of {}", names.join(", ")), |near| format!("write {near}"));
                parameters.problem(name, format!("{} is no authentication mode", quoted(word)), fix, report);
                failed = true;
            }
        }
    }
    let exclusive = [AuthMode::Bearer, AuthMode::Basic, AuthMode::OAuth];
    if modes.iter().filter(|mode| exclusive.contains(mode)).count() > 1 {
        let message = format!("{} asks for more than one of bearer, basic and oauth", quoted(text));
        parameters.problem(name, message, "write one of the three", report);
        failed = true;
    }
    let needs_secret = [AuthMode::Bearer, AuthMode::Basic, AuthMode::Tls, AuthMode::Custom, AuthMode::OAuth];
    let is_missing = context.authentication.is_none() && !context.fields.has("authenticationRef");
    if is_missing && modes.iter().any(|mode| needs_secret.contains(mode)) {
        report.problem(
            Step::BuildScalers,
            context.fields.path("authenticationRef"),
            format!("is missing; {name} {} takes its credentials from there", quoted(text)),
            "name a TriggerAuthentication that gives them",
        );
        failed = true;
    }
    (!failed).then_some(modes)
}
