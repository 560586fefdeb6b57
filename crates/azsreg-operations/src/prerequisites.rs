//! `check`: every prerequisite of the article, and those that it does not name, looked at together. Changes nothing.

use azsreg_model::{
    BillingModel, CustomRole, IdentitySystem, Permission, Problem, RegisterRequest, Registration, RegistrationId,
    StampInformation, code,
};
use jiff::SignedDuration;
use serde::Serialize;
use uuid::Uuid;

use crate::checks::{self, Needed};
use crate::engine::retry::{self, Policy};
use crate::ports::{Azure, Clock, PortError, Provider, Records, Stamp, Subscription};
use crate::status::registrations;

/// How one prerequisite stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Ok,
    /// It holds, or may, but an operator should know.
    Warning,
    /// It does not hold: registering would fail.
    Failed,
    /// It could not be looked at.
    NotKnown,
}

/// One prerequisite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prerequisite {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was seen, in a line.
    pub detail: String,
    /// What is wrong, and what to do.
    pub problem: Option<Problem>,
}

/// A clock may be off by this much before tokens fail.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The list as it grows.
#[derive(Default)]
struct List(Vec<Prerequisite>);

impl List {
    fn push(&mut self, name: &str, verdict: Verdict, detail: impl Into<String>) {
        self.0.push(Prerequisite { name: name.into(), verdict, detail: detail.into(), problem: None });
    }

    fn problem(&mut self, name: &str, verdict: Verdict, problem: Problem) {
        self.0.push(Prerequisite {
            name: name.into(),
            verdict,
            detail: problem.message.clone(),
            problem: Some(problem),
        });
    }

    fn failed(&mut self, name: &str, error: PortError) {
        self.problem(name, Verdict::Failed, *error.problem);
    }
}

/// Looks at everything that registering with this request would need.
pub async fn check<A: Azure, S: Stamp, R: Records, C: Clock>(
    azure: Result<&A, Problem>,
    (stamp, records): (&S, Option<&R>),
    clock: &C,
    request: &RegisterRequest,
) -> Vec<Prerequisite> {
    let mut list = List::default();
    let information = match retry::read(clock, Policy::AZURE, async || stamp.information().await).await {
        Ok(information) => {
            list.push("privileged endpoint", Verdict::Ok, "reached, and the credentials are right");
            of_stamp(&mut list, request, &information);
            of_cmdlets(&mut list, stamp, clock, &information).await;
            Some(information)
        }
        Err(error) => {
            list.failed("privileged endpoint", error);
            None
        }
    };
    match azure {
        Err(problem) => list.problem("sign-in", Verdict::Failed, problem),
        Ok(azure) => {
            let recorded = recorded(&mut list, records, clock, information.as_ref()).await;
            of_azure(&mut list, azure, clock, request, information.as_ref(), recorded.as_ref()).await;
        }
    }
    list.0
}

/// The registration that the stamp is activated for, where its record can be read.
async fn recorded<R: Records, C: Clock>(
    list: &mut List,
    records: Option<&R>,
    clock: &C,
    stamp: Option<&StampInformation>,
) -> Option<RegistrationId> {
    let (records, stamp) = (records?, stamp?);
    match retry::read(clock, Policy::AZURE, async || records.activation(stamp).await).await {
        Ok(record) => record.map(|record| record.registration),
        Err(error) => {
            let detail = format!("not to be seen: {}", error.problem.message);
            list.push("activation record", Verdict::NotKnown, detail);
            None
        }
    }
}

fn of_stamp(list: &mut List, request: &RegisterRequest, stamp: &StampInformation) {
    if let Some(problem) = checks::unsaid(stamp) {
        list.problem("stamp version", Verdict::Warning, problem);
    } else if let Some(version) = stamp.version {
        let supports = [
            version.token_version().map_or("tokens of its own version".into(), |v| format!("tokens of version {v}")),
            if version.knows_custom_billing() { "custom billing" } else { "no custom billing" }.to_owned(),
            if stamp.has_key_pair() { "registration key pair" } else { "no key pair" }.to_owned(),
        ];
        list.push("stamp version", Verdict::Ok, format!("{version}, {}: {}", stamp.size(), supports.join(", ")));
    }
    for problem in checks::stamp(request, stamp) {
        list.problem("stamp version", Verdict::Failed, problem);
    }
    // `facts-billing-usage.md` section 2: nothing on the stamp tells whether it reaches Azure.
    let model = request.billing_model;
    let name = "billing model and connection";
    match (stamp.identity_system, model) {
        (IdentitySystem::Aad, _) => {
            list.push(name, Verdict::Ok, format!("{model}, a connected stamp with Microsoft Entra"))
        }
        (IdentitySystem::Adfs, BillingModel::PayAsYouUse | BillingModel::Ruggedized) => {
            let message = format!("{model} on a stamp with AD FS works only if the stamp reaches Azure");
            list.problem(name, Verdict::Warning, Problem::new(&code::CONNECTION_MATRIX, message));
        }
        (IdentitySystem::Adfs, _) => {
            list.push(
                name,
                Verdict::Ok,
                format!("{model}, AD FS: register if it reaches Azure, azsreg offline if not"),
            );
        }
    }
    if stamp.identity_system == IdentitySystem::Aad {
        let own = stamp.tenant_name.clone().or(stamp.tenant_id.clone()).unwrap_or_default();
        let message = format!("the stamp's applications are in the directory {own}; its bridge in the subscription's");
        list.problem("Azure AD Graph", Verdict::Warning, Problem::new(&code::GRAPH_RETIREMENT, message));
    }
}

/// Whether the endpoint offers the cmdlets that azsreg runs: those without which registering fails, and those of other
/// commands.
async fn of_cmdlets<S: Stamp, C: Clock>(list: &mut List, stamp: &S, clock: &C, information: &StampInformation) {
    const NAME: &str = "cmdlets";
    let offered = match retry::read(clock, Policy::AZURE, async || stamp.cmdlets().await).await {
        Ok(offered) => offered,
        Err(error) => return list.problem(NAME, Verdict::NotKnown, *error.problem),
    };
    let missing = |wanted: &[&'static str]| -> Vec<&'static str> {
        let there = |name: &str| offered.iter().any(|offered| offered.eq_ignore_ascii_case(name));
        wanted.iter().copied().filter(|name| !there(name)).collect()
    };
    let mut needed = vec!["New-RegistrationToken", "New-AzureStackActivation"];
    if information.identity_system == IdentitySystem::Aad {
        needed.push("New-AzureBridgeServicePrincipal");
    }
    if information.has_key_pair() {
        needed.push("Set-RegistrationKeyPair");
    }
    let (needed, others) = (missing(&needed), missing(&["Get-ActionStatus", "Remove-AzureStackActivation"]));
    let lacks = |names: &[&str], what: &str| {
        let message = format!("the endpoint does not offer {}, which {what}", names.join(" and "));
        Problem::new(&code::CMDLET_UNKNOWN, message)
    };
    if !needed.is_empty() {
        list.problem(NAME, Verdict::Failed, lacks(&needed, "registering runs"));
    }
    if !others.is_empty() {
        list.problem(NAME, Verdict::Warning, lacks(&others, "azsreg runs while it waits, and to unregister or renew"));
    }
    if needed.is_empty() && others.is_empty() {
        list.push(NAME, Verdict::Ok, "the endpoint offers all that registering runs");
    }
}

async fn of_azure<A: Azure, C: Clock>(
    list: &mut List,
    azure: &A,
    clock: &C,
    request: &RegisterRequest,
    stamp: Option<&StampInformation>,
    recorded: Option<&RegistrationId>,
) {
    let visible = match retry::read(clock, Policy::AZURE, async || azure.subscriptions().await).await {
        Ok(visible) => visible,
        Err(error) => return list.failed("sign-in", error),
    };
    of_sign_in(list, azure.environment(), azure.has_second_factor(), visible.len());
    match azure.clock_skew() {
        Some(skew) if skew.abs() > SKEW => {
            // No command goes by the wrong one: it is other programs that fail.
            let message = format!(
                "this machine's clock is off by {} seconds from Azure's: azsreg goes by Azure's",
                skew.as_secs()
            );
            let cause = "It was set wrong or has drifted; or Azure is a lab whose clock was advanced.";
            let problem = Problem::new(&code::CLOCK_SKEW, message).cause(cause);
            list.problem(
                "clock",
                Verdict::Warning,
                problem.next("Set the clock of this machine; for a lab there is nothing to do."),
            );
        }
        Some(skew) => list.push("clock", Verdict::Ok, format!("{} seconds from Azure's", skew.as_secs())),
        None => list.push("clock", Verdict::NotKnown, "Azure's answers bear no date"),
    }
    let Some(subscription) = visible.iter().find(|s| s.id == request.subscription) else {
        let seen: Vec<String> = visible.iter().map(|s| format!("{} ({})", s.id, s.name)).collect();
        let message = format!("the sign-in does not see {}; it sees {}", request.subscription, seen.join(", "));
        return list.problem("subscription", Verdict::Failed, Problem::new(&code::SUBSCRIPTION_NOT_VISIBLE, message));
    };
    of_subscription(list, subscription);
    if let Err(error) = azure.bridge_refresh_token().await {
        list.failed("user's sign-in", error);
    }
    let cloud_id = stamp.map(|stamp| stamp.cloud_id);
    let id = cloud_id.map(|cloud_id| request.id_for(cloud_id));
    of_permissions(list, azure, clock, subscription.id, &request.resource_group).await;
    // Without the stamp the default name is not known; the locks above it are those of any name.
    let locked = id.clone().unwrap_or_else(|| request.id_for(Uuid::nil()));
    of_locks(list, azure, clock, &locked).await;
    of_registrations(list, azure, clock, request, cloud_id, id.as_ref(), recorded).await;
    of_location(list, azure, clock, request, &locked).await;
}

/// The public cloud asks every person who writes for a second factor: who is without it is told before.
fn of_sign_in(list: &mut List, environment: &str, second_factor: Option<bool>, visible: usize) {
    let factor = match second_factor {
        Some(true) => ", with multi-factor authentication",
        Some(false) => ", without multi-factor authentication",
        None => "",
    };
    list.push("sign-in", Verdict::Ok, format!("{visible} subscriptions are visible{factor}"));
    if second_factor == Some(false) && environment == "AzureCloud" {
        let message =
            "the sign-in is without multi-factor authentication, and public Azure asks it of people who write";
        let next = "At a terminal azsreg has you sign in again when Azure asks. Without one, sign in as an application (--client-id): Azure asks it of people alone.";
        let problem = Problem::new(&code::CLAIMS_NEEDED, message).next(next);
        list.problem("multi-factor authentication", Verdict::Warning, problem);
    }
}

fn of_subscription(list: &mut List, subscription: &Subscription) {
    let quota = subscription.quota_id.as_str();
    let supported = ["EnterpriseAgreement", "CSP", "SharedServices", "AzureStackSharedServices"];
    let known = supported.iter().any(|kind| quota.to_ascii_lowercase().starts_with(&kind.to_ascii_lowercase()));
    let detail = format!("{} ({}), {quota}", subscription.id, subscription.name);
    if known {
        list.push("subscription", Verdict::Ok, detail);
    } else {
        let kind = if quota.is_empty() { "of a kind that Azure does not say" } else { quota };
        let message = format!("{} ({}) is {kind}", subscription.id, subscription.name);
        list.problem("subscription", Verdict::Warning, Problem::new(&code::SUBSCRIPTION_KIND, message));
    }
    if let Some(problem) = checks::disabled(subscription) {
        list.problem("subscription's state", Verdict::Failed, problem);
    } else if let Some(problem) = checks::warned(subscription) {
        list.problem("subscription's state", Verdict::Warning, problem);
    } else if subscription.state.is_empty() {
        list.push("subscription's state", Verdict::NotKnown, "Azure does not say it");
    } else {
        list.push("subscription's state", Verdict::Ok, subscription.state.clone());
    }
}

/// What the caller may do, and what stands in the way, judged as `register` judges it.
async fn of_permissions<A: Azure, C: Clock>(list: &mut List, azure: &A, clock: &C, subscription: Uuid, group: &str) {
    let whole = format!("/subscriptions/{subscription}");
    let there = retry::read(clock, Policy::AZURE, async || azure.resource_group(subscription, group).await).await;
    let there = matches!(there, Ok(Some(_)));
    let scope = if there { format!("{whole}/resourceGroups/{group}") } else { whole.clone() };
    let provider = retry::read(clock, Policy::AZURE, async || azure.provider(subscription).await).await;
    let mut read = async |scope: &str| match checks::allowed(azure, clock, scope).await {
        Ok(Ok(permissions)) => Some(permissions),
        Ok(Err(unchecked)) => {
            list.problem("permissions", Verdict::Warning, unchecked);
            None
        }
        Err(error) => {
            list.failed("permissions", error);
            None
        }
    };
    let here = read(&scope).await;
    let above = if there { read(&whole).await } else { here.clone() };
    let needed = Needed::by(there, provider.as_ref().map_or(Provider::NotRegistered, |state| *state), true);
    for (action, needed_by) in CustomRole::ACTIONS {
        // What is of the subscription is judged there, whatever the caller may do in the group.
        let of_subscription = *action == checks::REGISTER_PROVIDER || CustomRole::ONLY_TO_LOOK.contains(action);
        let (permissions, at) = if of_subscription { (&above, &whole) } else { (&here, &scope) };
        let Some(permissions) = permissions else { continue };
        if Permission::allow(permissions, action) {
            list.push(action, Verdict::Ok, *needed_by);
            continue;
        }
        let fails = needed.in_group.contains(action) || needed.in_subscription.contains(action);
        let message = format!("the caller lacks {action} on {at}: {needed_by}");
        let problem = Problem::new(&code::ACTIONS_MISSING, message);
        list.problem(action, if fails { Verdict::Failed } else { Verdict::Warning }, problem);
    }
    match provider {
        Ok(Provider::Registered) => list.push("provider", Verdict::Ok, "Microsoft.AzureStack is registered"),
        Ok(Provider::Registering) => {
            let detail = "Azure is registering Microsoft.AzureStack: register does not wait for that";
            list.push("provider", Verdict::Ok, detail);
        }
        Ok(Provider::NotRegistered) => {
            list.push("provider", Verdict::Ok, "Microsoft.AzureStack is not registered yet: register does that")
        }
        Ok(Provider::NotKnown) => {
            let message = "whether Microsoft.AzureStack is registered could not be checked: register asks for it";
            list.problem("provider", Verdict::Warning, Problem::new(&code::NOT_CHECKED, message));
        }
        Err(error) => list.failed("provider", error),
    }
}

/// The locks that `register` would meet: those of the group and the subscription, where the registration is not there yet.
async fn of_locks<A: Azure, C: Clock>(list: &mut List, azure: &A, clock: &C, id: &RegistrationId) {
    match checks::foreign_locks(azure, clock, id, true).await {
        Ok(None) => list.push("locks", Verdict::Ok, "no lock forbids changes"),
        Ok(Some(problem)) => {
            let where_it_is = problem.details.join("; ");
            let message = format!("{}: {where_it_is}", problem.message);
            list.problem("locks", Verdict::Failed, Problem { message, details: Vec::new(), ..problem });
        }
        Err(error) => list.push("locks", Verdict::NotKnown, format!("not to be seen: {}", error.problem.message)),
    }
}

async fn of_registrations<A: Azure, C: Clock>(
    list: &mut List,
    azure: &A,
    clock: &C,
    request: &RegisterRequest,
    cloud_id: Option<Uuid>,
    id: Option<&RegistrationId>,
    recorded: Option<&RegistrationId>,
) {
    let mut principal = None;
    match registrations(azure, clock, request.subscription).await {
        Err(error) => list.failed("name", error),
        Ok(all) => {
            principal = all.iter().find(|r| r.cloud_id.is_some() && r.cloud_id == cloud_id).and_then(|r| r.object_id);
            of_name(list, azure, clock, (cloud_id, id, recorded), &all).await;
            let others: Vec<&str> = all.iter().filter(|r| r.cloud_id != cloud_id).map(|r| r.id.name.as_str()).collect();
            if !others.is_empty() {
                let message = format!("the subscription has other stamps' registrations: {}", others.join(", "));
                list.problem("other stamps", Verdict::Warning, Problem::new(&code::SEVERAL_STAMPS, message));
            }
        }
    }
    let rights = match retry::read(clock, Policy::AZURE, async || azure.directory_rights(principal).await).await {
        Ok(rights) => rights,
        Err(error) => {
            return list.push("directory", Verdict::NotKnown, format!("not allowed to see: {}", error.problem.message));
        }
    };
    match rights.may_register_applications {
        Some(true) => list.push("directory", Verdict::Ok, "the caller may register applications"),
        Some(false) => {
            let message = "the caller may not register applications in the subscription's directory";
            list.problem("directory", Verdict::Failed, Problem::new(&code::APPLICATIONS_NOT_ALLOWED, message));
        }
        None => list.push("directory", Verdict::NotKnown, "not allowed to see whether applications may be registered"),
    }
    if let Some(ad_graph) = rights.ad_graph {
        let name = "bridge application's Azure AD Graph";
        match ad_graph.warning() {
            Some(problem) => list.problem(name, Verdict::Warning, problem),
            None => list.push(name, Verdict::Ok, "the directory lets it use Azure AD Graph"),
        }
    }
    match rights.bridge {
        Some(bridge) if bridge.owned => list.push("bridge application", Verdict::Ok, "the caller owns it"),
        Some(bridge) => {
            let message =
                format!("the caller does not own the stamp's bridge application; {} does", bridge.owners.join(", "));
            list.problem("bridge application", Verdict::Failed, Problem::new(&code::NOT_OWNER, message));
        }
        None if principal.is_some() => {
            list.push("bridge application", Verdict::NotKnown, "the sign-in may not see who owns it");
        }
        None => list.push("bridge application", Verdict::Ok, "none yet: the stamp makes it"),
    }
}

/// Whether the name is free, as `register` judges it.
async fn of_name<A: Azure, C: Clock>(
    list: &mut List,
    azure: &A,
    clock: &C,
    (cloud_id, id, recorded): (Option<Uuid>, Option<&RegistrationId>, Option<&RegistrationId>),
    all: &[Registration],
) {
    let (Some(cloud_id), Some(id)) = (cloud_id, id) else {
        return list.push("name", Verdict::NotKnown, "without the stamp its name is not known");
    };
    let mut problems = Vec::new();
    let judged = async {
        let own = checks::free(azure, clock, (id, cloud_id), None, all, &mut problems).await?;
        if let Some(other) = recorded.filter(|other| *other != id && problems.is_empty()) {
            problems.extend(checks::activated_elsewhere(azure, clock, other, cloud_id).await?);
        }
        if let Some(own) = own.as_ref().filter(|_| problems.is_empty()) {
            problems.extend(checks::expired(azure, clock, own).await?);
        }
        Ok::<_, PortError>(own)
    };
    match judged.await {
        Err(error) => list.failed("name", error),
        Ok(None) if problems.is_empty() => list.push("name", Verdict::Ok, format!("{} is free", id.name)),
        Ok(Some(_)) if problems.is_empty() => {
            list.push("name", Verdict::Ok, format!("{} is this stamp's already", id.name));
        }
        Ok(_) => problems.into_iter().for_each(|problem| list.problem("name", Verdict::Failed, problem)),
    }
}

async fn of_location<A: Azure, C: Clock>(
    list: &mut List,
    azure: &A,
    clock: &C,
    request: &RegisterRequest,
    id: &RegistrationId,
) {
    let mut problems = Vec::new();
    match checks::place(azure, clock, id, request.location.as_deref(), &mut problems).await {
        Err(error) => return list.failed("location", error),
        Ok((_, location)) if problems.is_empty() => list.push("location", Verdict::Ok, location),
        Ok(_) => {}
    }
    for problem in problems {
        let verdict = if problem.code == &code::NOT_CHECKED { Verdict::Warning } else { Verdict::Failed };
        list.problem("location", verdict, problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_azure_warns_of_a_sign_in_without_a_second_factor() {
        let of = |environment: &str, factor| {
            let mut list = List::default();
            of_sign_in(&mut list, environment, factor, 2);
            list.0
        };
        let warned = of("AzureCloud", Some(false));
        assert_eq!(warned.last().map(|one| one.verdict), Some(Verdict::Warning));
        assert!(warned[0].detail.contains("without multi-factor"));
        for (environment, factor) in
            [("AzureCloud", Some(true)), ("AzureCloud", None), ("AzureChinaCloud", Some(false)), ("Custom", None)]
        {
            assert!(of(environment, factor).iter().all(|one| one.verdict == Verdict::Ok), "{environment} {factor:?}");
        }
    }
}
