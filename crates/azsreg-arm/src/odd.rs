//! Every read of every port, answered by something else; and by each code that does mean "absent".

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use azsreg_model::{Cloud, IdentitySystem, RegistrationId, StampInformation};
use azsreg_operations::marketplace::{Catalogue as _, Device, StampMarket as _};
use azsreg_operations::ports::{Alerts as _, Azure as _, Customers as _, PortError, Records as _};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use uuid::Uuid;

use crate::{AzurePort, Http, HttpOptions, Identity, Known, Manager, MarketPort, Place, Prompt, RecordsPort, SignIn};

const SUBSCRIPTION: Uuid = Uuid::from_u128(0x1111_1111_2222_4333_8444_5555_5555_5555);
const PRINCIPAL: Uuid = Uuid::from_u128(7);
const OTHER: &str = r#"{"id":"/subscriptions/s/resourceGroups/o/providers/Microsoft.Storage/storageAccounts/o",
    "name":"o","type":"Microsoft.Storage/storageAccounts","location":"east","properties":{"state":"Active"}}"#;

struct Silent;

impl Prompt for Silent {
    fn device_code(&self, _: &str, _: &str, _: &str) {}
    fn browser(&self, _: &str, _: bool) {}
    fn may_ask(&self, _: bool) -> bool {
        false
    }
    fn again(&self, _: &str) {}
}

type Answers = Arc<dyn Fn(&str) -> Option<(u16, String)> + Send + Sync>;

/// A server that signs everybody in, names its subscription, and answers all else as it is told.
async fn server(answers: Answers) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let own = address.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answers, own) = (Arc::clone(&answers), own.clone());
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.unwrap() > 0 {}
            let length = head.to_lowercase().split("content-length: ").nth(1).map(|rest| {
                let number: usize = rest.lines().next().unwrap().parse().unwrap();
                number
            });
            stream.read_exact(&mut vec![0; length.unwrap_or(0)]).await.unwrap();
            let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
            let signed_in = || (200, json!({"access_token": "t", "expires_in": 3600}).to_string());
            let metadata = || {
                let audience = "https://adminmanagement.contoso.onmicrosoft.com/8e2f1ee1-0000-4000-8000-000000000001";
                let body =
                    json!({"authentication": {"loginEndpoint": format!("{own}/tenant-1"), "audiences": [audience]}});
                (200, body.to_string())
            };
            let (status, body) = match path.as_str() {
                path if path.contains("/oauth2/") => signed_in(),
                path if path.starts_with("/metadata") => metadata(),
                path => answers(path).unwrap_or_else(|| (200, subscriptions())),
            };
            let answer = format!(
                "HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                if status == 204 { 0 } else { body.len() }
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

fn subscriptions() -> String {
    json!({"value": [{"id": format!("/subscriptions/{SUBSCRIPTION}"), "subscriptionId": SUBSCRIPTION,
        "displayName": "Default Provider Subscription", "state": "Enabled"}]})
    .to_string()
}

fn shown<T: Debug>(result: Result<T, PortError>) -> Result<String, PortError> {
    result.map(|value| format!("{value:?}"))
}

/// One read of a world that answers so: what comes out.
async fn read(name: &str, answers: Answers) -> Result<String, PortError> {
    let address = server(answers).await;
    let wait = Duration::from_secs(10);
    let http = Http::new(&HttpOptions {
        authorities: azsreg_tls::Authorities::default(),
        connect_timeout: wait,
        answer_timeout: wait,
        direct: true,
        allow_http: true,
    })
    .unwrap();
    let sign_in = || SignIn::ClientSecret { client: Uuid::nil(), secret: "the secret".to_owned().into() };
    let place = Place {
        endpoint: address.clone(),
        authority: address.clone(),
        audience: "https://management.example/".into(),
        graph: address.clone(),
    };
    let cloud = Cloud {
        name: "CustomCloud".into(),
        arm_endpoint: address.clone(),
        authority: address.clone(),
        audience: place.audience.clone(),
        graph: address.clone(),
        default_location: "east".into(),
    };
    let identity = Identity::new(&http, &place, &Known::default(), "tenant-1", sign_in(), &Silent);
    let azure = AzurePort::new(Manager::new(&http, &identity), &cloud, None);
    let records = RecordsPort::new(&http, &http, sign_in(), &Silent, Known::default());
    let stamp = StampInformation {
        cloud_id: Uuid::from_u128(9),
        version: Some("1.2501.0.21".parse().unwrap()),
        deployment_id: None,
        nodes: Some(4),
        identity_system: IdentitySystem::Aad,
        tenant_id: None,
        tenant_name: None,
        region: Some("east".into()),
        domain: None,
        admin_arm_endpoint: Some(address),
        tenant_arm_endpoint: None,
        other: std::collections::BTreeMap::default(),
    };
    let market = MarketPort::new(&records, &stamp, Box::new(|_| {}));
    let id = RegistrationId { subscription: SUBSCRIPTION, resource_group: "g".into(), name: "r".into() };
    let device = Device { build: "1.2501.0.21".into(), identity: "AzureAD".into() };
    match name {
        "subscriptions" => shown(azure.subscriptions().await),
        "locations" => shown(azure.locations(SUBSCRIPTION).await),
        "permissions" => shown(azure.permissions("/subscriptions/s").await),
        "provider" => shown(azure.provider(SUBSCRIPTION).await),
        "resource group" => shown(azure.resource_group(SUBSCRIPTION, "g").await),
        "registration" => shown(azure.registration(&id).await),
        "registrations" => shown(azure.registrations(SUBSCRIPTION).await),
        "locks" => shown(azure.locks(&id).await),
        "role assignments" => shown(azure.role_assignments(&id).await),
        "custom role" => shown(azure.custom_role(SUBSCRIPTION, "n").await),
        "activation key" => azure.activation_key(&id).await.map(|_| "a key".into()),
        "principal" => shown(azure.principal_exists(PRINCIPAL).await),
        "rights" => shown(azure.directory_rights(Some(PRINCIPAL)).await),
        "customers" => shown(azure.customers(&id).await),
        "products at Azure" => shown(azure.products(&id, None).await),
        "products for a stamp" => shown(azure.products(&id, Some(&device)).await),
        "a product at Azure" => shown(azure.product(&id, "p", None).await),
        "a product for a stamp" => shown(azure.product(&id, "p", Some(&device)).await),
        "a product's details" => azure.product_details(&id, "p").await.map(|_| "details".into()),
        "activation" => shown(records.activation(&stamp).await),
        "downloaded" => shown(records.downloaded(&stamp).await),
        "alerts" => shown(records.alerts(&stamp).await),
        "close an alert" => shown(records.close_alert(&stamp, "a").await),
        "products" => shown(market.products().await),
        "a product" => shown(market.product("p").await),
        "items" => shown(market.items().await),
        "an item" => shown(market.item("p").await),
        other => panic!("{other}"),
    }
}

const READS: &[&str] = &[
    "subscriptions",
    "locations",
    "permissions",
    "provider",
    "resource group",
    "registration",
    "registrations",
    "locks",
    "role assignments",
    "custom role",
    "activation key",
    "customers",
    "products at Azure",
    "products for a stamp",
    "a product at Azure",
    "a product for a stamp",
    "a product's details",
    "activation",
    "downloaded",
    "alerts",
    "close an alert",
    "products",
    "a product",
    "items",
    "an item",
];

fn envelope(code: &str) -> String {
    json!({"error": {"code": code, "message": "m"}}).to_string()
}

/// This answer to everything but the list of subscriptions, unless that is what is read.
fn always(name: &str, status: u16, body: &str) -> Answers {
    let (all, body) = (name == "subscriptions", body.to_owned());
    Arc::new(move |path| (all || path != "/subscriptions").then(|| (status, body.clone())))
}

#[tokio::test]
async fn an_odd_answer_to_any_read_is_an_error() {
    let page = "<!DOCTYPE html><html><body>Sign in</body></html>";
    let mut answers = vec![
        (404, page.to_owned()),
        (404, String::new()),
        (404, "{}".to_owned()),
        (204, String::new()),
        (200, String::new()),
        (200, "{}".to_owned()),
        (200, "[]".to_owned()),
        (200, "null".to_owned()),
        (200, "{\"value\": [{\"id\"".to_owned()),
        (200, OTHER.to_owned()),
        (200, format!("{{\"value\":[{OTHER}]}}")),
        (200, page.to_owned()),
    ];
    for code in ["SubscriptionNotFound", "NotFound", "InvalidResourceType", "NoRegisteredProviderFound", "Gone"] {
        answers.push((404, envelope(code)));
    }
    let mut pairs = 0;
    for name in READS {
        for (status, body) in &answers {
            let what = format!("{name}, answered {status} {body}");
            let error = match read(name, always(name, *status, body)).await {
                Ok(found) => panic!("{what}: {found}"),
                Err(error) => error.problem.code.id,
            };
            // A page comes from something else, and is said to. What the caller may do need not be known.
            if *name == "permissions" && *status == 404 {
                assert_eq!(error, "AZR4060", "{what}");
                continue;
            }
            let unclear = ["AZR4037", "AZR4014", "AZR2017"].contains(&error);
            assert!(unclear || (*status == 404 && body.contains("code")), "{what}: {error}");
            pairs += 1;
        }
    }
    // What the directory does not say is not known: neither there nor absent, neither allowed nor not.
    for (status, body) in &answers {
        for (name, unknown) in [("principal", "None"), ("rights", "may_register_applications: None, bridge: None")] {
            if let Ok(found) = read(name, always(name, *status, body)).await {
                assert!(found.contains(unknown), "{name}, answered {status} {body}: {found}");
            }
            pairs += 1;
        }
    }
    assert!(pairs > 400, "{pairs}");
}

#[tokio::test]
async fn each_code_that_means_absent_is_believed_where_it_may_be() {
    let absent: &[(&str, &[&str], &str)] = &[
        (
            "registration",
            &["ResourceNotFound", "ResourceGroupNotFound", "ParentResourceNotFound", "MissingSubscriptionRegistration"],
            "None",
        ),
        ("registrations", &["MissingSubscriptionRegistration"], "[]"),
        ("resource group", &["ResourceGroupNotFound"], "None"),
        ("locks", &["ResourceNotFound", "ResourceGroupNotFound", "ParentResourceNotFound"], "[]"),
        ("role assignments", &["ResourceNotFound", "ResourceGroupNotFound", "ParentResourceNotFound"], "[]"),
        ("principal", &["Request_ResourceNotFound"], "Some(false)"),
        ("a product at Azure", &["ResourceNotFound", "ProductNotFound"], "None"),
        ("a product", &["ResourceNotFound", "ProductNotFound"], "None"),
        ("an item", &["ResourceNotFound", "ProductNotFound"], "None"),
        ("close an alert", &["ResourceNotFound"], "()"),
    ];
    for (name, codes, expected) in absent {
        for code in *codes {
            let found = read(name, always(name, 404, &envelope(code))).await;
            assert_eq!(found.unwrap_or_else(|error| error.problem.to_string()), *expected, "{name}, {code}");
        }
    }
    // A registration of a subscription that is not to be seen is not known to be absent.
    let unseen: Answers = Arc::new(|path| match path {
        "/subscriptions" => Some((200, json!({"value": []}).to_string())),
        _ => Some((404, envelope("ResourceNotFound"))),
    });
    assert_eq!(read("registration", unseen).await.unwrap_err().problem.code.id, "AZR4037");
    // The activation: missing, and the list of activations says the same.
    for (list, expected) in [
        ((200, json!({"value": []}).to_string()), "None"),
        ((200, json!({"value": [{"id": "/x/activations/default"}]}).to_string()), "AZR4037"),
        ((404, envelope("ResourceNotFound")), "AZR4037"),
        ((204, String::new()), "AZR4037"),
    ] {
        let said = list.clone();
        let answers: Answers = Arc::new(move |path| match path {
            "/subscriptions" => None,
            path if path.ends_with("/activations") => Some(list.clone()),
            _ => Some((404, envelope("ResourceNotFound"))),
        });
        let found = read("activation", answers).await.unwrap_or_else(|error| error.problem.code.id.to_owned());
        assert_eq!(found, expected, "{said:?}");
    }
}
