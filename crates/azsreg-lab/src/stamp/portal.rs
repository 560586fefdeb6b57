//! The stamp's administrator portal: the pages of `azsreg-portal` over the stamp's own state.

use azsreg_model::{Alert, METERS, UsageLine};
use azsreg_portal::{Actions, Item, Market, Region, Registration, Source};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::http::{self, Read, Reply};
use crate::lab::{StampState, State};
use crate::world::alerts::NEAR;
use crate::world::market::ItemState;
use crate::world::metering::{Asked, LAG, Place, hour_of, list, time_of};
use crate::world::stamp::Activation;

/// A stamp, as its pages see it.
struct Seen<'a> {
    state: &'a State,
    stamp: &'a StampState,
}

/// A request for a page.
pub(crate) fn handle(state: &State, stamp: &StampState, request: &Read) -> Reply {
    stamp.world().settle(state.now());
    let seen = Seen { state, stamp };
    http::page_of(request, |ask| stamp.portal.answer(ask, &seen, &seen))
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
            (Some(_), Some(ends)) if ends.duration_since(now) <= NEAR => Registration::Expiring,
            _ => Registration::Registered,
        };
        Region {
            name: world.region.clone(),
            stamp: self.stamp.name.clone(),
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
            let plain = |runs: &Value| {
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
                description: plain(&body["properties"]["description"]),
                remediation: plain(&body["properties"]["remediation"]),
                impacted: text("impactedResourceDisplayName"),
                error_code: alert.properties["errorCode"].as_str().map(str::to_owned),
            }
        };
        world.alerts.iter().rev().map(shown).collect()
    }

    fn market(&self) -> Market {
        let world = self.stamp.world();
        let disconnected = !world.options.connected;
        // A disconnected, registered stamp kept asking for the registration before build 1904.
        let asks = world.activation.is_none() || (disconnected && world.build < (1, 1904, 0, 0));
        let mut items: Vec<Item> = world
            .downloaded
            .iter()
            .map(|item| {
                let text = |name: &str| item.properties[name].as_str().unwrap_or_default().to_owned();
                let (status, tone) = match item.state {
                    ItemState::Succeeded => ("Downloaded", "good"),
                    ItemState::Downloading => ("Downloading", "warn"),
                    ItemState::Failed => ("Failed", "bad"),
                };
                let kind = match item.properties["productKind"].as_str().unwrap_or_default() {
                    kind if kind.eq_ignore_ascii_case("virtualMachine") => "Virtual machine",
                    kind if kind.eq_ignore_ascii_case("virtualMachineExtension") => "Extension",
                    kind if kind.eq_ignore_ascii_case("resourceProvider") => "Resource provider",
                    _ => "Solution",
                };
                // The products' names end with their versions.
                let version = item.properties["productProperties"]["version"].as_str().map(str::to_owned);
                let version = version.unwrap_or_else(|| item.name.rsplit('-').next().unwrap_or_default().to_owned());
                let size = item.properties["payloadLength"].as_u64().filter(|bytes| *bytes > 0);
                Item {
                    title: text("displayName"),
                    publisher: text("publisherDisplayName"),
                    kind,
                    version,
                    status,
                    tone,
                    size: size.map_or_else(String::new, |bytes| match bytes {
                        0..1_048_576 => format!("{} KB", bytes / 1_024),
                        1_048_576..1_073_741_824 => format!("{} MB", bytes / 1_048_576),
                        _ => format!(
                            "{:.1} GB",
                            f64::from(u32::try_from(bytes / 1_048_576).unwrap_or(u32::MAX)) / 1024.0
                        ),
                    }),
                }
            })
            .collect();
        items.sort_by(|a, b| a.title.cmp(&b.title));
        let (message, next) = match (asks, disconnected, items.is_empty()) {
            (true, false, _) => (
                Some("You must register and activate Azure Stack before you can add items from Azure."),
                Some("azsreg register"),
            ),
            (true, true, _) => (
                Some("You must register and activate Azure Stack before you can add items from Azure."),
                Some("azsreg offline token"),
            ),
            (false, true, true) => (
                Some("There are no items. This stamp has no way to Azure: items are carried to it."),
                Some("azsreg marketplace download"),
            ),
            (false, false, true) => {
                (Some("There are no items yet. Add them from Azure."), Some("azsreg marketplace add"))
            }
            (false, _, false) => (None, None),
        };
        Market { message, next, items }
    }

    fn usage(&self, days: u16) -> Vec<UsageLine> {
        let today = hour_of(self.state.now()).div_euclid(24) * 24;
        let from = today - i64::from(days) * 24;
        let mut world = self.stamp.world();
        let (tenants, fleets) = world.fleets();
        let asked = Asked { from, to: today + LAG + 1, bucket: 24, subscription: None };
        let mut sums = std::collections::BTreeMap::<(i64, usize), i64>::new();
        list(tenants, fleets, asked, Place::default(), |hour, reading| {
            if (from..today).contains(&hour) {
                *sums.entry((hour, reading.meter)).or_default() += reading.quantity;
            }
            true
        });
        let line = |((hour, meter), quantity): ((i64, usize), i64)| UsageLine {
            start: time_of(hour),
            meter: METERS[meter].id.to_owned(),
            name: METERS[meter].name.to_owned(),
            unit: METERS[meter].unit.to_owned(),
            subscription: None,
            resource: None,
            quantity: Decimal::new(quantity, 6),
        };
        sums.into_iter().map(line).collect()
    }
}

impl Actions for Seen<'_> {
    fn close_alert(&self, id: &str) -> Result<(), String> {
        let closing = json!({"properties": {"state": "Closed"}});
        let closed = self.stamp.world().close_alert(id, &closing, "portal", self.state.now());
        closed.map(drop).map_err(|error| error.message)
    }
}
