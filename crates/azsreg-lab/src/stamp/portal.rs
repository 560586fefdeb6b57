//! The stamp's administrator portal: the pages of `azsreg-portal` over the stamp's own state.

use std::sync::Arc;

use azsreg_model::{Alert, METERS, SOON, UsageLine};
use azsreg_portal::{Actions, Item, ItemState, Market, Notice, Offer, Region, Registration, Source, UsageAsked};
use serde_json::{Value, json};
use uuid::Uuid;

use super::market;
use crate::http::{self, Read, Reply};
use crate::lab::{StampState, State};
use crate::world::arm::ArmError;
use crate::world::market::ItemState as Brought;
use crate::world::metering::{Asked, LAG, Place, hour_of, list, used_line};
use crate::world::stamp::Activation;

/// A stamp, as its pages see it.
struct Seen<'a> {
    state: &'a Arc<State>,
    stamp: &'a Arc<StampState>,
}

/// What Marketplace management says before there can be items, and when there can be none any more.
const REGISTER: &str = "You must register and activate Azure Stack before you can add items from Azure.";
const EXPIRED: &str = "The registration has expired. Nothing can be added from Azure until it is renewed.";
const OFF: &str =
    "Marketplace syndication is off for this registration. Nothing can be added from Azure until it is on.";
/// No product has a longer name.
const LONGEST: usize = 200;

/// A request for a page.
pub(crate) async fn handle(state: &Arc<State>, stamp: &Arc<StampState>, request: &Read) -> Reply {
    stamp.world().settle(state.now());
    let seen = Seen { state, stamp };
    http::page_of(request, async |ask| stamp.portal.answer(ask, &seen, &seen).await).await
}

impl Source for Seen<'_> {
    fn region(&self) -> Region {
        let now = self.state.now();
        let world = self.stamp.world();
        let activation = world.activation.as_ref();
        let ends = activation.and_then(Activation::ends);
        let registration = match (activation, ends) {
            (None, _) => Registration::NotRegistered,
            (Some(_), Some(ends)) if ends <= now => Registration::Expired,
            (Some(_), Some(ends)) if ends.duration_since(now) < SOON => Registration::Expiring,
            _ => Registration::Registered,
        };
        Region {
            name: world.region.clone(),
            stamp: self.stamp.name.clone(),
            connected: world.options.connected,
            registration,
            registered_as: activation.and_then(|activation| activation.registration.parse().ok()),
            billing_model: activation
                .map(|activation| activation.billing_model.clone())
                .filter(|model| !model.is_empty()),
            expires: ends,
            marketplace: activation.map(|activation| activation.marketplace),
            usage: activation.map(|activation| activation.usage),
            cloud_id: world.cloud_id.to_string(),
            version: world.options.build.clone(),
            nodes: world.options.nodes,
            privileged_endpoints: self.stamp.urls().pep.clone(),
            now,
        }
    }

    fn alerts(&self) -> Vec<Alert> {
        let world = self.stamp.world();
        let shown = |alert: &crate::world::alerts::Alert| {
            let body = world.alert_body(alert);
            let text = |name: &str| body["properties"][name].as_str().unwrap_or_default().to_owned();
            let joined = |runs: &Value| {
                let texts = runs.as_array().into_iter().flatten().filter_map(|run| run["text"].as_str());
                texts.collect::<Vec<_>>().join("")
            };
            Alert {
                name: alert.id.to_string(),
                title: text("title"),
                severity: text("severity"),
                active: alert.closed.is_none(),
                fault_type: alert.fault.clone(),
                created: Some(alert.created),
                closed: alert.closed,
                description: joined(&body["properties"]["description"]),
                remediation: joined(&body["properties"]["remediation"]),
                impacted: text("impactedResourceDisplayName"),
                error_code: alert.properties["errorCode"].as_str().map(str::to_owned),
            }
        };
        world.alerts.iter().rev().map(shown).collect()
    }

    fn market(&self) -> Market {
        let region = self.region();
        let world = self.stamp.world();
        let mut items: Vec<Item> = world
            .downloaded
            .iter()
            .map(|item| {
                let operation = world.operations.iter().find(|known| known.id == item.operation);
                let state = match item.state {
                    Brought::Succeeded => ItemState::Downloaded,
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    Brought::Downloading => ItemState::Downloading(operation.map_or(0, |known| known.percent as u8)),
                    Brought::Failed => {
                        let error = operation.and_then(|known| known.result.as_ref()?.as_ref().err());
                        let why = error.and_then(|error| error["message"].as_str());
                        ItemState::Failed(why.unwrap_or_default().to_owned())
                    }
                };
                shown(&item.name, &item.properties, state)
            })
            .collect();
        items.sort_by(|a, b| (&a.title, &a.name).cmp(&(&b.title, &b.name)));
        let notice = |text: &str, next: Option<String>| Some(Notice { text: text.to_owned(), next });
        let (notice, addable) = match (region.registration, region.connected) {
            (Registration::NotRegistered, _) => (notice(REGISTER, region.next()), false),
            // Before build 1904 a disconnected stamp kept asking though it was registered: nothing is to be done.
            (_, false) if world.build < (1, 1904, 0, 0) => (notice(REGISTER, None), false),
            (_, false) if items.is_empty() => {
                let text = "There are no items. This stamp has no way to Azure: items are carried to it.";
                let (id, subscription) = (&region.cloud_id, region.subscription());
                let command =
                    format!("azsreg marketplace download ITEM --to DIR --cloud-id {id} --subscription {subscription}");
                (notice(text, Some(command)), false)
            }
            (_, false) => (None, false),
            (Registration::Expired, true) => (notice(EXPIRED, region.next()), false),
            (_, true) if region.marketplace == Some(false) => (notice(OFF, Some(switched_on(&region))), false),
            (_, true) if items.is_empty() => {
                (notice("There are no items yet. Add them from Azure.", Some("azsreg marketplace list".into())), true)
            }
            (_, true) => (None, true),
        };
        Market { notice, addable, items }
    }

    async fn offers(&self) -> Result<Vec<Offer>, Notice> {
        let products = market::offers(self.state, self.stamp).await.map_err(|error| self.refused(error))?;
        let offers = products.iter().map(|product| {
            let name = product["name"].as_str().unwrap_or_default();
            let name = name.split_once('/').map_or(name, |(_, name)| name);
            let properties = &product["properties"];
            let text =
                |pointer: &str| properties.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let here = self.stamp.world().item(name).map(|item| match item.state {
                Brought::Succeeded => ItemState::Downloaded,
                Brought::Downloading => ItemState::Downloading(0),
                Brought::Failed => ItemState::Failed("The last download failed.".into()),
            });
            let incompatible = properties["compatibility"]["isCompatible"] == json!(false);
            Offer {
                here: here.is_some(),
                item: shown(name, properties, here.unwrap_or(ItemState::Downloaded)),
                description: plain(&text("/description")),
                legal_terms: text("/legalTerms"),
                privacy_policy: text("/privacyPolicy"),
                incompatible: incompatible.then(|| text("/compatibility/description")),
            }
        });
        Ok(offers.collect())
    }

    fn tenants(&self) -> Vec<Uuid> {
        let mut world = self.stamp.world();
        world.fleets().0.iter().map(|tenant| tenant.subscription).collect()
    }

    fn usage(&self, asked: UsageAsked) -> Vec<UsageLine> {
        let today = hour_of(self.state.now()).div_euclid(24) * 24;
        let from = today - i64::from(asked.days) * 24;
        let mut world = self.stamp.world();
        let (tenants, fleets) = world.fleets();
        let all = Asked { from, to: today + LAG + 1, bucket: 24, subscription: asked.subscription };
        let mut sums = std::collections::BTreeMap::<(i64, Option<Uuid>, usize), i64>::new();
        list(tenants, fleets, all, Place::default(), |hour, reading| {
            if (from..today).contains(&hour) {
                let subscription = asked.apart.then_some(reading.tenant.subscription);
                *sums.entry((hour, subscription, reading.meter)).or_default() += reading.quantity;
            }
            true
        });
        let lines = sums.into_iter().map(|((hour, subscription, meter), quantity)| {
            let meter = &METERS[meter];
            used_line(hour, subscription, (meter.id, meter.name, meter.unit), quantity)
        });
        lines.collect()
    }
}

/// An item as pages show it.
fn shown(name: &str, properties: &Value, state: ItemState) -> Item {
    let text = |name: &str| properties[name].as_str().unwrap_or_default().to_owned();
    let kind = match properties["productKind"].as_str().unwrap_or_default() {
        kind if kind.eq_ignore_ascii_case("virtualMachine") => "Virtual machine",
        kind if kind.eq_ignore_ascii_case("virtualMachineExtension") => "Extension",
        kind if kind.eq_ignore_ascii_case("resourceProvider") => "Resource provider",
        _ => "Solution",
    };
    // The products' names end with their versions.
    let version = properties["productProperties"]["version"].as_str().map(str::to_owned);
    Item {
        name: name.to_owned(),
        title: text("displayName"),
        publisher: text("publisherDisplayName"),
        kind,
        version: version.unwrap_or_else(|| name.rsplit('-').next().unwrap_or_default().to_owned()),
        state,
        bytes: properties["payloadLength"].as_u64().unwrap_or(0),
    }
}

/// A description without its markup.
fn plain(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

/// The command that switches syndication on.
fn switched_on(region: &Region) -> String {
    format!("azsreg set --subscription {} --marketplace on", region.subscription())
}

impl Seen<'_> {
    /// What the stamp refuses, as its page says it.
    fn refused(&self, error: ArmError) -> Notice {
        let region = self.region();
        let (text, next) = match error.code.as_str() {
            "ResourceNotFound" if error.message.contains("activations/default'") => (REGISTER.into(), region.next()),
            "ResourceNotFound" => ("Azure does not offer that item to this stamp.".into(), None),
            "RegistrationExpired" => (EXPIRED.into(), region.next()),
            "MarketplaceSyndicationDisabled" => (OFF.into(), Some(switched_on(&region))),
            "RegistrationNotAccessible" => {
                (error.message, Some(format!("azsreg status --subscription {}", region.subscription())))
            }
            _ => (error.message, None),
        };
        Notice { text, next }
    }
}

impl Actions for Seen<'_> {
    fn close_alert(&self, id: &str) -> Result<(), Notice> {
        let closing = json!({"properties": {"state": "Closed"}});
        let closed = self.stamp.world().close_alert(id, &closing, "portal", self.state.now());
        closed.map(drop).map_err(|error| self.refused(error))
    }

    async fn add_item(&self, name: &str) -> Result<(), Notice> {
        if name.len() > LONGEST {
            return Err("Azure does not offer that item to this stamp.".into());
        }
        market::download(self.state, self.stamp, name).await.map(drop).map_err(|error| self.refused(error))
    }

    fn delete_item(&self, name: &str) -> Result<(), Notice> {
        // By itself: a refusal looks at the world again, which must not be held then.
        let removed = self.stamp.world().remove_item(name);
        match removed {
            Ok(true) => Ok(()),
            Ok(false) => Err("The stamp does not have that item.".into()),
            Err(error) => Err(self.refused(error)),
        }
    }
}
