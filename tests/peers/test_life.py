"""Independent clients through the later life of a registration: roles, conditions, moves, locks, expiry, AD FS, PEP.

Microsoft's SDKs, msal and pypsrp, with the helpers of test_azure.py and test_pep.py; plain HTTP where there is no SDK.

Run:  AZSREG_LAB='{...one line of JSON...}' python test_life.py -v

The lab must be fresh (not registered) and have a stamp with identity=adfs, wherever it stands in the list. Serial: a
test that moves the lab's clock moves it back.
"""

import time
import unittest
import uuid

import test_azure as cloud
import test_pep as pep
from test_azure import CA_FILE, LOCK_NAME, REGISTRATION_OWNER, STAMPS, SUBSCRIPTION_SCOPE, TIMEOUT
from test_azure import control, group_id, parameter, principal_with, registration_id, sdk

import msal
import requests
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.authorization.models import Permission, RoleAssignmentCreateParameters, RoleDefinition
from azure.mgmt.azurestack import AzureStackManagementClient
from azure.mgmt.resource.locks import ManagementLockClient
from azure.mgmt.resource.locks.models import ManagementLockObject
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resource.resources.models import ResourcesMoveInfo
from pypsrp.complex_objects import PSCredential

OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
READ = "Microsoft.AzureStack/registrations/read"
RECORD = "/providers/Microsoft.AzureBridge.Admin/activations/default"
YEAR_AND_A_DAY = 366 * 24 * 3600


def only(role):
    """The condition that the portal writes for a delegate who may assign and take back selected roles."""
    kind = "Microsoft.Authorization/roleAssignments"
    clause = "(\n (!(ActionMatches{'%s/%s'}))\n OR \n (@%s[%s:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {%s})\n)"
    both = [("write", "Request"), ("delete", "Resource")]
    return "\nAND\n".join(clause % (kind, verb, source, kind, role) for verb, source in both)


setUpModule = cloud.setUpModule  # The provider is registered.


def registrations(principal=None):
    return sdk(AzureStackManagementClient, principal).registrations


def capacity_token(stamp):
    asked = {"billing_model": "Capacity", "agreement_number": "12345678"}
    return parameter(control(f"/stamps/{stamp['name']}/registration-token", asked)["registration_token"])


def world():
    return requests.get(cloud.CONTROL + "/world", timeout=TIMEOUT).json()


class AuthorizationTest(cloud.LabTest):
    """Roles as the owner gives them, with the SDK."""

    def setUp(self):
        self.client = sdk(AuthorizationManagementClient)

    def put_role(self, role_id, name, *actions):
        scopes, permissions = [SUBSCRIPTION_SCOPE], [Permission(actions=list(actions), not_actions=[])]
        role = RoleDefinition(role_name=name, role_type="CustomRole", permissions=permissions, assignable_scopes=scopes)
        return self.client.role_definitions.create_or_update(SUBSCRIPTION_SCOPE, role_id, role)

    def new_role(self, *actions):
        """A custom role of this test's own: (id, name)."""
        role_id, name = str(uuid.uuid4()), "Peer role " + uuid.uuid4().hex[:8]
        self.addCleanup(self.client.role_definitions.delete, SUBSCRIPTION_SCOPE, role_id)
        self.put_role(role_id, name, *actions)
        return role_id, name

    def assign(self, principal, role_id, scope, client=None, name=None, **more):
        """Give somebody a role; undone at the end by the owner."""
        parameters = RoleAssignmentCreateParameters(
            role_definition_id=f"{SUBSCRIPTION_SCOPE}/providers/Microsoft.Authorization/roleDefinitions/{role_id}",
            principal_id=cloud.claims_of(cloud.bearer(principal))["oid"], principal_type="ServicePrincipal", **more,
        )
        made = (client or self.client).role_assignments.create(scope, name or str(uuid.uuid4()), parameters)
        self.addCleanup(cloud.arm, "DELETE", made.id, "2022-04-01")
        return made

    def names(self, condition, scope=SUBSCRIPTION_SCOPE):
        return [role.role_name for role in self.client.role_definitions.list(scope, filter=condition)]


class CustomRoles(AuthorizationTest):
    def test_a_role_is_made_found_by_its_name_changed_and_deleted(self):
        role_id, name = self.new_role(READ)
        found = list(self.client.role_definitions.list(SUBSCRIPTION_SCOPE, filter=f"roleName eq '{name}'"))
        self.assertEqual([(role.name, role.role_type) for role in found], [(role_id, "CustomRole")])
        self.assertEqual(found[0].assignable_scopes, [SUBSCRIPTION_SCOPE])
        self.put_role(role_id, name, READ, "Microsoft.AzureStack/registrations/write")
        again = self.client.role_definitions.get_by_id(found[0].id)
        self.assertEqual(again.permissions[0].actions, [READ, "Microsoft.AzureStack/registrations/write"])
        self.assertEqual(self.client.role_definitions.delete(SUBSCRIPTION_SCOPE, role_id).role_name, name)
        self.assertEqual(self.names(f"roleName eq '{name}'"), [])
        self.assertIsNone(self.client.role_definitions.delete(SUBSCRIPTION_SCOPE, role_id))  # 204

    def test_what_the_role_says_is_what_its_holder_may_do(self):
        group, registration = self.new_registration()
        role_id, name = self.new_role(READ)
        holder = principal_with()
        self.assign(holder, role_id, registration_id(group, registration))
        theirs = registrations(holder)
        self.assertEqual(theirs.get(group, registration).name, registration)
        with self.refused(403, "AuthorizationFailed", "getActivationKey/action"):
            theirs.get_activation_key(group, registration)
        self.put_role(role_id, name, "Microsoft.AzureStack/registrations/getActivationKey/action")
        self.assertTrue(theirs.get_activation_key(group, registration).activation_key)
        with self.refused(403, "AuthorizationFailed", READ):
            theirs.get(group, registration)

    def test_a_second_role_of_the_same_name_is_refused(self):
        _, name = self.new_role(READ)
        with self.refused(409, "RoleDefinitionWithSameNameExists", name):
            self.put_role(str(uuid.uuid4()), name, READ)

    def test_a_role_that_somebody_has_is_not_deleted(self):
        role_id, _ = self.new_role(READ)
        made = self.assign(principal_with(), role_id, SUBSCRIPTION_SCOPE)
        with self.refused(400, "RoleDefinitionHasAssignments"):
            self.client.role_definitions.delete(SUBSCRIPTION_SCOPE, role_id)
        self.client.role_assignments.delete_by_id(made.id)
        self.assertIsNotNone(self.client.role_definitions.delete(SUBSCRIPTION_SCOPE, role_id))

    def test_custom_roles_are_listed_by_their_type(self):
        _, name = self.new_role(READ)
        listed = self.names("type eq 'CustomRole'")
        self.assertIn(name, listed)
        self.assertNotIn("Owner", listed)

    def test_a_role_is_listed_in_no_subscription_but_its_own(self):
        _, name = self.new_role(READ)
        other = control("/subscriptions", {})["subscription_id"]
        self.assertEqual(self.names(f"roleName eq '{name}'", f"/subscriptions/{other}"), [])


class Conditions(AuthorizationTest):
    def setUp(self):
        super().setUp()
        self.group, self.name = self.new_registration()
        self.scope = registration_id(self.group, self.name)
        self.role_id, _ = self.new_role("*/read", "Microsoft.Authorization/roleAssignments/*")
        self.delegate, self.somebody = principal_with(), principal_with()

    def delegation(self, condition=only(REGISTRATION_OWNER), **more):
        more.setdefault("condition_version", "2.0")
        return self.assign(self.delegate, self.role_id, group_id(self.group), condition=condition, **more)

    def test_a_delegate_gives_and_takes_back_the_role_of_the_condition_and_no_other(self):
        made = self.delegation()
        told = self.client.role_assignments.get_by_id(made.id)
        self.assertEqual((told.condition, told.condition_version), (only(REGISTRATION_OWNER), "2.0"))
        theirs = sdk(AuthorizationManagementClient, self.delegate)
        given = self.assign(self.somebody, REGISTRATION_OWNER, self.scope, client=theirs)
        self.assertEqual(registrations(self.somebody).get(self.group, self.name).name, self.name)
        with self.refused(403, "AuthorizationFailed", "roleAssignments/write", self.scope):
            self.assign(self.somebody, OWNER, self.scope, client=theirs)
        beyond = self.assign(self.somebody, OWNER, self.scope)
        with self.refused(403, "AuthorizationFailed", "roleAssignments/delete", self.scope):
            theirs.role_assignments.delete_by_id(beyond.id)
        self.assertEqual(theirs.role_assignments.delete_by_id(given.id).id, given.id)

    def test_a_malformed_condition_is_refused(self):
        for condition in ("nonsense", only(REGISTRATION_OWNER)[:-1], "@Request[Nobody:Knows] StringEquals 'it'"):
            with self.subTest(condition), self.refused(400, "InvalidRequestContent", "condition"):
                self.delegation(condition)
        with self.refused(400, "InvalidRequestContent", "conditionVersion"):
            self.delegation(condition_version="1.0")

    def test_a_condition_can_be_changed(self):
        made = self.delegation()
        self.assertEqual(self.delegation(only(OWNER), name=made.name).condition, only(OWNER))


class Moves(AuthorizationTest):
    def setUp(self):
        super().setUp()
        self.target = self.new_group()
        self.source, self.name = self.new_registration()
        self.addCleanup(cloud.remove_registration, self.target, self.name)
        self.old, self.new = (registration_id(group, self.name) for group in (self.source, self.target))
        self.locks = sdk(ManagementLockClient).management_locks

    def move(self, to, validate=False):
        resources = sdk(ResourceManagementClient).resources
        begin = resources.begin_validate_move_resources if validate else resources.begin_move_resources
        poller = begin(self.source, ResourcesMoveInfo(resources=[self.old], target_resource_group=to))
        poller.result(timeout=TIMEOUT)
        return poller.status()

    def assert_no_move(self, to, status, code, *phrases):
        for validate in (True, False):
            with self.subTest(validate=validate), self.refused(status, code, *phrases):
                self.move(to, validate)
        self.assertEqual(registrations().get(self.source, self.name).id, self.old)

    def test_a_move_is_validated_takes_locks_along_and_leaves_role_assignments_behind(self):
        assigned = self.assign(principal_with(), REGISTRATION_OWNER, self.old)
        self.locks.create_or_update_by_scope(self.old, LOCK_NAME, ManagementLockObject(level="CanNotDelete"))
        self.assertEqual(self.move(group_id(self.target), validate=True), "Succeeded")
        self.assertEqual(registrations().get(self.source, self.name).id, self.old)
        self.assertEqual(self.move(group_id(self.target)), "Succeeded")
        self.assertEqual(registrations().get(self.target, self.name).id, self.new)
        with self.refused(404, "ResourceNotFound"):
            registrations().get(self.source, self.name)
        self.assertEqual(self.locks.get_by_scope(self.new, LOCK_NAME).level, "CanNotDelete")
        with self.refused(409, "ScopeLocked", self.new):
            registrations().delete(self.target, self.name)
        listed = self.client.role_assignments.list_for_resource_group
        self.assertIn(assigned.id, [found.id for found in listed(self.source)])
        self.assertFalse([found.id for found in listed(self.target) if found.scope == self.new])

    def test_a_move_goes_to_no_subscription_of_another_partner(self):
        def group_at(partner):
            other = control("/subscriptions", {"partner": partner})["subscription_id"]
            groups = sdk(ResourceManagementClient, subscription=other).resource_groups
            return groups.create_or_update(self.target, {"location": "westeurope"}).id

        self.assertEqual(self.move(group_at("partner-1"), validate=True), "Succeeded")
        self.assert_no_move(group_at("partner-2"), 409, "ResourceMoveNotSupported", "Partner ID")

    def test_a_read_only_lock_on_either_group_stops_a_move(self):
        for group in (self.source, self.target):
            self.locks.create_or_update_at_resource_group_level(group, "still", ManagementLockObject(level="ReadOnly"))
            self.assert_no_move(group_id(self.target), 409, "ScopeLocked", group_id(group))
            self.locks.delete_at_resource_group_level(group, "still")
        self.assertEqual(self.move(group_id(self.target)), "Succeeded")


class Locks(AuthorizationTest):
    def test_a_locked_registration_keeps_itself_and_its_role_assignments(self):
        group, name = self.new_registration()
        scope = registration_id(group, name)
        assigned = self.assign(principal_with(), REGISTRATION_OWNER, scope)
        locks = sdk(ManagementLockClient).management_locks
        at = (group, "Microsoft.AzureStack", "", "registrations", name, LOCK_NAME)
        locks.create_or_update_at_resource_level(*at, ManagementLockObject(level="CanNotDelete"))
        with self.refused(409, "ScopeLocked", "delete operation", scope):
            registrations().delete(group, name)
        with self.refused(409, "ScopeLocked", "delete operation", scope):
            self.client.role_assignments.delete_by_id(assigned.id)
        locks.delete_at_resource_level(*at)
        self.assertEqual(self.client.role_assignments.delete_by_id(assigned.id).id, assigned.id)
        registrations().delete(group, name)


class Capacity(cloud.LabTest):
    def test_an_expired_registration_is_not_updated_and_another_name_is_taken(self):
        group, token = self.new_group(), capacity_token(STAMPS[0])
        self.addCleanup(control, "/clock", {"advance_seconds": -YEAR_AND_A_DAY})
        for name in ("old", "new"):
            self.addCleanup(cloud.remove_registration, group, name)
        before = registrations()
        before.create_or_update(group, "old", token)
        with self.refused(409, "CloudIdAlreadyRegistered"):
            before.create_or_update(group, "new", token)
        control("/clock", {"advance_seconds": YEAR_AND_A_DAY})
        with self.refused(401, "ExpiredAuthenticationToken"):  # The access token is a year old as well.
            before.get(group, "old")
        with self.refused(409, "RegistrationExpired", "old"):
            registrations().create_or_update(group, "old", token)
        status, made = registrations().create_or_update(group, "new", token, cls=cloud.with_status)
        self.assertEqual((status, made.billing_model), (201, "Capacity"))


class Adfs(cloud.LabTest, pep.PepTest):
    """A stamp whose identity system is its own AD FS."""

    def setUp(self):
        for self.index, self.stamp in enumerate(STAMPS):
            told = self.read("/metadata/endpoints").json()["authentication"]
            self.authority, [self.resource] = told["loginEndpoint"], told["audiences"]
            if self.authority.endswith("/adfs"):
                self.secret = pep.read_secret(self.stamp["stamp_client_secret_file"])
                return
        self.fail("the lab has no stamp with identity=adfs")

    def post(self, path, **form):
        return requests.post(self.authority + path, data=form, verify=CA_FILE, timeout=TIMEOUT)

    def msal(self, kind, client_id, **more):
        return kind(client_id, authority=self.authority, validate_authority=False, verify=CA_FILE, **more)

    def by_secret(self, secret=None, resource=None):
        client = {"client_id": self.stamp["stamp_client_id"], "client_secret": secret or self.secret}
        asked = {"grant_type": "client_credentials", "resource": resource or self.resource}
        return self.post("/oauth2/token", **client, **asked).json()

    def by_device_code(self):
        client = {"client_id": cloud.AZURE_POWERSHELL}
        flow = self.post("/oauth2/devicecode", **client, resource=self.resource).json()
        self.assertIn(flow["user_code"], flow["message"])
        return self.post("/oauth2/token", **client, grant_type="device_code", code=flow["device_code"]).json()

    def by_msal(self):
        client_id = self.stamp["stamp_client_id"]
        application = self.msal(msal.ConfidentialClientApplication, client_id, client_credential=self.secret)
        return application.acquire_token_for_client([self.resource + "/.default"])

    def read(self, path, token=None):
        """What the stamp's admin Resource Manager has there."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.stamp['admin_arm_endpoint']}{path}?api-version=2016-01-01"
        return requests.get(url, headers=headers, verify=CA_FILE, timeout=TIMEOUT)

    def test_tokens_of_every_kind_read_the_activation_record_until_it_is_removed(self):
        group, name = self.new_group(), "Adfs-" + uuid.uuid4().hex[:8]
        self.addCleanup(cloud.remove_registration, group, name)
        registrations().create_or_update(group, name, capacity_token(self.stamp))
        key = registrations().get_activation_key(group, name).activation_key
        with pep.privileged_pool(index=self.index) as pool:
            told = self.only(self.succeed(pool, "Get-AzureStackStampInformation"))
            self.assertEqual(pep.member(told, "IdentitySystem"), "ADFS")
            self.succeed(pool, "New-AzureStackActivation", pep.activation_parameters(key))
        control(f"/stamps/{self.stamp['name']}", {"downloaded": ["item-1", "item-2"]})
        for kind in (self.by_secret, self.by_device_code, self.by_msal):
            result = kind()
            self.assertIn("access_token", result, kind.__name__)
            token = result["access_token"]
            self.assertEqual("upn" in cloud.claims_of(token), kind == self.by_device_code)
            [provider] = self.read("/subscriptions", token).json()["value"]
            record = f"{provider['id']}/resourceGroups/azurestack-activation{RECORD}"
            self.assertIn(name, self.read(record, token).text, kind.__name__)
            items = self.read(record + "/downloadedProducts", token).json()["value"]
            self.assertEqual([item["name"] for item in items], ["default/item-1", "default/item-2"])
        with pep.privileged_pool(index=self.index) as pool:
            self.succeed(pool, "Remove-AzureStackActivation")
        self.assertEqual(self.read(record, token).status_code, 404)
        self.assertEqual(world()["stamps"][self.index]["downloaded"], [])

    def test_a_wrong_secret_or_resource_is_refused(self):
        self.assertEqual(self.by_secret(secret="wrong")["error"], "invalid_client")
        self.assertEqual(self.by_secret(resource=cloud.ARM)["error"], "invalid_resource")

    def test_msal_signs_a_person_in_with_a_device_code(self):
        application = self.msal(msal.PublicClientApplication, cloud.AZURE_POWERSHELL)
        flow = application.initiate_device_flow([self.resource + "/.default"])
        flow["expires_at"] = time.time() + 20
        self.assertIn("access_token", application.acquire_token_by_device_flow(flow))
        self.assertTrue(application.get_accounts())


class Endpoint(pep.PepTest):
    """What the privileged endpoint has besides registering."""

    def test_a_transcript_is_delivered_with_a_credential_and_not_without(self):
        share = {"TranscriptsPathDestination": "\\\\fileserver\\" + uuid.uuid4().hex}
        credential = PSCredential(username="CONTOSO\\operator", password="S3cret \u00e4\u20ac")
        before = world()["stamps"][0]["transcripts"]
        with pep.privileged_pool() as pool:
            pool.exchange_keys()  # What a credential's SecureString is sealed with.
            record = self.terminating_error(pep.run(pool, "Close-PrivilegedEndpoint", share))
            self.assertIn("credential", pep.error_text(record))
            self.assertEqual(world()["stamps"][0]["transcripts"], before)
            self.succeed(pool, "Close-PrivilegedEndpoint", {**share, "Credential": credential})
        delivered = share["TranscriptsPathDestination"] + " as CONTOSO\\operator"
        self.assertEqual(world()["stamps"][0]["transcripts"], [*before, delivered])

    def test_a_license_is_saved(self):
        with pep.privileged_pool() as pool:
            self.fail_with(pool, "Save-HCILicense", {}, "MissingMandatoryParameter")
            before = world()["stamps"][0]["hci_license"]
            self.succeed(pool, "Save-HCILicense", {"License": "a license " + uuid.uuid4().hex})
        self.assertNotIn(world()["stamps"][0]["hci_license"], (None, before))


if __name__ == "__main__":
    unittest.main()
