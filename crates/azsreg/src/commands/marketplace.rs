//! `azsreg marketplace`: items of a connected stamp, and items that are carried to a disconnected one.

use azsreg_arm::{BlobPort, MarketPort};
use azsreg_model::{
    ExitCode, Outcome, PlannedStep, Problem, Product, Report, StampVersion, StepReport, StepState, code,
};
use azsreg_operations::engine::retry::{self, Policy};
use azsreg_operations::marketplace::fetch::{self, FetchRequest, amount};
use azsreg_operations::marketplace::{Catalogue as _, Device, StampMarket as _, import, named, stamp, verify};
use uuid::Uuid;

use super::confirm::agree;
use super::connect::{self, Azure, CLOCK, Stamp};
use super::shared;
use crate::Ended;
use crate::ask;
use crate::cli::{
    AzureOptions, DeviceOptions, Global, ItemAddOptions, ItemDownloadOptions, ItemImportOptions, ItemListOptions,
    ItemRemoveOptions, ItemShowOptions, ItemVerifyOptions, MarketplaceCommand, OfferedToOptions, StampOptions,
};
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

pub(crate) async fn run(
    global: &Global,
    command: &MarketplaceCommand,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    match command {
        MarketplaceCommand::List(options) => list(global, options, view, sources).await,
        MarketplaceCommand::Show(options) => show(global, options, view, sources).await,
        MarketplaceCommand::Add(options) => add(global, options, view, sources).await,
        MarketplaceCommand::Downloaded(options) => downloaded(global, options, view, sources).await,
        MarketplaceCommand::Remove(options) => remove(global, options, view, sources).await,
        MarketplaceCommand::Download(options) => download(global, options, view, sources).await,
        MarketplaceCommand::Verify(options) => verify(global, options, view).await,
        MarketplaceCommand::Import(options) => import(global, options, view, sources).await,
    }
}

/// A stamp's marketplace, open.
struct Market<'r, 'a> {
    port: MarketPort<'r, 'a>,
    cloud_id: Uuid,
    state_dir: std::path::PathBuf,
}

/// Opens the marketplace of a stamp: the privileged endpoint says where, an operator of the stamp signs in.
async fn at_stamp<T>(
    global: &Global,
    options: &StampOptions,
    sources: &Sources,
    screen: &Screen,
    work: impl AsyncFnOnce(Market<'_, '_>) -> Result<T, Ended>,
) -> Result<T, Ended> {
    if shared::stamp_sign_in(&options.stamp_sign_in, sources)?.is_none() {
        return Err((*stamp::no_operator().problem).into());
    }
    let work = async |stamp: Stamp<'_, '_>| {
        let records = stamp.world.records.ok_or_else(|| Ended::from(*stamp::no_operator().problem))?;
        let (shown, sent) = (screen.clone(), std::cell::Cell::new(0));
        let count = move |bytes| {
            sent.set(sent.get() + bytes);
            shown.detail(&format!("{} sent", amount(sent.get())));
        };
        let port = MarketPort::new(records, &stamp.information, Box::new(count));
        work(Market { port, cloud_id: stamp.information.cloud_id, state_dir: stamp.state_dir }).await
    };
    connect::stamp(global, options, sources, screen, work).await
}

/// The stamp that is not asked, as far as it is named.
fn device(options: &DeviceOptions) -> Result<Option<Device>, Problem> {
    let Some(build) = &options.stamp_build else { return Ok(None) };
    let version: StampVersion = build.parse().map_err(|_| {
        Problem::new(&code::BAD_ARGUMENT, format!("--stamp-build {build} is not a build such as 1.2501.0.21"))
    })?;
    let identity = if options.stamp_identity == "aad" { "AzureAD" } else { "ADFS" };
    Ok(Some(Device { build: version.to_string(), identity: identity.into() }))
}

/// What is offered, by the stamp's own list or by Azure's for a registration; and one of it, whole.
async fn offered(
    global: &Global,
    options: &OfferedToOptions,
    sources: &Sources,
    item: Option<&str>,
) -> Result<Vec<Product>, Ended> {
    let screen = Screen::new(global, 0);
    let sides = &options.sides;
    let Some(cloud_id) = options.cloud_id else {
        let stamp = StampOptions {
            pep: sides.pep.clone(),
            stamp_sign_in: sides.stamp_sign_in.clone(),
            network: sides.network.clone(),
        };
        let work = async |market: Market<'_, '_>| {
            let offered = stamp::list(&market.port, &CLOCK).await?;
            let Some(item) = item else { return Ok(offered) };
            let name = named(item, &offered)?.name.clone();
            let found = retry::read(&CLOCK, Policy::AZURE, async || market.port.product(&name).await).await?;
            Ok(found.into_iter().collect())
        };
        return at_stamp(global, &stamp, sources, &screen, work).await;
    };
    let device = device(&options.device)?;
    let subscription = options.subscription.ok_or_else(|| {
        Problem::new(&code::BAD_ARGUMENT, "--cloud-id needs --subscription, the registration's")
            .next("Add --subscription ID.")
    })?;
    let azure =
        AzureOptions { cloud: sides.cloud.clone(), sign_in: sides.sign_in.clone(), network: sides.network.clone() };
    let work = async |azure: Azure<'_, '_>| {
        let azure = azure.world.azure;
        let registration = fetch::registration(azure, &CLOCK, subscription, Some(cloud_id)).await?;
        let ask = async || azure.products(&registration.id, device.as_ref()).await;
        let offered = retry::read(&CLOCK, Policy::AZURE, ask).await?;
        let Some(item) = item else { return Ok(offered) };
        let name = named(item, &offered)?.name.clone();
        let ask = async || azure.product(&registration.id, &name, device.as_ref()).await;
        Ok(retry::read(&CLOCK, Policy::AZURE, ask).await?.into_iter().collect())
    };
    connect::azure(global, &azure, sources, &screen, Some(subscription), work).await
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".into(), amount)
}

/// Whether the stamp can have it, in a word or a line.
fn fits(product: &Product) -> String {
    match (&product.compatibility, product.incompatible()) {
        (None, _) => "-".into(),
        (Some(_), None) => "yes".into(),
        (Some(_), Some(why)) => format!("no: {why}"),
    }
}

async fn list(global: &Global, options: &ItemListOptions, view: &View, sources: &Sources) -> Result<ExitCode, Ended> {
    if options.compatible && options.to.cloud_id.is_some() && options.to.device.stamp_build.is_none() {
        let problem = Problem::new(
            &code::BAD_ARGUMENT,
            "--compatible with --cloud-id needs --stamp-build: Azure does not know the stamp's",
        );
        return Err(problem.next("Add --stamp-build BUILD: azsreg stamp info shows it.").into());
    }
    let mut offered = offered(global, &options.to, sources, None).await?;
    let all = offered.len();
    offered.retain(|product| options.filter.as_deref().is_none_or(|text| product.matches(text)));
    offered.retain(|product| !options.compatible || product.incompatible().is_none());
    offered.sort_by(|a, b| a.name.cmp(&b.name));
    if view.is_json() {
        view.json(&offered);
        return Ok(ExitCode::Done);
    }
    if offered.is_empty() {
        view.line(&match all {
            0 => "Nothing is offered.".to_owned(),
            _ => format!("None of the {all} items is like that: leave out --filter or --compatible."),
        });
        return Ok(ExitCode::Done);
    }
    let rows = offered
        .iter()
        .map(|p| vec![p.name.clone(), p.kind.to_string(), p.version.clone(), size(p.bytes), p.title.clone(), fits(p)]);
    view.table(&["NAME", "KIND", "VERSION", "SIZE", "TITLE", "FOR THIS STAMP"], rows);
    Ok(ExitCode::Done)
}

async fn show(global: &Global, options: &ItemShowOptions, view: &View, sources: &Sources) -> Result<ExitCode, Ended> {
    let found = offered(global, &options.to, sources, Some(&options.item)).await?;
    let Some(product) = found.first() else {
        return Err(Problem::new(&code::ITEM_UNKNOWN, format!("there is no item {:?}", options.item)).into());
    };
    if view.is_json() {
        view.json(product);
        return Ok(ExitCode::Done);
    }
    let row = |name: &str, value: &str| {
        if !value.is_empty() {
            view.line(&format!("{name:<16}{value}"));
        }
    };
    row("name", &product.name);
    row("title", &product.title);
    row("publisher", &product.publisher);
    row("kind", &product.kind.to_string());
    row("version", &product.version);
    row("size", &size(product.bytes));
    row("for this stamp", &fits(product));
    row("legal terms", &product.legal_terms);
    row("about", &plain(&product.description));
    Ok(ExitCode::Done)
}

/// Words without markup: descriptions have it.
fn plain(text: &str) -> String {
    let (mut out, mut inside) = (String::new(), false);
    for c in text.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                out.push(' ');
            }
            c if !inside && !c.is_control() => out.push(c),
            _ => {}
        }
    }
    let text = out
        .replace("&nbsp;", " ")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&");
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(" .", ".").replace(" ,", ",")
}

async fn add(global: &Global, options: &ItemAddOptions, view: &View, sources: &Sources) -> Result<ExitCode, Ended> {
    let mut screen = Screen::new(global, options.items.len() * 2);
    let shown = screen.clone();
    let work = async |market: Market<'_, '_>| {
        let Market { port, cloud_id, state_dir } = market;
        let wait = !options.no_wait;
        Ok(stamp::add(
            &port,
            &CLOCK,
            &connect::books(global, &state_dir),
            cloud_id,
            &options.items,
            wait,
            options.plan,
            &mut screen,
        )
        .await?)
    };
    let report = at_stamp(global, &options.stamp, sources, &shown, work).await?;
    Ok(view.report(&report))
}

async fn downloaded(
    global: &Global,
    options: &StampOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, 0);
    let work = async |market: Market<'_, '_>| {
        Ok(retry::read(&CLOCK, Policy::AZURE, async || market.port.items().await).await?)
    };
    let mut items = at_stamp(global, options, sources, &screen, work).await?;
    items.sort_by(|a, b| a.product.name.cmp(&b.product.name));
    if view.is_json() {
        view.json(&items);
        return Ok(ExitCode::Done);
    }
    if items.is_empty() {
        view.line("The stamp has no marketplace items.");
        view.line("Next: azsreg marketplace add ITEM (connected) or azsreg marketplace import DIR (disconnected).");
        return Ok(ExitCode::Done);
    }
    let rows = items.iter().map(|item| {
        let p = &item.product;
        vec![
            p.name.clone(),
            p.kind.to_string(),
            p.version.clone(),
            size(p.bytes),
            item.state.to_string(),
            p.title.clone(),
        ]
    });
    view.table(&["NAME", "KIND", "VERSION", "SIZE", "STATE", "TITLE"], rows);
    Ok(ExitCode::Done)
}

async fn remove(
    global: &Global,
    options: &ItemRemoveOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let mut screen = Screen::new(global, options.items.len());
    let shown = screen.clone();
    let work = async |market: Market<'_, '_>| {
        let Market { port, cloud_id, state_dir } = market;
        let (found, absent) = stamp::to_remove(&port, &CLOCK, &options.items).await?;
        let mut report = Report::new(stamp::REMOVE, Outcome::Planned, cloud_id, None);
        report.lost = found.iter().map(|name| format!("the downloaded item {name}")).collect();
        if options.care.plan {
            let plan = options.items.iter().map(|name| {
                let changes = found.iter().any(|known| known.eq_ignore_ascii_case(name));
                let what = if changes { "would be removed" } else { "not there" };
                PlannedStep { step: "remove", changes, detail: format!("{name}: {what}") }
            });
            report.plan = plan.collect();
            return Ok(report);
        }
        if !found.is_empty() {
            agree(global, &options.care, &shown, "The stamp loses what it has downloaded.", &report.lost)?;
        }
        // What was agreed to, by the stamp's own names: what is not there needs nothing.
        let mut report =
            stamp::remove(&port, &CLOCK, &connect::books(global, &state_dir), cloud_id, &found, &mut screen).await?;
        report.steps.extend(absent.iter().map(|name| StepReport {
            step: "remove",
            state: StepState::AlreadyDone,
            detail: format!("{name}: not on the stamp"),
        }));
        Ok(report)
    };
    let report = at_stamp(global, &options.stamp, sources, &shown, work).await?;
    Ok(view.report(&report))
}

async fn download(
    global: &Global,
    options: &ItemDownloadOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let device = device(&options.device)?;
    let ca = shared::ca(&options.azure.network)?;
    let http = shared::http(&options.azure.network, &ca, false)?;
    let mut screen = Screen::new(global, options.items.len());
    let shown = screen.clone();
    let work = async |azure: Azure<'_, '_>| {
        let azure = azure.world.azure;
        let Some(cloud_id) = options.cloud_id else {
            // The refusal lists the stamps that the subscription has.
            fetch::registration(azure, &CLOCK, options.subscription, None).await?;
            return Err(Problem::new(&code::WHICH_STAMP, "the stamp that the items are for is not named").into());
        };
        let request = FetchRequest {
            subscription: options.subscription,
            cloud_id,
            items: options.items.clone(),
            folder: options.to.clone(),
            device,
            plan: options.plan,
        };
        let mut accept = |terms: &[(String, String)]| accept(global, options.accept_legal_terms, &shown, terms);
        Ok(fetch::download(azure, &BlobPort(&http), &CLOCK, &request, &mut accept, &mut screen).await?)
    };
    let report = connect::azure(global, &options.azure, sources, &shown, Some(options.subscription), work).await?;
    let exit = view.report(&report);
    if !view.is_json() && report.outcome == Outcome::Done {
        let folder = options.to.display().to_string();
        let plain = folder.chars().all(|c| c.is_alphanumeric() || "/._-\\:".contains(c));
        let folder = if plain { folder } else { format!("'{}'", folder.replace('\'', "'\\''")) };
        view.line(&format!("Next: carry {folder} to the stamp, then there: azsreg marketplace import {folder}"));
    }
    Ok(exit)
}

/// Shows the terms, and asks unless they were accepted beforehand.
fn accept(global: &Global, accepted: bool, screen: &Screen, terms: &[(String, String)]) -> Result<(), Problem> {
    let lines: Vec<String> = terms.iter().map(|(title, terms)| format!("{title}: {}", plain(terms))).collect();
    let shown = |last: &str| {
        let terms = lines.iter().map(|line| format!("  {line}"));
        let head = std::iter::once("The publishers' legal terms:".to_owned());
        head.chain(terms).chain([last.to_owned()]).collect::<Vec<_>>()
    };
    if accepted {
        screen.asides(&shown("Accepted with --accept-legal-terms."));
        return Ok(());
    }
    let refused = |message: &str| {
        let mut problem = Problem::new(&code::TERMS_NOT_ACCEPTED, message);
        problem.details.clone_from(&lines);
        problem
    };
    if !ask::is_there(global) {
        return Err(refused("the legal terms are not accepted, and azsreg can't ask"));
    }
    screen.asks();
    match ask::line(&shown("Do you accept them? Type yes: ").join("\n"))? {
        Some(answer) if answer.eq_ignore_ascii_case("yes") => Ok(()),
        _ => Err(refused("the legal terms were not accepted")),
    }
}

async fn verify(global: &Global, options: &ItemVerifyOptions, view: &View) -> Result<ExitCode, Ended> {
    use azsreg_operations::Watch as _;
    let mut screen = Screen::new(global, 1);
    screen.step_started("verify", "verifying");
    let verdicts = verify::verify(&options.dir, &mut |file, done, of| screen.progress(file, done, of)).await;
    screen.clear();
    let verdicts = verdicts?;
    let problems: Vec<Problem> = verdicts.iter().filter_map(verify::ItemVerdict::problem).collect();
    if view.is_json() {
        let exit = problems.first().map_or(ExitCode::Done, |problem| problem.code.exit);
        view.document(&verdicts, exit, &problems);
        return Ok(exit);
    }
    for verdict in verdicts.iter().filter(|verdict| verdict.wrong.is_empty()) {
        view.line(&format!("  ok      {}: {} files, {}", verdict.product, verdict.files, amount(verdict.bytes)));
    }
    match problems.first() {
        None => {
            view.line("Every file is as it was downloaded.");
            Ok(ExitCode::Done)
        }
        Some(first) => Err(Ended { exit: first.code.exit, problems, step: None, steps: Vec::new() }),
    }
}

async fn import(
    global: &Global,
    options: &ItemImportOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let mut screen = Screen::new(global, 0);
    let shown = screen.clone();
    let work = async |market: Market<'_, '_>| {
        let Market { port, cloud_id, state_dir } = market;
        Ok(import::import(
            &port,
            &CLOCK,
            &connect::books(global, &state_dir),
            cloud_id,
            &options.dir,
            options.plan,
            &mut screen,
        )
        .await?)
    };
    let report = at_stamp(global, &options.stamp, sources, &shown, work).await?;
    Ok(view.report(&report))
}
