"""An independent client's opinion of the simulated Azure in the lab.

Everything here goes through Microsoft's own Python SDKs (azure-identity, msal,
azure-mgmt-*), because those clients know what a real Azure answers and share no
code with this project.  Plain HTTP is used only for what an SDK cannot or will
not say: malformed requests, odd paths, headers, and the raw shape of an answer.

Run it against a running lab:

    AZSREG_LAB='{"arm_endpoint": ...}' python test_azure.py -v

AZSREG_LAB is one line of JSON: arm_endpoint, authority, graph_endpoint,
audience, ca_file, tenant_id, subscription_id, client_id, client_secret_file,
control_endpoint, stamps [{name, cloud_id}, ...]; optionally
fresh_subscription_id, a subscription no provider is registered in.

A cloud id can be registered once at a time, so every test removes what it made
(clean-ups run in reverse order) and the tests must run serially, which is
unittest's way.  Resource groups carry random names, so order does not matter.
"""

import base64
import contextlib
import http.client
import json
import os
import ssl
import sys
import time
import unittest
import urllib.parse
import uuid
import warnings

if not os.environ.get("AZSREG_LAB"):
    sys.exit("AZSREG_LAB is not set: it holds one line of JSON describing the lab")

LAB = json.loads(os.environ["AZSREG_LAB"])
CA_FILE = LAB["ca_file"]
# The SDKs and msal all sit on requests; this must precede their first call.
os.environ["REQUESTS_CA_BUNDLE"] = CA_FILE
# A proxy for the outside world must not be asked for loopback addresses.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

import jwt
import msal
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import ClientSecretCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.authorization.models import RoleAssignmentCreateParameters
from azure.mgmt.azurestack import AzureStackManagementClient
from azure.mgmt.azurestack.models import RegistrationParameter
from azure.mgmt.resource.locks import ManagementLockClient
from azure.mgmt.resource.locks.models import ManagementLockObject
from azure.mgmt.resource.resources import ResourceManagementClient

try:  # A package of its own since azure-mgmt-resource 25; not everyone has it.
    from azure.mgmt.resource.subscriptions import SubscriptionClient
except ImportError:
    SubscriptionClient = None

ARM = LAB["arm_endpoint"].rstrip("/")
AUTHORITY = LAB["authority"].rstrip("/")
AUDIENCE = LAB["audience"]
# An audience that ends in a slash gives a true double slash here, as in Azure.
SCOPE = AUDIENCE + "/.default"
TENANT = LAB["tenant_id"]
SUBSCRIPTION = LAB["subscription_id"]
SUBSCRIPTION_SCOPE = f"/subscriptions/{SUBSCRIPTION}"
CLIENT_ID = LAB["client_id"]
CONTROL = LAB["control_endpoint"].rstrip("/")
STAMPS = LAB["stamps"]

AZURE_POWERSHELL = "1950a258-227b-4e31-a9cf-717495945fc2"
REGISTRATION_OWNER = "6f12a6df-dd06-4f3e-bcb1-ce8be600526a"
REGISTRATION_TYPE = "Microsoft.AzureStack/registrations"
REGISTRATION_VERSIONS = ("2016-01-01", "2017-06-01", "2020-06-01-preview", "2022-06-01")
LOCK_NAME = "RegistrationResourceLock"
GROUP_PREFIX = "peer-azure-"
TIMEOUT = 30


# --- Helpers -----------------------------------------------------------------


def owner_secret():
    """The owner's secret, kept in a file so that it is on no command line."""
    with open(LAB["client_secret_file"], encoding="utf-8") as file:
        return file.read().strip()


def credential(client_id=CLIENT_ID, secret=None, tenant=TENANT):
    """A service principal's credential; without instance discovery, which
    would ask login.microsoftonline.com whether the lab is genuine."""
    return ClientSecretCredential(
        tenant,
        client_id,
        secret or owner_secret(),
        authority=AUTHORITY,
        disable_instance_discovery=True,
        connection_verify=CA_FILE,
        retry_total=0,
    )


def bearer(principal=None):
    """An access token for Resource Manager, for requests made by hand."""
    return (principal or credential()).get_token(SCOPE).token


def claims_of(token):
    """A token's claims, unverified."""
    return jwt.decode(token, options={"verify_signature": False})


def sdk(client, principal=None, subscription=SUBSCRIPTION, **options):
    """A management client aimed at the lab.  It does not retry: a 5xx must be
    seen here, not smoothed over."""
    return client(
        principal or credential(),
        subscription,
        base_url=ARM,
        credential_scopes=[SCOPE],
        connection_verify=CA_FILE,
        retry_total=0,
        polling_interval=1,
        **options,
    )


def arm(method, path, version="2022-06-01", token=None, anonymous=False, headers=None, **options):
    """One plain request to Resource Manager; `version=None` leaves it out."""
    sent = dict(headers or {})
    if not anonymous:
        sent["Authorization"] = f"Bearer {token or bearer()}"
    return requests.request(
        method,
        ARM + path,
        params={"api-version": version} if version else None,
        headers=sent,
        verify=CA_FILE,
        timeout=TIMEOUT,
        allow_redirects=False,
        **options,
    )


def control(path, body):
    """Ask the lab's control port, which no real Azure has."""
    answer = requests.post(CONTROL + path, json=body, timeout=TIMEOUT)
    answer.raise_for_status()
    return answer.json()


def registration_token(stamp, billing_model="PayAsYouUse"):
    """A registration token as the stamp itself would make it."""
    name = urllib.parse.quote(stamp["name"])
    body = {"billing_model": billing_model}
    return control(f"/stamps/{name}/registration-token", body)["registration_token"]


def token_content(token):
    """What a registration token says; its member names in lower case."""
    content = json.loads(base64.b64decode(token).decode("utf-8"))
    return {name.lower(): value for name, value in content.items()}


def principal_with(*roles, scope=SUBSCRIPTION_SCOPE):
    """Another service principal, holding these built-in roles at one scope."""
    made = control("/users", {"roles": [{"role": role, "scope": scope} for role in roles]})
    return credential(made["client_id"], made["client_secret"])


def parameter(token):
    """The body of a registration request."""
    return RegistrationParameter(location="global", registration_token=token)


def with_status(response, value, _headers):
    """For an SDK's `cls=`: keep the status beside the value."""
    return response.http_response.status_code, value


def group_id(group):
    """A resource group's id."""
    return f"{SUBSCRIPTION_SCOPE}/resourceGroups/{group}"


def registration_id(group, name):
    """A registration's id."""
    return f"{group_id(group)}/providers/{REGISTRATION_TYPE}/{name}"


def remove_locks(scope):
    """Remove the locks at one scope and below; a missing scope has none."""
    path = f"{scope}/providers/Microsoft.Authorization/locks"
    listed = arm("GET", path, "2016-09-01")
    if listed.status_code == 200:
        for lock in listed.json()["value"]:
            if lock["id"].lower().startswith(scope.lower() + "/"):
                arm("DELETE", lock["id"], "2016-09-01")


def remove_registration(group, name):
    """Free a cloud id again: locks first, then the registration."""
    scope = registration_id(group, name)
    remove_locks(scope)
    gone = arm("DELETE", scope, "2017-06-01")
    if gone.status_code not in (200, 204, 404):
        raise AssertionError(f"clean-up of {scope}: {gone.status_code} {gone.text}")


def remove_group(group):
    """Remove a group and wait, so that the next test finds a clean lab."""
    remove_locks(group_id(group))
    arm("DELETE", group_id(group), "2024-11-01")
    deadline = time.monotonic() + TIMEOUT
    while arm("HEAD", group_id(group), "2024-11-01").status_code != 404:
        if time.monotonic() > deadline:
            raise AssertionError(f"clean-up: group {group} does not go away")
        time.sleep(0.2)


def setUpModule():
    """Remove what a run that was cut short left behind, and only that; then
    have the provider registered, whichever test comes first."""
    listed = arm("GET", f"{SUBSCRIPTION_SCOPE}/providers/{REGISTRATION_TYPE}", "2017-06-01")
    for found in listed.json().get("value", []) if listed.ok else []:
        group = found["id"].split("/")[4]
        if group.startswith(GROUP_PREFIX):
            remove_registration(group, found["name"])
    ready = arm("POST", f"{SUBSCRIPTION_SCOPE}/providers/Microsoft.AzureStack/register", "2024-11-01")
    if ready.status_code != 200:
        raise AssertionError(f"provider registration: {ready.status_code} {ready.text}")


class LabTest(unittest.TestCase):
    """What the tests share: groups and registrations that clean up after
    themselves, and a way to say which refusal is expected."""

    def new_group(self, location="westeurope"):
        """A resource group of this test's own."""
        name = GROUP_PREFIX + uuid.uuid4().hex[:12]
        made = arm("PUT", group_id(name), "2024-11-01", json={"location": location})
        self.assertEqual(made.status_code, 201, made.text)
        self.addCleanup(remove_group, name)
        return name

    def new_registration(self, group=None, stamp=STAMPS[0]):
        """A registration of this test's own: (group, name)."""
        group = group or self.new_group()
        name = "Peer-" + uuid.uuid4().hex[:8]
        self.addCleanup(remove_registration, group, name)
        client = sdk(AzureStackManagementClient)
        client.registrations.create_or_update(group, name, parameter(registration_token(stamp)))
        return group, name

    def other_stamp(self):
        """The second stamp, where the lab has one."""
        if len(STAMPS) < 2:
            self.skipTest("the lab has one stamp only")
        return STAMPS[1]

    @contextlib.contextmanager
    def refused(self, status, code, *phrases):
        """The SDK raises, and has understood status, code and message."""
        with self.assertRaises(HttpResponseError) as caught:
            yield
        error = caught.exception
        self.assertIsNotNone(error.error, f"no error body the SDK can read: {error}")
        self.assertEqual((error.status_code, error.error.code), (status, code), str(error))
        for phrase in phrases:
            self.assertIn(phrase.lower(), error.error.message.lower())

    def assert_error(self, answer, status, code, *phrases):
        """A plain answer is this refusal, in Azure's error envelope."""
        self.assertEqual(answer.status_code, status, answer.text)
        self.assertTrue(answer.headers["Content-Type"].startswith("application/json"))
        error = answer.json()["error"]
        self.assertEqual(error["code"], code, answer.text)
        self.assertTrue(error["message"])
        for phrase in phrases:
            self.assertIn(phrase.lower(), error["message"].lower())


# --- 1 to 3: sign-in ---------------------------------------------------------


class ServicePrincipalTest(LabTest):
    """azure-identity with a client secret."""

    def test_token_and_claims(self):
        """The claims every client and Resource Manager itself rely on."""
        token = credential().get_token(SCOPE)
        self.assertGreater(token.expires_on, time.time() + 300)
        claims = claims_of(token.token)
        for name in "aud iss iat nbf exp tid oid sub appid idtyp ver".split():
            self.assertIn(name, claims)
        self.assertEqual(claims["aud"].rstrip("/"), AUDIENCE.rstrip("/"))
        self.assertEqual((claims["tid"], claims["appid"]), (TENANT, CLIENT_ID))
        self.assertEqual(claims["idtyp"], "app")
        self.assertIn(TENANT, claims["iss"])
        self.assertLess(abs(claims["exp"] - token.expires_on), 120)

    def test_signature_verifies_with_the_published_key(self):
        """The key the discovery document leads to is the key that signed."""
        url = f"{AUTHORITY}/{TENANT}/v2.0/.well-known/openid-configuration"
        discovery = requests.get(url, verify=CA_FILE, timeout=TIMEOUT).json()
        published = requests.get(discovery["jwks_uri"], verify=CA_FILE, timeout=TIMEOUT).json()
        token = bearer()
        header = jwt.get_unverified_header(token)
        self.assertEqual(header["alg"], "RS256")
        key = next(key for key in published["keys"] if key["kid"] == header["kid"])
        claims = jwt.decode(
            token,
            jwt.PyJWK(key, algorithm="RS256").key,
            algorithms=["RS256"],
            audience=claims_of(token)["aud"],
        )
        self.assertEqual(claims["tid"], TENANT)

    def test_discovery_for_tenant_organizations_and_common(self):
        """Clients ask by tenant or by either alias."""
        for segment in (TENANT, "organizations", "common"):
            with self.subTest(segment):
                url = f"{AUTHORITY}/{segment}/v2.0/.well-known/openid-configuration"
                answer = requests.get(url, verify=CA_FILE, timeout=TIMEOUT)
                self.assertEqual(answer.status_code, 200, answer.text)
                document = answer.json()
                self.assertTrue(document["issuer"])
                for name in (
                    "token_endpoint",
                    "authorization_endpoint",
                    "device_authorization_endpoint",
                    "jwks_uri",
                ):
                    self.assertTrue(document[name].startswith(AUTHORITY + "/"), document[name])

    def test_wrong_secret(self):
        with self.assertRaisesRegex(ClientAuthenticationError, "AADSTS7000215"):
            credential(secret="not-the-secret").get_token(SCOPE)

    def test_unknown_client(self):
        with self.assertRaisesRegex(ClientAuthenticationError, "AADSTS700016"):
            credential(client_id=str(uuid.uuid4())).get_token(SCOPE)

    def test_unknown_tenant(self):
        """Discovery already refuses.  msal swallows the text it got, so the
        code is looked for along the chain of causes."""
        with self.assertRaises(ClientAuthenticationError) as caught:
            credential(tenant=str(uuid.uuid4())).get_token(SCOPE)
        chain, error = [], caught.exception
        while error is not None:
            chain.append(str(error))
            error = error.__cause__ or error.__context__
        self.assertIn("AADSTS90002", "\n".join(chain))

    def test_error_bodies_of_the_token_endpoint(self):
        """Status and members of token errors, which the SDKs only summarize."""
        good = {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": owner_secret(),
            "scope": SCOPE,
        }
        cases = (
            (TENANT, {"client_secret": "wrong"}, 401, "invalid_client", 7000215),
            (TENANT, {"client_id": str(uuid.uuid4())}, 400, "unauthorized_client", 700016),
            (str(uuid.uuid4()), {}, 400, None, 90002),
            (TENANT, {"grant_type": "telepathy"}, 400, "unsupported_grant_type", 70003),
        )
        for tenant, change, status, error, number in cases:
            with self.subTest(number):
                answer = requests.post(
                    f"{AUTHORITY}/{tenant}/oauth2/v2.0/token",
                    data={**good, **change},
                    verify=CA_FILE,
                    timeout=TIMEOUT,
                )
                self.assertEqual(answer.status_code, status, answer.text)
                body = answer.json()
                self.assertEqual(body["error_codes"], [number])
                self.assertTrue(body["error_description"].startswith(f"AADSTS{number}:"))
                if error:
                    self.assertEqual(body["error"], error)
                for name in ("timestamp", "trace_id", "correlation_id"):
                    self.assertTrue(body[name])


class UserSignInTest(LabTest):
    """msal as a public client: device code, refresh, authorization code."""

    def application(self):
        """Azure PowerShell's public client, with an empty cache."""
        return msal.PublicClientApplication(
            AZURE_POWERSHELL,
            authority=f"{AUTHORITY}/{TENANT}",
            instance_discovery=False,
            verify=CA_FILE,
        )

    def by_device_code(self, application):
        """Sign in with a device code, or skip where a person must approve."""
        flow = application.initiate_device_flow(scopes=[SCOPE])
        self.assertNotIn("error", flow)
        for name in ("user_code", "device_code", "verification_uri", "expires_in", "message"):
            self.assertTrue(flow.get(name), name)
        self.assertIn(flow["user_code"], flow["message"])
        flow["expires_at"] = time.time() + 20  # Ends msal's polling; by default 15 minutes.
        result = application.acquire_token_by_device_flow(flow)
        if result.get("error") == "authorization_pending":
            self.skipTest("the lab waits for a person's approval")
        self.assertNotIn("error", result)
        return result

    def code_for(self, flow):
        """Visit the sign-in page as a browser would, up to the redirect back
        to localhost; that last address is not visited, nobody listens there."""
        url = flow["auth_uri"]
        with requests.Session() as browser:
            for _ in range(5):
                answer = browser.get(url, verify=CA_FILE, timeout=TIMEOUT, allow_redirects=False)
                if answer.status_code == 200:
                    self.skipTest("the lab shows a page for a person to approve")
                self.assertIn(answer.status_code, (302, 303), answer.text)
                url = urllib.parse.urljoin(url, answer.headers["Location"])
                if url.startswith(flow["redirect_uri"]):
                    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        self.fail("the sign-in page never redirects back")

    def code_flow(self, application):
        """Begin the authorization code flow; msal makes verifier and nonce."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It would rather have a form posted.
            return application.initiate_auth_code_flow([SCOPE], redirect_uri="http://localhost:8400")

    def test_device_code(self):
        """The flow the registration tool itself needs: an account, a token
        Resource Manager takes, and a refresh token."""
        application = self.application()
        result = self.by_device_code(application)
        self.assertTrue(result["refresh_token"])
        self.assertEqual(result["id_token_claims"]["tid"], TENANT)
        claims = claims_of(result["access_token"])
        self.assertEqual(claims["tid"], TENANT)
        self.assertIn("upn", claims)
        self.assertIn("scp", claims)
        listed = arm("GET", "/subscriptions", "2022-12-01", token=result["access_token"])
        self.assertEqual(listed.status_code, 200, listed.text)

    def test_account_in_the_cache(self):
        """Without client_info msal has no account and cannot go on silently."""
        application = self.application()
        self.by_device_code(application)
        accounts = application.get_accounts()
        self.assertEqual(len(accounts), 1)
        self.assertIn(TENANT, accounts[0]["home_account_id"])
        self.assertTrue(accounts[0]["username"])
        cached = application.acquire_token_silent([SCOPE], account=accounts[0])
        self.assertTrue(cached and cached.get("access_token"))
        renewed = application.acquire_token_silent([SCOPE], account=accounts[0], force_refresh=True)
        self.assertTrue(renewed and renewed.get("access_token"))

    def test_refresh_token(self):
        """A stamp is given the operator's refresh token and redeems it in a
        process of its own: hence another application object."""
        result = self.by_device_code(self.application())
        again = self.application().acquire_token_by_refresh_token(result["refresh_token"], [SCOPE])
        self.assertNotIn("error", again)
        before, after = claims_of(result["access_token"]), claims_of(again["access_token"])
        self.assertEqual(after["oid"], before["oid"])

    def test_forged_refresh_token(self):
        result = self.application().acquire_token_by_refresh_token("0.forged", [SCOPE])
        self.assertEqual(result.get("error"), "invalid_grant")

    def test_authorization_code_with_pkce(self):
        """Code and state come back in the redirect, the nonce in the id token."""
        application = self.application()
        flow = self.code_flow(application)
        self.assertIn("code_challenge_method=S256", flow["auth_uri"])
        answer = self.code_for(flow)
        self.assertIn("code", answer)
        self.assertEqual(answer["state"], flow["state"])
        result = application.acquire_token_by_auth_code_flow(flow, answer)
        self.assertNotIn("error", result)
        self.assertEqual(claims_of(result["access_token"])["tid"], TENANT)
        self.assertEqual(len(application.get_accounts()), 1)

    def test_wrong_verifier(self):
        """The one thing PKCE is for: a stolen code is worth nothing."""
        application = self.application()
        flow = self.code_flow(application)
        answer = self.code_for(flow)
        flow["code_verifier"] = "x" * 64
        result = application.acquire_token_by_auth_code_flow(flow, answer)
        self.assertEqual(result.get("error"), "invalid_grant")

    def test_code_redeemed_twice(self):
        """A code is good for one exchange."""
        flow = self.code_flow(self.application())
        answer = self.code_for(flow)
        first = self.application().acquire_token_by_auth_code_flow(dict(flow), answer)
        self.assertNotIn("error", first)
        second = self.application().acquire_token_by_auth_code_flow(dict(flow), answer)
        self.assertEqual(second.get("error"), "invalid_grant")


# --- 4: Resource Manager -----------------------------------------------------


class ResourceManagerTest(LabTest):
    """Clouds, subscriptions, providers, groups and the generic resources."""

    def test_metadata_endpoints(self):
        """How a client learns a cloud; 2015 for PowerShell, 2022 for the CLI."""
        old = arm("GET", "/metadata/endpoints", "2015-01-01", anonymous=True)
        self.assertEqual(old.status_code, 200, old.text)
        for name in ("galleryEndpoint", "graphEndpoint", "portalEndpoint"):
            self.assertIn(name, old.json())
        new = arm("GET", "/metadata/endpoints", "2022-09-01", anonymous=True)
        self.assertEqual(new.status_code, 200, new.text)
        self.assertIsInstance(new.json(), dict)
        self.assertTrue(new.json()["name"])
        self.assertEqual(new.json()["resourceManager"].rstrip("/"), ARM)
        self.assertIsInstance(new.json()["suffixes"], dict)
        for document in (old.json(), new.json()):
            sign_in = document["authentication"]
            self.assertTrue(sign_in["loginEndpoint"].startswith(AUTHORITY))
            audiences = [audience.rstrip("/") for audience in sign_in["audiences"]]
            self.assertIn(AUDIENCE.rstrip("/"), audiences)

    def test_subscriptions_locations_tenants(self):
        """By plain request, since the SDK for these is a package apart."""
        listed = arm("GET", "/subscriptions", "2022-12-01").json()["value"]
        self.assertIn(SUBSCRIPTION, [found["subscriptionId"] for found in listed])
        one = arm("GET", SUBSCRIPTION_SCOPE, "2022-12-01").json()
        self.assertEqual(one["subscriptionId"], SUBSCRIPTION)
        self.assertEqual(one["id"], SUBSCRIPTION_SCOPE)
        self.assertEqual(one["state"], "Enabled")
        self.assertEqual(one["tenantId"], TENANT)
        self.assertTrue(one["displayName"])
        self.assertIn("quotaId", one["subscriptionPolicies"])
        locations = arm("GET", SUBSCRIPTION_SCOPE + "/locations", "2022-12-01").json()["value"]
        names = {location["name"] for location in locations}
        self.assertLessEqual({"eastus", "westeurope", "westcentralus"}, names)
        tenants = arm("GET", "/tenants", "2022-12-01").json()["value"]
        self.assertIn(TENANT, [tenant["tenantId"] for tenant in tenants])

    @unittest.skipIf(SubscriptionClient is None, "azure-mgmt-resource-subscriptions not installed")
    def test_subscription_client(self):
        """The same through its SDK, where that is installed."""
        client = SubscriptionClient(
            credential(),
            base_url=ARM,
            credential_scopes=[SCOPE],
            connection_verify=CA_FILE,
            retry_total=0,
        )
        self.assertIn(SUBSCRIPTION, [found.subscription_id for found in client.subscriptions.list()])
        self.assertEqual(client.subscriptions.get(SUBSCRIPTION).subscription_id, SUBSCRIPTION)
        locations = client.subscriptions.list_locations(SUBSCRIPTION)
        self.assertIn("westeurope", [location.name for location in locations])
        self.assertIn(TENANT, [tenant.tenant_id for tenant in client.tenants.list()])

    def test_unknown_subscription(self):
        client = sdk(ResourceManagementClient, subscription=str(uuid.uuid4()))
        with self.refused(404, "SubscriptionNotFound"):
            list(client.resource_groups.list())

    def test_provider(self):
        """Register twice does no harm; the CLI chooses its api-version from
        the types that come back."""
        client = sdk(ResourceManagementClient)
        client.providers.register("Microsoft.AzureStack")
        provider = client.providers.get("Microsoft.AzureStack")
        deadline = time.monotonic() + TIMEOUT
        while provider.registration_state == "Registering" and time.monotonic() < deadline:
            time.sleep(0.5)
            provider = client.providers.get("Microsoft.AzureStack")
        self.assertEqual(provider.registration_state, "Registered")
        self.assertEqual(provider.namespace, "Microsoft.AzureStack")
        types = {found.resource_type.lower(): found for found in provider.resource_types}
        self.assertIn("registrations", types)
        versions = types["registrations"].api_versions
        self.assertLessEqual(set(REGISTRATION_VERSIONS), set(versions))
        stable = [version for version in versions if "preview" not in version]
        self.assertEqual(max(stable), "2022-06-01")
        self.assertIn("Microsoft.AzureStack", [found.namespace for found in client.providers.list()])

    def test_resource_group_life(self):
        """201 then 200, visible every way, then gone every way."""
        groups = sdk(ResourceManagementClient).resource_groups
        name = GROUP_PREFIX + uuid.uuid4().hex[:12]
        self.assertFalse(groups.check_existence(name))
        self.addCleanup(remove_group, name)
        wanted = {"location": "westeurope", "tags": {"purpose": "peer"}}
        status, made = groups.create_or_update(name, wanted, cls=with_status)
        self.assertEqual(status, 201)
        self.assertEqual((made.name, made.location), (name, "westeurope"))
        self.assertEqual(made.id, group_id(name))
        self.assertEqual(made.type, "Microsoft.Resources/resourceGroups")
        self.assertEqual(made.properties.provisioning_state, "Succeeded")
        status, _ = groups.create_or_update(name, wanted, cls=with_status)
        self.assertEqual(status, 200)
        self.assertEqual(groups.get(name).tags, {"purpose": "peer"})
        self.assertTrue(groups.check_existence(name))
        self.assertIn(name, [group.name for group in groups.list()])
        groups.begin_delete(name).result(timeout=TIMEOUT)
        self.assertFalse(groups.check_existence(name))
        with self.refused(404, "ResourceGroupNotFound", name):
            groups.get(name)

    def test_resource_group_delete_is_asynchronous(self):
        """202 with Location and Retry-After; without the latter the SDKs wait
        half a minute between polls."""
        group = self.new_group()
        answer = arm("DELETE", group_id(group), "2024-11-01")
        self.assertEqual(answer.status_code, 202, answer.text)
        self.assertTrue(answer.headers["Location"].startswith(ARM + "/"))
        self.assertTrue(answer.headers["Retry-After"].isdigit())

    def test_resource_group_refusals(self):
        """A group does not move by being written again."""
        groups = sdk(ResourceManagementClient).resource_groups
        group = self.new_group("westeurope")
        with self.refused(409, "InvalidResourceGroupLocation", "eastus", "westeurope"):
            groups.create_or_update(group, {"location": "eastus"})
        with self.refused(400, "LocationRequired"):
            groups.create_or_update(GROUP_PREFIX + uuid.uuid4().hex[:12], {})
        with self.refused(404, "ResourceGroupNotFound"):
            groups.begin_delete(GROUP_PREFIX + uuid.uuid4().hex[:12])

    def test_generic_resources(self):
        """A registration is a resource like others: listed and read by id."""
        group, name = self.new_registration()
        resources = sdk(ResourceManagementClient).resources
        everything = [found.id.lower() for found in resources.list()]
        self.assertIn(registration_id(group, name).lower(), everything)
        filters = (f"resourceType eq '{REGISTRATION_TYPE}'", f"resourceGroup eq '{group}'")
        for condition in filters:
            with self.subTest(condition):
                found = [item.name for item in resources.list(filter=condition)]
                self.assertIn(name, found)
        self.assertEqual(list(resources.list(filter="resourceType eq 'Microsoft.Nothing/things'")), [])
        in_group = [item.name for item in resources.list_by_resource_group(group)]
        self.assertEqual(in_group, [name])
        one = resources.get_by_id(registration_id(group, name), api_version="2017-06-01")
        self.assertEqual((one.name, one.type, one.location), (name, REGISTRATION_TYPE, "global"))

    def test_delete_of_a_group_frees_the_cloud_id(self):
        """What is in a group goes with it, so the stamp may register anew."""
        group, _ = self.new_registration()
        client = sdk(ResourceManagementClient)
        client.resource_groups.begin_delete(group).result(timeout=TIMEOUT)
        self.new_registration()

    def test_move_to_another_group(self):
        """The documented way to another group; the SDK polls the Location."""
        group, name = self.new_registration()
        target = self.new_group()
        self.addCleanup(remove_registration, target, name)
        sdk(ResourceManagementClient).resources.begin_move_resources(
            group,
            {"resources": [registration_id(group, name)], "targetResourceGroup": group_id(target)},
        ).result(timeout=TIMEOUT)
        registrations = sdk(AzureStackManagementClient).registrations
        self.assertEqual(registrations.get(target, name).id, registration_id(target, name))
        with self.refused(404, "ResourceNotFound"):
            registrations.get(group, name)


# --- 5: registrations --------------------------------------------------------


class RegistrationCases:
    """One registration's life; run once for each api-version below."""

    version = None

    def registrations(self, principal=None):
        """The SDK's registration operations at this api-version."""
        return sdk(AzureStackManagementClient, principal, api_version=self.version).registrations

    def create(self, group, name, token):
        """Create and see to its removal: (status, registration)."""
        self.addCleanup(remove_registration, group, name)
        return self.registrations().create_or_update(group, name, parameter(token), cls=with_status)

    def test_life(self):
        """201, read back every way, 200, patched, deleted, gone."""
        stamp, group, name = STAMPS[0], self.new_group(), "Peer-" + uuid.uuid4().hex[:8]
        registrations, token = self.registrations(), registration_token(stamp)
        status, made = self.create(group, name, token)
        self.assertEqual(status, 201)
        read = registrations.get(group, name)
        for found in (made, read):
            self.assertEqual(found.id, registration_id(group, name))
            self.assertEqual((found.name, found.type), (name, REGISTRATION_TYPE))
            self.assertEqual(found.location, "global")
            self.assertEqual(found.cloud_id.lower(), stamp["cloud_id"].lower())
            self.assertEqual(found.billing_model, "PayAsYouUse")
            self.assertTrue(found.etag)
            expected = token_content(token).get("objectid")
            if expected:  # A disconnected stamp has no service principal.
                self.assertEqual(found.object_id, expected)
        self.assertEqual([found.name for found in registrations.list(group)], [name])
        self.assertIn(made.id, [found.id for found in registrations.list_by_subscription()])
        status, _ = self.create(group, name, registration_token(stamp))
        self.assertEqual(status, 200)
        patch = parameter(registration_token(stamp, "Development"))
        self.assertEqual(registrations.update(group, name, patch).billing_model, "Development")
        self.assertEqual(registrations.get(group, name).billing_model, "Development")
        status, _ = registrations.delete(group, name, cls=with_status)
        self.assertEqual(status, 200)
        with self.refused(404, "ResourceNotFound", name, group):
            registrations.get(group, name)
        self.assertEqual(list(registrations.list(group)), [])

    def test_activation_key(self):
        """A signed token the stamp can read: its members are the contract."""
        stamp, group, name = STAMPS[0], self.new_group(), "Peer-" + uuid.uuid4().hex[:8]
        self.create(group, name, registration_token(stamp))
        key = self.registrations().get_activation_key(group, name).activation_key
        self.assertEqual(len(key.split(".")), 3)
        header = jwt.get_unverified_header(key)
        self.assertEqual(header["alg"], "RS256")
        self.assertTrue(header["kid"])
        self.assertEqual(len(key.split(".")[2]), 342)  # 2048 bits, unpadded
        payload = claims_of(key)
        members = """subscriptionId resourceGroupName registrationName
            certPinningRootSubjects certPinningIntermediateThumbprints usageEndpoint
            marketplaceEndpoint usageResourceUri marketplaceResourceUri expires cloudId
            objectId billingModel hardwareInfo usageReportingEnabled
            marketplaceSyndicationEnabled issuer version"""
        self.assertLessEqual(set(members.split()), set(payload))
        self.assertEqual(payload["subscriptionId"], SUBSCRIPTION)
        self.assertEqual(payload["resourceGroupName"].lower(), group.lower())
        self.assertEqual(payload["registrationName"], name)
        self.assertEqual(payload["cloudId"].lower(), stamp["cloud_id"].lower())
        self.assertEqual(payload["billingModel"], "PayAsYouUse")
        self.assertIsInstance(payload["certPinningRootSubjects"], list)
        self.assertIsInstance(payload["certPinningIntermediateThumbprints"], list)
        self.assertIsInstance(payload["hardwareInfo"], list)
        with self.refused(404, "ResourceNotFound"):
            self.registrations().get_activation_key(group, "absent")

    def test_second_name_for_one_stamp(self):
        """A stamp is registered once, whatever the name and the group."""
        stamp, group = STAMPS[0], self.new_group()
        self.create(group, "first", registration_token(stamp))
        for other_group in (group, self.new_group()):
            with self.subTest(other_group):
                with self.assertRaises(HttpResponseError) as caught:
                    self.create(other_group, "second", registration_token(stamp))
                error = caught.exception
                self.assertIn(error.status_code, (400, 409))
                self.assertIn("is already registered", error.error.message)
                self.assertIn(stamp["cloud_id"].lower(), error.error.message.lower())
        self.assertEqual([found.name for found in self.registrations().list(group)], ["first"])

    def test_one_name_for_two_stamps(self):
        """A registration never changes hands."""
        other, group = self.other_stamp(), self.new_group()
        self.create(group, "mine", registration_token(STAMPS[0]))
        with self.assertRaises(HttpResponseError) as caught:
            self.create(group, "mine", registration_token(other))
        self.assertIn(caught.exception.status_code, (400, 409))
        self.assertEqual(caught.exception.error.code, "CloudIdUpdateNotAllowed")
        found = self.registrations().get(group, "mine")
        self.assertEqual(found.cloud_id.lower(), STAMPS[0]["cloud_id"].lower())

    def test_malformed_tokens(self):
        """Not base64; base64 of no JSON; JSON without a cloud id; nothing."""
        group = self.new_group()
        tokens = (
            "!!! not base64 !!!",
            base64.b64encode(b"not json").decode(),
            base64.b64encode(b'{"billingModel":"PayAsYouUse"}').decode(),
            "",
        )
        for token in tokens:
            with self.subTest(token):
                with self.refused(400, "InvalidRegistrationToken", "malformed"):
                    self.create(group, "never", token)
        self.assertEqual(list(self.registrations().list(group)), [])

    def test_what_is_missing(self):
        """Missing resource, missing group, and a delete that finds nothing."""
        registrations, group = self.registrations(), self.new_group()
        with self.refused(404, "ResourceNotFound", "registrations/absent", group):
            registrations.get(group, "absent")
        status, _ = registrations.delete(group, "absent", cls=with_status)
        self.assertEqual(status, 204)
        nowhere = GROUP_PREFIX + "nowhere"
        token = registration_token(STAMPS[0])
        with self.refused(404, "ResourceGroupNotFound", nowhere):
            registrations.create_or_update(nowhere, "n", parameter(token))
        with self.refused(404, "ResourceGroupNotFound", nowhere):
            registrations.get(nowhere, "n")

    def test_operations(self):
        """The operations a custom role for operators is built from."""
        client = sdk(AzureStackManagementClient, api_version=self.version)
        names = {operation.name.lower() for operation in client.operations.list()}
        for name in ("read", "write", "delete", "getActivationKey/action"):
            self.assertIn(f"{REGISTRATION_TYPE}/{name}".lower(), names)

    def test_cloud_manifest_files(self):
        """Absent from 2016; there it must not answer as if it were known."""
        files = sdk(AzureStackManagementClient, api_version=self.version).cloud_manifest_file
        if self.version == "2016-01-01":
            with self.assertRaises(HttpResponseError) as caught:
                files.list()
            self.assertIn(caught.exception.status_code, (400, 404))
            return
        for found in (files.list(), files.get("latest")):
            endpoint = found.properties.deployment_data.custom_cloud_arm_endpoint
            self.assertEqual(endpoint.rstrip("/"), ARM)


class Registration2016Test(RegistrationCases, LabTest):
    """2016-01-01: the offline syndication tool."""

    version = "2016-01-01"


class Registration2017Test(RegistrationCases, LabTest):
    """2017-06-01: the operator's script."""

    version = "2017-06-01"


class Registration2020Test(RegistrationCases, LabTest):
    """2020-06-01-preview: this SDK's own default."""

    version = "2020-06-01-preview"


class Registration2022Test(RegistrationCases, LabTest):
    """2022-06-01: the newest stable version, the CLI's choice."""

    version = "2022-06-01"


# --- 6: locks ----------------------------------------------------------------


class LockTest(LabTest):
    """Management locks, through the SDK that ships them."""

    def setUp(self):
        self.locks = sdk(ManagementLockClient).management_locks
        self.registrations = sdk(AzureStackManagementClient).registrations
        self.group, self.name = self.new_registration()
        self.scope = registration_id(self.group, self.name)

    def resource(self):
        """The registration as the resource-level calls want it.  There is no
        parent, so the SDK's path holds an empty segment: a double slash."""
        return self.group, "Microsoft.AzureStack", "", "registrations", self.name

    def lock(self, level="CanNotDelete"):
        """The lock that the operator's script places."""
        notes = f"Registration resource {self.name} is needed for syndication."
        return ManagementLockObject(level=level, notes=notes)

    def test_lock_at_resource_level(self):
        """Locked: neither registration nor group goes.  Unlocked: both do."""
        create = self.locks.create_or_update_at_resource_level
        status, made = create(*self.resource(), LOCK_NAME, self.lock(), cls=with_status)
        self.assertEqual(status, 201)
        self.assertEqual((made.name, made.level), (LOCK_NAME, "CanNotDelete"))
        self.assertEqual(made.type, "Microsoft.Authorization/locks")
        self.assertEqual(made.notes, self.lock().notes)
        expected = f"{self.scope}/providers/Microsoft.Authorization/locks/{LOCK_NAME}"
        self.assertEqual(made.id.lower(), expected.lower())
        status, _ = create(*self.resource(), LOCK_NAME, self.lock(), cls=with_status)
        self.assertEqual(status, 200)
        listings = {
            "resource": self.locks.list_at_resource_level(*self.resource()),
            "group": self.locks.list_at_resource_group_level(self.group),
            "subscription": self.locks.list_at_subscription_level(),
        }
        for level, listed in listings.items():
            with self.subTest(level):
                self.assertIn(made.id.lower(), [lock.id.lower() for lock in listed])
        with self.refused(409, "ScopeLocked", self.scope, "delete"):
            self.registrations.delete(self.group, self.name)
        with self.refused(409, "ScopeLocked", self.scope):
            sdk(ResourceManagementClient).resource_groups.begin_delete(self.group)
        self.registrations.get(self.group, self.name)
        self.locks.delete_at_resource_level(*self.resource(), LOCK_NAME)
        self.assertEqual(list(self.locks.list_at_resource_level(*self.resource())), [])
        self.registrations.delete(self.group, self.name)
        with self.refused(404, "ResourceNotFound"):
            self.registrations.get(self.group, self.name)

    def test_lock_by_scope(self):
        """The same by id.  The SDK escapes the id's slashes (%2F), with and
        without a leading one."""
        for scope in (self.scope, self.scope.lstrip("/")):
            with self.subTest(scope):
                made = self.locks.create_or_update_by_scope(scope, LOCK_NAME, self.lock())
                self.assertEqual(made.level, "CanNotDelete")
                self.assertEqual(self.locks.get_by_scope(scope, LOCK_NAME).name, LOCK_NAME)
                listed = [lock.name for lock in self.locks.list_by_scope(scope)]
                self.assertEqual(listed, [LOCK_NAME])
                with self.refused(409, "ScopeLocked"):
                    self.registrations.delete(self.group, self.name)
                self.locks.delete_by_scope(scope, LOCK_NAME)
                self.assertEqual(list(self.locks.list_by_scope(scope)), [])

    def test_lock_of_the_group_is_inherited(self):
        """A group's lock holds for what is in it, and says whose it is."""
        self.locks.create_or_update_at_resource_group_level(self.group, "keep", self.lock())
        with self.refused(409, "ScopeLocked", group_id(self.group)):
            self.registrations.delete(self.group, self.name)
        self.locks.delete_at_resource_group_level(self.group, "keep")
        self.registrations.delete(self.group, self.name)

    def test_a_delete_lock_permits_writing(self):
        """Renewal rewrites a locked registration in place."""
        self.locks.create_or_update_at_resource_level(*self.resource(), LOCK_NAME, self.lock())
        token = registration_token(STAMPS[0])
        self.registrations.create_or_update(self.group, self.name, parameter(token))
        self.assertTrue(self.registrations.get_activation_key(self.group, self.name).activation_key)

    def test_a_read_only_lock_forbids_writing(self):
        lock = self.lock("ReadOnly")
        self.locks.create_or_update_at_resource_level(*self.resource(), "still", lock)
        token = registration_token(STAMPS[0])
        with self.refused(409, "ScopeLocked", "write"):
            self.registrations.create_or_update(self.group, self.name, parameter(token))
        self.registrations.get(self.group, self.name)

    def test_lock_of_nothing(self):
        """A lock needs something to hold."""
        with self.assertRaises(HttpResponseError) as caught:
            self.locks.create_or_update_at_resource_level(
                self.group, "Microsoft.AzureStack", "", "registrations", "absent", "l", self.lock()
            )
        self.assertEqual(caught.exception.status_code, 404)


# --- 7: authorization --------------------------------------------------------


class AuthorizationTest(LabTest):
    """Roles, and what the lab refuses to those who lack one."""

    def setUp(self):
        self.client = sdk(AuthorizationManagementClient)

    def registration_owner(self, scope=SUBSCRIPTION_SCOPE):
        """The built-in role, found by name as the operator's script does."""
        condition = "roleName eq 'Azure Stack Registration Owner'"
        found = list(self.client.role_definitions.list(scope, filter=condition))
        self.assertEqual(len(found), 1)
        return found[0]

    def test_registration_owner_role(self):
        role = self.registration_owner()
        self.assertEqual(role.name, REGISTRATION_OWNER)
        self.assertTrue(role.id.endswith("/roleDefinitions/" + REGISTRATION_OWNER))
        self.assertEqual(role.role_name, "Azure Stack Registration Owner")
        self.assertEqual(role.role_type, "BuiltInRole")
        actions = {action.lower() for action in role.permissions[0].actions}
        self.assertIn(f"{REGISTRATION_TYPE}/read".lower(), actions)
        again = self.client.role_definitions.get(SUBSCRIPTION_SCOPE, REGISTRATION_OWNER)
        self.assertEqual(again.name, REGISTRATION_OWNER)

    def test_role_assignment_life(self):
        """Granted, found, not granted twice, at work, and taken away."""
        group, name = self.new_registration()
        scope = registration_id(group, name)
        bridge = principal_with()
        object_id = claims_of(bearer(bridge))["oid"]
        role = self.registration_owner(scope)
        wanted = RoleAssignmentCreateParameters(
            role_definition_id=role.id, principal_id=object_id, principal_type="ServicePrincipal"
        )
        theirs = sdk(AzureStackManagementClient, bridge).registrations
        with self.refused(403, "AuthorizationFailed", f"{REGISTRATION_TYPE}/read"):
            theirs.get(group, name)
        assignments, key = self.client.role_assignments, str(uuid.uuid4())
        status, made = assignments.create(scope, key, wanted, cls=with_status)
        self.assertEqual(status, 201)
        self.assertEqual((made.name, made.principal_id), (key, object_id))
        self.assertEqual(made.scope.lower(), scope.lower())
        self.assertTrue(made.role_definition_id.endswith(REGISTRATION_OWNER))
        self.assertEqual(made.type, "Microsoft.Authorization/roleAssignments")
        with self.refused(409, "RoleAssignmentExists"):
            assignments.create(scope, str(uuid.uuid4()), wanted)
        condition = f"principalId eq '{object_id}'"
        found = [item.name for item in assignments.list_for_scope(scope, filter=condition)]
        self.assertEqual(found, [key])
        at_scope = [item.name for item in assignments.list_for_scope(scope, filter="atScope()")]
        self.assertIn(key, at_scope)
        self.assertEqual(theirs.get(group, name).name, name)
        with self.refused(403, "AuthorizationFailed", f"{REGISTRATION_TYPE}/delete"):
            theirs.delete(group, name)
        removed = assignments.delete(scope, key)
        self.assertEqual(removed.name, key)
        self.assertIsNone(assignments.delete(scope, key))
        with self.refused(403, "AuthorizationFailed"):
            theirs.get(group, name)

    def test_a_lock_keeps_role_assignments(self):
        """A documented side effect: removal must take the lock off first."""
        group, name = self.new_registration()
        scope, key = registration_id(group, name), str(uuid.uuid4())
        wanted = RoleAssignmentCreateParameters(
            role_definition_id=self.registration_owner(scope).id,
            principal_id=claims_of(bearer(principal_with()))["oid"],
            principal_type="ServicePrincipal",
        )
        self.client.role_assignments.create(scope, key, wanted)
        locks = sdk(ManagementLockClient).management_locks
        resource = (group, "Microsoft.AzureStack", "", "registrations", name)
        lock = ManagementLockObject(level="CanNotDelete")
        locks.create_or_update_at_resource_level(*resource, LOCK_NAME, lock)
        with self.refused(409, "ScopeLocked"):
            self.client.role_assignments.delete(scope, key)
        locks.delete_at_resource_level(*resource, LOCK_NAME)
        self.assertEqual(self.client.role_assignments.delete(scope, key).name, key)

    def test_permissions(self):
        """What a client asks before it begins."""
        group = self.new_group()
        granted = list(self.client.permissions.list_for_resource_group(group))
        self.assertTrue(any("*" in permission.actions for permission in granted))
        reader = sdk(AuthorizationManagementClient, principal_with("Reader"))
        granted = list(reader.permissions.list_for_resource_group(group))
        self.assertTrue(granted)
        self.assertFalse(any("*" in permission.actions for permission in granted))

    def test_reader_may_not_register(self):
        """The refusal names who, what and where."""
        group, name = self.new_registration()
        reader = principal_with("Reader")
        registrations = sdk(AzureStackManagementClient, reader).registrations
        self.assertEqual(registrations.get(group, name).name, name)
        who = claims_of(bearer(reader))
        phrases = (who["appid"], who["oid"], f"{REGISTRATION_TYPE}/write", registration_id(group, name))
        with self.refused(403, "AuthorizationFailed", *phrases):
            registrations.create_or_update(group, name, parameter(registration_token(STAMPS[0])))
        with self.refused(403, "AuthorizationFailed", f"{REGISTRATION_TYPE}/delete"):
            registrations.delete(group, name)
        with self.refused(403, "AuthorizationFailed", f"{REGISTRATION_TYPE}/getActivationKey/action"):
            registrations.get_activation_key(group, name)

    def test_contributor_may_register_but_neither_lock_nor_grant(self):
        """The classic half-privileged operator: it fails at the last steps."""
        contributor = principal_with("Contributor")
        group, name = self.new_group(), "contributed"
        scope = registration_id(group, name)
        self.addCleanup(remove_registration, group, name)
        token = registration_token(STAMPS[0])
        registrations = sdk(AzureStackManagementClient, contributor).registrations
        registrations.create_or_update(group, name, parameter(token))
        locks = sdk(ManagementLockClient, contributor).management_locks
        lock = ManagementLockObject(level="CanNotDelete")
        with self.refused(403, "AuthorizationFailed", "Microsoft.Authorization/locks/write", scope):
            locks.create_or_update_at_resource_level(
                group, "Microsoft.AzureStack", "", "registrations", name, LOCK_NAME, lock
            )
        assignments = sdk(AuthorizationManagementClient, contributor).role_assignments
        wanted = RoleAssignmentCreateParameters(
            role_definition_id=self.registration_owner().id, principal_id=str(uuid.uuid4())
        )
        action = "Microsoft.Authorization/roleAssignments/write"
        with self.refused(403, "AuthorizationFailed", action, scope):
            assignments.create(scope, str(uuid.uuid4()), wanted)


# --- 8: protocol traps -------------------------------------------------------


class ProtocolTest(LabTest):
    """What no SDK sends on purpose, and what each relies on unsaid."""

    def test_missing_api_version(self):
        answer = arm("GET", SUBSCRIPTION_SCOPE, version=None)
        self.assert_error(answer, 400, "MissingApiVersionParameter")

    def test_wrong_api_version(self):
        """A provider lists its versions; Resource Manager itself does too."""
        answer = arm("GET", SUBSCRIPTION_SCOPE, "1999-01-01")
        self.assert_error(answer, 400, "InvalidApiVersionParameter", "1999-01-01", "2022-12-01")
        path = f"{group_id(self.new_group())}/providers/{REGISTRATION_TYPE}/x"
        answer = arm("GET", path, "2015-01-01")
        versions = ("2015-01-01", *REGISTRATION_VERSIONS)
        self.assert_error(answer, 400, "NoRegisteredProviderFound", "registrations", *versions)

    def test_double_slashes_collapse(self):
        """The CLI leaves the parent segment empty; ids after a slash give a
        leading pair.  requests folds that one, so a bare connection sends it."""
        group, name = self.new_registration()
        provider = f"{SUBSCRIPTION_SCOPE}/resourcegroups/{group}/providers/Microsoft.AzureStack"
        answer = arm("GET", f"{provider}//registrations/{name}")
        self.assertEqual(answer.status_code, 200, answer.text)
        self.assertEqual(answer.json()["id"], registration_id(group, name))
        address = urllib.parse.urlsplit(ARM)
        trust = ssl.create_default_context(cafile=CA_FILE)
        line = http.client.HTTPSConnection(address.hostname, address.port, context=trust, timeout=TIMEOUT)
        self.addCleanup(line.close)
        path = "/" + registration_id(group, name) + "?api-version=2017-06-01"
        line.request("GET", path, headers={"Authorization": f"Bearer {bearer()}"})
        self.assertEqual(line.getresponse().status, 200)

    def test_paths_compare_without_case(self):
        """Asked for in capitals, answered in the canonical spelling."""
        group, name = self.new_registration()
        answer = arm("GET", registration_id(group, name).upper())
        self.assertEqual(answer.status_code, 200, answer.text)
        self.assertEqual(answer.json()["type"], REGISTRATION_TYPE)
        self.assertEqual(answer.json()["name"], name)
        for action in ("getActivationKey", "GetActivationKey", "getactivationkey"):
            answer = arm("POST", f"{registration_id(group, name)}/{action}", "2017-06-01")
            self.assertEqual(answer.status_code, 200, answer.text)

    def test_no_token(self):
        """The header is how a client finds out where to sign in."""
        answer = arm("GET", SUBSCRIPTION_SCOPE, "2022-12-01", anonymous=True)
        self.assert_error(answer, 401, "AuthenticationFailed")
        challenge = answer.headers["WWW-Authenticate"]
        self.assertTrue(challenge.startswith("Bearer "), challenge)
        self.assertIn(f'authorization_uri="{AUTHORITY}/{TENANT}', challenge)

    def test_untrustworthy_tokens(self):
        """Rubbish, a broken signature, no signature at all, a foreign key."""
        good = bearer()
        head, body, signature = good.split(".")
        broken = ("A" if signature[10] != "A" else "B").join((signature[:10], signature[11:]))
        claims = claims_of(good)
        tokens = {
            "rubbish": "rubbish",
            "broken signature": f"{head}.{body}.{broken}",
            "unsigned": jwt.encode(claims, None, algorithm="none"),
            "shared secret": jwt.encode(claims, "s" * 32, algorithm="HS256"),
        }
        for kind, token in tokens.items():
            with self.subTest(kind):
                answer = arm("GET", SUBSCRIPTION_SCOPE, "2022-12-01", token=token)
                self.assert_error(answer, 401, "InvalidAuthenticationToken")
                self.assertIn("authorization_uri=", answer.headers["WWW-Authenticate"])

    def test_unknown_method(self):
        """405: a method the server knows of but does not offer, not 501."""
        answer = arm("TRACE", SUBSCRIPTION_SCOPE, "2022-12-01")
        self.assertEqual(answer.status_code, 405)

    def test_unknown_namespace(self):
        path = f"{group_id(self.new_group())}/providers/Microsoft.Nonsense/things/x"
        self.assert_error(arm("GET", path), 404, "InvalidResourceNamespace", "Microsoft.Nonsense")

    def test_unregistered_provider(self):
        """The SDK recognizes this one, reads the namespace in quotation marks
        from the message and registers it unasked; so ask by hand."""
        fresh = LAB.get("fresh_subscription_id")
        if not fresh:
            self.skipTest("the lab offers no fresh subscription")
        path = f"/subscriptions/{fresh}/providers/{REGISTRATION_TYPE}"
        answer = arm("GET", path, "2017-06-01")
        self.assert_error(answer, 409, "MissingSubscriptionRegistration", "'Microsoft.AzureStack'")

    def test_body_that_is_not_json(self):
        scope = registration_id(self.new_group(), "x")
        headers = {"Content-Type": "application/json"}
        answer = arm("PUT", scope, "2017-06-01", data="{not json", headers=headers)
        self.assert_error(answer, 400, "InvalidRequestContent")
        group = group_id(GROUP_PREFIX + uuid.uuid4().hex[:12])
        answer = arm("PUT", group, "2024-11-01", data="location=westeurope", headers=headers)
        self.assert_error(answer, 400, "InvalidRequestContent")

    def test_headers_of_answers(self):
        """Support asks for the request ids; tools pace themselves by the rest."""
        group, name = self.new_registration()
        scope = registration_id(group, name)
        body = {
            "location": "global",
            "properties": {"registrationToken": registration_token(STAMPS[0])},
        }
        answers = {
            "reads": arm("GET", scope, "2017-06-01"),
            "writes": arm("PUT", scope, "2017-06-01", json=body),
            "deletes": arm("DELETE", scope, "2017-06-01"),
        }
        for kind, answer in answers.items():
            with self.subTest(kind):
                self.assertEqual(answer.status_code, 200, answer.text)
                self.assertTrue(answer.headers["x-ms-request-id"])
                self.assertTrue(answer.headers["x-ms-correlation-request-id"])
                self.assertTrue(answer.headers["x-ms-routing-request-id"])
                left = answer.headers[f"x-ms-ratelimit-remaining-subscription-{kind}"]
                self.assertTrue(left.isdigit())
        missing = arm("GET", scope, "2017-06-01")
        self.assert_error(missing, 404, "ResourceNotFound")
        self.assertTrue(missing.headers["x-ms-request-id"])
        self.assertEqual(missing.headers["x-ms-failure-cause"], "gateway")


# --- 9: the raw registration -------------------------------------------------


class RawRegistrationTest(LabTest):
    """The answer itself, of which the SDK's model shows only a part."""

    def assert_shape(self, found, group, name, token):
        """Exactly the documented members, and the token nowhere."""
        self.assertNotIn("registrationtoken", json.dumps(found).lower())
        self.assertNotIn(token, json.dumps(found))
        self.assertEqual(found["id"], registration_id(group, name))
        self.assertEqual(found["name"], name)
        self.assertEqual(found["type"], REGISTRATION_TYPE)
        self.assertEqual(found["location"], "global")
        self.assertTrue(found["etag"])
        properties = found["properties"]
        self.assertLessEqual(set(properties), {"cloudId", "objectId", "billingModel"})
        self.assertEqual(properties["cloudId"].lower(), STAMPS[0]["cloud_id"].lower())
        self.assertEqual(properties["billingModel"], "PayAsYouUse")
        if token_content(token).get("objectid"):
            self.assertEqual(properties["objectId"], token_content(token)["objectid"])

    def test_shape_and_silence_about_the_token(self):
        """In every version, however reached; and `Global`, as the script
        spells it, comes back as `global`."""
        group, name = self.new_group(), "MixedCase-" + uuid.uuid4().hex[:6]
        scope, token = registration_id(group, name), registration_token(STAMPS[0])
        self.addCleanup(remove_registration, group, name)
        body = {"location": "Global", "properties": {"registrationToken": token}}
        for version in REGISTRATION_VERSIONS:
            with self.subTest(version):
                for method in ("PUT", "PATCH", "GET"):
                    sent = None if method == "GET" else body
                    answer = arm(method, scope, version, json=sent)
                    self.assertIn(answer.status_code, (200, 201), answer.text)
                    self.assertTrue(answer.headers["Content-Type"].startswith("application/json"))
                    self.assert_shape(answer.json(), group, name, token)
                for parent in (group_id(group), SUBSCRIPTION_SCOPE):
                    page = arm("GET", f"{parent}/providers/{REGISTRATION_TYPE}", version).json()
                    mine = [found for found in page["value"] if found["id"] == scope]
                    self.assertEqual(len(mine), 1)
                    self.assert_shape(mine[0], group, name, token)


if __name__ == "__main__":
    unittest.main()
