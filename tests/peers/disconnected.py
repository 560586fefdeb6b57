"""The disconnected round trip with pypsrp and the Azure SDKs: prints its milliseconds and its peak memory in MiB.

disconnected.py DESCRIPTOR.json NAME. For the bench: what an operator's script would do in place of azsreg's offline
token, register, key and activate. DESCRIPTOR.json is the line that azsreg lab up prints, NAME the registration's name.
The time counts from the start of the process, imports included, up to the end of the activation. What comes after undoes
it all, so that it can be run again, and does not count. Linux only, as it reads /proc.
"""

import contextlib
import json
import os
import resource
import sys
import time

from azure.identity import ClientSecretCredential
from azure.mgmt.azurestack import AzureStackManagementClient
from azure.mgmt.azurestack.models import RegistrationParameter
from azure.mgmt.resource.locks import ManagementLockClient
from azure.mgmt.resource.locks.models import ManagementLockObject
from azure.mgmt.resource.resources import ResourceManagementClient
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

GROUP, LOCK = "azurestack", "RegistrationResourceLock"


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


@contextlib.contextmanager
def session(stamp):
    """A session at the stamp's privileged endpoint."""
    host, port = stamp["pep"][0].rsplit(":", 1)
    user, password = stamp["pep_user"], read(stamp["pep_password_file"])
    wsman = WSMan(host, port=int(port), username=user, password=password, ssl=False, auth="ntlm", encryption="always")
    with wsman, RunspacePool(wsman, configuration_name="PrivilegedEndpoint") as pool:
        yield pool


def run(pool, cmdlet, **parameters):
    shell = PowerShell(pool)
    shell.add_cmdlet(cmdlet).add_parameters(parameters)
    output = shell.invoke()
    if shell.had_errors:
        sys.exit(f"{cmdlet}: {'; '.join(str(error) for error in shell.streams.error)}")
    return output[0] if output else None


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

# At the stamp: a token.
with session(stamp) as pool:
    information = run(pool, "Get-AzureStackStampInformation").extended_properties
    build = tuple(int(part) for part in information["StampVersion"].split("."))
    if build > (1, 2209, 0, 23) and information["NumberOfNodes"] > 1:
        run(pool, "Set-RegistrationKeyPair")
    token = run(
        pool,
        "New-RegistrationToken",
        BillingModel="Capacity",
        AgreementNumber="12345678",
        UsageReportingEnabled=False,
        MarketplaceSyndicationEnabled=False,
    )

# With internet: a registration from it, its lock and its activation key.
credential = ClientSecretCredential(
    lab["tenant_id"],
    lab["client_id"],
    read(lab["client_secret_file"]),
    authority=lab["authority"],
    disable_instance_discovery=True,
)
cloud = {"base_url": lab["arm_endpoint"], "credential_scopes": [lab["audience"] + "/.default"]}
groups = ResourceManagementClient(credential, lab["subscription_id"], **cloud).resource_groups
registrations = AzureStackManagementClient(credential, lab["subscription_id"], **cloud).registrations
locks = ManagementLockClient(credential, lab["subscription_id"], **cloud).management_locks
if not groups.check_existence(GROUP):
    groups.create_or_update(GROUP, {"location": "westcentralus"})
registrations.create_or_update(GROUP, name, RegistrationParameter(location="global", registration_token=token))
registration = (GROUP, "Microsoft.AzureStack", "", "registrations", name)
locks.create_or_update_at_resource_level(*registration, LOCK, ManagementLockObject(level="CanNotDelete"))
key = registrations.get_activation_key(GROUP, name).activation_key

# At the stamp again: the activation.
with session(stamp) as pool:
    run(pool, "New-AzureStackActivation", ActivationKey=key)
report()

# Undo it.
with session(stamp) as pool:
    run(pool, "Remove-AzureStackActivation")
locks.delete_at_resource_level(*registration, LOCK)
registrations.delete(GROUP, name)
