//! Parameters of triggers that go with an identity of a cloud provider. Knows no trigger type.

use super::super::fields::{Diagnostics, quoted};
use super::Context;
use super::parameters::Parameters;
use crate::formats::url::Url;
use crate::scaling::model::{AzureCloud, Server, Step};

/// Reads `awsRegion`; `Err` if a problem was reported. It becomes a part of a host's name.
pub(super) fn aws_region(parameters: &Parameters, report: &mut Diagnostics) -> Result<Option<String>, ()> {
    let Some(text) = parameters.get("awsRegion") else {
        return Ok(None);
    };
    if !is_aws_region(text) {
        let message = format!("{} is not the name of a region", quoted(text));
        parameters.problem("awsRegion", message, "write a region such as \"eu-west-1\"", report);
        return Err(());
    }
    Ok(Some(text.to_owned()))
}

/// Returns whether a text has the form of a region's name, such as `eu-west-1`.
pub(crate) fn is_aws_region(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (5..=32).contains(&text.len()) && text.chars().all(is_plain) && text.contains('-') && !text.starts_with('-')
}

/// Where a service of Amazon's is asked.
pub(super) struct AwsService {
    pub(super) server: Server,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
}

/// Reads `awsRegion` and `awsEndpoint` for a service with this part of a host's name, whose requests an authentication must
/// sign; `None` if a problem was reported.
pub(super) fn aws_service(context: &Context<'_>, name: &str, report: &mut Diagnostics) -> Option<AwsService> {
    let parameters = &context.parameters;
    let region = aws_region(parameters, report);
    let is_signed = context.fields.has("authenticationRef");
    if !is_signed {
        let message = "is missing; requests to Amazon are signed with what it gives";
        let fix = "name a TriggerAuthentication with podIdentity aws, or with awsAccessKeyID and awsSecretAccessKey";
        report.problem(Step::BuildScalers, context.fields.path("authenticationRef"), message, fix);
        if region == Ok(None) {
            parameters.required("awsRegion", "write a region such as \"eu-west-1\"", report);
        }
    }
    let endpoint = parameters.get("awsEndpoint").map(str::to_owned);
    let server = match endpoint.as_deref().map(Url::parse) {
        None => None,
        Some(Ok(url)) => Some(url.server()),
        Some(Err(reason)) => {
            let message = format!("{} {reason}", quoted(endpoint.as_deref().unwrap_or_default()));
            parameters.problem("awsEndpoint", message, "write a URL such as \"https://aws.example.com\"", report);
            return None;
        }
    };
    let region = region.ok()?;
    let amazons = region.as_ref().map(|region| format!("https://{name}.{region}.amazonaws.com"));
    let server = context.server(&format!("{name} of Amazon"), server.or(amazons));
    is_signed.then_some(AwsService { server, endpoint, region })
}

/// Reads `cloud`; `None` if a problem was reported.
pub(super) fn azure_cloud(parameters: &Parameters, report: &mut Diagnostics) -> Option<AzureCloud> {
    let Some(text) = parameters.get("cloud") else {
        return Some(AzureCloud::Public);
    };
    match text.to_ascii_lowercase().as_str() {
        "azurepubliccloud" => Some(AzureCloud::Public),
        "azureusgovernmentcloud" => Some(AzureCloud::UsGovernment),
        "azurechinacloud" => Some(AzureCloud::China),
        _ => {
            let message = format!("{} is no cloud of Azure's that is known", quoted(text));
            let fix = "write AzurePublicCloud, AzureUSGovernmentCloud or AzureChinaCloud";
            parameters.problem("cloud", message, fix, report);
            None
        }
    }
}

/// `identityOwner` chose between identities before KEDA 2.13.
pub(super) fn warn_of_owner(context: &Context<'_>, report: &mut Diagnostics) {
    let parameters = &context.parameters;
    if parameters.get("identityOwner").is_some() && !context.fields.has("authenticationRef") {
        let fix = "name a TriggerAuthentication with podIdentity aws";
        report.warn(parameters.path("identityOwner"), "has no effect without an authentication", fix);
    }
}
