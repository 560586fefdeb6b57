//! The rows of COMPAT.md that a transcript can settle.

use std::collections::BTreeSet;

use azsreg_model::StampVersion;
use serde::Serialize;

use super::{Call, INFORMATION, Question, STATUS, Transcript};

/// What a transcript says of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "what", rename_all = "lowercase")]
pub(super) enum Verdict {
    /// It is as the row says.
    Confirmed(String),
    /// It is not.
    Refuted(String),
    /// This transcript can't tell.
    Open(&'static str),
}

use Verdict::{Confirmed, Open, Refuted};

/// A row, by what stands in its first column.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) judge: fn(&Transcript) -> Verdict,
}

const fn row(name: &'static str, judge: fn(&Transcript) -> Verdict) -> Row {
    Row { name, judge }
}

/// In the order of COMPAT.md.
pub(super) const ROWS: &[Row] = &[
    row("`Get-AzureStackStampInformation`", information),
    row("`Get-ActionStatus`", action_status),
    row("cmdlets of a build", cmdlets),
    row("unregistered provider", unregistered_provider),
    row("activation", activation),
    row("admin Resource Manager", admin_manager),
    row("`Get-ActionStatus` across clients", across_clients),
    row("absence of the activation", absence),
    row("which 404 means absent", absent_registration),
    row("api-versions", api_versions),
    row("audiences of custom endpoints", audiences),
    row("public Azure at `--cloud-endpoint`", public_azure),
    row("proof of the password", proof),
    row("a silent connection", silent),
    row("lists of Resource Manager and of the stamp", lists),
];

impl Transcript {
    fn calls_of(&self, cmdlet: &str) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.cmdlet == cmdlet)
    }

    fn question(&self, what: &str) -> Option<&Question> {
        self.asked.iter().find(|question| question.what == what)
    }

    /// What a member of the stamp's information holds.
    fn told(&self, member: &str) -> Option<&str> {
        one(self.calls_of(INFORMATION).next()?.values.get(member))
    }

    /// The answered calls of `Get-ActionStatus` that tell of a run.
    fn runs(&self) -> impl Iterator<Item = &Call> {
        self.calls_of(STATUS).filter(|call| call.output.contains_key("Status"))
    }

    fn states(&self) -> BTreeSet<&str> {
        self.runs().filter_map(|call| call.values.get("Status")).flatten().map(String::as_str).collect()
    }
}

fn one(values: Option<&BTreeSet<String>>) -> Option<&str> {
    values?.iter().next().map(String::as_str)
}

fn judged(wrong: Vec<String>, right: impl Into<String>) -> Verdict {
    if wrong.is_empty() { Confirmed(right.into()) } else { Refuted(wrong.join("; ")) }
}

fn information(transcript: &Transcript) -> Verdict {
    let Some(call) = transcript.calls_of(INFORMATION).next() else { return Open("it was not asked") };
    if call.ended != "completed" {
        return Refuted(format!("it ended with {}", call.ended));
    }
    let expected = [
        ("CloudID", "guid"),
        ("DeploymentID", "guid"),
        ("StampVersion", "numbers with dots"),
        ("NumberOfNodes", "Integer"),
        ("IdentitySystem", "text"),
        ("RegionName", "text"),
        ("AdminExternalEndpoints.AdminResourceManager", "url"),
        ("TenantExternalEndpoints.TenantResourceManager", "url"),
    ];
    let wrong = expected.iter().filter_map(|(member, kind)| match call.output.get(*member) {
        None => Some(format!("there is no {member}")),
        Some(found) if found == kind || *found == format!("String ({kind})") => None,
        Some(found) => Some(format!("{member} is {found}")),
    });
    judged(wrong.collect(), format!("{} members, of the types that are expected", call.output.len()))
}

fn action_status(transcript: &Transcript) -> Verdict {
    if transcript.calls_of(STATUS).any(|call| call.ended.starts_with("CommandNotFoundException")) {
        return Refuted("the endpoint has no such cmdlet".into());
    }
    let mut wrong = Vec::new();
    for call in transcript.runs() {
        let members = ["FunctionName", "ActionPlanInstanceID", "StartDateTime", "ErrorMessage"];
        let missing = members.iter().filter(|member| !call.output.contains_key(**member));
        wrong.extend(missing.map(|member| format!("there is no {member}")));
    }
    if let Some(call) =
        transcript.calls_of(STATUS).find(|call| !call.output.is_empty() && !call.output.contains_key("Status"))
    {
        let members: Vec<&str> = call.output.keys().map(String::as_str).collect();
        return Refuted(format!("there is no Status, but {}", members.join(", ")));
    }
    let states = transcript.states();
    let known = ["Running", "Completed", "Failed"];
    wrong.extend(states.iter().filter(|state| !known.contains(state)).map(|state| format!("a Status is {state}")));
    if transcript.runs().next().is_none() {
        return Open("no action has run");
    }
    wrong.dedup();
    judged(wrong, format!("the members are there; Status: {}", states.into_iter().collect::<Vec<_>>().join(", ")))
}

fn across_clients(transcript: &Transcript) -> Verdict {
    let Some(call) = transcript.runs().next() else { return Open("no action has run") };
    let id = call.values.get("ActionPlanInstanceID").is_some_and(|ids| ids.iter().all(|id| id.starts_with("guid-")));
    let started = call.output.get("StartDateTime").is_some_and(|kind| kind != "Null");
    match (id, started) {
        (true, true) => Confirmed("a run that another client began has an id and a start".into()),
        (false, _) => Refuted("a run that another client began has no id".into()),
        (_, false) => Refuted("a run that another client began has no start".into()),
    }
}

/// What azsreg sends to each cmdlet, whatever the build.
const SENT: &[(&str, &[&str])] = &[
    ("New-AzureBridgeServicePrincipal", &["AzureEnvironment", "TenantId", "RefreshToken", "TimeoutInSeconds"]),
    (
        "New-RegistrationToken",
        &["BillingModel", "MarketplaceSyndicationEnabled", "UsageReportingEnabled", "AgreementNumber"],
    ),
    ("New-AzureStackActivation", &["ActivationKey", "TimeoutInSeconds"]),
    ("Remove-AzureStackActivation", &["TimeoutInSeconds"]),
    (STATUS, &["FunctionName"]),
];

fn cmdlets(transcript: &Transcript) -> Verdict {
    let all = &transcript.commands;
    if all.is_empty() {
        return Open("Get-Command told no names");
    }
    let (Ok(build), Ok(nodes)) = (transcript.build.parse::<StampVersion>(), transcript.nodes.parse()) else {
        return Open("the build or the number of nodes is not known");
    };
    let mut wrong: Vec<String> = SENT
        .iter()
        .filter(|(name, _)| !all.contains_key(*name))
        .map(|(name, _)| format!("there is no {name}"))
        .collect();
    let has = |cmdlet: &str, parameter: &str| all.get(cmdlet).is_some_and(|known| known.contains(parameter));
    // Where no command tells a parameter, the endpoint's Get-Command leaves them out.
    let tells = all.values().any(|parameters| !parameters.is_empty());
    for (cmdlet, parameters) in SENT.iter().filter(|(name, _)| tells && all.contains_key(*name)) {
        let missing = parameters.iter().filter(|parameter| !has(cmdlet, parameter));
        wrong.extend(missing.map(|parameter| format!("{cmdlet} has no -{parameter}")));
    }
    let mut gate = |expected: bool, there: bool, what: &str| {
        if expected != there {
            wrong.push(format!("build {build} {} {what}", if there { "has" } else { "has no" }));
        }
    };
    gate(build.has_key_pair(nodes), all.contains_key("Set-RegistrationKeyPair"), "Set-RegistrationKeyPair");
    if tells {
        gate(build.token_version().is_some(), has("New-RegistrationToken", "TokenVersion"), "-TokenVersion");
        gate(build.knows_custom_billing(), has("New-RegistrationToken", "MsAssetTag"), "-MsAssetTag");
    }
    let parameters = if tells { ", with the parameters that are sent" } else { "; it told no parameters" };
    judged(wrong, format!("build {build} has the cmdlets that are called{parameters}"))
}

fn unregistered_provider(transcript: &Transcript) -> Verdict {
    let Some(provider) = transcript.question("azure provider") else { return Open("Azure was not asked") };
    if one(provider.values.get("registrationState")) != Some("NotRegistered") {
        return Open("the provider is registered in this subscription, or its state was not told");
    }
    let Some(list) = transcript.question("azure registrations") else { return Open("Azure was not asked") };
    match (list.status, list.code.as_str()) {
        (409, "MissingSubscriptionRegistration") => Confirmed("409 MissingSubscriptionRegistration".into()),
        (status, code) => Refuted(format!("the list of registrations is answered {status} {code}")),
    }
}

fn activation(transcript: &Transcript) -> Verdict {
    let mut activating = transcript.runs().filter(|call| {
        call.arguments.values().any(|name| name == "New-AzureStackActivation")
            && call.values.get("Status").is_some_and(|states| states.contains("Running"))
    });
    match (activating.next(), transcript.question("stamp activation").map(|question| question.status)) {
        (None, _) => Open("no activation was running"),
        (Some(_), Some(404)) => Confirmed("an activation runs, and there is no record yet".into()),
        (Some(_), _) => Open("an activation runs, and the record may be of the one before"),
    }
}

fn absence(transcript: &Transcript) -> Verdict {
    let (Some(record), Some(list)) =
        (transcript.question("stamp activation"), transcript.question("stamp activations"))
    else {
        return Open("the stamp's Resource Manager was not asked");
    };
    let named = record.output.contains_key("properties.azureRegistrationResourceIdentifier");
    match record.status {
        200 if named => Open("the stamp is activated"),
        200 => Refuted("there is a record that names no registration".into()),
        404 if record.code.is_empty() => Refuted("404 without the envelope of Resource Manager".into()),
        404 if list.status != 200 => Refuted(format!("404 {}, and the list is answered {}", record.code, list.status)),
        404 if list.output.contains_key("value[]") => Refuted("404, and the list is not empty".into()),
        404 => Confirmed(format!("404 {}, and the list is empty", record.code)),
        status => Refuted(format!("it is answered {status} {}", record.code)),
    }
}

fn api_versions(transcript: &Transcript) -> Verdict {
    let asked = [
        ("Microsoft.AzureStack/registrations", "2017-06-01"),
        ("Microsoft.AzureBridge.Admin/activations", "2016-01-01"),
    ];
    let mut wrong = Vec::new();
    let mut right = Vec::new();
    for (kind, version) in asked {
        match transcript.api_versions.get(kind) {
            None => {}
            Some(versions) if versions.contains(version) => right.push(format!("{kind} {version}")),
            Some(_) => wrong.push(format!("{kind} has no {version}")),
        }
    }
    if right.is_empty() && wrong.is_empty() {
        return Open("neither provider told its api-versions");
    }
    judged(wrong, right.join(", "))
}

fn admin_manager(transcript: &Transcript) -> Verdict {
    let Some(metadata) = transcript.question("stamp metadata") else {
        return Open("the stamp's Resource Manager was not asked");
    };
    let audience = one(metadata.values.get("authentication.audiences[]")).unwrap_or_default();
    let login = one(metadata.values.get("authentication.loginEndpoint")).unwrap_or_default();
    let adfs = transcript.told("IdentitySystem").is_some_and(|system| system.eq_ignore_ascii_case("adfs"));
    let mut wrong = Vec::new();
    let directory = if adfs { "" } else { ".onmicrosoft.com" };
    let deployment = transcript.told("DeploymentID").unwrap_or("the deployment id");
    if !audience.starts_with("https://adminmanagement.") || !audience.ends_with(&format!("{directory}/{deployment}")) {
        wrong.push(format!("the audience is {audience}, and the deployment id {deployment}"));
    }
    let last = login.rsplit('/').next().unwrap_or_default();
    if !(if adfs { last == "adfs" } else { last.starts_with("guid-") }) {
        wrong.push(format!("loginEndpoint is {login}"));
    }
    judged(wrong, format!("{audience}, {login}"))
}

fn absent_registration(transcript: &Transcript) -> Verdict {
    let Some(absent) = transcript.question("azure registration that is not there") else {
        return Open("Azure was not asked");
    };
    match (absent.status, absent.code.as_str()) {
        (404, code @ ("ResourceNotFound" | "ResourceGroupNotFound" | "ParentResourceNotFound")) => {
            Confirmed(format!("a registration that is not there is 404 {code}"))
        }
        (403 | 409, _) => Open("the provider is not registered, or the caller may not look"),
        (status, code) => Refuted(format!("a registration that is not there is {status} {code}")),
    }
}

fn audiences(transcript: &Transcript) -> Verdict {
    let Some(metadata) = transcript.question("stamp metadata") else {
        return Open("the stamp's Resource Manager was not asked");
    };
    match one(metadata.values.get("authentication.audiences[]")) {
        Some(audience) if audience.starts_with("https://") => Confirmed(audience.to_owned()),
        Some(audience) => Refuted(audience.to_owned()),
        None => Refuted("the audience is no address".into()),
    }
}

fn public_azure(transcript: &Transcript) -> Verdict {
    let Some(metadata) = transcript.question("azure metadata") else { return Open("Azure was not asked") };
    let mut values = metadata.values.iter();
    let public = "https://management.azure.com";
    let is_public = values.any(|(path, values)| path.ends_with("resourceManager") && values.contains(public));
    if !is_public {
        return Open("it is not the public cloud");
    }
    let known = [public, "https://management.core.windows.net"];
    let named = metadata.values.iter().filter(|(path, _)| path.ends_with("authentication.audiences[]"));
    let named: Vec<&String> =
        named.flat_map(|(_, values)| values).filter(|name| known.contains(&name.as_str())).collect();
    match named.len() {
        2 => Confirmed("both names are audiences".into()),
        _ => Refuted(format!("of the two names {} are audiences", named.len())),
    }
}

fn proof(transcript: &Transcript) -> Verdict {
    let Some(wire) = &transcript.wire else { return Open("the connection was not recorded") };
    let windows = if wire.windows.is_empty() { "unknown" } else { &wire.windows };
    let over = if wire.tls { "HTTPS" } else { "HTTP" };
    let flags = wire.flags.join(", ");
    let demanded = ["sign", "seal", "128-bit keys", "key exchange"];
    let missing = demanded.into_iter().find(|name| !wire.flags.iter().any(|flag| flag == name));
    match missing {
        Some(missing) => return Refuted(format!("the challenge is without {missing}")),
        None if !wire.signed => return Refuted("the endpoint did not prove that it knows the password".into()),
        None => {}
    }
    Confirmed(format!("taken over {over} with {}: {flags}; version of Windows: {windows}", wire.mechanism))
}

fn silent(transcript: &Transcript) -> Verdict {
    match &transcript.silence {
        None => Open("it was not tried: --silent-for 180"),
        Some(silence) if silence.came == "answered" && silence.seconds < 180 => {
            Open("it was too short: --silent-for 180")
        }
        Some(silence) if silence.came == "answered" => Confirmed(format!("kept for {} s", silence.seconds)),
        Some(silence) => Refuted(format!("{} after {} s", silence.came, silence.seconds)),
    }
}

fn lists(transcript: &Transcript) -> Verdict {
    let lists = [
        ("azure registrations", "Microsoft.AzureStack/registrations"),
        ("stamp activations", "Microsoft.AzureBridge.Admin/activations"),
    ];
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for (what, kind) in lists {
        let Some(question) = transcript.question(what).filter(|question| question.output.contains_key("value[]"))
        else {
            continue;
        };
        let kinds: Vec<&str> = question.values.get("value[].type").into_iter().flatten().map(String::as_str).collect();
        match kinds[..] {
            [found] if found.eq_ignore_ascii_case(kind) => seen.push(what),
            _ => wrong.push(format!("the items of {what} are of {}", kinds.join(", "))),
        }
    }
    if seen.is_empty() && wrong.is_empty() {
        return Open("no list had items");
    }
    judged(wrong, format!("the items have their type: {}", seen.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_row_of_compat() {
        let compat = include_str!("../../../../../COMPAT.md");
        let mut last = 0;
        for row in ROWS {
            let at = compat.find(&format!("\n| {} | ", row.name));
            let at = at.unwrap_or_else(|| panic!("COMPAT.md has no row {}", row.name));
            assert!(at > last, "{} is out of order", row.name);
            last = at;
        }
    }

    #[test]
    fn an_empty_transcript_settles_nothing() {
        for row in ROWS {
            assert!(matches!((row.judge)(&Transcript::default()), Open(_)), "{}", row.name);
        }
    }

    /// What people report of real stamps is seen as such.
    #[test]
    fn a_short_silence_settles_nothing() {
        let judge = |seconds, came: &str| {
            silent(&Transcript {
                silence: Some(super::super::Silence { seconds, came: came.into() }),
                ..Transcript::default()
            })
        };
        assert!(matches!(judge(1, "answered"), Open(_)));
        assert!(matches!(judge(180, "answered"), Confirmed(_)));
        assert!(matches!(judge(1, "dropped"), Refuted(_)));
    }

    #[test]
    fn a_proof_without_what_is_demanded_is_refuted() {
        let judge = |flags: &[&str], signed| {
            let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            let wire = super::super::Negotiated { flags, signed, ..Default::default() };
            proof(&Transcript { wire: Some(wire), ..Transcript::default() })
        };
        let all = ["sign", "seal", "128-bit keys", "key exchange"];
        assert!(matches!(judge(&all, true), Confirmed(_)));
        assert!(matches!(judge(&all, false), Refuted(_)));
        for n in 0..all.len() {
            let fewer: Vec<&str> = all.into_iter().filter(|flag| *flag != all[n]).collect();
            assert!(matches!(judge(&fewer, true), Refuted(_)), "{fewer:?}");
        }
    }

    #[test]
    fn what_is_another_way_is_refuted() {
        let values = |path: &str, value: &str| std::iter::once((path.to_owned(), BTreeSet::from([value.to_owned()])));
        let question = |what: &str, status, code: &str| Question {
            what: what.into(),
            status,
            code: code.into(),
            output: Default::default(),
            values: Default::default(),
        };
        let status = Call {
            cmdlet: STATUS.into(),
            arguments: [("FunctionName".to_owned(), "New-AzureStackActivation".to_owned())].into(),
            ended: "completed".into(),
            output: [("Status".to_owned(), "String (text)".to_owned())].into(),
            values: values("Status", "Waiting").collect(),
        };
        let metadata = Question {
            values: values("authentication.audiences[]", "name-1").collect(),
            ..question("stamp metadata", 200, "")
        };
        let provider = Question {
            values: values("registrationState", "NotRegistered").collect(),
            ..question("azure provider", 200, "")
        };
        let transcript = Transcript {
            build: "1.2501.0.21".into(),
            nodes: "4".into(),
            calls: vec![status],
            commands: values("New-RegistrationToken", "BillingModel").collect(),
            silence: Some(super::super::Silence { seconds: 180, came: "dropped".into() }),
            api_versions: values("Microsoft.AzureStack/registrations", "2030-01-01").collect(),
            asked: vec![
                question("stamp activation", 404, ""),
                question("stamp activations", 404, ""),
                question("azure registrations", 200, ""),
                question("azure registration that is not there", 404, "NotFound"),
                metadata,
                provider,
            ],
            ..Transcript::default()
        };
        let refuted: Vec<&str> =
            ROWS.iter().filter(|row| matches!((row.judge)(&transcript), Refuted(_))).map(|row| row.name).collect();
        assert_eq!(
            refuted,
            [
                "`Get-ActionStatus`",
                "cmdlets of a build",
                "unregistered provider",
                "admin Resource Manager",
                "`Get-ActionStatus` across clients",
                "absence of the activation",
                "which 404 means absent",
                "api-versions",
                "audiences of custom endpoints",
                "a silent connection",
            ]
        );
    }
}
