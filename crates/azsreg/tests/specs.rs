//! The official OpenAPI documents and their examples, where they lie beside the project: the lab's answers satisfy the schema
//! of each route and have every member that the route's example has, and our client reads the examples themselves.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::path::{Path, PathBuf};

use azsreg_arm::{activation, product, product_details, stamp_item};
use common::{World, runtime};
use serde_json::{Value, json};

const VERSIONS: [&str; 4] =
    ["stable/2016-01-01", "stable/2017-06-01", "preview/2020-06-01-preview", "stable/2022-06-01"];

/// The documents, unless this machine does not have them.
fn specs(what: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs").canonicalize().ok();
    if found.is_none() {
        println!("{what}: skipped, the specifications are not beside the project");
    }
    found
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap()
}

fn azure(specs: &Path, version: &str) -> PathBuf {
    specs.join("azurestack/resource-manager/Microsoft.AzureStack").join(version)
}

fn bridge(specs: &Path) -> PathBuf {
    specs.join("azsadmin/resource-manager/azurebridge/Microsoft.AzureBridge.Admin/preview/2016-01-01")
}

/// A schema with all its references written out: Swagger's become JSON Schema's.
fn schema(file: &Path, value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                let (path, inner) = reference.split_once('#').unwrap();
                let file = if path.is_empty() { file.to_owned() } else { file.parent().unwrap().join(path) };
                let document = read(&file);
                return schema(
                    &file,
                    document.pointer(inner).unwrap_or_else(|| panic!("{reference} in {}", file.display())),
                );
            }
            // A list of values that may grow is no rule.
            let grows = members.get("x-ms-enum").is_some_and(|of| of["modelAsString"] == true);
            members
                .iter()
                .filter(|(name, _)| !(grows && *name == "enum" || name.starts_with("x-ms") || *name == "readOnly"))
                .map(|(name, inner)| (name.clone(), schema(file, inner)))
                .collect()
        }
        Value::Array(items) => items.iter().map(|inner| schema(file, inner)).collect(),
        other => other.clone(),
    }
}

/// The schema of a route's answer.
fn answer_schema(file: &Path, ending: &str, method: &str, status: u16) -> Value {
    let document = read(file);
    let paths = document["paths"].as_object().unwrap();
    let (_, route) = paths.iter().find(|(path, _)| path.ends_with(ending)).unwrap_or_else(|| panic!("{ending}"));
    schema(file, &route[method]["responses"][status.to_string()]["schema"])
}

fn satisfies(what: &str, schema: &Value, body: &Value) {
    let validator = jsonschema::validator_for(schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{body:#}");
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Members of the example that ours lacks, or has of another kind.
fn lacks(at: &str, example: &Value, ours: &Value, found: &mut Vec<String>) {
    if kind(example) != kind(ours) {
        found.push(format!("{at}: {} in place of {}", kind(ours), kind(example)));
        return;
    }
    match (example, ours) {
        (Value::Object(example), Value::Object(ours)) => {
            for (name, inner) in example {
                match ours.get(name) {
                    None => found.push(format!("{at}/{name} is missing")),
                    Some(mine) => lacks(&format!("{at}/{name}"), inner, mine, found),
                }
            }
        }
        (Value::Array(example), Value::Array(ours)) => {
            // Each of the example's has one of ours that is like it.
            for (n, inner) in example.iter().enumerate() {
                let tries = ours.iter().map(|mine| {
                    let mut missing = Vec::new();
                    lacks(&format!("{at}/{n}"), inner, mine, &mut missing);
                    missing
                });
                if let Some(best) = tries.min_by_key(Vec::len).filter(|_| !ours.is_empty()) {
                    found.extend(best);
                }
            }
        }
        _ => {}
    }
}

fn like(what: &str, example: &Path, status: &str, ours: &Value) {
    let body = &read(example)["responses"][status]["body"];
    let mut missing = Vec::new();
    lacks("", body, ours, &mut missing);
    assert!(missing.is_empty(), "{what}: {missing:#?}\n{ours:#}");
}

/// A client of the lab's two Resource Managers that is not azsreg's.
struct Calls {
    client: reqwest::Client,
    azure: String,
    stamp: String,
    token: String,
    stamp_token: String,
    registration: String,
    record: String,
}

impl Calls {
    async fn of(world: &World) -> Self {
        let told = world.lab.descriptor();
        let ca = reqwest::Certificate::from_pem(&std::fs::read(&told.ca_file).unwrap()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
        let sign_in = async |id: String, file: &Path, scope: String| {
            let secret = std::fs::read_to_string(file).unwrap();
            let form = [
                ("grant_type", "client_credentials"),
                ("client_id", &id),
                ("client_secret", &secret),
                ("scope", &scope),
            ];
            let url = format!("{}/{}/oauth2/v2.0/token", told.authority, told.tenant_id);
            let answer: Value = client.post(url).form(&form).send().await.unwrap().json().await.unwrap();
            answer["access_token"].as_str().unwrap().to_owned()
        };
        let stamp = &told.stamps[0];
        let metadata = format!("{}/metadata/endpoints?api-version=2015-01-01", stamp.admin_arm_endpoint);
        let metadata: Value = client.get(metadata).send().await.unwrap().json().await.unwrap();
        let audience = metadata["authentication"]["audiences"][0].as_str().unwrap();
        let stamp_secret = &stamp.stamp_client_secret_file;
        Self {
            token: sign_in(told.client_id.to_string(), &told.client_secret_file, format!("{}/.default", told.audience))
                .await,
            stamp_token: sign_in(stamp.stamp_client_id.to_string(), stamp_secret, format!("{audience}/.default")).await,
            azure: told.arm_endpoint.clone(),
            stamp: stamp.admin_arm_endpoint.clone(),
            registration: world.lab.world()["registrations"][0]["id"].as_str().unwrap().to_owned(),
            record: world.lab.world()["stamps"][0]["activation"]["id"].as_str().unwrap().to_owned(),
            client,
        }
    }

    async fn call(&self, method: &str, url: String, token: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.client.request(method.parse().unwrap(), url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn azure(&self, method: &str, path: &str, version: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}{}{path}?api-version={version}", self.azure, self.registration);
        self.call(method, url, &self.token, body).await
    }

    async fn stamp(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}{}{path}?api-version=2016-01-01", self.stamp, self.record);
        self.call(method, url, &self.stamp_token, body).await
    }
}

#[test]
fn azures_answers_are_as_the_specification_says() {
    let Some(specs) = specs("Microsoft.AzureStack products") else { return };
    let world = World::with(azsreg_lab::LabOptions { page_size: 100, ..azsreg_lab::LabOptions::default() });
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let mut examples = 0;
    runtime().block_on(async {
        let calls = Calls::of(&world).await;
        let device = json!({"deviceVersion": "1.2501.0.21", "identitySystem": "AzureAD"});
        let log = json!({"operation": "Download", "status": "Failed", "error": "e", "details": "d"});
        let extension = "/products/microsoft.vmaccess-linux-1.5.11";
        for version in VERSIONS {
            let folder = azure(&specs, version);
            let file = folder.join("Product.json");
            let date = version.split_once('/').unwrap().1;
            let routes: [(&str, String, &str, &str, Option<&Value>); 7] = [
                ("get", "/products".into(), "/products", "List", None),
                ("get", extension.into(), "/products/{productName}", "Get", None),
                ("post", format!("{extension}/listDetails"), "/listDetails", "Post", None),
                ("post", "/products/_all/getProducts".into(), "/getProducts", "ListPost", Some(&device)),
                ("post", "/products/_all/listProducts".into(), "/listProducts", "ListPost", Some(&device)),
                ("post", format!("{extension}/getProduct"), "/getProduct", "GetPost", Some(&device)),
                ("post", format!("{extension}/uploadProductLog"), "/uploadProductLog", "UploadLog", Some(&log)),
            ];
            for (method, path, ending, example, body) in routes {
                let what = format!("{version} {method} {path}");
                let (status, answer) = calls.azure(&method.to_uppercase(), &path, date, body).await;
                if ending == "/listProducts" && date == "2020-06-01-preview" {
                    assert_eq!(status, 404, "{what}: that version does not have it");
                    continue;
                }
                assert_eq!(status, 200, "{what}: {answer:#}");
                satisfies(&what, &answer_schema(&file, ending, method, 200), &answer);
                like(&what, &folder.join(format!("examples/Product/{example}.json")), "200", &answer);
                examples += 1;
            }
        }
    });
    println!("{examples} examples of four api-versions");
    assert_eq!(examples, 27);
}

#[test]
fn a_stamps_answers_are_as_the_specification_says() {
    let Some(specs) = specs("Microsoft.AzureBridge.Admin") else { return };
    let world = World::with(azsreg_lab::LabOptions { page_size: 35, ..azsreg_lab::LabOptions::default() });
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let folder = bridge(&specs);
    let example = |name: &str| folder.join(format!("examples/{name}.json"));
    let tiny = "azsreglab.tiny-linux-1.0.3";
    runtime().block_on(async {
        let calls = Calls::of(&world).await;
        let (status, record) = calls.stamp("GET", "", None).await;
        assert_eq!(status, 200);
        let activation = folder.join("Activation.json");
        satisfies("activation", &answer_schema(&activation, "/activations/{activationName}", "get", 200), &record);
        like("activation", &example("Activation/Get"), "200", &record);
        let (status, put) = calls.stamp("PUT", "", Some(&json!({"displayName": "default"}))).await;
        assert_eq!(status, 200);
        like("activation, put", &example("Activation/Create"), "200", &put);
        let list = format!("{}{}?api-version=2016-01-01", calls.stamp, calls.record.trim_end_matches("/default"));
        let (status, list) = calls.call("GET", list, &calls.stamp_token, None).await;
        assert_eq!(status, 200);
        satisfies("activations", &answer_schema(&activation, "/activations", "get", 200), &list);
        like("activations", &example("Activation/List"), "200", &list);

        let products = folder.join("Product.json");
        let (status, answer) = calls.stamp("GET", "/products", None).await;
        assert_eq!(status, 200);
        satisfies("products", &answer_schema(&products, "/products", "get", 200), &answer);
        like("products", &example("Product/List"), "200", &answer);
        let (status, answer) = calls.stamp("GET", &format!("/products/{tiny}"), None).await;
        assert_eq!(status, 200);
        satisfies("product", &answer_schema(&products, "/products/{productName}", "get", 200), &answer);
        like("product", &example("Product/Get"), "200", &answer);
        let (status, answer) = calls.stamp("POST", &format!("/products/{tiny}/download"), None).await;
        assert_eq!(status, 202);
        satisfies("download", &answer_schema(&products, "/download", "post", 202), &answer);
        like("download", &example("Product/download"), "202", &answer);

        let downloaded = folder.join("DownloadedProduct.json");
        let (_, answer) = calls.stamp("GET", "/downloadedProducts", None).await;
        satisfies("downloaded", &answer_schema(&downloaded, "/downloadedProducts", "get", 200), &answer);
        like("downloaded", &example("DownloadedProduct/List"), "200", &answer);
        let one = format!("/downloadedProducts/{tiny}");
        let (_, answer) = calls.stamp("GET", &one, None).await;
        satisfies("one", &answer_schema(&downloaded, "/downloadedProducts/{productName}", "get", 200), &answer);
        like("one", &example("DownloadedProduct/Get"), "200", &answer);
        let (status, answer) = calls.stamp("PUT", "/downloadedProducts/other", Some(&put_body(&answer))).await;
        assert_eq!(status, 202, "{answer:#}");
        satisfies("put", &answer_schema(&downloaded, "/downloadedProducts/{productName}", "put", 202), &answer);
        like("put", &example("DownloadedProduct/Put"), "202", &answer);
        while calls.stamp("GET", &one, None).await.1["properties"]["provisioningState"] == "Downloading" {
            tokio::task::yield_now().await;
        }
        let (status, answer) = calls.stamp("DELETE", &one, None).await;
        assert_eq!((status, answer), (200, json!({})));
        assert_eq!(calls.stamp("DELETE", &one, None).await.0, 204);
        let (status, answer) = calls.stamp("DELETE", "", None).await;
        assert_eq!(status, 200);
        like("activation, delete", &example("Activation/Delete"), "200", &answer);
        assert_eq!(calls.stamp("DELETE", "", None).await.0, 204);
        assert_eq!(calls.stamp("GET", "", None).await.0, 404);
    });
}

/// An import of an extension, as the example of the route has it.
fn put_body(known: &Value) -> Value {
    let mut properties = known["properties"].clone();
    properties["productKind"] = json!("virtualMachineExtension");
    properties["galleryPackageBlobSasUri"] = json!("https://elsewhere.invalid/a.azpkg");
    properties["productDetailsProperties"] = json!({
        "version": "1.0", "vmOsType": "Linux", "sourceBlob": {"uri": "https://elsewhere.invalid/a.zip"}, "computeRole": "IaaS",
        "vmScaleSetEnabled": false, "supportMultipleExtensions": false, "isSystemExtension": false,
    });
    json!({ "properties": properties })
}

#[test]
fn alerts_are_as_the_specification_says() {
    let Some(specs) = specs("Microsoft.InfrastructureInsights.Admin") else { return };
    let folder = specs.join(
        "azsadmin/resource-manager/infrastructureinsights/Microsoft.InfrastructureInsights.Admin/preview/2016-05-01",
    );
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    runtime().block_on(async {
        let calls = Calls::of(&world).await;
        world.control("/stamps/stamp1", &json!({"deactivated": true}));
        let provider = calls.record.split('/').nth(2).unwrap();
        let base = format!("{}/subscriptions/{provider}/resourceGroups/System.local/providers/Microsoft.InfrastructureInsights.Admin/regionHealths/local/alerts", calls.stamp);
        let file = folder.join("Alert.json");
        let example = |name: &str| folder.join(format!("examples/Alert/{name}.json"));
        let url = |rest: &str| format!("{base}{rest}?api-version=2016-05-01");
        let (status, list) = calls.call("GET", url(""), &calls.stamp_token, None).await;
        assert_eq!(status, 200);
        satisfies("alerts", &answer_schema(&file, "/alerts", "get", 200), &list);
        let ours = list["value"].as_array().unwrap().iter().find(|alert| alert["properties"]["state"] == "Active").unwrap();
        assert_eq!(ours["properties"]["title"], "Activation Required");
        let mut expected = read(&example("Get"))["responses"]["200"]["body"].clone();
        // What an alert says of its own case differs from kind to kind.
        expected["properties"]["alertProperties"] = json!({});
        let mut missing = Vec::new();
        lacks("", &expected, ours, &mut missing);
        assert!(missing.is_empty(), "{missing:#?}");
        let name = ours["name"].as_str().unwrap();
        let mut closing = ours.clone();
        closing["properties"]["state"] = json!("Closed");
        let (status, closed) = calls.call("PUT", format!("{}&user=me", url(&format!("/{name}"))), &calls.stamp_token, Some(&closing)).await;
        assert_eq!((status, &closed["properties"]["state"]), (200, &json!("Closed")));
        satisfies("close", &answer_schema(&file, "/alerts/{alertName}", "put", 200), &closed);
        for name in ["Get", "List", "Close"] {
            let body = read(&example(name))["responses"]["200"]["body"].clone();
            for one in body["value"].as_array().cloned().unwrap_or_else(|| vec![body]) {
                let alert = azsreg_arm::alert(&one).unwrap();
                assert_eq!(alert.title, one["properties"]["title"].as_str().unwrap());
                assert!(!alert.description.is_empty() && !alert.remediation.is_empty(), "{one:#}");
            }
        }
    });
}

#[test]
fn customers_are_as_the_specification_says() {
    let Some(specs) = specs("customerSubscriptions") else { return };
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    let customer = world.control("/subscriptions", &json!({}))["subscription_id"].as_str().unwrap().to_owned();
    runtime().block_on(async {
        let calls = Calls::of(&world).await;
        // The registration's lock holds for its customers too.
        let lock = "/providers/Microsoft.Authorization/locks/RegistrationResourceLock";
        assert_eq!(calls.azure("DELETE", lock, "2016-09-01", None).await.0, 200);
        for version in &VERSIONS[1..] {
            let folder = azure(&specs, version);
            let file = folder.join("CustomerSubscription.json");
            let date = version.split_once('/').unwrap().1;
            let example = |name: &str| folder.join(format!("examples/CustomerSubscription/{name}.json"));
            let one = format!("/customerSubscriptions/{customer}");
            let body = json!({"properties": {"tenantId": "dbab3982-796f-4d03-9908-044c08aef8a2"}});
            let ending = "/customerSubscriptions/{customerSubscriptionName}";
            let (status, put) = calls.azure("PUT", &one, date, Some(&body)).await;
            assert_eq!(status, 200, "{put}");
            satisfies("put", &answer_schema(&file, ending, "put", 200), &put);
            like("put", &example("Put"), "200", &put);
            let (_, got) = calls.azure("GET", &one, date, None).await;
            satisfies("get", &answer_schema(&file, ending, "get", 200), &got);
            like("get", &example("Get"), "200", &got);
            let (_, list) = calls.azure("GET", "/customerSubscriptions", date, None).await;
            satisfies("list", &answer_schema(&file, "/customerSubscriptions", "get", 200), &list);
            like("list", &example("List"), "200", &list);
            let theirs = read(&example("List"))["responses"]["200"]["body"]["value"][0].clone();
            let parsed = azsreg_arm::customer(&theirs).unwrap();
            assert_eq!(parsed.subscription.to_string(), "e09a4e93-29a7-4eba-a6d4-76202383f07f");
            assert_eq!(calls.azure("DELETE", &one, date, None).await.0, 200);
            assert_eq!(calls.azure("DELETE", &one, date, None).await.0, 204);
        }
        assert_eq!(calls.azure("GET", "/customerSubscriptions", "2016-01-01", None).await.0, 404);
    });
}

#[test]
fn usage_is_as_the_specifications_say() {
    let Some(specs) = specs("Microsoft.Commerce and Microsoft.Commerce.Admin") else { return };
    let admin = specs.join("azsadmin/resource-manager/commerce/Microsoft.Commerce.Admin/preview/2015-06-01-preview");
    let commerce = specs.join("commerce/resource-manager/Microsoft.Commerce/preview/2015-06-01-preview");
    let world = World::new();
    world.run(&["register", "--billing-model", "development"]).ends(0);
    // Whatever the hour is, a day has ended and has been uploaded, and the hour of its upload has begun.
    world.control("/clock", &json!({"advance_seconds": 2 * 86_400}));
    let begun = std::time::Instant::now();
    while world.control_with("GET", "/stamps/stamp1/usage", &Value::Null)["waiting_hours"].as_i64().unwrap() > 2 {
        assert!(begun.elapsed().as_secs() < 60, "the usage is not uploaded");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let now: jiff::Timestamp =
        world.control_with("GET", "/health", &Value::Null)["now"].as_str().unwrap().parse().unwrap();
    let today = now.strftime("%Y-%m-%dT00:00:00.00Z").to_string();
    let before = (now - jiff::SignedDuration::from_hours(72)).strftime("%Y-%m-%dT00:00:00.00Z").to_string();
    let tomorrow = (now + jiff::SignedDuration::from_hours(24)).strftime("%Y-%m-%dT00:00:00.00Z").to_string();
    runtime().block_on(async {
        let calls = Calls::of(&world).await;
        let query = |to: &str, more: &str| {
            format!("?api-version=2015-06-01-preview&reportedStartTime={before}&reportedEndTime={to}{more}")
        };
        let provider = calls.record.split('/').nth(2).unwrap();
        let base = format!("{}/subscriptions/{provider}/providers/Microsoft.Commerce.Admin", calls.stamp);
        // As the example asks, with empty members that stand for nothing.
        let more = "&aggregationGranularity=&subscriberId=&continuationToken=";
        let url = format!("{base}/subscriberUsageAggregates{}", query(&today, more));
        let (status, rows) = calls.call("GET", url, &calls.stamp_token, None).await;
        assert_eq!((status, rows["value"].as_array().unwrap().len() > 10), (200, true), "{rows:#}");
        let file = admin.join("Commerce.json");
        satisfies("usage of a stamp", &answer_schema(&file, "/subscriberUsageAggregates", "get", 200), &rows);
        like("usage of a stamp", &admin.join("examples/SubscriberUsageAggregates/List.json"), "200", &rows);
        let url = format!("{base}/subscriberUsageAggregates{}", query(&today, "&aggregationGranularity=weekly"));
        let (status, refused) = calls.call("GET", url, &calls.stamp_token, None).await;
        assert_eq!(status, 400);
        assert_eq!(refused["error"]["code"], "InvalidAggregationGranularity");
        let (status, _) = calls
            .call("POST", format!("{base}/updateEncryption?api-version=2015-06-01-preview"), &calls.stamp_token, None)
            .await;
        assert_eq!(status, 200);

        let payer = world.lab.descriptor().subscription_id;
        let file = commerce.join("commerce.json");
        let example = commerce.join("examples/GetUsageAggregatesList.json");
        let asked = &read(&example)["parameters"];
        let more = format!(
            "&aggregationGranularity={}&showDetails={}",
            asked["aggregationGranularity"].as_str().unwrap(),
            asked["showDetails"].as_str().unwrap()
        );
        let url = format!(
            "{}/subscriptions/{payer}/providers/Microsoft.Commerce/UsageAggregates{}",
            calls.azure,
            query(&tomorrow, &more)
        );
        let (status, lines) = calls.call("GET", url, &calls.token, None).await;
        assert_eq!((status, lines["value"].as_array().unwrap().len() > 10), (200, true), "{lines:#}");
        satisfies("usage in Azure", &answer_schema(&file, "/UsageAggregates", "get", 200), &lines);
        like("usage in Azure", &example, "200", &lines);
        // Development is rated at nought, and its quantities are shown.
        let instance: Value =
            serde_json::from_str(lines["value"][0]["properties"]["instanceData"].as_str().unwrap()).unwrap();
        assert_eq!(instance["Microsoft.Resources"]["additionalInfo"]["UnitPrice"], "0.00");
        // Our client reads the example.
        let page = azsreg_arm::usage_page(read(&example)["responses"]["200"]["body"].clone(), true).unwrap();
        assert_eq!((page.rows[0].quantity.to_string(), page.next.as_deref()), ("0.057865".to_owned(), None));
        let empty = read(&admin.join("examples/SubscriberUsageAggregates/List.json"));
        assert_eq!(azsreg_arm::usage_page(empty["responses"]["200"]["body"].clone(), false).unwrap().rows, []);
    });
}

/// Everything that an example's answer holds is read by our client.
#[test]
fn our_client_reads_the_examples_themselves() {
    let Some(specs) = specs("examples") else { return };
    let mut read_count = 0;
    let mut check = |path: &Path, resource: &Value| {
        let found = product(resource).unwrap_or_else(|| panic!("{}: {resource:#}", path.display()));
        let last = resource["id"].as_str().unwrap().rsplit('/').next().unwrap();
        let properties = &resource["properties"];
        assert_eq!(found.name, last, "{}", path.display());
        if let Some(title) = properties["displayName"].as_str() {
            assert_eq!(found.title, title);
        }
        assert_eq!(found.bytes, properties["payloadLength"].as_u64());
        assert_eq!(found.version, properties["productProperties"]["version"].as_str().unwrap_or_default());
        let wire = properties["productKind"].as_str().unwrap_or_default();
        assert!(found.kind.wire().eq_ignore_ascii_case(wire), "{wire}");
        assert_eq!(found.icons.len(), properties["iconUris"].as_object().map_or(0, |icons| icons.len()));
        assert_eq!(found.compatibility.is_some(), properties.get("compatibility").is_some());
        read_count += 1;
    };
    for version in VERSIONS {
        let folder = azure(&specs, version).join("examples/Product");
        for name in ["List", "ListPost", "Get", "GetPost"] {
            let path = folder.join(format!("{name}.json"));
            let body = read(&path)["responses"]["200"]["body"].clone();
            match body["value"].as_array() {
                Some(list) => list.iter().for_each(|one| check(&path, one)),
                None => check(&path, &body),
            }
        }
        let path = folder.join("Post.json");
        let get = read(&folder.join("Get.json"))["responses"]["200"]["body"].clone();
        let details = product_details(&product(&get).unwrap(), &read(&path)["responses"]["200"]["body"]).unwrap();
        assert_eq!(details.parts.len(), 2, "{}", path.display());
        assert!(!details.properties.to_string().contains("sig="), "{}", details.properties);
    }
    let folder = bridge(&specs).join("examples");
    for (name, status) in [
        ("Product/List", "200"),
        ("Product/Get", "200"),
        ("Product/download", "202"),
        ("DownloadedProduct/List", "200"),
        ("DownloadedProduct/Get", "200"),
        ("DownloadedProduct/Put", "202"),
    ] {
        let path = folder.join(format!("{name}.json"));
        let body = read(&path)["responses"][status]["body"].clone();
        let list = body["value"].as_array().cloned().unwrap_or_else(|| vec![body]);
        for one in &list {
            check(&path, one);
            assert!(stamp_item(one).is_some());
        }
    }
    let mut records = 0;
    for name in ["Get", "Create", "List"] {
        let body = read(&folder.join(format!("Activation/{name}.json")))["responses"]["200"]["body"].clone();
        for one in body["value"].as_array().cloned().unwrap_or_else(|| vec![body]) {
            let record = activation(&one).unwrap();
            assert!(record.registration.name.starts_with("AzureStack-"));
            assert_eq!((record.marketplace, record.usage_reporting), (Some(true), Some(true)));
            records += 1;
        }
    }
    println!("{read_count} products and {records} activations of the examples are read");
    assert!(read_count > 200 && records == 3, "{read_count}, {records}");
}
