//! The rows of the table: which one comes first decides, so what is most specific stands first.

use super::{Class, Plane, Refusal, Who};
use crate::codes::code;

macro_rules! refusals {
    ($($row:literal $plane:ident $class:ident $who:ident $code:ident $said:literal $($words:literal)*;)*) => {
        /// All rows, in order.
        pub static REFUSALS: &[Refusal] = &[$(Refusal {
            row: $row,
            plane: Plane::$plane,
            class: Class::$class,
            who: Who::$who,
            code: &code::$code,
            said: $said,
            words: &[$($words),*],
        }),*];
    };
}

// row of facts-errors.md (0: none) · plane · class · who can mend it · code · what is said · what happened · what to run · why
refusals! {
    // Ids that no language changes: PowerShell's, Windows's, WinRM's.
    45 Stamp Ask You PEP_REFUSED "LogonFailure,PSSessionOpenFailed|0x8007052E|error code 1326";
    // A setting of this Windows, which azsreg does not need: no logon server (1311), no Kerberos, a host that is not trusted.
    45 Module Refuse You MODULE_WINRM "AuthenticationFailed,PSSessionOpenFailed|0x8009030E|ServerNotTrusted,PSSessionOpenFailed|0x803380E4";
    45 Stamp Refuse Stamp PEP_NOT_ALLOWED "AccessDenied,PSSessionOpenFailed";
    0 Stamp Wait You PEP_SESSIONS_USED "2150859173|-2144108123|0x803381A5|maximum number of…concurrent shells";
    44 Stamp Refuse You PEP_CONFIGURATION "InvalidResourceUri,PSSessionOpenFailed";
    44 Stamp Refuse Network PEP_UNREACHABLE "CannotConnect,PSSessionOpenFailed|WinRMOperationTimeout,PSSessionOpenFailed|NetworkPathNotFound,PSSessionOpenFailed";
    44 Stamp Refuse Network PEP_UNREACHABLE "ComputerNotFound,PSSessionOpenFailed|URLNotAvailable,PSSessionOpenFailed";
    44 Stamp Refuse Network PEP_UNREACHABLE "2150858770|-2144108526|0x80338012|2150859046|-2144108250|0x80338126";

    // The directory's words, mostly inside a failure of the stamp.
    34 Directory Ask You ACCOUNT_NOT_IN_TENANT "AADSTS50034|AADSTS90072";
    0 Directory Ask You ACCOUNT_NOT_IN_TENANT "AADSTS50020" ""
        "azsreg login --tenant TENANT  with an account of that tenant; or have the account invited as a guest there.";
    35 Directory Ask You PASSWORD_CHANGE "AADSTS50055|AADSTS50144|Force Change Password";
    0 Directory Ask You MFA_REQUIRED "AADSTS50076|AADSTS50074";
    0 Directory Ask You MFA_REQUIRED "AADSTS50158" ""
        "azsreg login --browser  goes through the further check that the tenant asks for; then run the same command again.";
    0 Directory Ask You MFA_ENROLMENT "AADSTS50079|AADSTS50072";
    0 Directory Ask You CONDITIONAL_ACCESS "AADSTS50097" ""
        "azsreg login --browser  on a device that the directory knows (joined or registered): a device code can't show one.";
    0 Directory Ask You CONDITIONAL_ACCESS "AADSTS53000|AADSTS53001|AADSTS50131" ""
        "azsreg login --browser  on a device that satisfies the policy, or ask the directory's administrator to exclude the account for the registration.";
    0 Directory Ask Directory CONDITIONAL_ACCESS "AADSTS53002" ""
        "Ask the directory's administrator: the policy takes approved applications alone, and azsreg signs in as Azure PowerShell.";
    0 Directory Ask Directory CONDITIONAL_ACCESS "AADSTS53003|AADSTS530032|AADSTS530031" ""
        "azsreg login --browser  if a device code was refused: that itself may be what is blocked. Otherwise ask the directory's administrator to exclude the account for the registration.";
    0 Directory Ask Directory CONDITIONAL_ACCESS "AADSTS530035" ""
        "azsreg login --browser  if a device code was refused. Otherwise ask the directory's administrator: the directory's security defaults block the sign-in."
        "The directory's security defaults block it.";
    0 Directory Ask You SIGN_IN_EXPIRED "AADSTS700082|AADSTS70008|AADSTS70043|AADSTS70044|AADSTS700084|AADSTS500133";
    0 Directory Ask You SIGN_IN_REVOKED "AADSTS50173|AADSTS50132|AADSTS50133";
    0 Directory Ask Directory CONSENT_REQUIRED "AADSTS65001|AADSTS90094|AADSTS650052|AADSTS650051";
    0 Directory Ask You CONSENT_REQUIRED "AADSTS65004" ""
        "azsreg login  and accept what is asked for; or have an administrator of the tenant consent."
        "The person declined to consent.";
    0 Directory Ask You BAD_CLIENT_SECRET "AADSTS7000215" ""
        "Give the secret's value, not its id: the portal shows the value only when the secret is made. Otherwise make a new one.";
    0 Directory Ask Directory BAD_CLIENT_SECRET "AADSTS7000222" "" "Make a new secret for the application: this one has expired.";
    0 Directory Ask Directory BAD_CLIENT_SECRET "AADSTS700027" ""
        "Add the certificate to the application's certificates, or give the one that is there.";
    0 Directory Ask You CLOCK_SKEW "AADSTS700024" "the directory does not take the application's assertion: by its clock, the time in it is not now";
    0 Directory Ask You UNKNOWN_APPLICATION "AADSTS700016|AADSTS70001";
    0 Directory Ask Directory APPLICATION_DISABLED "AADSTS7000112|AADSTS500014";
    0 Directory Ask Directory ACCOUNT_DISABLED "AADSTS50057";
    0 Directory Ask Directory ACCOUNT_DISABLED "AADSTS50053" ""
        "Wait until the lock ends, or ask an administrator of the directory; then azsreg login.";
    0 Directory Ask Directory NOT_ASSIGNED "AADSTS50105";
    0 Directory Ask You UNKNOWN_TENANT "AADSTS90002|AADSTS900023|AADSTS50059|AADSTS90019";
    0 Directory Ask You OTHER_CLOUD "AADSTS900439" ""
        "azsreg login --cloud AzureUSGovernment  and the same --cloud with the command";
    0 Directory Ask You OTHER_CLOUD "AADSTS900382|AADSTS900432|AADSTS90038|AADSTS90051";
    0 Directory Ask You SIGN_IN_DECLINED "AADSTS70019" "" "azsreg login  and enter the new code within its time";
    0 Directory Ask You SIGN_IN_DECLINED "AADSTS70018|AADSTS70020|AADSTS50058";
    0 Directory Again Passes AZURE_FAULT "AADSTS90033|AADSTS90024|AADSTS90055|AADSTS90012|AADSTS90006" "the directory failed for the moment";
    // Azure AD Graph is retired: the directory's or the stamp's words for it.
    38 Directory Ask Directory GRAPH_RETIREMENT "blocked to AAD Graph API|Access to AAD Graph is blocked|AzureADGraphMigration|blockAzureADGraphAccess"
        "the directory refuses the stamp: it uses Azure AD Graph, which is retired";
    36 Directory Ask You SIGN_IN_REFUSED "unknown_user_type|AADSTS|invalid_grant";

    0 Stamp Refuse Directory FORBIDDEN "New-AzureBridgeServicePrincipal…status 403" "the directory forbids the stamp to make or change its principal"
        "Have the right to register applications granted, or be made owner of the stamp's bridge application; then run the same command again: it resumes."
        "The caller may not register applications, or is not the owner of the stamp's bridge application.";
    0 Stamp Refuse Directory FORBIDDEN "New-AzureBridgeServicePrincipal…Authorization_RequestDenied|New-AzureBridgeServicePrincipal…Insufficient privileges"
        "the directory forbids the stamp to make or change its principal"
        "Have the right to register applications granted, or be made owner of the stamp's bridge application; then run the same command again: it resumes."
        "The caller may not register applications, or is not the owner of the stamp's bridge application.";

    // Policies, before what they are about.
    0 Azure Ask You CLAIMS_NEEDED "RequestDisallowedByPolicy…multifactor|RequestDisallowedByPolicy…multi-factor|RequestDisallowedByPolicy…(MFA)"
        "a policy asks for multi-factor authentication before this change"
        "azsreg login --browser  completes the second factor; then run the same command again. An application can't: give it an exemption.";
    0 Azure Refuse Policy POLICY "RequestDisallowedByPolicy" "a policy of Azure forbids the change";
    0 Azure Refuse Policy LOCATION_CLOSED "RequestDisallowedByAzure" "Azure does not let the subscription create resources there";
    // Azure.
    1 Azure Refuse Microsoft TOKEN_REFUSED "InvalidRegistrationToken|registration token is malformed" "Azure refused the registration token";
    2 Azure Refuse You NAME_TAKEN "CloudIdUpdateNotAllowed|already associated with another Cloud identifier"
        "the registration's name belongs to another stamp";
    3 Azure Refuse You STAMP_REGISTERED_ELSEWHERE "Cloud identifier […] is already registered|Reusing cloud identifiers is not allowed"
        "the stamp is registered already, under another name";
    5 Azure Refuse Subscription FORBIDDEN "AuthorizationFailed…Microsoft.Authorization/locks/|authorization to perform action…Microsoft.Authorization/locks/"
        "Azure forbids the call"
        "Ask for Owner, User Access Administrator or the role of azsreg role create: Contributor is not enough for locks. Then run the same command again: it resumes.";
    4 Azure Refuse Subscription FORBIDDEN "AuthorizationFailed|LinkedAuthorizationFailed|does not have authorization to perform action" "Azure forbids the call";
    4 Azure Refuse Directory FORBIDDEN "Authorization_RequestDenied|Insufficient privileges to complete"
        "the directory forbids the call";
    4 Azure Refuse You FORBIDDEN_BY_SOMETHING "(403) Forbidden|status code 403|\"StatusCode\": 403" "a call was forbidden, and it is not said by whom";
    7 Azure Refuse You PARENT_MISSING "ParentResourceNotFound|Parent resource '…' not found"
        "the registration that the call is about is not there";
    8 Azure Refuse You LOCATION_NOT_AVAILABLE "LocationNotAvailableForResourceGroup"
        "the location is not offered to the subscription";
    0 Azure Refuse You GROUP_ELSEWHERE "InvalidResourceGroupLocation" "the resource group is in another location";
    0 Azure Wait Passes GROUP_BEING_DELETED "ResourceGroupBeingDeleted|ResourceGroupDeletionInProgress" "the resource group is being deleted";
    15 Azure Refuse You CUSTOMER_ID "BadCustomerSubscriptionId" "Azure does not take the customer's subscription";
    16 Azure Refuse You CUSTOMER_ID "InvalidCustomerSubscriptionId" "Azure does not take the customer's subscription";
    17 Azure Refuse You CUSTOMER_MISSING "CustomerSubscriptionNotFound" "the registration does not have the customer's subscription";
    18 Azure Refuse Microsoft CSP_NOT_APPROVED "UnauthorizedCspRegistration" "the registration may not have customers of its own";
    19 Azure Refuse You CUSTOMERS_NOT_ALLOWED "CustomerSubscriptionsNotAllowed" "a registration with capacity billing has no customers";
    20 Azure Refuse You CUSTOMER_NOT_CSP "InvalidCSPSubscription" "the customer's subscription is no CSP subscription";
    0 Azure Refuse You SUBSCRIPTION_NOT_VISIBLE "SubscriptionNotFound|The subscription '…' could not be found"
        "the sign-in does not see the subscription";
    0 Azure Refuse Subscription SUBSCRIPTION_DISABLED "ReadOnlyDisabledSubscription|SubscriptionNotEnabled|DisabledSubscription"
        "the subscription is disabled: Azure refuses every change in it";
    0 Azure Ask You OTHER_TENANT "InvalidAuthenticationTokenTenant" "the sign-in is of another tenant than the subscription";
    0 Azure Ask You SIGN_IN_REFUSED "InvalidAuthenticationToken|ExpiredAuthenticationToken|=AuthenticationFailed"
        "Azure does not take the sign-in's token" "azsreg login" "The token has expired, was revoked, or is for another endpoint.";
    9 Azure Wait Passes PROVIDER_NOT_REGISTERED "MissingSubscriptionRegistration|not registered to use namespace"
        "the provider's registration has not arrived yet";
    10 Azure Refuse Subscription SCOPE_LOCKED "ScopeLocked|scope(s) are locked" "a lock forbids the change";
    0 Azure Refuse You RESERVED_NAME "ReservedResourceName" "Azure reserves a word in the name";
    0 Azure Refuse Subscription ROLE_LIMIT "RoleAssignmentLimitExceeded" "the subscription has as many role assignments as it may have";
    0 Azure Wait Passes PRINCIPAL_UNKNOWN "PrincipalNotFound" "the directory does not know the principal yet"
        "Run the same command again: it resumes. A new principal is known everywhere after some minutes."
        "A principal that was made a moment ago is not known everywhere in the directory at once.";
    11 Azure Again Passes STILL_THERE "Removal of registration resource failed.";
    // A move that was begun before, by another client or by one that died.
    0 Azure Wait Passes AZURE_FAULT "ResourceMoveInProgress|ResourceGroupBeingMoved|ResourcesBeingMoved|MoveInProgress|=OperationInProgress"
        "an earlier operation on the resource group has not ended";
    12 Azure Refuse You MOVE_REFUSED "ResourceMoveNot|ResourceMoveProvider|ResourceMovePolicy|CannotMoveResource|MoveResources" "Azure refuses the move";
    13 Azure Refuse You GERMAN_CLOUD "not supported for registration: AzureGermanCloud|resource namespace 'Microsoft.AzureStack' is invalid";
    14 Azure Refuse You REGISTRATION_MISSING "RegistrationNotFound" "there is no such registration";
    0 Azure Refuse You EXPIRED_NOT_UPDATED "RegistrationExpired" "the registration has expired and can't be updated";
    21 Azure Again Passes AZURE_FAULT "MetadataResolverBadGatewayError" "a service behind Azure failed";

    // The offline tool for marketplace items.
    75 Module Refuse You NOT_REGISTERED "The subscription does not have Azure Stack registration";
    76 Module Refuse You ITEM_UNFINISHED "json file not exist for product|.json.origin file exists|.marketplace file exists";
    77 Module Refuse You ITEM_DAMAGED "Property value for…is null. Please check JSON contents";
    78 Module Refuse Microsoft BLOB_REFUSED "VM vhd source is empty|VM extension zip source is empty|zip source is empty";
    79 Module Wait Passes ITEM_BUSY "RequestConflict";
    0 Module Refuse Stamp ITEM_FAILED "ProductJobFailed|Unable to complete syndication operation";
    // This PowerShell: its context, its sign-in, its modules.
    22 Module Refuse You MODULE_NO_CONTEXT "ErrorCode: AzureContextNotSet|Azure context is not currently set";
    22 Module Refuse You MODULE_NO_CONTEXT "Run Connect-AzAccount to login|Run Login-AzureRmAccount to login";
    23 Module Refuse You LOCATION_NOT_AVAILABLE "ErrorCode: UnknownResourceGroupLocation";
    23 Module Refuse You LOCATION_NOT_AVAILABLE "Cannot bind argument to parameter 'ResourceGroupLocation'";
    24 Module Refuse You NO_ASSET_TAG "ErrorCode: MissingMsAssetTag";
    25 Module Refuse You MODULE_SIGN_IN "Token cache is empty";
    26 Module Refuse You MODULE_SIGN_IN "Token not found for tenant id";
    27 Module Refuse You MODULE_SIGN_IN "Unable to resolve refresh token from empty context";
    28 Module Refuse You MODULE_SIGN_IN "Unable to resolve acccount for|Unable to resolve a refresh token for";
    29 Module Refuse You MODULE_SIGN_IN "ensure you have authenticated with Az Accounts module";
    30 Module Refuse You MODULE_SIGN_IN "Unable to find type…AuthenticationClientFactory";
    30 Module Refuse You MODULE_SIGN_IN "Unable to find type…SharedTokenCacheProvider";
    31 Module Refuse You MODULE_SIGN_IN "argument transformation on parameter 'RefreshToken'";
    31 Module Refuse You MODULE_SIGN_IN "Cannot convert 'System.Object[]' to the type…parameter 'RefreshToken'";
    32 Module Refuse You MODULE_CLASH "TokenCache.ReadItems()…null-valued expression";
    33 Module Refuse You MODULE_CLASH "error loading the extended type data file";
    37 Module Refuse Subscription ACTIONS_MISSING "User must be an owner of the subscription";
    40 Module Refuse You MODULE_INSTALL "Unable to find package provider 'NuGet'|NuGet provider is required";
    40 Module Refuse You MODULE_INSTALL "Unable to find module repositories|Unable to find repository";
    40 Module Refuse You MODULE_INSTALL "Unable to resolve package source|No match was found for the specified";
    41 Module Refuse You MODULE_LANGUAGE "ConstrainedLanguage|only core types in this language mode";
    // The way to the privileged endpoint, as a console shows it.
    45 Stamp Refuse Stamp PEP_NOT_ALLOWED "Connecting to remote server…Access is denied";
    45 Stamp Ask You PEP_REFUSED "Connecting to remote server…user name or password is incorrect";
    44 Stamp Refuse You PEP_CONFIGURATION "Cannot find the…session configuration in the WSMan: drive";
    44 Stamp Refuse Network PEP_UNREACHABLE "WinRM cannot complete the operation";
    44 Module Refuse You MODULE_WINRM "TrustedHosts configuration setting|WinRM client cannot process";
    44 Module Refuse You MODULE_WINRM "PSSessionOpenFailed|Connecting to remote server…failed with the following error";
    43 Stamp Refuse Stamp CMDLET_UNKNOWN "ScriptsNotAllowed|runspace is in no-language mode";
    46 Stamp Wait Passes STAMP_BUSY "another action is in progress" "the stamp is busy with another action";
    // A cmdlet that is not known: one of the stamp's, one of a module here, or another.
    39 Module Refuse You MODULE_PARAMETER "The term 'Set-AzureRMsRegistration' is not recognized";
    47 Stamp Refuse Stamp CMDLET_UNKNOWN "The term '…-AzureStack…' is not recognized|ObjectNotFound: (…-AzureStack";
    47 Stamp Refuse Stamp CMDLET_UNKNOWN "The term '…-AzureBridge…' is not recognized|ObjectNotFound: (…-AzureBridge";
    32 Module Refuse You MODULE_CLASH "The term '…-AzureRm…' is not recognized|ObjectNotFound: (…-AzureRm";
    40 Module Refuse You MODULE_INSTALL "The term '…-Azs…' is not recognized|ObjectNotFound: (…-Azs";
    32 Module Refuse You MODULE_CLASH "The term 'Get-Az…' is not recognized|The term 'Connect-Az…' is not rec|ObjectNotFound: (Get-Az|ObjectNotFound: (Connect-Az";
    47 Stamp Refuse Stamp CMDLET_UNKNOWN "is not recognized as the name of a cmdlet|CommandNotFoundException";
    49 Stamp Refuse Stamp CMDLET_UNKNOWN "cannot be found that matches parameter name 'MsAssetTag'";
    49 Stamp Refuse Stamp CMDLET_UNKNOWN "cannot be found that matches parameter name 'TokenVersion'";
    69 Module Refuse You MODULE_PARAMETER "cannot be found that matches parameter name";
    // What was given, and files.
    50 Module Refuse You MODULE_PARAMETER "Cannot bind argument to parameter 'ActivationKey'";
    58 Module Refuse You NO_AGREEMENT_NUMBER "Agreement number is null or empty";
    59 Module Refuse You CUSTOM_UNSUPPORTED "Custom BillingModel is not supported for StampVersion";
    61 Module Refuse You MODULE_FILE "Unable to create file at location";
    61 Module Refuse You MODULE_FILE "activation key failed:…Could not find a part of the path";
    62 Module Refuse You MODULE_TOKEN_CLOUD_ID "Unable to extract CloudId from provided registration";
    63 Module Refuse You MODULE_PARAMETER "Unable to find registration resource with the given";
    64 Module Refuse You REGISTRATION_MISSING "Registration resource not found in Azure";
    64 Module Refuse You REGISTRATION_MISSING "Registration resource with matching CloudId…was not found";
    65 Module Refuse You REGISTRATION_MISSING "does not correlate the current environment's Cloud-Id";
    66 Module Refuse You DETAILS_UNKNOWN "Unable to retrieve registration details from";
    67 Module Refuse You NOT_ACTIVATED "Activation record not found";
    68 Module Refuse You MODULE_PARAMETER "Unexpected token…RegistrationToken.txt";
    69 Module Refuse You MODULE_PARAMETER "missing mandatory parameters:…RegistrationName";
    69 Module Refuse You MODULE_PARAMETER "NamedParameterNotFound,Set-Azs|NamedParameterNotFound,Get-Azs|NamedParameterNotFound,New-Azs";
    69 Module Refuse You MODULE_PARAMETER "NamedParameterNotFound,Register-Azs|NamedParameterNotFound,Unregister-Azs|NamedParameterNotFound,Remove-Azs";
    0 Stamp Refuse Stamp CMDLET_UNKNOWN "NamedParameterNotFound|MissingMandatoryParameter";
    // The stamp; last, what only frames an error that is not known.
    51 Stamp Again Stamp HARDWARE_INFORMATION "Could not retrieve mandatory hardware info" "the stamp could not read the hardware of a host";
    52 Stamp Again Stamp HARDWARE_INFORMATION "Cannot connect to…to get hardware info" "the stamp could not read the hardware of a host";
    48 Stamp Again Passes STAMP_TIMEOUT "Execution timeout" "the stamp took too long";
    0 Stamp Again Network STAMP_OFFLINE "raised an exception…remote name could not be resolved|raised an exception…No such host is known|Action plan…remote name could not be resolved|Action plan…No such host is known|New-AzureStackActivation failed…remote name could not be resolved|New-AzureBridgeServicePrincipal failed…remote name could not be resolved" "the stamp can't find a host of Azure by its name"
        "Mend the stamp's name resolution (its DNS forwarders) or open the way to the host that is named, then run the same command again: it resumes."
        "The stamp's DNS does not know the host, or can't ask further.";
    0 Module Refuse Network AZURE_UNREACHABLE "remote name could not be resolved|No such host is known";
    0 Stamp Refuse Network STAMP_OFFLINE "New-AzureBridgeServicePrincipal…is disconnected|New-AzureBridgeServicePrincipal…unable to connect"
        "the stamp can't reach Azure to make its principal"
        "For a disconnected stamp: azsreg offline token. Otherwise open the way, then run the same command again: it resumes."
        "The stamp is disconnected, or a firewall or proxy stands between it and Azure.";
    54 Stamp Again Stamp STAMP_INFORMATION "An error occurred checking stamp information" "the stamp's information can't be read";
    0 Stamp Refuse You STAMP_NOT_ACTIVATED "Remove-AzureStackActivation…NotActivated|Remove-AzureStackActivation…not activated" "the stamp is not activated";
    0 Stamp Refuse You STAMP_NOT_ACTIVATED "Remove-AzureStackActivation…not currently activated|Remove-AzureStackActivation…no activation" "the stamp is not activated";
    55 Stamp Again Stamp DEACTIVATION_FAILED "An error occurred during removal of the activation" "the stamp could not be deactivated";
    55 Stamp Again Stamp DEACTIVATION_FAILED "DeActivation of Azure Stack features failed" "the stamp could not be deactivated";
    0 Stamp Refuse You ACTIVATION_REFUSED "Activation of Azure Stack features failed…activation key|New-AzureStackActivation failed…activation key"
        "the stamp refused the activation key";
    0 Stamp Again Stamp STAMP_INFORMATION "Get-AzureStackStampInformation failed" "the stamp's information can't be read";
    0 Stamp Again Stamp DEACTIVATION_FAILED "Remove-AzureStackActivation failed" "the stamp could not be deactivated";
    53 Stamp Again Stamp STAMP_ACTION_FAILED "role 'Cloud\\Fabric\\AzureBridge' failed|Action plan execution failed";
    53 Stamp Again Stamp STAMP_ACTION_FAILED "Activation of Azure Stack features failed";
}
