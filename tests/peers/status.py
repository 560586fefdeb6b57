"""Reads both sides of a registration with pypsrp and the Azure SDKs: prints milliseconds and peak memory in MiB.

status.py DESCRIPTOR.json NAME. For the bench: what an operator's script would ask in place of azsreg status.
DESCRIPTOR.json is the line that azsreg lab up prints, NAME a registration in the resource group azurestack that the first
stamp is activated for. The time counts from the start of the process, imports included. Linux only, as it reads /proc.
"""

import json
import os
import resource
import sys
import time
from urllib.parse import urlsplit

import requests
from azure.identity import ClientSecretCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.azurestack import AzureStackManagementClient
from azure.mgmt.resource.locks import ManagementLockClient
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

GROUP = "azurestack"


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def sign_in(authority, tenant, client_id, secret_file):
    return ClientSecretCredential(
        tenant, client_id, read(secret_file), authority=authority, disable_instance_discovery=True
    )


def report():
    """Whole milliseconds since the process started (in clock ticks since boot, field 22), and its peak resident set."""
    ticks = int(read("/proc/self/stat").rsplit(")", 1)[1].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    print(f"{age * 1000:.0f}")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}")


lab, name = json.loads(read(sys.argv[1])), sys.argv[2]
stamp = lab["stamps"][0]
os.environ["REQUESTS_CA_BUNDLE"] = lab["ca_file"]
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

# The stamp's privileged endpoint.
host, port = stamp["pep"][0].rsplit(":", 1)
user, password = stamp["pep_user"], read(stamp["pep_password_file"])
wsman = WSMan(host, port=int(port), username=user, password=password, ssl=False, auth="ntlm", encryption="always")
with wsman, RunspacePool(wsman, configuration_name="PrivilegedEndpoint") as pool:
    shell = PowerShell(pool)
    shell.add_cmdlet("Get-AzureStackStampInformation")
    output = shell.invoke()
    assert not shell.had_errors
    information = output[0].extended_properties

# Azure.
credential = sign_in(lab["authority"], lab["tenant_id"], lab["client_id"], lab["client_secret_file"])
cloud = {"base_url": lab["arm_endpoint"], "credential_scopes": [lab["audience"] + "/.default"]}
registration = AzureStackManagementClient(credential, lab["subscription_id"], **cloud).registrations.get(GROUP, name)
locks = ManagementLockClient(credential, lab["subscription_id"], **cloud).management_locks
locks = list(locks.list_at_resource_level(GROUP, "Microsoft.AzureStack", "", "registrations", name))
roles = AuthorizationManagementClient(credential, lab["subscription_id"], **cloud).role_assignments
roles = list(roles.list_for_scope(registration.id, filter="atScope()"))

# The stamp's own Resource Manager. No SDK knows it; its metadata says where to sign in: https://login.example/TENANT/.
with requests.Session() as manager:

    def get(path, version):
        answer = manager.get(stamp["admin_arm_endpoint"] + path, params={"api-version": version})
        answer.raise_for_status()
        return answer.json()

    metadata = get("/metadata/endpoints", "2015-01-01")["authentication"]
    login = urlsplit(metadata["loginEndpoint"])
    tenant = login.path.strip("/") or information["AADTenantID"]
    operator = sign_in(
        f"{login.scheme}://{login.netloc}", tenant, stamp["stamp_client_id"], stamp["stamp_client_secret_file"]
    )
    token = operator.get_token(metadata["audiences"][0] + "/.default").token
    manager.headers["Authorization"] = f"Bearer {token}"
    subscriptions = get("/subscriptions", "2015-11-01")["value"]
    provider = next(s["subscriptionId"] for s in subscriptions if s["displayName"] == "Default Provider Subscription")
    bridge = f"/subscriptions/{provider}/resourceGroups/azurestack-activation/providers/Microsoft.AzureBridge.Admin"
    activation = get(f"{bridge}/activations/default", "2016-01-01")["properties"]

assert registration.cloud_id == information["CloudID"], "the registration is another stamp's"
assert activation["azureRegistrationResourceIdentifier"].lower() == registration.id.lower(), "the stamp has another one"
assert any(lock.name == "RegistrationResourceLock" for lock in locks), "the registration is not locked"
report()
