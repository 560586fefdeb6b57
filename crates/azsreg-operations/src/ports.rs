//! What operations need of the world. `azsreg-arm` and `azsreg-pep` give it over sockets, `azsreg-trial` out of the
//! lab's world in virtual time.

use std::time::Duration;

use azsreg_model::{
    ActionRun, ActivationKey, ActivationRecord, Alert, CustomRole, Customer, Granularity, Lock, Permission, Problem,
    Range, Registration, RegistrationId, RegistrationToken, RoleAssignment, StampInformation, StampSide, TokenVersion,
    UsagePage,
};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use thiserror::Error;
use uuid::Uuid;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may pass: back off and try again.
    Transient,
    /// An action failed for no reason that is final: two more tries, ten seconds apart, as the PowerShell module makes them.
    Again,
    /// The other side is busy with an earlier action: wait for that.
    Busy,
    /// Too many calls: wait as long as was said.
    Throttled(Option<Duration>),
    /// It will fail again: stop.
    Permanent,
    /// A sign-in was refused: stop everything at once, accounts lock out.
    Refused,
}

/// A failure of a port: what the operator sees, and what the engine does about it.
#[derive(Debug, Clone, Error)]
#[error("{problem}")]
pub struct PortError {
    /// For the operator.
    pub problem: Box<Problem>,
    /// For the engine.
    pub class: Class,
}

impl PortError {
    /// A failure that no retry mends.
    #[must_use]
    pub fn permanent(problem: Problem) -> Self {
        Self { problem: Box::new(problem), class: Class::Permanent }
    }

    /// A failure of this class.
    #[must_use]
    pub fn new(class: Class, problem: Problem) -> Self {
        Self { problem: Box::new(problem), class }
    }
}

/// A subscription as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its tenant.
    pub tenant: String,
    /// Its kind, as `subscriptionPolicies.quotaId`; empty where Azure does not say.
    pub quota_id: String,
    /// `Enabled`, `Warned`, `PastDue`, `Disabled`, `Expired` or `Deleted`; empty where Azure does not say.
    pub state: String,
}

/// How far the provider's registration in a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// It was not asked for, or taken back.
    NotRegistered,
    /// It was asked for: that takes hours at times, and creating works meanwhile, mostly.
    Registering,
    /// It is there.
    Registered,
    /// The caller may not see it.
    NotKnown,
}

impl Subscription {
    /// Whether Azure refuses what would make or change something in it. Reading and deleting go on.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        ["Disabled", "Expired", "Deleted"].iter().any(|state| self.state.eq_ignore_ascii_case(state))
    }

    /// Whether it is about to be disabled.
    #[must_use]
    pub fn is_warned(&self) -> bool {
        ["Warned", "PastDue"].iter().any(|state| self.state.eq_ignore_ascii_case(state))
    }

    /// Whether its kind is that of a cloud solution provider (`facts-azure-api.md` section 10).
    #[must_use]
    pub fn is_csp(&self) -> bool {
        self.quota_id.to_ascii_uppercase().starts_with("CSP")
    }
}

/// What the directory says of the caller and of a stamp's bridge application. `None` is "not allowed to see".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectoryRights {
    /// Whether the caller may register applications.
    pub may_register_applications: Option<bool>,
    /// The bridge application of the principal that was asked about, if it is there.
    pub bridge: Option<BridgeOwners>,
    /// Whether that application may use Azure AD Graph.
    pub ad_graph: Option<AdGraph>,
}

/// What the directory says of an application and Azure AD Graph (`authenticationBehaviors.blockAzureADGraphAccess`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdGraph {
    /// It is blocked.
    Blocked,
    /// It has an exemption.
    Exempt,
    /// Nothing is set. Applications made after 2024-08-31 are blocked then.
    NotSet,
}

impl AdGraph {
    /// What is said of an application that is blocked, or may be.
    #[must_use]
    pub fn warning(self) -> Option<Problem> {
        let message = match self {
            Self::Exempt => return None,
            Self::Blocked => "the directory blocks Azure AD Graph for the stamp's bridge application",
            Self::NotSet => {
                "the stamp's bridge application has no exemption: Azure AD Graph is blocked for it if it was made after 2024-08-31"
            }
        };
        Some(Problem::new(&azsreg_model::code::GRAPH_RETIREMENT, message))
    }
}

/// Who owns the bridge application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeOwners {
    /// Whether the caller is among them.
    pub owned: bool,
    /// Their names.
    pub owners: Vec<String>,
}

/// Time, and the one source of jitter.
#[allow(async_fn_in_trait)]
pub trait Clock {
    /// The time.
    fn now(&self) -> Timestamp;
    /// Waits.
    async fn sleep(&self, duration: Duration);
    /// A draw from 0 to 1.
    fn jitter(&self) -> f64;
}

/// Azure, as far as operations need it. Calls name what they read and write; authentication is the port's affair.
#[allow(async_fn_in_trait)]
pub trait Azure {
    /// The cloud's name as the stamp knows it (`-AzureEnvironment`).
    fn environment(&self) -> &str;
    /// The resource group's location unless the operator names one.
    fn default_location(&self) -> &str;
    /// The subscriptions that the caller sees.
    async fn subscriptions(&self) -> Result<Vec<Subscription>, PortError>;
    /// The locations of a subscription where a resource group can be, by name, the recommended ones first. That the caller may
    /// not see them is [`code::NOT_CHECKED`](azsreg_model::code::NOT_CHECKED).
    async fn locations(&self, subscription: Uuid) -> Result<Vec<String>, PortError>;
    /// What the caller may do at a scope. That it can't be seen is [`code::NOT_CHECKED`](azsreg_model::code::NOT_CHECKED).
    async fn permissions(&self, scope: &str) -> Result<Vec<Permission>, PortError>;
    /// Whether the provider is registered.
    async fn provider(&self, subscription: Uuid) -> Result<Provider, PortError>;
    /// Registers the provider.
    async fn register_provider(&self, subscription: Uuid) -> Result<(), PortError>;
    /// A resource group's location.
    async fn resource_group(&self, subscription: Uuid, name: &str) -> Result<Option<String>, PortError>;
    /// Makes a resource group.
    async fn create_resource_group(&self, subscription: Uuid, name: &str, location: &str) -> Result<(), PortError>;
    /// A registration.
    async fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, PortError>;
    /// The registrations of a subscription.
    async fn registrations(&self, subscription: Uuid) -> Result<Vec<Registration>, PortError>;
    /// Makes or updates a registration from a token.
    async fn put_registration(&self, id: &RegistrationId, token: &RegistrationToken)
    -> Result<Registration, PortError>;
    /// Deletes a registration. It is no failure if there is none.
    async fn delete_registration(&self, id: &RegistrationId) -> Result<(), PortError>;
    /// Asks Azure whether a registration can be moved to a group that exists.
    async fn check_move(&self, id: &RegistrationId, to: &RegistrationId) -> Result<(), PortError>;
    /// Moves a registration to another group, of the same subscription or of another.
    async fn move_registration(&self, id: &RegistrationId, to: &RegistrationId) -> Result<(), PortError>;
    /// The locks on a registration itself and those above it that protect it too.
    async fn locks(&self, id: &RegistrationId) -> Result<Vec<Lock>, PortError>;
    /// Places the lock.
    async fn put_lock(&self, id: &RegistrationId) -> Result<(), PortError>;
    /// Removes a lock of this name from a registration. It is no failure if there is none.
    async fn delete_lock(&self, id: &RegistrationId, name: &str) -> Result<(), PortError>;
    /// The role assignments at a registration's own scope.
    async fn role_assignments(&self, id: &RegistrationId) -> Result<Vec<RoleAssignment>, PortError>;
    /// Gives a principal the registration owner's role on the registration.
    async fn assign_role(&self, id: &RegistrationId, principal: Uuid) -> Result<(), PortError>;
    /// Deletes a role assignment at a registration's own scope. It is no failure if there is none.
    async fn delete_role_assignment(&self, id: &RegistrationId, name: &str) -> Result<(), PortError>;
    /// Whether a service principal exists in the directory; `None` if the caller may not look.
    async fn principal_exists(&self, principal: Uuid) -> Result<Option<bool>, PortError>;
    /// What the directory lets the caller do, and who owns the application of a principal.
    async fn directory_rights(&self, principal: Option<Uuid>) -> Result<DirectoryRights, PortError>;
    /// A custom role by its name, where it can be assigned in the subscription.
    async fn custom_role(&self, subscription: Uuid, name: &str) -> Result<Option<CustomRole>, PortError>;
    /// Makes or changes a custom role: its id.
    async fn put_custom_role(&self, subscription: Uuid, id: Option<Uuid>, role: &CustomRole)
    -> Result<Uuid, PortError>;
    /// Gives somebody a custom role on a subscription, with a condition.
    async fn assign_custom_role(
        &self,
        subscription: Uuid,
        role: Uuid,
        principal: Uuid,
        condition: &str,
    ) -> Result<(), PortError>;
    /// Whether the sign-in has been through multi-factor authentication; `None` where its token does not say.
    fn has_second_factor(&self) -> Option<bool> {
        None
    }
    /// How far Azure's clock is ahead of this machine's, by the newest answer's Date; `None` before any.
    fn clock_skew(&self) -> Option<SignedDuration> {
        None
    }
    /// The registration's activation key.
    async fn activation_key(&self, id: &RegistrationId) -> Result<ActivationKey, PortError>;
    /// Azure's ids of the requests made since this was last asked, for the journal.
    fn take_request_ids(&self) -> Vec<String> {
        Vec::new()
    }
    /// A user's refresh token for the stamp's bridge.
    async fn bridge_refresh_token(&self) -> Result<SecretString, PortError>;
}

/// The customers of a registration (`facts-azure-api.md` section 5).
#[allow(async_fn_in_trait)]
pub trait Customers {
    /// All of them.
    async fn customers(&self, id: &RegistrationId) -> Result<Vec<Customer>, PortError>;
    /// Maps a tenant to a customer's subscription, in place of the one that it had.
    async fn put_customer(&self, id: &RegistrationId, customer: &Customer) -> Result<(), PortError>;
    /// Removes a mapping. It is no failure if there is none.
    async fn delete_customer(&self, id: &RegistrationId, subscription: Uuid) -> Result<(), PortError>;
}

/// The arguments of `New-RegistrationToken`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The billing model.
    pub billing_model: azsreg_model::BillingModel,
    /// The agreement number.
    pub agreement_number: Option<String>,
    /// The asset tag, only where the build knows it.
    pub ms_asset_tag: Option<String>,
    /// Usage reporting.
    pub usage_reporting: bool,
    /// Marketplace syndication.
    pub marketplace: bool,
    /// The version to ask for, only where the build knows the parameter.
    pub version: Option<TokenVersion>,
}

/// The actions of the privileged endpoint, by the cmdlet's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    SetRegistrationKeyPair,
    NewAzureBridgeServicePrincipal,
    NewAzureStackActivation,
    RemoveAzureStackActivation,
}

impl Action {
    /// The cmdlet.
    #[must_use]
    pub fn cmdlet(self) -> &'static str {
        match self {
            Self::SetRegistrationKeyPair => "Set-RegistrationKeyPair",
            Self::NewAzureBridgeServicePrincipal => "New-AzureBridgeServicePrincipal",
            Self::NewAzureStackActivation => "New-AzureStackActivation",
            Self::RemoveAzureStackActivation => "Remove-AzureStackActivation",
        }
    }
}

/// A stamp's privileged endpoint.
#[allow(async_fn_in_trait)]
pub trait Stamp {
    /// `Get-AzureStackStampInformation`.
    async fn information(&self) -> Result<StampInformation, PortError>;
    /// `Get-ActionStatus` of the newest run.
    async fn action_run(&self, action: Action) -> Result<ActionRun, PortError>;
    /// `Get-Command`: the names of all cmdlets that the endpoint offers.
    async fn cmdlets(&self) -> Result<Vec<String>, PortError>;
    /// `Set-RegistrationKeyPair`.
    async fn set_registration_key_pair(&self) -> Result<(), PortError>;
    /// `New-AzureBridgeServicePrincipal`: the principal's object id.
    async fn new_bridge_service_principal(
        &self,
        environment: &str,
        tenant: &str,
        refresh_token: &SecretString,
    ) -> Result<Uuid, PortError>;
    /// `New-RegistrationToken`.
    async fn new_registration_token(&self, request: &TokenRequest) -> Result<RegistrationToken, PortError>;
    /// `New-AzureStackActivation`.
    async fn new_activation(&self, key: &ActivationKey) -> Result<(), PortError>;
    /// `Remove-AzureStackActivation`. That the stamp is not activated is [`code::STAMP_NOT_ACTIVATED`](azsreg_model::code::STAMP_NOT_ACTIVATED).
    async fn remove_activation(&self) -> Result<(), PortError>;
    /// `Save-HCILicense`.
    async fn save_hci_license(&self, license: &SecretString) -> Result<(), PortError>;
}

/// The stamp's admin Resource Manager, where somebody is signed in to it.
#[allow(async_fn_in_trait)]
pub trait Records {
    /// The activation record.
    async fn activation(&self, stamp: &StampInformation) -> Result<Option<ActivationRecord>, PortError>;
    /// The marketplace items that the stamp has downloaded, by name.
    async fn downloaded(&self, stamp: &StampInformation) -> Result<Vec<String>, PortError>;
}

/// The alerts of a stamp, at its admin Resource Manager.
#[allow(async_fn_in_trait)]
pub trait Alerts {
    /// All that the stamp remembers.
    async fn alerts(&self, stamp: &StampInformation) -> Result<Vec<Alert>, PortError>;
    /// Closes one.
    async fn close_alert(&self, stamp: &StampInformation, name: &str) -> Result<(), PortError>;
}

/// Which usage is asked for. Both services go by when usage was reported to them, not by when it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageQuery {
    /// When it was reported: whole hours, or whole days of UTC for daily buckets.
    pub reported: Range,
    /// How long the buckets are.
    pub granularity: Granularity,
    /// One tenant's subscription alone.
    pub subscription: Option<Uuid>,
}

/// What a stamp recorded of its tenants' usage (`facts-billing-usage.md` section 5).
#[allow(async_fn_in_trait)]
pub trait Recorded {
    /// A page: the first one, or the one at the address that the page before gave.
    async fn recorded(
        &self,
        stamp: &StampInformation,
        query: &UsageQuery,
        next: Option<&str>,
    ) -> Result<UsagePage, PortError>;
}

/// What Azure has of usage, by the subscription that pays.
#[allow(async_fn_in_trait)]
pub trait Billed {
    /// A page: the first one, or the one at the address that the page before gave. A row's subscription is the tenant's on the
    /// stamp, where it is said.
    async fn billed(&self, payer: Uuid, query: &UsageQuery, next: Option<&str>) -> Result<UsagePage, PortError>;
}

/// Everything that an operation is given.
pub struct World<'a, A, S, R, C> {
    /// Azure.
    pub azure: &'a A,
    /// The stamp.
    pub stamp: &'a S,
    /// The stamp's records, if somebody is signed in to its Resource Manager.
    pub records: Option<&'a R>,
    /// Time.
    pub clock: &'a C,
}

impl<A, S, R, C> Clone for World<'_, A, S, R, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, S, R, C> Copy for World<'_, A, S, R, C> {}

impl<A, S, R, C> World<'_, A, S, R, C> {
    /// With the records only where the look at the stamp could read them.
    #[must_use]
    pub(crate) fn readable(self, side: &StampSide) -> Self {
        World { records: self.records.filter(|_| side.unread.is_none()), ..self }
    }
}

/// A side that is not there: a stamp out of reach, or nobody to read its records. Every question fails at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

fn nobody<T>() -> Result<T, PortError> {
    let text = "the stamp is not part of this command";
    Err(PortError::permanent(Problem::new(&azsreg_model::code::PEP_UNREACHABLE, text)))
}

impl Stamp for Nobody {
    async fn information(&self) -> Result<StampInformation, PortError> {
        nobody()
    }
    async fn action_run(&self, _: Action) -> Result<ActionRun, PortError> {
        nobody()
    }
    async fn cmdlets(&self) -> Result<Vec<String>, PortError> {
        nobody()
    }
    async fn set_registration_key_pair(&self) -> Result<(), PortError> {
        nobody()
    }
    async fn new_bridge_service_principal(&self, _: &str, _: &str, _: &SecretString) -> Result<Uuid, PortError> {
        nobody()
    }
    async fn new_registration_token(&self, _: &TokenRequest) -> Result<RegistrationToken, PortError> {
        nobody()
    }
    async fn new_activation(&self, _: &ActivationKey) -> Result<(), PortError> {
        nobody()
    }
    async fn remove_activation(&self) -> Result<(), PortError> {
        nobody()
    }
    async fn save_hci_license(&self, _: &SecretString) -> Result<(), PortError> {
        nobody()
    }
}

impl Records for Nobody {
    async fn activation(&self, _: &StampInformation) -> Result<Option<ActivationRecord>, PortError> {
        nobody()
    }
    async fn downloaded(&self, _: &StampInformation) -> Result<Vec<String>, PortError> {
        nobody()
    }
}
