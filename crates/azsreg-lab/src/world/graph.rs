//! The directory's Graph side: applications, their service principals and passwords, and who may make them.

use serde_json::{Value, json};
use uuid::Uuid;

use super::Draw;
use super::directory::{Application, Directory};

impl Directory {
    /// Registers an application in a tenant, owned by whoever asks.
    ///
    /// # Errors
    /// The caller is a user and users may not register applications.
    pub fn create_application(
        &mut self,
        draw: &mut Draw,
        tenant: Uuid,
        owner: Uuid,
        name: &str,
        uris: Vec<String>,
    ) -> Result<&Application, GraphError> {
        let allowed = self.tenants.get(&tenant).is_some_and(|tenant| tenant.users_may_register_applications);
        if !allowed {
            return Err(GraphError::forbidden());
        }
        if let Some(uri) =
            uris.iter().find(|uri| self.applications.iter().any(|a| a.tenant == tenant && a.uris.contains(uri)))
        {
            return Err(GraphError {
                status: 400,
                code: "Request_BadRequest",
                message: format!(
                    "Another object with the same value for property identifierUris already exists: {uri}."
                ),
            });
        }
        self.applications.push(Application {
            app_id: draw.guid(),
            object_id: draw.guid(),
            principal: None,
            tenant,
            name: name.to_owned(),
            uris,
            secrets: Vec::new(),
            certificates: Vec::new(),
            owners: vec![owner],
        });
        Ok(&self.applications[self.applications.len() - 1])
    }

    /// The service principal of an application: made, or found again.
    ///
    /// # Errors
    /// No such application in the tenant; one that exists already, with status 409.
    pub fn create_principal(&mut self, draw: &mut Draw, tenant: Uuid, app_id: Uuid) -> Result<Uuid, GraphError> {
        let id = draw.guid();
        let application = self
            .applications
            .iter_mut()
            .find(|a| a.app_id == app_id && a.tenant == tenant)
            .ok_or_else(|| GraphError::not_found(app_id))?;
        if application.principal.is_some() {
            return Err(GraphError {
                status: 409,
                code: "Request_MultipleObjectsWithSameKeyValue",
                message: format!(
                    "The service principal cannot be created because the service principal name {app_id} is already in use."
                ),
            });
        }
        application.principal = Some(id);
        Ok(id)
    }

    /// Adds a password to an application; only an owner may.
    ///
    /// # Errors
    /// The caller does not own it, or there is none.
    pub fn add_password(&mut self, draw: &mut Draw, caller: Uuid, object_id: Uuid) -> Result<String, GraphError> {
        let application = self
            .applications
            .iter_mut()
            .find(|a| a.object_id == object_id)
            .ok_or_else(|| GraphError::not_found(object_id))?;
        if !application.owners.contains(&caller) {
            return Err(GraphError::forbidden());
        }
        let secret = draw.opaque();
        application.secrets = vec![secret.clone()];
        Ok(secret)
    }
}

/// A refusal of Graph.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct GraphError {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

impl GraphError {
    fn forbidden() -> Self {
        Self {
            status: 403,
            code: "Authorization_RequestDenied",
            message: "Insufficient privileges to complete the operation.".into(),
        }
    }

    fn not_found(id: Uuid) -> Self {
        Self {
            status: 404,
            code: "Request_ResourceNotFound",
            message: format!(
                "Resource '{id}' does not exist or one of its queried reference-property objects are not present."
            ),
        }
    }

    /// The body of the refusal.
    #[must_use]
    pub fn body(&self) -> Value {
        json!({"error": {"code": self.code, "message": self.message, "innerError": {}}})
    }
}
