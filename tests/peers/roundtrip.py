"""Opens a session with pypsrp, runs one cmdlet and closes, again and again: prints the milliseconds of each.

roundtrip.py ADDRESS USER PASSWORD_FILE COUNT. For the bench: the same work as azsreg-pep's example of that name.
"""

import sys
import time

from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

address, user, password_file, count = sys.argv[1:]
host, port = address.rsplit(":", 1)
with open(password_file, encoding="utf-8") as file:
    password = file.read().strip()
for _ in range(int(count)):
    begun = time.perf_counter()
    wsman = WSMan(host, port=int(port), username=user, password=password, ssl=False, auth="ntlm", encryption="always")
    with wsman, RunspacePool(wsman, configuration_name="PrivilegedEndpoint") as pool:
        shell = PowerShell(pool)
        shell.add_cmdlet("Get-AzureStackStampInformation")
        shell.invoke()
        assert not shell.had_errors
    print(f"{(time.perf_counter() - begun) * 1000:.3f}")
