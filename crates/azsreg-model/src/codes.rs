//! The catalogue of error codes. A code, once released, keeps its meaning.
//!
//! 1xxx the command line · 2xxx the privileged endpoint and the stamp · 3xxx signing in · 4xxx Azure ·
//! 5xxx this machine · 6xxx the state of a registration · 7xxx checks · 8xxx the lab · 9xxx what only the PowerShell
//! module says (`azsreg explain --from-log`).

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

impl Code {
    /// Whether it is about signing in.
    #[must_use]
    pub fn is_of_sign_in(&self) -> bool {
        self.id.starts_with("AZR3")
    }

    /// Whether it is Azure's, not the stamp's and not the sign-in's.
    #[must_use]
    pub fn is_of_azure(&self) -> bool {
        self.id.starts_with("AZR4")
    }

    /// Whether no answer came that says anything: not whether what was asked about is there, nor what became of a call.
    #[must_use]
    pub fn is_away(&self) -> bool {
        [
            &code::AZURE_UNREACHABLE,
            &code::AZURE_CERTIFICATE,
            &code::AZURE_FAULT,
            &code::AZURE_PROTOCOL,
            &code::ANSWER_UNCLEAR,
            &code::TOO_LARGE,
            &code::NO_ANSWER_IN_TIME,
            &code::REDIRECTED,
            &code::PROXY_UNREACHABLE,
            &code::PROXY_REFUSED,
            &code::PROXY_SETTING,
        ]
        .contains(&self)
    }

    /// Whether what was begun may still go on: its answer was lost, or a longer wait was asked for.
    #[must_use]
    pub fn leaves_open(&self) -> bool {
        self.is_away()
            || [&code::THROTTLED, &code::NOT_SEEN, &code::OPERATION_ENDLESS, &code::WAIT_TOO_LONG].contains(&self)
    }
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
    MODEL_NOT_DISCONNECTED "AZR1013" Usage "This billing model can't be registered disconnected",
        "Pay-as-you-use is billed from usage that the stamp itself sends to Azure; a disconnected stamp can't. Ruggedized is connected only too.",
        "Choose --billing-model capacity, development or custom; for a stamp that reaches Azure use azsreg register.";
    NOT_CONFIRMED "AZR1014" Usage "Something would be lost, and it was not agreed to",
        "The command removes what can't be brought back; azsreg could not ask (no terminal, or --non-interactive), or the answer was no.",
        "Look at it with --plan, then add --yes.";
    NOTHING_ASKED "AZR1015" Usage "No change is asked for",
        "The command changes what its options name, and none is given.",
        "Add --billing-model, --agreement-number, --usage-reporting or --marketplace.";
    UNKNOWN_CODE "AZR1016" Usage "There is no such code",
        "Codes are AZR and four digits.", "azsreg explain  (without a code it lists all)";
    USAGE_REPORTING_OFF "AZR1017" Usage "Capacity billing with usage reporting on",
        "Capacity is billed by what is installed: usage is not reported.", "Leave --usage-reporting out.";
    TERMS_NOT_ACCEPTED "AZR1018" Usage "The legal terms were not accepted",
        "The items have terms of their publishers, and they were not agreed to.",
        "Read them, then add --accept-legal-terms.";
    WHICH_STAMP "AZR1019" Usage "It is not said for which stamp",
        "A subscription may hold the registrations of several stamps; an item is downloaded with that of the stamp that it is for.",
        "Add --cloud-id ID: azsreg list shows the cloud ids.";
    ODD_CHARACTER "AZR1020" Usage "A value holds a character that can't be meant",
        "It was copied from a document, a web page or a mail: an invisible character, or what a word processor makes of a quotation mark, a hyphen or a space.",
        "Type the value by hand in place of copying it, then run the command again.";
    SECRET_ODD_CHARACTER "AZR1021" Usage "A secret holds a character that can't be meant",
        "It was copied with an invisible character, or its file has more than one line. Nothing was sent: each wrong attempt counts towards the account's lockout.",
        "Type it by hand, as one line, into the file or at the prompt, then run the same command again.";
    SECRET_DOUBTFUL "AZR1022" Usage "A password holds a character that a word processor makes",
        "A quotation mark, a dash or a space that is not the keyboard's: a password may hold it, but a copy from a document does more often. Nothing was sent: each wrong attempt counts towards the account's lockout.",
        "Type the password into the file by hand. If the password really holds the character, add --password-as-is.";
    BACKSLASH_DOUBLED "AZR1023" Usage "The user's backslash is doubled",
        "In single quotation marks, in PowerShell and in a file of variables a backslash is written once.",
        "Write it once: --pep-user 'AZURESTACK\\CloudAdmin'.";
    FORM_UNKNOWN "AZR1030" CheckFailed "A registration token or activation key of a form that azsreg does not know",
        "It is whole, but the stamp or Azure writes it in a newer or another way. What depends on reading it (expiry, hosts) is not known.",
        "Nothing: Azure and the stamp judge it. With --strict it is refused instead.";
    SUBSCRIPTION_UNKNOWN "AZR1031" Usage "Nothing names the subscription that pays",
        "It was not given, and neither the stamp's record nor this machine's journals name one.",
        "Add --subscription ID.";

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
        "Its dates, its name, its authority or its kind is not right; which of them is said with the error.",
        "Do what is said with the error: it differs for each of them.";
    PEP_NOT_SEALED "AZR2005" Failed "The endpoint would not seal the conversation",
        "Over plain HTTP azsreg only speaks sealed; this endpoint answered without.",
        "Use https://HOST:5986, or find out what answers at this address.";
    PEP_DROPPED "AZR2006" Failed "The connection to the privileged endpoint broke",
        "The network or the ERCS machine went away in the middle.",
        "Run the same command again: it resumes. What the stamp had started goes on.";
    PEP_PROTOCOL "AZR2007" Failed "The privileged endpoint's answer can't be understood",
        "What answers there is not a privileged endpoint, or speaks in a way that azsreg does not know.",
        "Check that --pep names an ERCS machine of the stamp, and what else may answer at this address.";
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
        "Run the same command again: it fetches a new key. A carried key: fetch another one with azsreg offline key. If that is refused too, check the stamp's clock.";
    STAMP_ARM "AZR2017" Failed "The stamp's Resource Manager can't be read",
        "The admin Resource Manager refused or could not be reached with the operator sign-in given.",
        "Check --stamp-client-id and --stamp-client-secret; azsreg status shows what can be read.";
    DEACTIVATION_FAILED "AZR2018" Failed "The stamp could not be deactivated",
        "Remove-AzureStackActivation failed on the stamp; its own words are below. Older builds trip over remains of an earlier registration (hotfixes 1.2005.35.112 and 1.2008.33.131 mend that).",
        "Run the same command again: it resumes. If it persists, update the stamp.";
    TRANSCRIPT_NOT_DELIVERED "AZR2019" Failed "The session's transcript was not delivered",
        "The stamp could not write to the share, or did not take the credentials.",
        "Check --transcript-share, --transcript-user and the share's permissions; what the command did is done.";
    HCI_LICENCE "AZR2020" CheckFailed "This stamp takes no HCI licence",
        "Save-HCILicense exists above build 1.2209.0.23, on stamps of several nodes.",
        "Update the stamp first: azsreg stamp info shows its build and nodes.";

    STAMP_OFFLINE "AZR2021" Failed "The stamp can't reach Azure",
        "The stamp downloads by itself, and has no way to Azure: it is disconnected, or a firewall or proxy stands in between.",
        "Carry the items: azsreg marketplace download, then azsreg marketplace import.";
    ITEM_FAILED "AZR2022" Failed "The stamp could not bring an item",
        "The stamp's own words are below.", "Mend what the stamp complains of, then run the same command again.";
    ITEM_BUSY "AZR2023" Failed "The stamp is still downloading the item",
        "An item can't be removed before its download has ended.",
        "Wait until azsreg marketplace downloaded shows it as there, then run the same command again.";
    STAMP_STORAGE "AZR2024" Failed "The stamp's storage account can't be used",
        "The account that takes the carried files can't be reached, or refused them; its words are below.",
        "Check that this machine reaches the stamp's blob endpoint, then run the same command again: it resumes.";
    USAGE_QUERY "AZR2025" CheckFailed "The stamp does not take the query for usage",
        "A time is not the beginning of an hour (of a day of UTC, for daily usage), or the stamp is of another kind than we know.",
        "Give --from and --to as whole days or hours of UTC.";
    USAGE_FUTURE "AZR2026" CheckFailed "Usage of the future is asked for",
        "Usage can be asked for until the hour, or the day, that has ended.", "Choose an earlier --to.";
    USAGE_TOO_LONG "AZR2027" Failed "The stamp took too long to collect usage",
        "The usage of even one hour is too much for the stamp at the moment.", "Run it again later, or for one --tenant-subscription.";
    USAGE_NOT_READY "AZR2028" Failed "Usage is not ready yet",
        "Usage is processed some hours after it was used; the newest can't be had yet.", "Choose an earlier --to, or run it again later.";

    STAMP_NOT_ACTIVATED "AZR2029" Failed "The stamp is not activated",
        "Remove-AzureStackActivation found no activation: it was removed before.", "azsreg status";
    PEP_UNPROVEN "AZR2030" Failed "What became of the sign-in to the privileged endpoint is not known",
        "The endpoint went away, or answered with something else, after it had been shown the password's proof. The attempt may have counted against the account, so azsreg did not make another.",
        "Find out what answers at --pep. Check that the account is not close to its lockout, then run the same command again: it resumes.";
    PEP_WEAK "AZR2031" Failed "The privileged endpoint offers no sign-in that is safe",
        "It does not offer Negotiate with NTLMv2 and sealing, or something on the way takes that back. Nothing of the password was sent.",
        "Find out what answers at --pep; a stamp's endpoint offers Negotiate.";
    PEP_OVER_LIMIT "AZR2032" Failed "The privileged endpoint sends more than azsreg takes",
        "An answer, or the output of one cmdlet, is larger than any that a stamp gives; the limit is named above.",
        "Find out what answers at --pep.";
    PEP_SILENT "AZR2033" Failed "The privileged endpoint stopped answering",
        "The connection stands, but nothing comes: the ERCS machine hangs, or a firewall has forgotten the connection.",
        "Run the same command again: it resumes. If it persists, name another ERCS machine with --pep.";
    PEP_NOT_GENUINE "AZR2034" Failed "An answer was not signed by the stamp",
        "What answers does not know the account's password, or something on the way changes or repeats answers. The answer was not used.",
        "Find out what answers at --pep, and what stands between it and this machine, before you try again.";
    PEP_NOT_ALLOWED "AZR2035" Failed "The account may not use the privileged endpoint",
        "The endpoint answers that the account may not work there; a wrong password is answered otherwise (AZR2002). The account is not CloudAdmin, and is no member of a role that the endpoint admits.",
        "Use the stamp's CloudAdmin: --pep-user 'DOMAIN\\CloudAdmin'. Or have a cloud administrator admit the account (New-CloudAdminUser on the endpoint).";
    PEP_NO_NTLM "AZR2036" Failed "The endpoint takes Kerberos in place of NTLM",
        "azsreg signs in with NTLM, and what answers there does not take it: it wants Kerberos. Nothing of the password was sent, and the password is not what is wrong. A stamp's endpoint takes NTLM; a machine of a domain whose policy forbids it does not.",
        "Check that --pep names the stamp's ERCS machines. If it does, ask whoever runs the stamp's domain why NTLM is forbidden there.";
    PEP_SCHEME "AZR2037" Failed "http and https are mixed up",
        "WinRM listens for http at port 5985 and for https at port 5986; the address goes with the other one.",
        "Use --pep HOST:5985 or --pep https://HOST:5986.";
    STAMP_FAULT "AZR2038" Failed "The stamp's Resource Manager failed",
        "It does not answer, or answers that it can't serve at the moment: mostly while the stamp updates or its infrastructure restarts. azsreg tried several times.",
        "Look at the stamp's health and at a running update, then run the same command again: it resumes.";
    PEP_SESSIONS_USED "AZR2039" Failed "The privileged endpoint has no session left for the account",
        "An account may hold a limited number of sessions. Others are open, or were left behind by a program that ended without closing them; those end by themselves when they were idle for long enough, mostly two hours.",
        "Close PowerShell sessions to the endpoint (Get-PSSession | Remove-PSSession), or name another ERCS machine with --pep, then run the same command again.";

    NO_SIGN_IN "AZR3001" CheckFailed "No account is signed in to Azure",
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
        "The code expired, or cancel was chosen.", "azsreg login";
    MFA_REQUIRED "AZR3010" Failed "A second factor is required",
        "A policy of the tenant wants multi-factor sign-in for this resource.",
        "azsreg login --browser  completes the second factor; of --bridge-refresh-token: put a new token into the file. Then run the same command again.";
    MFA_ENROLMENT "AZR3011" Failed "The account must enrol a second factor",
        "A policy of the tenant wants multi-factor sign-in, and this account has no second factor yet.",
        "Sign in once at https://aka.ms/mfasetup with this account, then azsreg login.";
    CONDITIONAL_ACCESS "AZR3012" Failed "Conditional access blocks the sign-in",
        "A policy wants a compliant or joined device, an approved application, or another place to sign in from. It also applies where the stamp redeems the token.",
        "Ask the tenant's administrator to exclude the account (or the stamp's addresses) from the policy for the registration, then azsreg login.";
    SIGN_IN_EXPIRED "AZR3013" Failed "The sign-in has expired",
        "The refresh token was not used for too long.", "azsreg login  signs in anew; of --bridge-refresh-token: put a new token into the file.";
    SIGN_IN_REVOKED "AZR3014" Failed "The sign-in was revoked",
        "The password was changed or sessions were revoked after the sign-in.", "azsreg login";
    CONSENT_REQUIRED "AZR3015" Failed "Consent is missing",
        "The application lacks consent for this resource in this tenant, or only an administrator may give it.",
        "Have an administrator of the tenant consent, then azsreg login.";
    SIGN_IN_REFUSED "AZR3016" Failed "Azure refused the sign-in",
        "The words of the directory are below.", "Mend what the directory complains of, then azsreg login.";
    USER_SIGN_IN_NEEDED "AZR3017" CheckFailed "A user's sign-in is needed",
        "The stamp makes its service principal with a user's refresh token; a client secret or certificate has none.",
        "Sign in with --device-code or --browser, or add --bridge-refresh-token @FILE.";
    ACCOUNT_NOT_IN_TENANT "AZR3018" Failed "The account is not in this tenant",
        "The account belongs to another directory than the subscription.",
        "azsreg login --tenant TENANT  with an account of the subscription's tenant.";
    PASSWORD_CHANGE "AZR3019" Failed "The account must change its password",
        "The password has expired, or an administrator has set a new one.", "Change the password in a browser, then azsreg login.";
    AUDIENCE_OF_ANOTHER "AZR3020" CheckFailed "An endpoint asks for another endpoint's token",
        "What the endpoint says of itself names an audience that is known to be a cloud's, or of an endpoint that a sign-in is kept for. With such a token it could act there in your name.",
        "Check --cloud-endpoint. If the kept sign-in is the wrong one: azsreg whoami, then azsreg logout.";
    SIGN_IN_ELSEWHERE "AZR3021" CheckFailed "The sign-in is for another endpoint",
        "A sign-in is kept for the endpoint and the authority that it was made at, and used for no other.",
        "azsreg login  with the same --cloud or --cloud-endpoint as this command";
    TOKEN_UNUSABLE "AZR3022" Failed "The directory's answer to the sign-in can't be used",
        "It holds no token, an expired one, or one for another service; or something in between answered instead.",
        "Check proxies and the clock of this machine, then azsreg login.";
    STAMP_NAMES_ANOTHER "AZR3023" CheckFailed "The stamp names a cloud's Resource Manager as its own",
        "The stamp's information is wrong or was tampered with: the sign-in to the stamp would give the stamp a token for the cloud.",
        "Compare AdminResourceManager in azsreg stamp info with the stamp's documents.";
    CLAIMS_NEEDED "AZR3024" Failed "Azure wants more of the sign-in",
        "A policy asks it of this change, mostly a second factor: Azure has required that of every person who changes something since 2026-07-01. Or what the directory knows of the account has changed since it signed in.",
        "azsreg login  at a terminal asks for what Azure wants; then run the same command again: it resumes.";
    OTHER_CLOUD "AZR3025" Failed "The account or the tenant is of another cloud",
        "Each cloud of Azure has a directory of its own; this sign-in went to another one's.",
        "azsreg login --cloud AzureUSGovernment  or the other cloud that the subscription is in; and the same --cloud with the command";
    APPLICATION_DISABLED "AZR3026" Failed "The application is disabled in the tenant",
        "An administrator has switched off sign-in for the application or its principal.",
        "Have an administrator of the directory enable it, then run the same command again.";
    ACCOUNT_DISABLED "AZR3027" Failed "The account can't sign in at the moment",
        "The directory says that it is disabled or locked.",
        "Have an administrator of the directory enable the account, or use another; then azsreg login.";
    NOT_ASSIGNED "AZR3028" Failed "The account is not assigned to the application",
        "The application takes only users that are assigned to it.",
        "Have an administrator of the directory assign the account, then azsreg login.";
    OTHER_TENANT "AZR3029" CheckFailed "The sign-in is of another tenant than the subscription",
        "Azure takes for a subscription only the tokens of its own tenant.",
        "azsreg login --tenant TENANT  with the tenant of the subscription";
    ANOTHER_ACCOUNT "AZR3030" Failed "Another account signed in than before",
        "The sign-in was to be repeated by the account that runs the command. Nothing was done as the other one.",
        "Run the same command again and sign in as the same account; to go on as the other one, azsreg login first.";
    NEW_TOKEN_EXPIRED "AZR3031" Failed "Azure calls a new token expired",
        "The directory had just given it. The clocks of the two differ, or something in between answers for Azure.",
        "Run the same command again: it resumes. If it stays so, look at what stands between this machine and Azure (HTTPS_PROXY).";

    AZURE_UNREACHABLE "AZR4001" Failed "Azure can't be reached",
        "The name is not known here, there is no route, a firewall is in the way, or the only way out is through a proxy.",
        "Check the name and the way out of this machine. If a proxy is the only one: set HTTPS_PROXY. Then run the same command again.";
    AZURE_CERTIFICATE "AZR4002" Failed "Azure's certificate is not trusted",
        "Its dates, its name, its authority or its kind is not right; which of them is said with the error.",
        "Do what is said with the error: it differs for each of them.";
    SUBSCRIPTION_NOT_VISIBLE "AZR4003" CheckFailed "The sign-in can't see the subscription",
        "The subscription's id is wrong, it is of another tenant, or the account has no role in it.",
        "Choose one of those it can see, or azsreg login --tenant T.";
    LOCATION_NOT_AVAILABLE "AZR4004" CheckFailed "The subscription does not have the location",
        "The location's name is wrong or not offered to this subscription.", "Add --location with one of the list.";
    ACTIONS_MISSING "AZR4005" CheckFailed "The caller lacks permissions in Azure",
        "The account's roles do not hold every action that is needed. A role that is eligible (PIM) counts only while it is active.",
        "Activate an eligible role, or ask for Owner on the subscription or a custom role with these actions.";
    NAME_TAKEN "AZR4006" CheckFailed "The registration's name belongs to another stamp",
        "A registration of this name has another cloud id, and Azure never changes that.",
        "Choose another --name, or leave it out: the name is then made of the cloud id.";
    STAMP_REGISTERED_ELSEWHERE "AZR4007" CheckFailed "The stamp is registered already, under another name",
        "Azure allows one live registration for each cloud id. PowerShell or another azsreg may have made it.",
        "azsreg status  shows both sides; azsreg adopt  takes over what something else registered; azsreg renew  renews it.";
    TOKEN_REFUSED "AZR4008" Failed "Azure refused the registration token",
        "The service does not accept this token's version from this stamp, or the token was damaged.",
        "Ask the stamp for a token of another version: the same command with --token-version 3.0, or 4.0; for a carried token, azsreg offline token with it, at the stamp.";
    FORBIDDEN "AZR4009" Failed "Azure forbids the call",
        "The account lacks the action that is named below, or is not the owner of the bridge service principal. A role that is eligible (PIM) counts only while it is active.",
        "Have the action granted (or be made owner), then run the same command again: it resumes.";
    SCOPE_LOCKED "AZR4010" Failed "A lock forbids the change",
        "There is a lock on the subscription, the resource group or the registration.",
        "Remove that lock, then run the same command again: it resumes.";
    THROTTLED "AZR4011" Failed "Azure throttles the calls",
        "Too many calls for this subscription in a short time.", "Wait a few minutes, then run the same command again: it resumes.";
    AZURE_FAULT "AZR4012" Failed "Azure failed",
        "A passing fault of the service; azsreg tried several times.", "Run the same command again: it resumes.";
    AZURE_REFUSED "AZR4013" Failed "Azure refused the call",
        "Azure's words are below.", "Mend what Azure complains of, then run the same command again: it resumes.";
    AZURE_PROTOCOL "AZR4014" Failed "Azure's answer can't be understood",
        "Something between here and Azure answered instead, or the interface has changed.",
        "Check --cloud-endpoint, and what may answer in between: a proxy, or the network's page for signing in.";
    GROUP_ELSEWHERE "AZR4015" CheckFailed "The resource group is in another location",
        "A group of this name exists, and Azure never moves one.", "Leave --location out, or choose another --resource-group.";
    PROVIDER_NOT_REGISTERED "AZR4016" Failed "The provider Microsoft.AzureStack did not register",
        "Registering the provider takes some minutes at times.", "Run the same command again: it resumes.";
    NOT_SEEN "AZR4017" Failed "What was done is not to be seen",
        "Azure took the change but does not show it yet: replication takes its time.",
        "Run the same command again: it resumes.";
    MOVE_REFUSED "AZR4018" CheckFailed "The registration can't be moved there",
        "Between subscriptions a registration moves only where both are of a cloud solution provider and of the same partner.",
        "Within the subscription: azsreg move --to-resource-group G. To another one: azsreg change-subscription --to-subscription S.";
    STILL_THERE "AZR4019" Failed "The registration is still there after it was deleted",
        "Azure took the deletion but the registration does not go: another lock, or replication takes its time.",
        "Run the same command again: it resumes. Look for locks of other names on the group and the subscription.";
    EXPIRED_NOT_UPDATED "AZR4020" CheckFailed "An expired registration can't be updated",
        "A capacity registration ends after its year; under the same name Azure takes a new one only when the expired one is deleted.",
        "azsreg renew";
    NOT_OWNER "AZR4021" CheckFailed "The caller does not own the stamp's bridge application",
        "Whoever registered first owns the application that the stamp signs in with; others get 403 from the directory, whatever their rights on the subscription.",
        "Have an owner (named above) add you as an owner of the application, or sign in as that person.";
    APPLICATIONS_NOT_ALLOWED "AZR4022" CheckFailed "The caller may not register applications",
        "The directory's setting 'users can register applications' is off, and the caller has no role that allows it.",
        "Ask for the role Application Developer in the directory of the subscription, or sign in with an account that has it.";
    SUBSCRIPTION_KIND "AZR4023" Failed "The subscription is of a kind that registration is not documented for",
        "EA, CSP and CSP shared services (APSS) subscriptions are supported; others work for development kits at best.",
        "Choose another --subscription, or go on if this is a development kit.";
    SEVERAL_STAMPS "AZR4024" Failed "Another stamp is registered in the same subscription",
        "The recommended practice is one subscription for each stamp: usage is easier to tell apart.",
        "Choose another --subscription, or go on: the names differ.";
    GRAPH_RETIREMENT "AZR4025" Failed "Azure AD Graph is retired",
        "Old builds of the stamp use it. Applications made after 2024-08-31, the bridge's too, are blocked from it unless they are exempt.",
        "Update the stamp first. Microsoft's retirement script may no longer help: its extension ended on 2025-08-31.";
    ROLE_DIFFERS "AZR4026" CheckFailed "A role of this name with other actions exists",
        "The role was made by hand or with an older tool.",
        "azsreg role create --update";
    PARENT_MISSING "AZR4027" Failed "The registration that the call is about is not there",
        "The name, the resource group or the subscription is wrong.", "azsreg list";
    PRINCIPAL_UNKNOWN "AZR4028" Failed "The directory does not know the principal",
        "The object id is mistyped, is an application's client id instead, or is of another directory.",
        "Give the object id of the user, group or service principal (not of the application), as the directory shows it.";
    BLOB_REFUSED "AZR4029" Failed "The storage of Azure's marketplace refused a file",
        "The address may have expired, or the file is not there any more; its words are below.",
        "Run the same command again: it asks for a new address and goes on where it was.";
    BLOB_CHANGED "AZR4030" Failed "A file changed in Azure while it was fetched",
        "The publisher replaced it: what was fetched is of another version.",
        "Run the same command again: the file is fetched anew.";
    BLOB_DAMAGED "AZR4031" Failed "A fetched file is not what Azure says that it is",
        "Its length or its MD5 differs, twice in a row: something between here and Azure changes it.",
        "Run the same command again; if it persists, look for a proxy that rewrites downloads.";
    SYNDICATION_REFUSED "AZR4032" Failed "The stamp can't use its registration",
        "Azure refused the stamp's bridge; its words are below.", "azsreg status  shows what is wrong on both sides.";
    CSP_NOT_APPROVED "AZR4033" CheckFailed "The registration is not approved for customers of a CSP",
        "Microsoft enables multi-tenancy for each registration on request.",
        "Ask azstCSP@microsoft.com, with the registration's name, resource group and subscription.";
    CUSTOMER_ID "AZR4034" CheckFailed "The customer's subscription is not one of this partner's",
        "The id is mistyped, of another CSP partner, or in capital letters: its letter case counts.",
        "Check the id in Partner Center; azsreg writes it in lower case.";
    CUSTOMER_NOT_CSP "AZR4035" CheckFailed "The customer's subscription is not a CSP subscription",
        "The id is mistyped, or the customer's subscription is of another kind.", "Check the id in Partner Center.";
    CUSTOMERS_NOT_ALLOWED "AZR4036" CheckFailed "The registration can't have customers",
        "It uses capacity billing, which reports no usage.", "azsreg set --billing-model pay-as-you-use";
    ANSWER_UNCLEAR "AZR4037" Failed "An answer does not say whether something is there",
        "A proxy, a gateway or another service answered in place of the one that was asked.",
        "Look at the words below, open the way, then run the same command again.";
    ADDRESS_REFUSED "AZR4040" CheckFailed "An address is not https",
        "A document of the other side (metadata, the stamp's information, a link, a manifest) names an address where a secret would be readable, or none at all.",
        "Have it mended there. For a test on this machine: --allow-http admits http on loopback.";
    OTHER_HOST "AZR4041" Failed "A link leads to another host",
        "The next page or an operation's address is not at the Resource Manager that was asked. Whoever answers there would get the sign-in's token.",
        "Check --cloud-endpoint, and what may answer in between.";
    LIST_ENDLESS "AZR4042" Failed "A list has no end",
        "A page leads back to one that was read before, or page after page is empty.",
        "Run the same command again. If it persists, check --cloud-endpoint, and what may answer in between.";
    TOO_LARGE "AZR4043" Failed "An answer is larger than the limit",
        "An answer may have 16 MiB, and need 64 MiB once it is read; so may a list. The limit that was reached is named above.",
        "Check --cloud-endpoint and proxies: no answer of Azure or of a stamp comes near.";
    NO_ANSWER_IN_TIME "AZR4044" Failed "An answer did not come in time",
        "Who was asked took the call and did not answer, or did not end its answer. It was asked twice.",
        "Run the same command again: it resumes. For a slow line: --answer-timeout SECONDS.";
    REDIRECTED "AZR4045" Failed "The other side redirects elsewhere",
        "azsreg never follows: it would show its secrets to whoever is there. Mostly a proxy's page for signing in, or a wrong address.",
        "Check --cloud-endpoint and proxies.";
    WAIT_TOO_LONG "AZR4046" Failed "A longer wait is asked for than a step has",
        "A call to Azure has five minutes, a move or a download an hour.",
        "Run the same command again after that time: it resumes.";
    OPERATION_ENDLESS "AZR4047" Failed "An accepted operation did not end in time",
        "Azure or the stamp took the call and still works on it. A call has five minutes, a move an hour.",
        "Run the same command again: it resumes.";
    POLICY "AZR4048" CheckFailed "A policy of Azure forbids the change",
        "An Azure Policy assignment denies it; its name and Azure's words are below.",
        "Do what the policy asks, or have an exemption made by who keeps it; then run the same command. If it is the resource group: make it yourself with what the policy asks, or give another --location.";
    LOCATION_CLOSED "AZR4049" CheckFailed "Azure does not let the subscription create resources there",
        "Azure limits the locations of some subscriptions; its words are below.",
        "Give another --location, or make the resource group yourself where Azure lets you; then run the same command.";
    SUBSCRIPTION_DISABLED "AZR4050" CheckFailed "The subscription is disabled",
        "Azure has made it read-only: it has expired, a payment is due, or it was cancelled.",
        "Have the subscription enabled again (Cost Management + Billing in the portal), or choose another --subscription.";
    GROUP_BEING_DELETED "AZR4051" Failed "The resource group is being deleted",
        "A deletion of the group was begun and has not ended. Azure makes nothing in it until then.",
        "Wait until the group is gone, then run the same command again; or choose another --resource-group.";
    RESERVED_NAME "AZR4052" CheckFailed "A name holds a word that Azure reserves",
        "Trademarks and some service names can't be used in the names of resources; Azure's words name it.",
        "Choose another --name.";
    ROLE_LIMIT "AZR4053" Failed "The subscription has as many role assignments as it may have",
        "Azure limits the role assignments of a subscription.",
        "Have role assignments removed that are not needed, then run the same command again: it resumes.";
    PROXY_UNREACHABLE "AZR4054" Failed "The proxy can't be reached",
        "Calls go through the proxy that is named above. Its name is not known here, or it does not take connections.",
        "Check the address in HTTPS_PROXY (or ALL_PROXY, or the system's settings), then run the same command again. Hosts that need no proxy: NO_PROXY.";
    PROXY_REFUSED "AZR4055" Failed "The proxy does not let the call through",
        "The proxy that is named above answered in place of the host: it wants a sign-in, forbids the host or does not reach it.",
        "Have the host allowed on the proxy, or put the proxy's user into HTTPS_PROXY (http://USER:PASSWORD@HOST:PORT), then run the same command again.";
    SUBSCRIPTION_WARNED "AZR4056" Failed "The subscription is about to be disabled",
        "A payment is due, or the subscription's term has ended: Azure disables it after a time.",
        "Look at Cost Management + Billing in the portal.";
    FORBIDDEN_BY_SOMETHING "AZR4057" Failed "A call was forbidden, and it is not said by whom",
        "The service answered 403, or a proxy or a firewall in its place.",
        "See in the words who answered. A proxy: have the host allowed there. Azure: ask for the role that the call needs. Then run the same command again.";
    NOT_CHECKED "AZR4060" Failed "Something in Azure could not be checked",
        "The sign-in's roles do not let it be read, or this Azure does not offer it.",
        "Nothing, if the rest went well: Azure judges each call itself. To have it checked, ask for the role of azsreg role create.";

    LOCKED "AZR5001" Locked "Another operation on this stamp is running",
        "One operation per stamp and machine at a time.", "Wait until it has ended, then run the same command again.";
    JOURNAL_DAMAGED "AZR5002" Failed "The journal is damaged",
        "A line of the journal does not follow from the one before: the file was edited or the disk is failing.",
        "A copy is kept beside it. Add --without-journal to go on from what both sides say; numbers that Azure does not show are asked for.";
    STATE_UNWRITABLE "AZR5003" Failed "A file or directory can't be written",
        "No permission, no space, or a path that does not exist.",
        "Mend the permissions of the path above or make room, then run the same command again.";
    FILE_UNREADABLE "AZR5004" Usage "A file can't be read",
        "It is missing, or you may not read it, or it does not hold what it should.", "Check the path.";
    INTERRUPTED "AZR5005" Interrupted "Interrupted",
        "You, or the system, stopped the command.", "Run the same command again.";
    FILE_EXISTS "AZR5006" Usage "The output file exists",
        "azsreg does not write over a file: it may be the one to carry.", "Choose another --out, or move the file away.";
    BUNDLE_DAMAGED "AZR5007" CheckFailed "The carried file is damaged",
        "Its checksum does not hold, or it is cut: it was changed or mis-copied on the way.",
        "Copy the file again from where it was made; azsreg offline inspect FILE shows what it holds.";
    BUNDLE_KIND "AZR5008" CheckFailed "This is not the file for this step",
        "Each trip has its own file.", "azsreg offline inspect FILE  says which command the file is for.";
    BUNDLE_OTHER_STAMP "AZR5009" CheckFailed "The carried file is for another stamp",
        "The file's cloud id is not that of the stamp, or not that of the registration.",
        "Carry the right file; azsreg offline inspect FILE shows its cloud id, azsreg stamp info the stamp's.";
    BUNDLE_STALE "AZR5010" CheckFailed "The carried file is not the newest",
        "A later file for the same stamp exists, or what the file was made for has been done since.",
        "Begin the trip again with the newest file.";
    NO_SPACE "AZR5011" Failed "There is not enough room",
        "The disk has less free space than the files need.",
        "Make room or choose another --to, then run the same command again: what was fetched stays and is used.";
    ITEM_DAMAGED "AZR5012" CheckFailed "A carried item is not whole",
        "Files are missing, changed, cut, or of another item.",
        "Copy them again from where they were made, or download the item again: what is good is kept.";
    ITEM_UNFINISHED "AZR5013" CheckFailed "A carried item is an unfinished copy",
        "The folder has no manifest: its download or its copying was not finished, or the PowerShell tool made it.",
        "Copy it again; if it is no better where it was made, azsreg marketplace download goes on where it was.";
    FOLDER_BUSY "AZR5014" Locked "Another command works on the folder",
        "One download or import at a time works on a folder.", "Wait until it has ended.";
    INPUT_TOO_LARGE "AZR5015" Usage "A file is larger than what azsreg reads",
        "Another file is named than was meant: each kind has a limit far above what is in use.",
        "Check the path; docs/guide/files.md lists the limits.";
    INPUT_KIND "AZR5016" Usage "What is named is neither a file nor a pipe",
        "A directory, a device or a socket stands under this name.", "Name a file, or a pipe such as <(COMMAND).";
    INPUT_SILENT "AZR5017" Usage "A pipe stayed silent",
        "The program that should write to it does not run, waits for something itself, or keeps the pipe open.",
        "Run that program by itself to see what it says, then run the same command again.";
    TOO_MANY_FILES "AZR5018" Failed "No more files or sockets can be opened",
        "The shell's limit on open files is too low for azsreg, or the machine's is used up.",
        "Raise it in this shell with  ulimit -n 1024  then run the same command again.";
    OWNED_BY_ANOTHER "AZR5019" Failed "The state directory is another user's",
        "Journals and locks are their owner's alone, unless an administrator has made the directory for a group. They keep operations on one stamp apart, so a second directory is no way out.",
        "Run azsreg as its owner, or share one state directory by a group: chgrp GROUP DIR; chmod 2770 DIR.";

    JOURNAL_NEWER "AZR5020" Failed "The journal was written by a newer azsreg",
        "It has an event, or a version of the steps, that this azsreg does not know.",
        "Run the newer azsreg, or add --without-journal to go on from what both sides say.";
    JOURNAL_FOREIGN "AZR5021" Failed "The journal is another stamp's",
        "The file was copied among the journals of a stamp that it is not of.",
        "Move the file to the directory of its own stamp, then run the same command again.";
    CA_FILE "AZR5022" Usage "The file of authorities holds no certificate",
        "--ca-file takes certificates of authorities, as text (PEM) or as bytes (DER).",
        "Export the authority's certificate (.cer or .pem, without its key) and name that file.";
    NO_AUTHORITIES "AZR5023" Failed "There are no authorities to trust",
        "SSL_CERT_FILE or SSL_CERT_DIR names a file or a directory that is missing or holds no certificate, and takes the place of the system's authorities.",
        "Mend or unset SSL_CERT_FILE and SSL_CERT_DIR, then run the same command again.";
    PROXY_SETTING "AZR5024" Usage "The proxy's address can't be used",
        "A variable of the environment names a proxy in a way that azsreg can't use. It is not passed over: a direct way out may not be wanted.",
        "Set it to http://HOST:PORT (or https://HOST:PORT), or unset it for a direct way out.";
    SIGN_IN_NOT_KEPT "AZR5025" Failed "A sign-in can't be kept",
        "The state directory can't be written: it is read-only, full or another user's.",
        "Name one that can be written: --state-dir DIR (or AZSREG_STATE_DIR), then run the same command again.";

    NOT_REGISTERED "AZR6001" NotRegistered "The stamp is not registered",
        "Azure has no registration with this cloud id in what was looked at.",
        "azsreg register --billing-model MODEL  (disconnected: begin with azsreg offline token)";
    RECORD_MISMATCH "AZR6002" Failed "The stamp is activated for another registration",
        "The activation record names another registration than the one just made.",
        "azsreg status  shows both sides; run the same command again.";
    NOT_ACTIVATED "AZR6003" Failed "The stamp has no activation record",
        "The activation ended well, but the record is not there.", "Run the same command again: it resumes.";
    REGISTRATION_MISSING "AZR6004" NotRegistered "The registration is not there",
        "The name, the resource group or the subscription is wrong, or it was removed.", "azsreg list";
    EXPIRED "AZR6005" Expiring "The registration has expired",
        "A capacity registration lasts a year.", "azsreg renew";
    EXPIRING "AZR6006" Expiring "The registration expires soon",
        "A capacity registration lasts a year.", "azsreg renew";
    SCALE_CHANGED "AZR6007" Failed "The stamp has not as many nodes as were registered",
        "Nodes were added or removed since; capacity is billed by what was registered.", "azsreg renew";
    LOCK_MISSING "AZR6008" Failed "The registration is not locked",
        "The lock was removed, or a change was interrupted: the registration can be deleted by accident.", "azsreg repair";
    ROLE_MISSING "AZR6009" Failed "The stamp's principal has no role on the registration",
        "The role assignment was removed, or did not move along with the registration: the stamp can't read its registration.",
        "azsreg repair";
    PRINCIPAL_MISSING "AZR6010" Failed "The stamp's principal does not exist",
        "The bridge application or its principal was deleted from the directory: marketplace and usage stop.",
        "azsreg renew";
    TENANT_CHANGED "AZR6011" Failed "The subscription has changed its directory",
        "Moving a subscription to another directory resets the registration: the stamp's principal stays behind.",
        "azsreg renew  (signed in to the new directory)";
    ACTIVATION_ORPHANED "AZR6012" NotRegistered "The stamp is activated for a registration that is gone",
        "The registration was deleted in Azure while the stamp stayed activated.",
        "azsreg register --billing-model MODEL  (disconnected: begin with azsreg offline token)";
    OTHER_CLOUD_ID "AZR6013" CheckFailed "The registration belongs to another stamp",
        "The registration's cloud id is not this stamp's.", "azsreg list  shows which registration is this stamp's.";
    HALF_REGISTERED "AZR6014" NotRegistered "Azure has the registration, but the stamp is not activated",
        "A registration was interrupted, or the stamp was deactivated.", "azsreg repair";
    ACTIVATED_ELSEWHERE "AZR6015" NotRegistered "The stamp is activated for another registration",
        "Its activation record names another registration than the one in Azure: mostly after a move.",
        "azsreg repair";
    DETAILS_UNKNOWN "AZR6016" CheckFailed "A detail of the registration is not known",
        "Azure and the stamp don't give it back, and this machine has no journal that does.",
        "Add the option that is named above.";
    STAMP_STEP_LEFT "AZR6017" Resumable "Azure's part is done; the stamp's is left",
        "The stamp can't be reached from here.", "azsreg repair  from a machine that reaches the stamp.";
    MARKETPLACE_OFF "AZR6018" CheckFailed "The stamp's registration offers no marketplace items",
        "It was registered with marketplace syndication off, as disconnected stamps are.",
        "Connected: azsreg set --marketplace on. Disconnected: azsreg marketplace download, then import.";
    ITEM_UNKNOWN "AZR6019" NotRegistered "There is no such item",
        "The name is mistyped, or the item is not offered any more.", "azsreg marketplace list --filter TEXT";
    ITEM_INCOMPATIBLE "AZR6020" CheckFailed "The item is not for this stamp",
        "Azure says that the stamp's build, identity system, billing model or connection does not go with it.",
        "azsreg marketplace list --compatible";
    NO_OPERATOR "AZR6021" Usage "No account is signed in to the stamp's Resource Manager",
        "Marketplace items are managed there, and the privileged endpoint's account does not sign in to it.",
        "Add --stamp-client-id ID and --stamp-client-secret @FILE, or --stamp-device-code.";
    CUSTOMER_MISSING "AZR6022" NotRegistered "The customer's subscription is not one of this registration's",
        "It was never added, or it is mistyped.", "azsreg customer list";
    ALERT_UNKNOWN "AZR6023" NotRegistered "There is no such alert",
        "The id is mistyped, or the stamp has forgotten an old alert.", "azsreg alerts list --all";
    TENANT_UNKNOWN "AZR6024" NotRegistered "The stamp has no such tenant's subscription",
        "The id is of another stamp, or of a subscription in Azure: usage is asked for by the subscription on the stamp.",
        "azsreg usage show --by subscription";
    USAGE_DIFFERS "AZR6025" CheckFailed "Azure's usage is not the stamp's",
        "Missing: not uploaded while reporting was off, or under a subscription that was not looked at. Surplus: another table of meters, or billed otherwise than recorded.",
        "Name every subscription that paid for a part of the time with --payer; see azsreg usage status.";
    OF_A_DISCONNECTED "AZR6026" CheckFailed "The registration is a disconnected stamp's",
        "It was made of a token that was carried to Azure: it has no principal, and the stamp is told by files.",
        "azsreg offline renew start --billing-model MODEL --out FILE  (at the stamp)";
    CHANGED_MEANWHILE "AZR6027" CheckFailed "It was changed meanwhile",
        "Another operator, or another tool, works on the same stamp or registration.",
        "Look at it again: run the same command.";
    LEFT_UNLOCKED "AZR6028" Failed "The registration was left without its lock",
        "It was lifted for the operation, and could not be put back.",
        "azsreg repair";

    CHECKS_FAILED "AZR7001" CheckFailed "Nothing was changed: checks failed",
        "The list above says which.", "Mend each, then run the same command again.";
    CLOCK_SKEW "AZR7002" CheckFailed "The clock of this machine is wrong",
        "Tokens and keys are valid for a time; a clock that is off by more than five minutes makes them fail.",
        "Set the clock, then run the same command again.";
    CONNECTION_MATRIX "AZR7003" CheckFailed "The billing model does not go with the stamp's connection or identity system",
        "Disconnected stamps use AD FS and capacity billing; pay-as-you-use needs a connection to Azure.",
        "Choose another --billing-model, or register with azsreg offline.";

    LAB_START "AZR8001" Failed "The lab did not start",
        "A port or a file could not be had.", "Check the options of azsreg lab up.";
    NO_LAB "AZR8002" NotRegistered "No lab is running",
        "No lab of this state directory answers.", "azsreg lab up";
    LAB_STORE "AZR8003" Failed "The lab's data can't be read or written",
        "The data directory is in use by another lab, or can't be read or written by this user.",
        "Stop the other lab, or choose another --data-dir.";
    LAB_CONTROL "AZR8004" Failed "The lab's control port refused",
        "Its words are above.", "azsreg lab --help";
    LAB_DIFFERS "AZR8005" CheckFailed "The lab differs from the transcript",
        "The stamp answers otherwise than the simulated one.",
        "Please open an issue with the transcript: the lab should be as the stamp is.";
    LAB_STORE_DAMAGED "AZR8006" Failed "The lab's data are damaged",
        "The file that is named was emptied, cut short, changed or removed since a lab kept its world in it. A new world in its place would answer none of what is registered, signed in or billed there.",
        "Put back a copy of the whole --data-dir that was made while no lab ran, or begin a new world in another --data-dir.";
    LAB_STORE_NEWER "AZR8007" Failed "The lab's data are of a newer azsreg",
        "A newer azsreg has written the file that is named; this one would not understand all of it.",
        "Run the newer azsreg, or choose another --data-dir.";
    LAB_STORE_FULL "AZR8008" Failed "There is no room for the lab's data",
        "The disk of the data directory is full, or a quota is reached. The lab acknowledges nothing that it can't keep.",
        "Make room there, then run the same command again; or choose another --data-dir.";

    MODULE_SIGN_IN "AZR9001" Failed "The PowerShell module could not dig out a sign-in",
        "The module reads a refresh token from private caches of Azure PowerShell, which change with each release.",
        "azsreg login  signs in by itself.";
    MODULE_CLASH "AZR9002" Failed "Two families of Azure PowerShell modules clash",
        "AzureRM and Az are loaded together, or the script is of the other family.",
        "azsreg check  (azsreg needs none of them)";
    MODULE_LANGUAGE "AZR9003" Failed "PowerShell is in constrained language mode",
        "A policy of the machine limits PowerShell.", "azsreg check  (azsreg needs no PowerShell)";
    MODULE_PARAMETER "AZR9004" Failed "A parameter of the module was missing or misspelt",
        "The article's samples lack quotes, line continuations and mandatory parameters.",
        "azsreg register --help  names every option; docs/guide/from-the-article.md maps each parameter.";
    MODULE_FILE "AZR9005" Failed "The module could not write its file",
        "The path of TokenOutputFilePath or KeyOutputFilePath can't be written.", "azsreg offline token --billing-model MODEL --out FILE";
    MODULE_TOKEN_CLOUD_ID "AZR9006" Failed "The module could not read a cloud id out of the token",
        "The token is not base64 of JSON, mostly because it was copied from a screen.",
        "azsreg offline inspect FILE  says which character is wrong.";
    MODULE_NO_CONTEXT "AZR9007" Failed "The module had no Azure context",
        "No account was signed in, in that PowerShell session.", "azsreg login";
    MODULE_INSTALL "AZR9008" Failed "The module could not be installed",
        "The machine is offline or NuGet is missing.", "Carry azsreg there: it is one file.";
    MODULE_UNKNOWN "AZR9009" Failed "An error that azsreg does not know",
        "The log's own words are all that is known.",
        "azsreg check  looks at everything that registering needs.";
    MODULE_UNREGISTER "AZR9010" Failed "The PowerShell module can't unregister by token or by cloud id",
        "It compares the registrations with a cloud id that it never reads, so it finds none, whatever is there.",
        "azsreg offline unregister FILE  with the file of the deactivation, or the module's own command with -RegistrationName NAME (azsreg list shows the name).";
    MODULE_WINRM "AZR9011" Failed "PowerShell could not open a session to the privileged endpoint",
        "The words say why: mostly a setting of the Windows that it ran on (Kerberos, a logon server, TrustedHosts), or the way to the endpoint.",
        "azsreg stamp info  says what answers there; azsreg needs neither Kerberos nor TrustedHosts.";
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
    fn an_entry_accuses_no_person() {
        // Only who has seen what happened can rule the rest out.
        for code in code::ALL {
            for word in ["report this", "inspects TLS"] {
                assert!(!code.cause.contains(word) && !code.next.contains(word), "{}: {word}", code.id);
            }
        }
    }

    #[test]
    fn what_says_nothing_leaves_open_what_was_begun() {
        let of = |is: fn(&super::Code) -> bool| {
            code::ALL.iter().filter(|code| is(code)).map(|code| code.id).collect::<Vec<_>>()
        };
        let away = of(super::Code::is_away);
        assert_eq!(away.len(), 11, "{away:?}");
        let open = of(super::Code::leaves_open);
        assert_eq!(open.len(), 15, "{open:?}");
        assert!(
            open.iter().all(|id| id.starts_with("AZR4") || *id == "AZR5024") && away.iter().all(|id| open.contains(id))
        );
    }

    #[test]
    fn every_entry_says_what_to_do() {
        for code in code::ALL {
            assert!(!code.cause.is_empty() && !code.next.is_empty(), "{}", code.id);
        }
    }
}
