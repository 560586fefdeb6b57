//! `azsreg customer`: the options.

use azsreg_model::NamedCloud;
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::shared::{AzureOptions, CareOptions, CloudOptions, NetworkOptions, SignInOptions};
use super::values::{id, name, word};

#[derive(Debug, Subcommand)]
pub(crate) enum CustomerCommand {
    /// Show a tenant's usage under its own subscription from now on
    Add(Box<CustomerAddOptions>),
    /// List whose usage is shown where
    List(Box<CustomerListOptions>),
    /// Show a tenant's usage under the registration's own subscription again
    Remove(Box<CustomerRemoveOptions>),
}

/// The registration of a stamp.
#[derive(Debug, Clone, Args)]
pub(crate) struct OfStampOptions {
    /// The stamp, by its cloud id
    #[arg(long, value_name = "ID", env = "AZSREG_CLOUD_ID", value_parser = id())]
    pub(crate) cloud_id: Option<Uuid>,
    /// The subscription of its registration
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    #[command(flatten)]
    pub(crate) azure: AzureOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CustomerAddOptions {
    /// The customer's Azure subscription
    #[arg(value_name = "SUBSCRIPTION", value_parser = id())]
    pub(crate) customer: Uuid,
    /// The customer's directory, whose users the stamp serves
    #[arg(long, value_name = "ID", value_parser = id())]
    pub(crate) tenant: Uuid,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    /// The stamp, by its cloud id
    #[arg(long, value_name = "ID", env = "AZSREG_CLOUD_ID", value_parser = id())]
    pub(crate) cloud_id: Option<Uuid>,
    /// The subscription of its registration
    #[arg(long, value_name = "ID", env = "AZSREG_SUBSCRIPTION", value_parser = id())]
    pub(crate) subscription: Uuid,
    /// AzureCloud, AzureUSGovernment or AzureChinaCloud [default: AzureCloud]
    #[arg(long, value_name = "NAME", env = "AZSREG_CLOUD", value_parser = word::<NamedCloud>())]
    pub(crate) cloud: Option<NamedCloud>,
    /// The Resource Manager of a custom cloud, which describes itself
    #[arg(long, value_name = "URL", env = "AZSREG_CLOUD_ENDPOINT", value_parser = name())]
    pub(crate) cloud_endpoint: Option<String>,
    /// The directory to sign in to, the registration's [default: Azure is asked]
    #[arg(long, value_name = "TENANT", env = "AZSREG_TENANT", value_parser = name())]
    pub(crate) sign_in_tenant: Option<String>,
    #[command(flatten)]
    pub(crate) sign_in: SignInOptions,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

impl CustomerAddOptions {
    /// The registration that it is of: `--tenant` is the customer's here, and not that of the sign-in.
    pub(crate) fn of(&self) -> OfStampOptions {
        let cloud = CloudOptions {
            cloud: self.cloud,
            cloud_endpoint: self.cloud_endpoint.clone(),
            tenant: self.sign_in_tenant.clone(),
        };
        let azure = AzureOptions { cloud, sign_in: self.sign_in.clone(), network: self.network.clone() };
        OfStampOptions { cloud_id: self.cloud_id, subscription: self.subscription, azure }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CustomerListOptions {
    #[command(flatten)]
    pub(crate) of: OfStampOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CustomerRemoveOptions {
    /// The customer's Azure subscription
    #[arg(value_name = "SUBSCRIPTION", value_parser = id())]
    pub(crate) customer: Uuid,
    #[command(flatten)]
    pub(crate) care: CareOptions,
    #[command(flatten)]
    pub(crate) of: OfStampOptions,
}
