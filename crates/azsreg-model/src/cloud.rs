//! The clouds (`facts-azure-api.md` section 9).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A cloud with a name of its own. The German cloud is named so that it can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum NamedCloud {
    AzureCloud,
    AzureUSGovernment,
    AzureChinaCloud,
    AzureGermanCloud,
}

impl NamedCloud {
    /// The name as PowerShell and the stamp write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AzureCloud => "AzureCloud",
            Self::AzureUSGovernment => "AzureUSGovernment",
            Self::AzureChinaCloud => "AzureChinaCloud",
            Self::AzureGermanCloud => "AzureGermanCloud",
        }
    }
}

impl FromStr for NamedCloud {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::AzureCloud, Self::AzureUSGovernment, Self::AzureChinaCloud, Self::AzureGermanCloud]
            .into_iter()
            .find(|cloud| cloud.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| "expected AzureCloud, AzureUSGovernment or AzureChinaCloud".into())
    }
}

/// A cloud's endpoints. URLs without a slash at the end, except the audience, which is taken as it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloud {
    /// What the stamp calls it: the value of `-AzureEnvironment`.
    pub name: String,
    /// The Resource Manager.
    pub arm_endpoint: String,
    /// The authority for signing in.
    pub authority: String,
    /// The audience that tokens for the Resource Manager are asked for.
    pub audience: String,
    /// The directory's Graph; empty where it is not known, and then not asked.
    pub graph: String,
    /// The location for the resource group, unless the operator names one.
    pub default_location: String,
}

impl Cloud {
    /// A named cloud's endpoints; none for the German one, which never supported registration.
    #[must_use]
    pub fn named(cloud: NamedCloud) -> Option<Self> {
        let of = |arm: &str, authority: &str, graph: &str, location: &str| {
            Some(Self {
                name: cloud.as_str().into(),
                arm_endpoint: format!("https://{arm}"),
                authority: format!("https://{authority}"),
                audience: format!("https://{arm}/"),
                graph: format!("https://{graph}"),
                default_location: location.into(),
            })
        };
        match cloud {
            NamedCloud::AzureCloud => {
                of("management.azure.com", "login.microsoftonline.com", "graph.microsoft.com", "westcentralus")
            }
            NamedCloud::AzureUSGovernment => {
                of("management.usgovcloudapi.net", "login.microsoftonline.us", "graph.microsoft.us", "usgovvirginia")
            }
            NamedCloud::AzureChinaCloud => of(
                "management.chinacloudapi.cn",
                "login.partner.microsoftonline.cn",
                "microsoftgraph.chinacloudapi.cn",
                "chinaeast2",
            ),
            NamedCloud::AzureGermanCloud => None,
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
