//! Customers of a cloud solution provider: under which subscription a tenant's usage of a stamp is shown
//! (`facts-azure-api.md` section 5, `facts-billing-usage.md` section 7, `facts-errors.md` rows 14 to 21).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::arm::{Answer, Arm, ArmError, Registration};

/// A customer's subscription, mapped to the tenant whose usage it pays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Customer {
    /// The registration's resource id.
    pub registration: String,
    /// The customer's subscription, as it was written.
    pub name: String,
    /// The tenant.
    pub tenant: Uuid,
    /// When it was written.
    pub written: Timestamp,
    /// When it was replaced or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl Customer {
    /// The resource's body.
    #[must_use]
    pub fn body(&self, registration: &Registration, version: &str) -> Value {
        let mut body = json!({
            "id": format!("{}/customerSubscriptions/{}", registration.id(), self.name),
            "name": format!("{}/{}", registration.name, self.name),
            "type": "Microsoft.AzureStack/registrations/customerSubscriptions",
            "properties": {"tenantId": self.tenant},
        });
        if version == "2020-06-01-preview" {
            body["systemData"] = registration.system_data(self.written);
        }
        body
    }
}

/// The scope of a customer of a registration.
fn customer_scope(registration: &Registration, name: &str) -> String {
    format!("{}/customerSubscriptions/{name}", registration.id())
}

fn refused(status: u16, code: &str, message: String) -> ArmError {
    ArmError::new(status, code, message)
}

impl Arm {
    /// The customers of a registration, in the order of their names.
    #[must_use]
    pub fn customers_of(&self, registration: &Registration) -> Vec<&Customer> {
        let id = registration.id();
        let mut found: Vec<&Customer> = self
            .customers
            .iter()
            .filter(|customer| customer.ended.is_none() && customer.registration.eq_ignore_ascii_case(&id))
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// A customer of a registration. The id's letter case counts.
    ///
    /// # Errors
    /// 404 CustomerSubscriptionNotFound.
    pub fn customer(&self, registration: &Registration, name: &str) -> Answer<&Customer> {
        self.customers_of(registration).into_iter().find(|customer| customer.name == name).ok_or_else(|| {
            let message = format!(
                "The customer subscription '{name}' was not found for the registration '{}'.",
                registration.name
            );
            refused(404, "CustomerSubscriptionNotFound", message)
        })
    }

    /// Maps a tenant to a customer's subscription. A tenant has one: a second replaces the first.
    ///
    /// # Errors
    /// ScopeLocked under a ReadOnly lock; the documented codes: InvalidCustomerSubscriptionId, BadCustomerSubscriptionId, InvalidCSPSubscription,
    /// UnauthorizedCspRegistration, CustomerSubscriptionsNotAllowed; 400 for a tenant that is none.
    pub fn put_customer(
        &mut self,
        registration: &Registration,
        name: &str,
        body: &Value,
        now: Timestamp,
    ) -> Answer<&Customer> {
        self.writable(&customer_scope(registration, name))?;
        if registration.token.billing_model == "Capacity" {
            let message = format!(
                "Customer subscriptions are not allowed for the registration '{}': it uses capacity billing.",
                registration.name
            );
            return Err(refused(409, "CustomerSubscriptionsNotAllowed", message));
        }
        let payer = self.subscriptions.get(&registration.subscription);
        let partner = payer.filter(|payer| payer.multi_tenant).and_then(|payer| payer.partner.clone());
        let Some(partner) = partner else {
            let message =
                format!("The registration '{}' is not authorized to manage customer subscriptions.", registration.name);
            return Err(refused(403, "UnauthorizedCspRegistration", message));
        };
        let invalid = || {
            refused(400, "InvalidCustomerSubscriptionId", format!("The customer subscription id '{name}' is invalid."))
        };
        let id: Uuid = name.parse().map_err(|_| invalid())?;
        if name != id.to_string() {
            let message = format!(
                "The customer subscription id '{name}' does not belong to this partner. The id is case-sensitive."
            );
            return Err(refused(400, "BadCustomerSubscriptionId", message));
        }
        let subscription = self.subscriptions.get(&id).ok_or_else(invalid)?;
        if !subscription.quota_id.to_ascii_uppercase().starts_with("CSP") {
            let message = format!("The subscription '{name}' is not a CSP subscription.");
            return Err(refused(400, "InvalidCSPSubscription", message));
        }
        if subscription.partner.as_deref() != Some(&partner) {
            let message = format!("The customer subscription id '{name}' does not belong to this partner.");
            return Err(refused(400, "BadCustomerSubscriptionId", message));
        }
        let tenant = body.pointer("/properties/tenantId").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let tenant: Uuid = tenant.ok_or_else(|| {
            refused(400, "InvalidRequestContent", "The property 'tenantId' is missing or is not a GUID.".into())
        })?;
        let scope = registration.id();
        self.end_customers(&scope, now, |known| known.tenant == tenant || known.name == name);
        self.customers.push(Customer { registration: scope, name: name.to_owned(), tenant, written: now, ended: None });
        Ok(&self.customers[self.customers.len() - 1])
    }

    /// Removes a mapping; false if there was none. A registration's lock holds for its customers: it is looked at first.
    ///
    /// # Errors
    /// 409 ScopeLocked.
    pub fn delete_customer(&mut self, registration: &Registration, name: &str, now: Timestamp) -> Answer<bool> {
        self.deletable(&customer_scope(registration, name))?;
        Ok(self.end_customers(&registration.id(), now, |known| known.name == name))
    }

    /// Ends mappings: their hours stay theirs.
    fn end_customers(&mut self, scope: &str, now: Timestamp, which: impl Fn(&Customer) -> bool) -> bool {
        let mut some = false;
        for known in &mut self.customers {
            if known.ended.is_none() && known.registration.eq_ignore_ascii_case(scope) && which(known) {
                (known.ended, some) = (Some(now), true);
            }
        }
        some
    }

    /// Who pays for a tenant's usage of a stamp at a time: the customer that was mapped to it then, or the registration's
    /// own subscription.
    #[must_use]
    pub fn payer(&self, registration: &Registration, tenant: Uuid, at: Timestamp) -> Uuid {
        let scope = registration.id();
        let then = |known: &&Customer| known.written <= at && known.ended.is_none_or(|ended| ended > at);
        let ours = |known: &&Customer| known.tenant == tenant && known.registration.eq_ignore_ascii_case(&scope);
        let mapped = self.customers.iter().rev().find(|known| ours(known) && then(known));
        mapped.and_then(|known| known.name.parse().ok()).unwrap_or(registration.subscription)
    }
}
