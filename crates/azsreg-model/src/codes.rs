//! The catalogue of error codes. A code, once released, keeps its meaning.
//!
//! 1xxx the command line · 2xxx the privileged endpoint and the stamp · 3xxx signing in · 4xxx Azure ·
//! 5xxx this machine · 6xxx the state of a registration · 7xxx checks · 8xxx the lab.

use crate::ExitCode;

/// An entry of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// Such as `AZR1002`.
    pub id: &'static str,
    /// What it is about, in a few words.
    pub title: &'static str,
    /// The likely cause.
    pub cause: &'static str,
    /// What to run or do next.
    pub next: &'static str,
    /// The command's exit code, unless the moment decides (a failure half-way is resumable).
    pub exit: ExitCode,
}

macro_rules! codes {
    ($($name:ident $id:literal $exit:ident $title:literal, $cause:literal, $next:literal;)*) => {
        /// The entries, by name.
        pub mod code {
            use super::{Code, ExitCode};
            $(#[doc = $title] pub static $name: Code =
                Code { id: $id, title: $title, cause: $cause, next: $next, exit: ExitCode::$exit };)*
            /// All entries, in order.
            pub static ALL: &[&Code] = &[$(&$name),*];
        }
    };
}

codes! {
    BAD_ARGUMENT "AZR1001" Usage "An argument is missing or has a value that can't be used",
        "The command line, or an AZSREG_ variable, is incomplete or misspelt.", "azsreg register --help";
    NO_AGREEMENT_NUMBER "AZR1002" Usage "Capacity billing without an agreement number",
        "The capacity model is billed under an agreement; Azure Stack refuses it without the number.",
        "Add --agreement-number A (it is in your enterprise agreement).";
    USAGE_REPORTING_REQUIRED "AZR1003" Usage "Pay-as-you-use with usage reporting off",
        "Pay-as-you-use is billed from the usage that the stamp reports, so it can't be off.",
        "Leave --usage-reporting out, or choose --billing-model capacity.";
    NO_ASSET_TAG "AZR1004" Usage "Custom billing without an asset tag",
        "The custom model is for appliance contracts, which are found by the asset tag.",
        "Add --ms-asset-tag T (it is in your contract).";
    TWO_SIGN_INS "AZR1005" Usage "Two ways of signing in at once",
        "Options or AZSREG_ variables for more than one sign-in are set.",
        "Keep one of --device-code, --browser, --client-secret, --client-certificate.";
    GERMAN_CLOUD "AZR1006" Usage "The German cloud is not supported",
        "Registration was never offered in AzureGermanCloud.",
        "Use a subscription in AzureCloud, AzureUSGovernment or AzureChinaCloud.";
    SECRET_UNREADABLE "AZR1007" Usage "A secret can't be read",
        "The file named with @ is missing, unreadable or empty.", "Check the path after @ and its permissions.";
    NO_DOMAIN "AZR1008" Usage "The PEP user has no domain",
        "The privileged endpoint knows its users by domain.",
        "Use the stamp's domain: --pep-user 'AZURESTACK\\CloudAdmin'.";
    NOT_CLOUD_ADMIN "AZR1009" Usage "AzureStackAdmin is not the privileged endpoint's account",
        "AzureStackAdmin administers the hosts; the privileged endpoint takes CloudAdmin.",
        "Use --pep-user 'DOMAIN\\CloudAdmin' with CloudAdmin's password.";
    SECRET_ON_COMMAND_LINE "AZR1010" Usage "A secret on the command line",
        "Other users of this machine can read the arguments of a command.",
        "Put the secret into a file and give @FILE, or - to read it from standard input.";
    MALFORMED_TOKEN "AZR1011" CheckFailed "The registration token is malformed",
        "It was cut, wrapped or made by a version that azsreg does not know.",
        "Ask the stamp for a new token: run the same command again.";
    MALFORMED_KEY "AZR1012" CheckFailed "The activation key is malformed or not for this stamp",
        "It was cut, or it comes from another registration.", "Fetch the key again: run the same command again.";

    PEP_UNREACHABLE "AZR2001" Failed "The privileged endpoint can't be reached",
        "No ERCS machine answers: a wrong address, a firewall, or the machines are down.",
        "Check --pep (three addresses, port 5985) from this machine, then run the same command again.";
    PEP_REFUSED "AZR2002" Failed "The privileged endpoint refused the sign-in",
        "The user name or the password is wrong, or the account is expired, locked or must change its password: the wire can't tell which.",
        "Check --pep-user and the password before you try again: CloudAdmin locks out after a few wrong tries.";
    PEP_CONFIGURATION "AZR2003" Failed "The session configuration does not exist there",
        "The address is a Windows machine, but not an ERCS machine, or the configuration's name is wrong.",
        "Check --pep and --pep-configuration (PrivilegedEndpoint).";
    PEP_CERTIFICATE "AZR2004" Failed "The privileged endpoint's certificate is not trusted",
        "It is signed by an authority that this machine does not know, or is for another name.",
        "Give the authority's certificate with --ca-file, or use the name that the certificate has.";
    PEP_NOT_SEALED "AZR2005" Failed "The endpoint would not seal the conversation",
        "Over plain HTTP azsreg only speaks sealed; this endpoint answered without.",
        "Use https://HOST:5986, or find out what answers at this address.";
    PEP_DROPPED "AZR2006" Failed "The connection to the privileged endpoint broke",
        "The network or the ERCS machine went away in the middle.",
        "Run the same command again: it resumes. What the stamp had started goes on.";
    PEP_PROTOCOL "AZR2007" Failed "The privileged endpoint's answer can't be understood",
        "What answers there is not a privileged endpoint, or speaks in a way that azsreg does not know.",
        "Check --pep; if it is right, please report this with the output of the same command and -v.";
    CMDLET_UNKNOWN "AZR2008" Failed "The stamp does not know a cmdlet or parameter",
        "The stamp's build differs from what its version promises.", "azsreg stamp info";
    STAMP_BUSY "AZR2010" Failed "The stamp is busy with another action",
        "Only one action of a kind runs at a time, and the one before has not ended.",
        "Wait until it has ended, then run the same command again: it resumes.";
    STAMP_ACTION_FAILED "AZR2011" Failed "An action on the stamp failed",
        "The stamp's own words are below.", "Mend what the stamp complains of, then run the same command again: it resumes.";
    CUSTOM_UNSUPPORTED "AZR2012" CheckFailed "The stamp is too old for custom billing",
        "Custom billing needs build 1.1912.0.19 or newer.", "Update the stamp, or choose another --billing-model.";
    HARDWARE_INFORMATION "AZR2013" Failed "The stamp can't read a host's hardware",
        "A host is down or can't be reached by the stamp's own infrastructure.",
        "Bring the host back (Fabric management shows it), then run the same command again: it resumes.";
    STAMP_TIMEOUT "AZR2014" Failed "An action on the stamp took too long",
        "The stamp gave up waiting, mostly for Azure or for a busy infrastructure.",
        "Run the same command again: it resumes.";
    STAMP_INFORMATION "AZR2015" Failed "The stamp's information can't be read",
        "Get-AzureStackStampInformation failed or left out a member.",
        "Run Test-AzureStack on the privileged endpoint.";
    ACTIVATION_REFUSED "AZR2016" Failed "The stamp refused the activation key",
        "The key's signature, cloud id or expiry did not satisfy the stamp.",
        "Run the same command again: it fetches a new key. If that is refused too, check the stamp's clock.";
    STAMP_ARM "AZR2017" Failed "The stamp's Resource Manager can't be read",
        "The admin Resource Manager refused or could not be reached with the operator sign-in given.",
        "Check --stamp-client-id and --stamp-client-secret; azsreg status shows what can be read.";

    NO_SIGN_IN "AZR3001" CheckFailed "Nobody is signed in to Azure",
        "No sign-in option is given, and none is cached for this cloud and tenant.",
        "azsreg login";
    BAD_CLIENT_SECRET "AZR3002" Failed "Azure refused the client secret or certificate",
        "The secret is wrong or expired, or the certificate is not registered with the application.",
        "Check the application's secrets and certificates, then --client-secret or --client-certificate.";
    UNKNOWN_APPLICATION "AZR3003" Failed "Azure does not know the application",
        "The client id is wrong, or the application is of another tenant.", "Check --client-id and --tenant.";
    UNKNOWN_TENANT "AZR3004" Failed "Azure does not know the tenant",
        "The tenant's id or name is wrong, or it is of another cloud.", "Check --tenant and --cloud.";
    SIGN_IN_DECLINED "AZR3005" Failed "The sign-in was declined or not completed in time",
        "The code expired, or somebody chose cancel.", "azsreg login";
    MFA_REQUIRED "AZR3010" Failed "AADSTS50076: a second factor is required",
        "A policy of the tenant wants multi-factor sign-in for this resource.",
        "azsreg login --browser (and complete the second factor), then run the same command again.";
    MFA_ENROLMENT "AZR3011" Failed "AADSTS50079: the account must enrol a second factor",
        "A policy of the tenant wants multi-factor sign-in, and this account has no second factor yet.",
        "Sign in once at https://aka.ms/mfasetup with this account, then azsreg login.";
    CONDITIONAL_ACCESS "AZR3012" Failed "AADSTS53000 to 53003: conditional access blocks the sign-in",
        "A policy wants a compliant or joined device, an approved application, or another place to sign in from. It also applies where the stamp redeems the token.",
        "Ask the tenant's administrator to exclude the account (or the stamp's addresses) from the policy for the registration, then azsreg login.";
    SIGN_IN_EXPIRED "AZR3013" Failed "AADSTS700082: the sign-in has expired",
        "The refresh token was not used for too long.", "azsreg login";
    SIGN_IN_REVOKED "AZR3014" Failed "AADSTS50173: the sign-in was revoked",
        "The password was changed or sessions were revoked after the sign-in.", "azsreg login";
    CONSENT_REQUIRED "AZR3015" Failed "AADSTS65001: consent is missing",
        "Nobody has consented to the application for this resource in this tenant.",
        "Have an administrator of the tenant consent, then azsreg login.";
    SIGN_IN_REFUSED "AZR3016" Failed "Azure refused the sign-in",
        "The words of the directory are below.", "Search for the AADSTS number, mend it, then azsreg login.";
    USER_SIGN_IN_NEEDED "AZR3017" CheckFailed "A user's sign-in is needed",
        "The stamp makes its service principal with a user's refresh token; a client secret or certificate has none.",
        "Sign in with --device-code or --browser, or add --bridge-refresh-token @FILE.";
    ACCOUNT_NOT_IN_TENANT "AZR3018" Failed "AADSTS50034: the account is not in this tenant",
        "The account belongs to another directory than the subscription.",
        "azsreg login --tenant T with an account of the subscription's tenant.";
    PASSWORD_CHANGE "AZR3019" Failed "AADSTS50055: the account must change its password",
        "The password has expired.", "Change the password in a browser, then azsreg login.";

    AZURE_UNREACHABLE "AZR4001" Failed "Azure can't be reached",
        "No route, a firewall, or a proxy in between.", "Check HTTPS_PROXY and NO_PROXY, then run the same command again.";
    AZURE_CERTIFICATE "AZR4002" Failed "Azure's certificate is not trusted",
        "A proxy that inspects TLS, or a private cloud with its own authority.",
        "Give the authority's certificate with --ca-file.";
    SUBSCRIPTION_NOT_VISIBLE "AZR4003" CheckFailed "The sign-in can't see the subscription",
        "The subscription's id is wrong, it is of another tenant, or the account has no role in it.",
        "Choose one of those it can see, or azsreg login --tenant T.";
    LOCATION_NOT_AVAILABLE "AZR4004" CheckFailed "The subscription does not have the location",
        "The location's name is wrong or not offered to this subscription.", "Add --location with one of the list.";
    ACTIONS_MISSING "AZR4005" CheckFailed "The caller lacks permissions in Azure",
        "The account's roles on the subscription do not hold every action that registering needs.",
        "Ask for Owner on the subscription, or a custom role with these actions.";
    NAME_TAKEN "AZR4006" CheckFailed "The registration's name belongs to another stamp",
        "A registration of this name has another cloud id, and Azure never changes that.",
        "Choose another --name, or leave it out: the name is then made of the cloud id.";
    STAMP_REGISTERED_ELSEWHERE "AZR4007" CheckFailed "The stamp is registered already, under another name",
        "Azure allows one registration per cloud id.",
        "Register with the same subscription, resource group and name, or remove that registration first.";
    TOKEN_REFUSED "AZR4008" Failed "Azure refused the registration token",
        "The service does not accept this token's version from this stamp, or the token was damaged.",
        "Run the same command again. If it persists, the stamp's build and the cloud do not go together: ask Microsoft support.";
    FORBIDDEN "AZR4009" Failed "Azure forbids the call",
        "The account lacks the action named below, or is not the owner of the bridge service principal.",
        "Have the action granted (or be made owner), then run the same command again: it resumes.";
    SCOPE_LOCKED "AZR4010" Failed "A lock forbids the change",
        "Somebody placed a lock on the subscription, the resource group or the registration.",
        "Remove that lock, then run the same command again: it resumes.";
    THROTTLED "AZR4011" Failed "Azure throttles the calls",
        "Too many calls for this subscription in a short time.", "Wait a few minutes, then run the same command again: it resumes.";
    AZURE_FAULT "AZR4012" Failed "Azure failed",
        "A passing fault of the service; azsreg tried several times.", "Run the same command again: it resumes.";
    AZURE_REFUSED "AZR4013" Failed "Azure refused the call",
        "Azure's words are below.", "Mend what Azure complains of, then run the same command again: it resumes.";
    AZURE_PROTOCOL "AZR4014" Failed "Azure's answer can't be understood",
        "Something between here and Azure answered instead, or the interface has changed.",
        "Check proxies and --cloud-endpoint; if they are right, please report this with -v.";
    GROUP_ELSEWHERE "AZR4015" CheckFailed "The resource group is in another location",
        "A group of this name exists, and Azure never moves one.", "Leave --location out, or choose another --resource-group.";
    PROVIDER_NOT_REGISTERED "AZR4016" Failed "The provider Microsoft.AzureStack did not register",
        "Registering the provider takes some minutes at times.", "Run the same command again: it resumes.";
    NOT_SEEN "AZR4017" Failed "What was done is not to be seen",
        "Azure took the change but does not show it yet: replication takes its time.",
        "Run the same command again: it resumes.";

    LOCKED "AZR5001" Locked "Another operation on this stamp is running",
        "One operation per stamp and machine at a time.", "Wait until it has ended, then run the same command again.";
    JOURNAL_DAMAGED "AZR5002" Failed "The journal is damaged",
        "A line of the journal does not follow from the one before: the file was edited or the disk is failing.",
        "Move the file aside, then run the same command again: every step looks at the world first.";
    STATE_UNWRITABLE "AZR5003" Failed "The state directory can't be written",
        "No permission, no space, or a path that does not exist.", "Choose another with --state-dir.";
    FILE_UNREADABLE "AZR5004" Usage "A file can't be read",
        "It is missing, or you may not read it, or it does not hold what it should.", "Check the path.";
    INTERRUPTED "AZR5005" Interrupted "Interrupted",
        "You, or the system, stopped the command.", "Run the same command again.";

    NOT_REGISTERED "AZR6001" NotRegistered "The stamp is not registered",
        "Azure has no registration with this cloud id in what was looked at.", "azsreg register";
    RECORD_MISMATCH "AZR6002" Failed "The stamp is activated for another registration",
        "The activation record names another registration than the one just made.",
        "azsreg status shows both sides; run the same command again.";
    NOT_ACTIVATED "AZR6003" Failed "The stamp has no activation record",
        "The activation ended well, but the record is not there.", "Run the same command again: it resumes.";

    CHECKS_FAILED "AZR7001" CheckFailed "Nothing was changed: checks failed",
        "The list above says which.", "Mend each, then run the same command again.";
    IDENTITY_MISMATCH "AZR7002" CheckFailed "The clock of this machine is wrong",
        "Tokens and keys are valid for a time; a clock that is off by more than five minutes makes them fail.",
        "Set the clock, then run the same command again.";

    LAB_START "AZR8001" Failed "The lab did not start",
        "A port or a file could not be had.", "Check the options of azsreg lab up.";
    NO_LAB "AZR8002" NotRegistered "No lab is running",
        "No lab of this state directory answers.", "azsreg lab up";
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(code::ALL.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert!(code::ALL.iter().all(|code| code.id.len() == 7 && code.id.starts_with("AZR")));
    }

    #[test]
    fn every_entry_says_what_to_do() {
        for code in code::ALL {
            assert!(!code.cause.is_empty() && !code.next.is_empty(), "{}", code.id);
        }
    }
}
