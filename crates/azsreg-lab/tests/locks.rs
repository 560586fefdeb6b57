//! Locks as Azure's: on a subscription, a group, a registration or below it, they hold for all that is below, verb by verb.
#![allow(clippy::unwrap_used)]

use azsreg_lab::{Lab, LabOptions};
use serde_json::{Value, json};

/// Resource Manager of a lab, signed in as its owner.
struct Azure {
    lab: Lab,
    client: reqwest::Client,
    token: String,
}

impl Azure {
    async fn new() -> Self {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let told = lab.descriptor();
        let ca = reqwest::Certificate::from_pem(&std::fs::read(&told.ca_file).unwrap()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
        let form = [
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", told.client_id.to_string()),
            ("client_secret", std::fs::read_to_string(&told.client_secret_file).unwrap()),
            ("scope", format!("{}/.default", told.audience)),
        ];
        let url = format!("{}/{}/oauth2/v2.0/token", told.authority, told.tenant_id);
        let answer: Value = client.post(url).form(&form).send().await.unwrap().json().await.unwrap();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        Self { lab, client, token }
    }

    async fn call(&self, method: &str, path: &str, version: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}?api-version={version}", self.lab.descriptor().arm_endpoint);
        let request = self.client.request(method.parse().unwrap(), url).bearer_auth(&self.token).json(body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn control(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.lab.descriptor().control_endpoint);
        self.client.post(url).json(body).send().await.unwrap().json().await.unwrap()
    }
}

/// A call, and the resource that it is about.
struct Call {
    method: &'static str,
    path: String,
    on: String,
    version: &'static str,
    body: Value,
}

#[tokio::test]
async fn a_lock_holds_for_all_below_it_and_a_read_only_one_against_every_verb_but_get() {
    let azure = Azure::new().await;
    let told = azure.lab.descriptor();
    let subscription = format!("/subscriptions/{}", told.subscription_id);
    let token = azure.control("/stamps/stamp1/registration-token", &json!({})).await;
    azure.control("/activation-key", &token).await;
    let customer = azure.control("/subscriptions", &json!({})).await["subscription_id"].as_str().unwrap().to_owned();
    let group = format!("{subscription}/resourceGroups/control");
    let registration = azure.lab.world()["registrations"][0]["id"].as_str().unwrap().to_owned();
    let child = format!("{registration}/customerSubscriptions/{customer}");
    let principal = azure.control("/users", &json!({})).await["object_id"].clone();
    let role = "/providers/Microsoft.Authorization/roleDefinitions/6f12a6df-dd06-4f3e-bcb1-ce8be600526a";
    let role = json!({"properties": {"roleDefinitionId": format!("{subscription}{role}"), "principalId": principal}});
    let assignments = "providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-000000000001";
    let new = &json!({"location": "global", "properties": token_of(&token)});
    let call = |method: &'static str, path: &str, on: &str, version: &'static str, body: &Value| Call {
        method,
        path: path.to_owned(),
        on: on.to_owned(),
        version,
        body: body.clone(),
    };
    let nothing = &Value::Null;
    let tenant = json!({"properties": {"tenantId": told.tenant_id}});
    let writes = [
        call("PUT", &child, &child, "2017-06-01", &tenant),
        call("PUT", &group, &group, "2021-04-01", &json!({"location": "westcentralus"})),
        call("PUT", &registration, &registration, "2016-01-01", new),
        call("PATCH", &registration, &registration, "2016-01-01", new),
        call("POST", &format!("{registration}/getActivationKey"), &registration, "2016-01-01", nothing),
        call("POST", &format!("{registration}/enableRemoteManagement"), &registration, "2016-01-01", nothing),
        call("POST", &format!("{registration}/products/_all/getProducts"), &registration, "2016-01-01", &json!({})),
        call("PUT", &format!("{registration}/{assignments}"), &registration, "2015-07-01", &role),
        call(
            "POST",
            &format!("{subscription}/providers/Microsoft.AzureStack/register"),
            &subscription,
            "2021-04-01",
            nothing,
        ),
    ];
    let deletions = [
        call("DELETE", &child, &child, "2017-06-01", nothing),
        call("DELETE", &format!("{registration}/{assignments}"), &registration, "2015-07-01", nothing),
        call("DELETE", &registration, &registration, "2016-01-01", nothing),
        call("DELETE", &group, &group, "2021-04-01", nothing),
    ];
    for done in &writes {
        let (status, answer) = azure.call(done.method, &done.path, done.version, &done.body).await;
        assert!(status < 300, "without a lock: {} {}: {status} {answer}", done.method, done.path);
    }
    let inside = |scope: &str, parent: &str| scope == parent || scope.starts_with(&format!("{parent}/"));
    for level in ["ReadOnly", "CanNotDelete"] {
        for scope in [&subscription, &group, &registration, &child] {
            azure.control("/locks", &json!({"scope": scope, "name": "held", "level": level})).await;
            let before = azure.lab.export();
            for asked in writes.iter().chain(&deletions) {
                let what = format!("{level} on {scope}: {} {}", asked.method, asked.path);
                let deletes = asked.method == "DELETE";
                // Who deletes something deletes what is below it, but a role assignment has nothing below it.
                let takes_along = deletes && inside(scope, &asked.on) && !asked.path.contains("roleAssignments");
                let refused = (inside(&asked.on, scope) && (deletes || level == "ReadOnly")) || takes_along;
                if !refused && deletes {
                    continue;
                }
                let (status, answer) = azure.call(asked.method, &asked.path, asked.version, &asked.body).await;
                if !refused {
                    assert!(status < 300, "{what}: {status} {answer}");
                    continue;
                }
                let verb = if deletes { "delete" } else { "write" };
                assert_eq!((status, &answer["error"]["code"]), (409, &json!("ScopeLocked")), "{what}: {answer}");
                let message = answer["error"]["message"].as_str().unwrap();
                let sentence = format!(
                    "cannot perform {verb} operation because following scope(s) are locked: '{scope}'. Please remove the lock and try again."
                );
                assert!(message.starts_with("The scope '") && message.ends_with(&sentence), "{what}: {message}");
            }
            if level == "ReadOnly" {
                let (status, _) = azure.call("GET", &registration, "2016-01-01", nothing).await;
                assert_eq!(status, 200);
                if inside(&child, scope) && scope != &child {
                    assert_eq!(azure.lab.export(), before, "{level} on {scope}: nothing was changed");
                }
            }
            // Locks themselves are not held by locks.
            if scope != &child {
                let lock = format!("{scope}/providers/Microsoft.Authorization/locks/held");
                let (status, answer) = azure.call("DELETE", &lock, "2016-09-01", nothing).await;
                assert_eq!(status, 200, "{answer}");
            } else {
                let url = format!("{}/locks", told.control_endpoint);
                azure.client.delete(url).send().await.unwrap().error_for_status().unwrap();
            }
        }
    }
    for done in &deletions {
        let (status, answer) = azure.call(done.method, &done.path, done.version, &done.body).await;
        assert!(status < 300, "the locks are gone: {} {}: {status} {answer}", done.method, done.path);
    }
}

fn token_of(answer: &Value) -> Value {
    json!({"registrationToken": answer["registration_token"]})
}
