//! Marketplace management: what the stamp has, and what Azure offers to add (`facts-stamp.md` sections 2 and 6).

use askama::Template;

use crate::frame::{Answer, Ask, Forms, Frame, Notice, ROWS, Rows, size};
use crate::pages::{done, unknown_verb};
use crate::{Actions, Item, ItemState, Market, Offer, Source};

#[derive(Template)]
#[template(path = "marketplace.html")]
struct Marketplace {
    frame: Frame,
    market: Market,
    rows: Rows<Item>,
    going: usize,
}

#[derive(Template)]
#[template(path = "delete.html")]
struct Delete {
    frame: Frame,
    secret: String,
    item: Item,
}

/// What goes by one title: as the administrator portal does, several versions are one row.
struct Offered {
    newest: Offer,
    version: String,
}

#[derive(Template)]
#[template(path = "offers.html")]
struct Offers {
    frame: Frame,
    find: String,
    rows: Rows<Offered>,
}

#[derive(Template)]
#[template(path = "offer.html")]
struct OfferPage {
    frame: Frame,
    secret: String,
    offer: Offer,
    size: String,
    /// The other versions: name and version.
    others: Vec<(String, String)>,
}

impl OfferPage {
    /// A link is only made of an address that a browser may be sent to.
    fn linked(uri: &str) -> bool {
        uri.starts_with("https://")
    }
}

/// Answers a request below `/marketplace`.
pub(crate) async fn answer(
    forms: &Forms,
    ask: Ask<'_>,
    frame: impl Fn(&'static str) -> Frame,
    source: &(impl Source + Sync),
    actions: &(impl Actions + Sync),
) -> Answer {
    let title = "Marketplace";
    let secret = || forms.secret.clone();
    let name = ask.value("name").unwrap_or_default();
    match (ask.path, ask.looks()) {
        ("/marketplace", true) => {
            let mut market = source.market();
            let going = market.items.iter().filter(|item| item.percent().is_some()).count();
            let rows = Rows::of(std::mem::take(&mut market.items), ROWS, ask, None);
            Answer::page(200, &Marketplace { frame: frame(title), market, rows, going })
        }
        ("/marketplace/add", true) => match source.offers().await {
            Err(why) => Answer::message(409, frame(title), why),
            Ok(offers) => {
                let find = ask.value("find").unwrap_or_default().trim().to_owned();
                let rows = Rows::of(grouped(offers, &find.to_lowercase()), ROWS, ask, Some(("find", &find)));
                Answer::page(200, &Offers { frame: frame(title), find, rows })
            }
        },
        ("/marketplace/add/item", true) => match source.offers().await {
            Err(why) => Answer::message(409, frame(title), why),
            Ok(offers) => {
                let same = |offer: &Offer, other: &Offer| {
                    offer.item.title == other.item.title && offer.item.publisher == other.item.publisher
                };
                let Some(offer) = offers.iter().find(|offer| offer.item.name.eq_ignore_ascii_case(name)).cloned()
                else {
                    return Answer::message(404, frame("Not found"), "Azure does not offer that item to this stamp.");
                };
                let others = offers.iter().filter(|other| same(&offer, other) && other.item.name != offer.item.name);
                let others = others.map(|other| (other.item.name.clone(), other.item.version.clone())).collect();
                let size = size(offer.item.bytes);
                Answer::page(200, &OfferPage { frame: frame(title), secret: secret(), offer, size, others })
            }
        },
        ("/marketplace/add", false) if ask.method == "POST" => {
            if ask.value("accepted") != Some("yes") {
                let text = "The legal terms were not accepted, so nothing was downloaded. Go back, read them, and tick \
                            the box.";
                return Answer::message(400, frame("Not done"), text);
            }
            done(forms, ask, frame("Not done"), "/marketplace", actions.add_item(name)).await
        }
        ("/marketplace/delete", true) => {
            let item = source.market().items.into_iter().find(|item| item.name.eq_ignore_ascii_case(name));
            match item {
                Some(item) => Answer::page(200, &Delete { frame: frame(title), secret: secret(), item }),
                None => Answer::message(404, frame("Not found"), "The stamp does not have that item."),
            }
        }
        ("/marketplace/delete", false) if ask.method == "POST" => {
            done(forms, ask, frame("Not done"), "/marketplace", async { actions.delete_item(name) }).await
        }
        ("/marketplace" | "/marketplace/add" | "/marketplace/add/item" | "/marketplace/delete", _) => {
            unknown_verb(frame)
        }
        _ => Answer::message(404, frame("Not found"), "There is no such page."),
    }
}

/// One row a title, in the order of the titles; those that have the words in them.
fn grouped(mut offers: Vec<Offer>, find: &str) -> Vec<Offered> {
    let key = |offer: &Offer| (offer.item.title.to_lowercase(), offer.item.publisher.to_lowercase());
    offers.retain(|offer| {
        let text = format!("{} {} {}", offer.item.title, offer.item.publisher, offer.item.name).to_lowercase();
        find.split_whitespace().all(|word| text.contains(word))
    });
    // Names end with versions: the last of a title is its newest.
    offers.sort_by_key(|offer| (key(offer), version_of(&offer.item.version)));
    let of_one = offers.chunk_by(|a, b| key(a) == key(b));
    let rows = of_one.filter_map(|versions| {
        let newest = versions.last()?.clone();
        let version = if versions.len() > 1 { "Multiple".to_owned() } else { newest.item.version.clone() };
        Some(Offered { newest, version })
    });
    rows.collect()
}

/// A version as numbers, to order by.
fn version_of(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

impl Item {
    fn size(&self) -> String {
        size(self.bytes)
    }

    /// How far it is, of 100.
    fn percent(&self) -> Option<u8> {
        match self.state {
            ItemState::Downloading(percent) => Some(percent),
            _ => None,
        }
    }

    fn why(&self) -> Option<&str> {
        match &self.state {
            ItemState::Failed(why) if !why.is_empty() => Some(why),
            _ => None,
        }
    }
}

impl Market {
    fn said(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str, title: &str, version: &str) -> Offer {
        Offer {
            item: Item {
                name: name.into(),
                title: title.into(),
                publisher: "P".into(),
                kind: "Extension",
                version: version.into(),
                state: ItemState::Downloaded,
                bytes: 1,
            },
            here: false,
            description: String::new(),
            legal_terms: String::new(),
            privacy_policy: String::new(),
            incompatible: None,
        }
    }

    #[test]
    fn versions_of_one_title_are_one_row_with_the_newest() {
        let offers =
            vec![offer("t-1.10.0", "Tiny", "1.10.0"), offer("a-1", "Agent", "1"), offer("t-1.9.0", "Tiny", "1.9.0")];
        let rows = grouped(offers.clone(), "");
        let shown: Vec<_> = rows.iter().map(|row| (row.newest.item.name.as_str(), row.version.as_str())).collect();
        assert_eq!(shown, [("a-1", "1"), ("t-1.10.0", "Multiple")]);
        assert_eq!(grouped(offers, "tiny p").len(), 1);
    }
}
