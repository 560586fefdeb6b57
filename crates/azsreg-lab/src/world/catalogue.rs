//! What Azure's marketplace offers to a registration: some forty items of the four product kinds, with the rules that say
//! for which stamps they are (`facts-azure-api.md` section 4). The items are the lab's; their shapes are the real ones.

use serde_json::{Value, json};

use super::content::Content;
use super::stamp::{Build, parse_build};

/// The kind of a product, as the wire writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    VirtualMachine,
    Extension,
    Solution,
    ResourceProvider,
}

impl Kind {
    /// On the wire.
    #[must_use]
    pub fn wire(self) -> &'static str {
        match self {
            Self::VirtualMachine => "virtualMachine",
            Self::Extension => "virtualMachineExtension",
            Self::Solution => "solution",
            Self::ResourceProvider => "resourceProvider",
        }
    }
}

/// What an item needs of the stamp: the issues of the compatibility answer, each with its reason to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Need {
    BuildFrom(Build),
    BuildBelow(Build),
    Capacity,
    PayAsYouUse,
    Development,
    AzureAd,
    Adfs,
    Azure,
    Disconnected,
}

/// An item.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// The product's name, as the routes have it.
    pub name: &'static str,
    /// What people see.
    pub title: &'static str,
    /// Publisher: display name and identifier.
    pub publisher: (&'static str, &'static str),
    /// The kind.
    pub kind: Kind,
    /// The product's version.
    pub version: &'static str,
    /// `Linux`, `Windows` or `None`.
    pub system: &'static str,
    /// The bytes of its disk, its archive or its container.
    pub size: u64,
    /// What it needs.
    pub needs: &'static [Need],
}

/// A stamp, as the compatibility rules see it.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// Its build, where it was given.
    pub build: Option<Build>,
    /// `AzureAD` or `ADFS`, where it was given.
    pub identity: Option<String>,
    /// The registration's billing model.
    pub billing_model: String,
    /// Whether the registration is of a stamp that reaches Azure: it has a bridge principal.
    pub connected: bool,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const CANONICAL: (&str, &str) = ("Canonical", "Canonical");
const MICROSOFT: (&str, &str) = ("Microsoft Corporation", "MicrosoftWindowsServer");
const EXTENSIONS: (&str, &str) = ("Microsoft Corp.", "Microsoft.Azure.Extensions");
const REDHAT: (&str, &str) = ("Red Hat", "RedHat");
const SUSE: (&str, &str) = ("SUSE", "SUSE");
const LAB: (&str, &str) = ("azsreg lab", "azsreglab");
const CONTOSO: (&str, &str) = ("Contoso Backup", "contoso");
const FABRIKAM: (&str, &str) = ("Fabrikam Networks", "fabrikam");

macro_rules! items {
    ($($name:literal $title:literal $publisher:ident $kind:ident $version:literal $system:literal $size:expr, [$($need:expr),*];)*) => {
        /// All items, in the order of their names.
        pub static ITEMS: &[Item] = &[$(Item {
            name: $name, title: $title, publisher: $publisher, kind: Kind::$kind, version: $version, system: $system,
            size: $size, needs: &[$($need),*],
        }),*];
    };
}

use Need::{Adfs, Azure, AzureAd, BuildBelow, BuildFrom, Capacity, Development, Disconnected, PayAsYouUse};

items! {
    "azsreglab.bastion-host-2.1.0" "Bastion host" LAB VirtualMachine "2.1.0" "Linux" 24 * MIB, [];
    "azsreglab.event-hubs-1.2312.0" "Event Hubs" LAB ResourceProvider "1.2312.0" "None" 192 * MIB, [BuildFrom((1, 2206, 0, 0)), AzureAd];
    "azsreglab.hello-template-1.0.0" "Hello template" LAB Solution "1.0.0" "None" 8 * KIB, [];
    "azsreglab.legacy-agent-0.9.0" "Legacy agent" LAB Extension "0.9.0" "Windows" 900 * KIB, [BuildBelow((1, 2008, 0, 0))];
    "azsreglab.mysql-provider-2.0.13" "MySQL resource provider" LAB ResourceProvider "2.0.13" "None" 48 * MIB, [BuildFrom((1, 2206, 0, 0))];
    "azsreglab.offline-mirror-1.4.0" "Offline package mirror" LAB VirtualMachine "1.4.0" "Linux" 64 * MIB, [Disconnected];
    "azsreglab.preview-insights-0.3.0" "Insights preview" LAB Extension "0.3.0" "Linux" 2 * MIB, [Development];
    "azsreglab.sql-provider-2.0.13" "SQL Server resource provider" LAB ResourceProvider "2.0.13" "None" 56 * MIB, [BuildFrom((1, 2206, 0, 0))];
    "azsreglab.tiny-linux-1.0.3" "Tiny Linux" LAB VirtualMachine "1.0.3" "Linux" 12 * MIB, [];
    "azsreglab.tiny-linux-1.1.0" "Tiny Linux" LAB VirtualMachine "1.1.0" "Linux" 12 * MIB, [];
    "canonical.ubuntu-server-jammy22.04-22.04.202410150" "Ubuntu Server 22.04 LTS" CANONICAL VirtualMachine "22.04.202410150" "Linux" 2 * GIB, [];
    "canonical.ubuntu-server-noble24.04-24.04.202502210" "Ubuntu Server 24.04 LTS" CANONICAL VirtualMachine "24.04.202502210" "Linux" 3 * GIB, [];
    "canonical.ubuntu-server-bionic18.04-18.04.202305180" "Ubuntu Server 18.04 LTS" CANONICAL VirtualMachine "18.04.202305180" "Linux" 2 * GIB, [BuildBelow((1, 2406, 0, 0))];
    "contoso.backup-appliance-8.2.1" "Contoso Backup appliance" CONTOSO VirtualMachine "8.2.1" "Linux" GIB, [PayAsYouUse];
    "contoso.backup-appliance-byol-8.2.1" "Contoso Backup appliance (own licence)" CONTOSO VirtualMachine "8.2.1" "Linux" GIB, [];
    "contoso.backup-extension-linux-3.0.4" "Contoso Backup for Linux" CONTOSO Extension "3.0.4" "Linux" 5 * MIB, [];
    "contoso.backup-extension-windows-3.0.4" "Contoso Backup for Windows" CONTOSO Extension "3.0.4" "Windows" 7 * MIB, [];
    "fabrikam.firewall-cluster-4.5.0" "Fabrikam firewall cluster" FABRIKAM Solution "4.5.0" "None" 96 * KIB, [];
    "fabrikam.firewall-vm-4.5.0" "Fabrikam firewall" FABRIKAM VirtualMachine "4.5.0" "Linux" 768 * MIB, [Azure];
    "fabrikam.load-balancer-4.5.0" "Fabrikam load balancer" FABRIKAM VirtualMachine "4.5.0" "Linux" 20 * MIB, [];
    "microsoft.acsengine-2.0.0" "Kubernetes cluster (AKS engine)" LAB Solution "2.0.0" "None" 640 * KIB, [BuildFrom((1, 1910, 0, 0))];
    "microsoft.antimalware-windowsserver-1.5.5.9" "Antimalware for Windows Server" EXTENSIONS Extension "1.5.5.9" "Windows" 3 * MIB, [];
    "microsoft.azurestackcapacity-planner-1.1.0" "Capacity planner" LAB Solution "1.1.0" "None" 64 * KIB, [Capacity];
    "microsoft.custom-script-linux-2.1.10" "Custom Script for Linux" EXTENSIONS Extension "2.1.10" "Linux" 7_419_601, [];
    "microsoft.custom-script-windows-1.10.15" "Custom Script Extension" EXTENSIONS Extension "1.10.15" "Windows" 1_412_032, [];
    "microsoft.custom-script-windows-1.10.19" "Custom Script Extension" EXTENSIONS Extension "1.10.19" "Windows" 1_431_552, [];
    "microsoft.dsc-arm-2.83.5" "PowerShell Desired State Configuration" EXTENSIONS Extension "2.83.5" "Windows" 11_812_410, [];
    "microsoft.iaasdiagnostics-1.12.2.2" "Azure Diagnostics Extension" EXTENSIONS Extension "1.12.2.2" "Windows" 47_227_857, [];
    "microsoft.sqliaasextension-1.3.20590" "SQL IaaS Extension" EXTENSIONS Extension "1.3.20590" "Windows" 7_419_601, [];
    "microsoft.vmaccess-linux-1.5.11" "VM Access for Linux" EXTENSIONS Extension "1.5.11" "Linux" 46_959, [];
    "microsoft.vmaccess-windows-2.4.8" "VM Access for Windows" EXTENSIONS Extension "2.4.8" "Windows" 52_211, [];
    "microsoft.windowsserver-2019-datacenter-17763.6893.250210" "Windows Server 2019 Datacenter" MICROSOFT VirtualMachine "17763.6893.250210" "Windows" 6 * GIB, [PayAsYouUse];
    "microsoft.windowsserver-2019-datacenter-byol-17763.6893.250210" "Windows Server 2019 Datacenter (bring your own licence)" MICROSOFT VirtualMachine "17763.6893.250210" "Windows" 6 * GIB, [];
    "microsoft.windowsserver-2022-datacenter-20348.3207.250210" "Windows Server 2022 Datacenter" MICROSOFT VirtualMachine "20348.3207.250210" "Windows" 8 * GIB, [BuildFrom((1, 2306, 0, 0)), PayAsYouUse];
    "microsoft.windowsserver-2022-datacenter-byol-20348.3207.250210" "Windows Server 2022 Datacenter (bring your own licence)" MICROSOFT VirtualMachine "20348.3207.250210" "Windows" 8 * GIB, [BuildFrom((1, 2306, 0, 0))];
    "redhat.rhel-8-byos-8.10.20250110" "Red Hat Enterprise Linux 8 (own subscription)" REDHAT VirtualMachine "8.10.20250110" "Linux" 4 * GIB, [];
    "redhat.rhel-9-byos-9.5.20250110" "Red Hat Enterprise Linux 9 (own subscription)" REDHAT VirtualMachine "9.5.20250110" "Linux" 4 * GIB, [BuildFrom((1, 2306, 0, 0))];
    "suse.sles-15-sp5-byos-2025.01.20" "SUSE Linux Enterprise Server 15 SP5 (own subscription)" SUSE VirtualMachine "2025.01.20" "Linux" 2 * GIB, [];
    "suse.sles-sap-15-sp5-2025.01.20" "SUSE Linux Enterprise Server for SAP 15 SP5" SUSE VirtualMachine "2025.01.20" "Linux" 2 * GIB, [Adfs];
    "suse.update-infrastructure-1.8.0" "SUSE update infrastructure" SUSE Solution "1.8.0" "None" 32 * KIB, [Azure];
    "azsreglab.site-recovery-1.2301.2" "Site recovery" LAB ResourceProvider "1.2301.2" "None" 256 * MIB, [BuildFrom((1, 2301, 0, 0)), AzureAd, Azure];
}

/// The item of a name, whatever its case.
#[must_use]
pub fn find(name: &str) -> Option<&'static Item> {
    ITEMS.iter().find(|item| item.name.eq_ignore_ascii_case(name))
}

/// The blob of a path such as `packages/{item}/{file}`.
#[must_use]
pub fn blob(seed: u64, path: &str) -> Option<Content> {
    let parts: Vec<&str> = path.split('/').collect();
    let [container, name, file] = parts[..] else { return None };
    let item = ITEMS.iter().find(|item| item.name == name)?;
    match container {
        "icons" => {
            let (_, width, height) = ICONS.iter().find(|(icon, _, _)| *icon == file)?;
            Some(Content::icon(path, *width, *height))
        }
        "packages" if file == item.package() => Some(Content::zip_of("manifest.json", item.manifest().into_bytes())),
        "packages" if Some(file) == item.payload().as_deref() => Some(match item.kind {
            Kind::VirtualMachine => Content::vhd(seed, path, item.size),
            _ => Content::zip(seed, path, "content.bin", item.size),
        }),
        _ => None,
    }
}

/// The icons that every item has: file, width, height (Swagger, `GalleryIcons`).
pub const ICONS: &[(&str, u32, u32)] = &[
    ("Hero.png", 815, 290),
    ("Large.png", 115, 115),
    ("Wide.png", 255, 115),
    ("Medium.png", 90, 90),
    ("Small.png", 40, 40),
];

impl Item {
    /// The gallery item's identity.
    #[must_use]
    pub fn gallery(&self) -> String {
        format!("{}.{}", self.publisher.1, self.name.split_once('.').map_or(self.name, |(_, rest)| rest))
    }

    /// The package's file name.
    #[must_use]
    pub fn package(&self) -> String {
        format!("{}.azpkg", self.gallery())
    }

    /// The file name of its disk, archive or container, where it has one.
    #[must_use]
    pub fn payload(&self) -> Option<String> {
        match self.kind {
            Kind::VirtualMachine => Some(format!("{}.vhd", self.gallery())),
            Kind::Extension => Some("vmext.zip".into()),
            Kind::ResourceProvider => Some("container.zip".into()),
            Kind::Solution => None,
        }
    }

    /// The package's manifest: what a gallery shows.
    fn manifest(&self) -> String {
        let padding = if self.kind == Kind::Solution { usize::try_from(self.size).unwrap_or(0) } else { 1024 };
        json!({
            "name": self.gallery(), "publisher": self.publisher.1, "version": self.version, "displayName": self.title,
            "publisherDisplayName": self.publisher.0, "note": "Simulated content of the azsreg lab.", "template": "x".repeat(padding),
        })
        .to_string()
    }

    /// The paths of its package and of its payload.
    #[must_use]
    pub fn blobs(&self) -> (String, Option<String>) {
        let path = |file: String| format!("packages/{}/{file}", self.name);
        (path(self.package()), self.payload().map(path))
    }

    /// The bytes that a stamp downloads for it.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self.kind {
            Kind::VirtualMachine => self.size + 512,
            _ => self.size,
        }
    }

    /// The product's properties. `icons` is where its icons lie.
    #[must_use]
    pub fn properties(&self, icons: &str) -> Value {
        let site = format!("https://{}.lab.invalid", self.publisher.1.to_lowercase());
        let icon = |file: &str| format!("{icons}/{}/{file}", self.name);
        let mut body = json!({
            "displayName": self.title,
            "description": format!("{} {} from {}. Simulated content of the azsreg lab: <b>not the real product</b>.", self.title, self.version, self.publisher.0),
            "publisherDisplayName": self.publisher.0,
            "publisherIdentifier": self.publisher.1,
            "offer": if self.kind == Kind::VirtualMachine { self.title.replace(' ', "") } else { String::new() },
            "offerVersion": if self.kind == Kind::VirtualMachine { self.version } else { "" },
            "sku": if self.kind == Kind::VirtualMachine { self.system.to_lowercase() } else { String::new() },
            "billingPartNumber": if self.needs.contains(&PayAsYouUse) { "LAB-0001" } else { "" },
            // A resource provider is in no gallery.
            "galleryItemIdentity": if self.kind == Kind::ResourceProvider { String::new() } else { self.gallery() },
            "iconUris": {"hero": icon("Hero.png"), "large": icon("Large.png"), "wide": icon("Wide.png"), "medium": icon("Medium.png"), "small": icon("Small.png")},
            "links": [{"displayName": "Documentation", "uri": format!("{site}/docs")}],
            "legalTerms": format!("{site}/terms"),
            "privacyPolicy": format!("{site}/privacy"),
            "payloadLength": self.length(),
            "productKind": self.kind.wire(),
            "productProperties": {"version": self.version},
        });
        if self.kind == Kind::Extension {
            body["vmExtensionType"] = json!(self.title.replace(' ', ""));
        }
        body
    }

    /// What `listDetails` gives. `signed` makes the address of a blob that may be read for a while.
    #[must_use]
    pub fn details(&self, signed: &dyn Fn(&str) -> String) -> Value {
        let (package, payload) = self.blobs();
        let payload = payload.map(|path| signed(&path)).unwrap_or_default();
        let properties = match self.kind {
            Kind::VirtualMachine => json!({
                "version": self.version, "osDiskImage": {"operatingSystem": self.system, "sourceBlobSasUri": payload}, "dataDiskImages": [],
            }),
            Kind::Extension => json!({
                "version": self.version, "vmOsType": self.system, "sourceBlob": {"uri": payload}, "computeRole": "IaaS",
                "vmScaleSetEnabled": true, "supportMultipleExtensions": false, "isSystemExtension": false,
            }),
            Kind::ResourceProvider => json!({
                "version": self.version, "dependentProducts": [], "fileContainers": [{"id": format!("{}-container", self.gallery()), "sourceUri": payload, "type": "Zip"}],
            }),
            Kind::Solution => {
                json!({"version": self.version, "dependentProducts": self.depends(), "fileContainers": []})
            }
        };
        let package = if self.kind == Kind::ResourceProvider { String::new() } else { signed(&package) };
        json!({"galleryPackageBlobSasUri": package, "productKind": self.kind.wire(), "properties": properties})
    }

    /// The items that it can't do without.
    fn depends(&self) -> Vec<&'static str> {
        if self.name == "fabrikam.firewall-cluster-4.5.0" { vec!["fabrikam.load-balancer-4.5.0"] } else { Vec::new() }
    }

    /// Why a stamp can't have it: the issue and the sentence of each.
    #[must_use]
    pub fn issues(&self, device: &Device) -> Vec<(&'static str, String)> {
        let build = |(a, b, c, d): Build| format!("{a}.{b}.{c}.{d}");
        let mut issues = Vec::new();
        for need in self.needs {
            let model = |wanted: &str| device.billing_model != wanted;
            let other = |wanted: &str| device.identity.as_deref().is_some_and(|known| known != wanted);
            let found = match need {
                BuildFrom(from) => device.build.is_some_and(|known| known < *from).then(|| {
                    ("HigherDeviceVersionRequired", format!("It needs Azure Stack build {} or newer.", build(*from)))
                }),
                BuildBelow(below) => device.build.is_some_and(|known| known >= *below).then(|| {
                    (
                        "LowerDeviceVersionRequired",
                        format!("It is not for Azure Stack build {} and newer.", build(*below)),
                    )
                }),
                Capacity => model("Capacity")
                    .then(|| ("CapacityBillingModelRequired", "It needs a registration with capacity billing.".into())),
                PayAsYouUse => model("PayAsYouUse").then(|| {
                    ("PayAsYouGoBillingModelRequired", "It needs a registration with pay-as-you-use billing.".into())
                }),
                Development => model("Development").then(|| {
                    ("DevelopmentBillingModelRequired", "It needs a registration with development billing.".into())
                }),
                AzureAd => other("AzureAD").then(|| {
                    ("AzureADIdentitySystemRequired", "It needs Azure AD as the stamp's identity system.".into())
                }),
                Adfs => other("ADFS")
                    .then(|| ("ADFSIdentitySystemRequired", "It needs AD FS as the stamp's identity system.".into())),
                Azure => (!device.connected)
                    .then(|| ("ConnectionToAzureRequired", "It needs a stamp that is connected to Azure.".into())),
                Disconnected => device
                    .connected
                    .then(|| ("DisconnectedEnvironmentRequired", "It is for disconnected stamps alone.".into())),
            };
            issues.extend(found);
        }
        issues
    }

    /// The `compatibility` member.
    #[must_use]
    pub fn compatibility(&self, device: &Device) -> Value {
        let issues = self.issues(device);
        let message = if issues.is_empty() { "" } else { "This item is not compatible with your Azure Stack." };
        let words: Vec<&str> = issues.iter().map(|(_, sentence)| sentence.as_str()).collect();
        json!({
            "isCompatible": issues.is_empty(), "message": message, "description": words.join(" "),
            "issues": issues.iter().map(|(issue, _)| *issue).collect::<Vec<_>>(),
        })
    }
}

impl Device {
    /// With what a request's DeviceConfiguration says.
    #[must_use]
    pub fn configured(mut self, body: &Value) -> Self {
        self.build = body["deviceVersion"].as_str().and_then(parse_build);
        self.identity = body["identitySystem"].as_str().map(str::to_owned);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_has_its_blobs_and_a_name_of_its_own() {
        for (at, item) in ITEMS.iter().enumerate() {
            assert!(ITEMS[..at].iter().all(|other| other.name != item.name), "{}", item.name);
            let (package, payload) = item.blobs();
            assert!(blob(1, &package).is_some(), "{package}");
            if let Some(path) = payload.filter(|_| item.size < 64 * MIB) {
                assert!(blob(1, &path).unwrap().length() >= item.size, "{path}");
            }
            assert!(blob(1, &format!("icons/{}/Large.png", item.name)).is_some());
        }
        for kind in [Kind::VirtualMachine, Kind::Extension, Kind::Solution, Kind::ResourceProvider] {
            assert!(ITEMS.iter().any(|item| item.kind == kind && item.needs.len() < 2));
        }
        assert!((38..=45).contains(&ITEMS.len()));
    }

    #[test]
    fn each_rule_names_its_issue() {
        let device = Device {
            build: Some((1, 2501, 0, 21)),
            identity: Some("AzureAD".into()),
            billing_model: "PayAsYouUse".into(),
            connected: true,
        };
        let issues = |name: &str, device: &Device| {
            find(name).unwrap().issues(device).iter().map(|(i, _)| *i).collect::<Vec<_>>()
        };
        assert_eq!(issues("azsreglab.tiny-linux-1.0.3", &device), [""; 0]);
        assert_eq!(issues("azsreglab.legacy-agent-0.9.0", &device), ["LowerDeviceVersionRequired"]);
        assert_eq!(issues("azsreglab.offline-mirror-1.4.0", &device), ["DisconnectedEnvironmentRequired"]);
        let away = Device {
            build: Some((1, 1910, 0, 50)),
            identity: Some("ADFS".into()),
            billing_model: "Capacity".into(),
            connected: false,
        };
        assert_eq!(
            issues("azsreglab.site-recovery-1.2301.2", &away),
            ["HigherDeviceVersionRequired", "AzureADIdentitySystemRequired", "ConnectionToAzureRequired"]
        );
    }
}
