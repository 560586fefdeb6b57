//! Where a sign-in belongs: to one Resource Manager, its authority and its Graph. No endpoint chooses whose token it gets.
//!
//! An audience is a name that an endpoint gives itself in its metadata. Its host alone proves nothing: a stamp's is
//! `https://adminmanagement.DIRECTORY.onmicrosoft.com/GUID`, the directory's name and not the stamp's, and public Azure at
//! management.azure.com names management.core.windows.net first. So what is checked is whether the audience is known to be
//! somebody else's: a named cloud's, or of an endpoint that a sign-in was kept for.

use azsreg_model::{Cloud, NamedCloud, Problem, code};
use reqwest::Url;

use crate::address::same_origin;
use crate::error::ArmError;

/// Domains of the services of the named clouds. An audience there belongs to the cloud's own Resource Manager, or to a
/// service that azsreg never asks.
const OF_NAMED_CLOUDS: &[&str] = &[
    "azure.com",
    "azure.net",
    "azure.us",
    "azure.cn",
    "windows.net",
    "windowsazure.com",
    "usgovcloudapi.net",
    "chinacloudapi.cn",
    "cloudapi.de",
    "microsoftazure.us",
    "microsoftazure.de",
    "microsoftonline.com",
    "microsoftonline.us",
    "microsoftonline.cn",
    "microsoftonline.de",
    "graph.microsoft.com",
    "graph.microsoft.us",
    "graph.microsoft.de",
    "dod-graph.microsoft.us",
    "office.com",
    "office365.com",
    "office365.us",
    "outlook.com",
    "sharepoint.com",
    "dynamics.com",
    "powerbi.com",
    "visualstudio.com",
];

/// The Resource Managers of the named clouds, and the names under which their tokens are asked for.
const NAMED: &[(NamedCloud, &[&str])] = &[
    (NamedCloud::AzureCloud, &["management.azure.com", "management.core.windows.net"]),
    (NamedCloud::AzureUSGovernment, &["management.usgovcloudapi.net", "management.core.usgovcloudapi.net"]),
    (NamedCloud::AzureChinaCloud, &["management.chinacloudapi.cn", "management.core.chinacloudapi.cn"]),
];

/// What a sign-in is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The Resource Manager.
    pub endpoint: String,
    /// The authority.
    pub authority: String,
    /// The audience of the Resource Manager's tokens.
    pub audience: String,
    /// The directory's Graph, which is its own audience; empty where there is none.
    pub graph: String,
}

impl From<&Cloud> for Place {
    fn from(cloud: &Cloud) -> Self {
        Self {
            endpoint: cloud.arm_endpoint.clone(),
            authority: cloud.authority.clone(),
            audience: cloud.audience.clone(),
            graph: cloud.graph.clone(),
        }
    }
}

impl Place {
    /// The named cloud that has this authority: whom a sign-in counts for that was kept before places were.
    #[must_use]
    pub fn of_authority(authority: &str) -> Option<Self> {
        let named = NAMED.iter().filter_map(|(cloud, _)| Cloud::named(*cloud));
        named.map(|cloud| Self::from(&cloud)).find(|place| plain(&place.authority) == plain(authority))
    }

    /// Whether a sign-in of the one may be used for the other.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        same_origin(&self.endpoint, &other.endpoint)
            && plain(&self.endpoint) == plain(&other.endpoint)
            && plain(&self.authority) == plain(&other.authority)
            && plain(&self.audience) == plain(&other.audience)
    }

    /// Whether a token for `audience` may be drawn here and shown to `endpoint`.
    pub(crate) fn gives(&self, endpoint: &str, audience: &str) -> bool {
        let is = |own: &str, of: &str| plain(own) == plain(endpoint) && plain(of) == plain(audience);
        is(&self.endpoint, &self.audience) || (!self.graph.is_empty() && is(&self.graph, &self.graph))
    }
}

/// A name without what makes no difference to a directory.
fn plain(text: &str) -> String {
    let text = text.trim_end_matches('/').to_ascii_lowercase();
    match Url::parse(&text) {
        Ok(url) => {
            let host = url.host_str().unwrap_or_default().trim_end_matches('.');
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{host}{port}{}", url.scheme(), url.path().trim_end_matches('/'))
        }
        Err(_) => text,
    }
}

fn host(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    Some(url.host_str()?.trim_end_matches('.').to_ascii_lowercase())
}

fn under(host: &str, domain: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether a host is of the services of the named clouds.
fn of_a_named_cloud(host: &str) -> bool {
    OF_NAMED_CLOUDS.iter().any(|domain| under(host, domain))
}

/// The endpoints that are known besides the one that is asked: those that sign-ins were kept for, and the one of this run.
#[derive(Debug, Clone, Default)]
pub struct Known(Vec<Place>);

impl Known {
    /// Known from these.
    #[must_use]
    pub fn new(places: Vec<Place>) -> Self {
        Self(places)
    }

    /// And this one.
    #[must_use]
    pub fn and(mut self, place: Place) -> Self {
        self.0.push(place);
        self
    }

    /// Refuses what an endpoint says of itself where it names what is another endpoint's.
    ///
    /// # Errors
    /// The audience, or the Graph, is another endpoint's, or nobody can tell whose.
    pub fn check(&self, place: &Place) -> Result<(), ArmError> {
        let refuse = |why: String| {
            let message = format!("{} asks for tokens of the audience {}: {why}", place.endpoint, place.audience);
            Err(ArmError::from(Problem::new(&code::AUDIENCE_OF_ANOTHER, message)))
        };
        let Some(audience) = audience_host(&place.audience) else {
            return refuse("that is not an https address, so it can't be told whose it is".into());
        };
        if !place.graph.is_empty() && audience_host(&place.graph).is_none() {
            return refuse(format!("and it names {} as its Graph, which is not an https address", place.graph));
        }
        let own = host(&place.endpoint).unwrap_or_default();
        let named = NAMED.iter().find(|(_, names)| under(&own, names[0]));
        match named {
            Some((cloud, names)) => {
                let authority = Cloud::named(*cloud).map(|cloud| cloud.authority).unwrap_or_default();
                if !names.contains(&audience.as_str()) {
                    return refuse(format!("that is not {}'s", cloud.as_str()));
                }
                if host(&authority) != host(&place.authority) {
                    return refuse(format!("{} is not {}'s authority", place.authority, cloud.as_str()));
                }
            }
            None if of_a_named_cloud(&audience) => {
                return refuse("that belongs to a service of a named cloud".into());
            }
            None => {}
        }
        for other in self.0.iter().filter(|other| !same_origin(&other.endpoint, &place.endpoint)) {
            if claims(&place.audience, &other.audience) || same_origin(&place.audience, &other.endpoint) {
                return refuse(format!("that belongs to {}", other.endpoint));
            }
            if !other.graph.is_empty() && claims(&place.audience, &other.graph) {
                return refuse(format!("that belongs to the directory of {}", other.endpoint));
            }
            if !place.graph.is_empty() && same_origin(&place.graph, &other.endpoint) {
                return refuse(format!("and it names {} as its Graph", other.endpoint));
            }
        }
        let graph = host(&place.graph).unwrap_or_default();
        if named.is_none() && NAMED.iter().any(|(_, names)| names.iter().any(|name| under(&graph, name))) {
            return refuse(format!("and it names {} as its Graph", place.graph));
        }
        Ok(())
    }

    /// Refuses a stamp that names another's Resource Manager as its own.
    ///
    /// # Errors
    /// The address is a named cloud's, or one that a sign-in was kept for, or the one of this run.
    pub fn check_stamp(&self, endpoint: &str) -> Result<(), ArmError> {
        let named = host(endpoint).is_some_and(|host| of_a_named_cloud(&host));
        if named || self.0.iter().any(|other| same_origin(&other.endpoint, endpoint)) {
            let message = format!("the stamp says that {endpoint} is its Resource Manager, but that is a cloud's");
            return Err(Problem::new(&code::STAMP_NAMES_ANOTHER, message).into());
        }
        Ok(())
    }

    /// Whether a token is known to be another endpoint's, by the audience in it.
    pub(crate) fn is_of_another(&self, place: &Place, audience: &str) -> bool {
        let own = [&place.audience, &place.graph];
        if own.iter().any(|own| plain(own) == plain(audience)) || audience_host(audience).is_none() {
            return false;
        }
        self.check(&Place { audience: audience.to_owned(), ..place.clone() }).is_err()
    }
}

/// The host of an audience whose owner can be told. What a directory would read as two scopes, or as something else than
/// what we compare, is refused.
fn audience_host(audience: &str) -> Option<String> {
    let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '%' | '\\' | '?' | '#' | '"' | '<' | '>');
    let url = Url::parse(audience).ok().filter(|_| !audience.contains(odd))?;
    let bare = url.username().is_empty() && url.password().is_none() && url.path() != "/.default";
    (url.scheme() == "https" && bare).then(|| host(audience))?
}

/// Whether an audience is the other's: the same name, or any under it where the other is a whole host.
fn claims(audience: &str, other: &str) -> bool {
    let whole = Url::parse(other).is_ok_and(|url| url.path().trim_end_matches('/').is_empty());
    plain(audience) == plain(other) || (whole && same_origin(audience, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(endpoint: &str, authority: &str, audience: &str) -> Place {
        Place {
            endpoint: endpoint.into(),
            authority: authority.into(),
            audience: audience.into(),
            graph: String::new(),
        }
    }

    const ENTRA: &str = "https://login.microsoftonline.com";
    const STAMP: &str = "https://adminmanagement.contoso.onmicrosoft.com/8e2f1ee1-0000-4000-8000-000000000001";

    #[test]
    fn an_audience_of_another_endpoint_is_refused() {
        let lab = place("https://arm.lab.example", "https://login.lab.example", "https://arm.lab.example/");
        let mine = place("https://adminmanagement.east.corp", ENTRA, STAMP);
        let known = Known::new(vec![lab, mine]);
        let other = "https://management.other.example";
        for (endpoint, authority, audience, good) in [
            // The clouds themselves, under both of their names and at a region.
            ("https://management.azure.com", ENTRA, "https://management.azure.com/", true),
            ("https://management.azure.com", ENTRA, "https://management.core.windows.net/", true),
            ("https://westus.management.azure.com", ENTRA, "https://management.azure.com/", true),
            ("https://management.azure.com", "https://login.evil.example", "https://management.azure.com/", false),
            ("https://management.azure.com", ENTRA, "https://graph.microsoft.com", false),
            ("https://management.azure.com.evil.example", ENTRA, "https://management.azure.com/", false),
            // A stamp's audience carries its directory's name.
            ("https://adminmanagement.west.corp", ENTRA, &STAMP.replace("0001", "0002"), true),
            ("https://adminmanagement.west.corp", ENTRA, STAMP, false),
            ("https://adminmanagement.east.corp", ENTRA, STAMP, true),
            (other, ENTRA, other, true),
            (other, "https://login.lab.example", "https://arm.lab.example/", false),
            (other, "https://login.lab.example", "https://arm.lab.example", false),
            (other, "https://login.lab.example", "HTTPS://ARM.lab.example./", false),
            (other, "https://login.lab.example", "https://arm.lab.example:443//", false),
            (other, "https://login.lab.example", "https://arm.lab.example/any", false),
            // What a directory might read otherwise than we do.
            (other, ENTRA, "https://management.other.example/ https://management.azure.com/", false),
            (other, ENTRA, "https://management.other.example@management.azure.com/", false),
            (other, ENTRA, "https://management%2eazure.com/", false),
            (other, ENTRA, "797f4846-ba00-4fd7-ba43-dac1f8f63013", false),
            (other, ENTRA, "api://797f4846-ba00-4fd7-ba43-dac1f8f63013", false),
            (other, ENTRA, "https://vault.azure.net", false),
            (other, ENTRA, "https://management.core.windows.net/", false),
            (other, ENTRA, "https://graph.windows.net/", false),
            (other, ENTRA, "", false),
        ] {
            let checked = known.check(&place(endpoint, authority, audience));
            assert_eq!(checked.is_ok(), good, "{endpoint} {authority} {audience}");
            if let Err(ArmError::Unavailable(problem)) = checked {
                assert_eq!(problem.code.id, "AZR3020");
            }
        }
        for odd in [
            "arm.lab.example",
            "797f4846-ba00-4fd7-ba43-dac1f8f63013",
            "https://graph.a https://arm.lab.example",
            "https://",
        ] {
            let graph = Place { graph: odd.into(), ..place(other, ENTRA, other) };
            assert!(known.check(&graph).is_err(), "{odd}");
        }
        let graph = Place { graph: "https://arm.lab.example".into(), ..place(other, ENTRA, other) };
        assert!(known.check(&graph).is_err());
        let graph = Place { graph: "https://graph.microsoft.com".into(), ..place(other, ENTRA, other) };
        assert!(known.check(&graph).is_ok());
    }

    #[test]
    fn a_stamp_names_no_cloud_as_itself() {
        let known = Known::new(vec![place("https://arm.lab.example", "https://l", "https://arm.lab.example/")]);
        assert!(known.check_stamp("https://adminmanagement.east.corp").is_ok());
        for bad in ["https://management.azure.com", "https://arm.lab.example/", "https://ARM.lab.example:443"] {
            let Err(ArmError::Unavailable(problem)) = known.check_stamp(bad) else { panic!("{bad}") };
            assert_eq!(problem.code.id, "AZR3023");
        }
    }

    #[test]
    fn a_place_gives_tokens_for_itself_alone() {
        let own = Place { graph: "https://graph.lab".into(), ..place("https://arm.lab", "https://l", "https://aud/") };
        assert!(own.gives("https://arm.lab/", "https://aud"));
        assert!(own.gives("https://graph.lab", "https://graph.lab"));
        assert!(!own.gives("https://other", "https://aud/"));
        assert!(!own.gives("https://graph.lab", "https://aud/"));
        assert!(!own.gives("https://arm.lab", "https://graph.lab"));
        assert!(!place("https://arm.lab", "https://l", "https://aud/").gives("", ""));
    }

    #[test]
    fn what_was_kept_before_is_the_named_clouds() {
        assert_eq!(
            Place::of_authority("https://login.microsoftonline.us/").unwrap().endpoint,
            "https://management.usgovcloudapi.net"
        );
        assert!(Place::of_authority("https://127.0.0.1:4/").is_none());
    }
}
