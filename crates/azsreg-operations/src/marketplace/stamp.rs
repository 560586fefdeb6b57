//! Marketplace items of a connected stamp: the stamp downloads them itself, with the principal of its bridge.

use azsreg_model::{ItemState, Outcome, PlannedStep, Problem, Product, Report, StepReport, StepState, code, refusals};
use serde_json::json;
use uuid::Uuid;

use super::{StampMarket, begin, exit_of, follow, named};
use crate::engine::retry::{Policy, read};
use crate::engine::session::FileBooks;
use crate::engine::{Failure, Steps, Watch};
use crate::ports::{Class, Clock, PortError};
use crate::register::refused;

/// The operation that adds an item.
pub const ADD: &str = "marketplace-add";
/// The operation that removes one.
pub const REMOVE: &str = "marketplace-remove";
/// The version of their records.
const VERSION: u32 = 1;

/// What is wrong when Azure refuses the stamp's bridge, or the stamp its operator: the code says what mends it.
#[must_use]
pub fn refusal(inner: &str, message: &str) -> Option<Problem> {
    let said = |text: &str| inner.eq_ignore_ascii_case(text) || message.contains(text);
    let stamp = |entry, text: &str| Some(Problem::new(entry, text).detail(words(inner, message)));
    match refusals::aadsts_number(message) {
        Some(700_016 | 7_000_215 | 7_000_222) => {
            return stamp(&code::PRINCIPAL_MISSING, "the directory does not know the stamp's principal any more");
        }
        Some(90_002) => {
            return stamp(&code::TENANT_CHANGED, "the directory that the stamp signs in to is not there any more");
        }
        Some(_) => return stamp(&code::SYNDICATION_REFUSED, "the directory refuses the stamp's sign-in"),
        None => {}
    }
    if said("InvalidAuthenticationTokenTenant") || said("SubscriptionNotFound") {
        return stamp(
            &code::TENANT_CHANGED,
            "the subscription of the registration is in another directory than before",
        );
    }
    if said("AuthorizationFailed") {
        let text = "the stamp's principal may not read its registration: its role, or the registration itself, is gone";
        return stamp(&code::ROLE_MISSING, text)
            .map(|problem| problem.next("azsreg status  shows which; azsreg repair  gives the role back."));
    }
    if said("RegistrationExpired") {
        return stamp(&code::EXPIRED, "the registration has expired");
    }
    if said("MarketplaceSyndicationDisabled") {
        return stamp(&code::MARKETPLACE_OFF, "the stamp is registered with marketplace syndication off");
    }
    if said("ParentResourceNotFound") || said("ResourceGroupNotFound") {
        return stamp(&code::ACTIVATION_ORPHANED, "the registration that the stamp is activated for is gone");
    }
    None
}

/// Why the stamp could not bring an item.
pub(crate) fn failed(name: &str, inner: &str, message: &str) -> Problem {
    refusal(inner, message).unwrap_or_else(|| {
        Problem::new(&code::ITEM_FAILED, format!("the stamp could not bring {name}")).detail(words(inner, message))
    })
}

/// Words of the other side, to be shown: an address in them keeps its signature to itself.
#[must_use]
pub fn words(inner: &str, message: &str) -> String {
    scrubbed(&format!("{inner}: {message}"))
}

/// Text without the signatures of addresses.
#[must_use]
pub fn scrubbed(text: &str) -> String {
    let mut text = text.to_owned();
    for mark in ["sig=", "sig%3d"] {
        let mut from = 0;
        while let Some(at) = text[from..].to_ascii_lowercase().find(mark).map(|at| from + at + mark.len()) {
            let ends = ['&', ' ', ')', '"', '\'', '\n', '<'];
            let end = text[at..].find(ends).map_or(text.len(), |end| at + end);
            text.replace_range(at..end, "...");
            from = at;
        }
    }
    text
}

/// What is offered, of which some text is found, and which the stamp can have.
///
/// # Errors
/// The stamp or its registration can't be read.
pub async fn list<M: StampMarket, C: Clock>(market: &M, clock: &C) -> Result<Vec<Product>, Failure> {
    Ok(read(clock, Policy::AZURE, async || market.products().await).await?)
}

/// Has the stamp download items, and waits for them if asked to. All of them are looked at before any is begun.
///
/// # Errors
/// An item is unknown or not for this stamp (nothing is begun then), or the stamp could not bring one.
#[allow(clippy::too_many_arguments)]
pub async fn add<M: StampMarket, C: Clock>(
    market: &M,
    clock: &C,
    books: &FileBooks,
    cloud_id: Uuid,
    names: &[String],
    wait: bool,
    plan: bool,
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let offered = list(market, clock).await?;
    let mut problems = Vec::new();
    let mut chosen: Vec<&Product> = Vec::new();
    for name in names {
        match named(name, &offered) {
            Err(problem) => problems.push(problem),
            Ok(product) => {
                if let Some(why) = product.incompatible() {
                    let message = format!("{} is not for this stamp: {why}", product.name);
                    problems.push(Problem::new(&code::ITEM_INCOMPATIBLE, message));
                } else if !chosen.iter().any(|known| known.name == product.name) {
                    chosen.push(product);
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(Failure { exit: exit_of(&problems), ..refused(problems) });
    }
    let there = read(clock, Policy::AZURE, async || market.items().await).await?;
    let state = |name: &str| {
        there.iter().find(|item| item.product.name.eq_ignore_ascii_case(name)).map(|item| item.state.clone())
    };
    let mut report = Report::new(ADD, Outcome::Planned, cloud_id, None);
    if plan {
        report.plan = chosen
            .iter()
            .map(|product| {
                let (changes, what) = match state(&product.name) {
                    Some(ItemState::Succeeded) => (false, "there already"),
                    None | Some(ItemState::Failed) => (true, "would be downloaded"),
                    Some(_) => (false, "being downloaded already"),
                };
                PlannedStep { step: "download", changes, detail: format!("{}: {what}", product.name) }
            })
            .collect();
        return Ok(report);
    }
    let mut begun = Vec::new();
    for product in &chosen {
        let known = state(&product.name);
        if known == Some(ItemState::Succeeded) {
            let step = StepReport {
                step: "download",
                state: StepState::AlreadyDone,
                detail: format!("{}: there", product.name),
            };
            watch.step_ended(&step);
            report.steps.push(step);
            continue;
        }
        if known.is_none() {
            // A list is short of words; the item itself has them.
            let whole = read(clock, Policy::AZURE, async || market.product(&product.name).await).await?;
            let terms = whole.map(|whole| whole.legal_terms).unwrap_or_default();
            if !terms.is_empty() {
                watch.note(&format!("{} comes under the terms of {}: {terms}", product.title, product.publisher));
            }
        }
        let (step, operation) =
            start(market, clock, books, cloud_id, &product.name, watch).await.map_err(|mut failure| {
                failure.steps = [report.steps.clone(), failure.steps.clone()].concat();
                failure
            })?;
        report.steps.push(step);
        begun.push((product.name.clone(), operation));
    }
    report.outcome = if report.steps.iter().any(|step| step.state == StepState::Done) || (wait && !begun.is_empty()) {
        Outcome::Done
    } else {
        Outcome::NothingToDo
    };
    if !wait {
        return Ok(report);
    }
    // What fails does not keep the others from being waited for.
    let mut problems = Vec::new();
    let mut exit = None;
    for (name, operation) in begun {
        watch.step_started("wait", &format!("waiting for {name}"));
        match follow(market, clock, &name, operation.as_deref(), watch).await {
            Ok(()) => {
                let step = StepReport { step: "wait", state: StepState::Done, detail: format!("{name}: there") };
                watch.step_ended(&step);
                report.steps.push(step);
            }
            Err(failure) => {
                exit = exit.or(Some(failure.exit));
                problems.extend(failure.problems);
            }
        }
    }
    match exit {
        None => Ok(report),
        Some(exit) => Err(Failure { problems, exit, step: Some("wait"), steps: report.steps }),
    }
}

/// Has the stamp begin with one item, recorded; the address of its operation, as far as it is known.
async fn start<M: StampMarket, C: Clock>(
    market: &M,
    clock: &C,
    books: &FileBooks,
    cloud_id: Uuid,
    name: &str,
    watch: &mut dyn Watch,
) -> Result<(StepReport, Option<String>), Failure> {
    let request = json!({ "item": name });
    let (_lock, mut journal) = begin(books, cloud_id, (ADD, VERSION), &request, clock)?;
    let none = || Vec::new();
    let mut steps = Steps::new(&mut journal, clock, watch, &none);
    let recorded = steps.recorded("download").and_then(|output| output["operation"].as_str().map(str::to_owned));
    let observe = async || {
        // One that failed has to be removed before it is tried again; nothing is lost with it.
        let item = market.item(name).await?.filter(|item| item.state != ItemState::Failed);
        Ok(item.map(|item| (recorded.clone(), format!("{name}: {}", item.state))))
    };
    let act = async || {
        if market.item(name).await?.is_some_and(|item| item.state == ItemState::Failed) {
            market.remove(name).await?;
        }
        let operation = market.download(name).await?;
        Ok(Some((operation, format!("{name}: begun"))))
    };
    let output = |operation: &Option<String>| json!({"item": name, "operation": operation});
    let operation =
        steps.step("download", &format!("asking the stamp for {name}"), Policy::AZURE, observe, act, output).await?;
    steps.finish("begun")?;
    let step = steps.into_reports().pop();
    let step = step.unwrap_or(StepReport { step: "download", state: StepState::Done, detail: name.to_owned() });
    Ok((step, operation))
}

/// What would be lost by removing these items; those that are not there are named apart.
///
/// # Errors
/// The stamp can't be read.
pub async fn to_remove<M: StampMarket, C: Clock>(
    market: &M,
    clock: &C,
    names: &[String],
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let there = read(clock, Policy::AZURE, async || market.items().await).await?;
    let find = |name: &String| there.iter().find(|item| item.product.name.eq_ignore_ascii_case(name));
    let busy: Vec<Problem> = names
        .iter()
        .filter_map(find)
        .filter(|item| item.state == ItemState::Downloading)
        .map(|item| Problem::new(&code::ITEM_BUSY, format!("the stamp is still downloading {}", item.product.name)))
        .collect();
    if !busy.is_empty() {
        return Err(Failure { exit: busy[0].code.exit, ..refused(busy) });
    }
    let found = names.iter().filter_map(find).map(|item| item.product.name.clone()).collect();
    let absent = names.iter().filter(|name| find(name).is_none()).cloned().collect();
    Ok((found, absent))
}

/// Removes items from a stamp.
///
/// # Errors
/// The stamp refused.
pub async fn remove<M: StampMarket, C: Clock>(
    market: &M,
    clock: &C,
    books: &FileBooks,
    cloud_id: Uuid,
    names: &[String],
    watch: &mut dyn Watch,
) -> Result<Report, Failure> {
    let mut report = Report::new(REMOVE, Outcome::Done, cloud_id, None);
    for name in names {
        let request = json!({ "item": name });
        let (_lock, mut journal) = begin(books, cloud_id, (REMOVE, VERSION), &request, clock)?;
        let none = || Vec::new();
        let mut steps = Steps::new(&mut journal, clock, watch, &none);
        let observe = async || {
            let item = market.item(name).await?;
            Ok(if item.is_none() { Some(((), format!("{name}: not on the stamp"))) } else { None })
        };
        let act = async || {
            market.remove(name).await?;
            Ok(None)
        };
        let removed = steps
            .step("remove", &format!("removing {name}"), Policy::AZURE, observe, act, |()| json!({ "item": name }))
            .await;
        removed.map_err(|mut failure| {
            failure.steps = [report.steps.clone(), failure.steps.clone()].concat();
            failure
        })?;
        steps.finish("removed")?;
        report.steps.extend(steps.into_reports());
    }
    if report.steps.iter().all(|step| step.state == StepState::AlreadyDone) {
        report.outcome = Outcome::NothingToDo;
    }
    Ok(report)
}

/// A failure at the stamp whose operator nobody is.
#[must_use]
pub fn no_operator() -> PortError {
    let message = "the stamp's marketplace is managed at its Resource Manager, and no account is signed in to that";
    PortError::new(Class::Permanent, Problem::new(&code::NO_OPERATOR, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_signature_is_shown() {
        let shown = words("X", "at https://a/b?sv=1&SIG=abc%2F&se=2 (and https://c?sig=def) sig%3Dx sig=");
        assert_eq!(shown, "X: at https://a/b?sv=1&SIG=...&se=2 (and https://c?sig=...) sig%3D... sig=...");
    }

    #[test]
    fn each_breakage_of_the_bridge_has_its_code() {
        let of = |inner: &str, message: &str| refusal(inner, message).map(|problem| problem.code.id);
        assert_eq!(
            of("unauthorized_client", "AADSTS700016: Application with identifier 'x' was not found"),
            Some("AZR6010")
        );
        assert_eq!(of("RegistrationNotAccessible", "... InvalidAuthenticationTokenTenant: ..."), Some("AZR6011"));
        assert_eq!(of("AuthorizationFailed", "The client"), Some("AZR6009"));
        assert_eq!(of("RegistrationExpired", ""), Some("AZR6005"));
        assert_eq!(of("InternalServerError", "oops"), None);
    }
}
