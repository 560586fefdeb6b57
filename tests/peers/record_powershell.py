"""Records what real PowerShell answers, for crates/azsreg-pep/src/recorded.rs.

    python3 tests/peers/record_powershell.py [PWSH] > crates/azsreg-pep/src/recorded.jsonl

PWSH is PowerShell 7 (default: `pwsh` on PATH, then ../shared/pwsh/pwsh). It runs as the server of a restricted session
(RestrictedRemoteServer, NoLanguage: as the privileged endpoint is made) with the functions below, and speaks PSRP over its
standard input and output. The client is psrpcore, none of ours. A line is a command: its name, and the PSRP fragments of the
answer as PowerShell wrote them. It needs the packages of requirements.txt.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path

from psrpcore import ClientPowerShell, ClientRunspacePool, PSRPPayload, StreamType
from psrpcore.types import PSInvocationState, RunspacePoolState

BUSY = "Cannot invoke action plan because another action is in progress: 5d1c3a52-0c2b-4f0e-9a67-2b8f0f6f7c11"
TOKEN = base64.b64encode(b"a token of a form that is not known").decode()

# The scenarios: a name, the cmdlet, its arguments, and the body of the function that answers; None where there is none.
SCENARIOS = [
    ("missing", "Get-AzureStackStampInformation", {}, None),
    ("missing inside", "Set-RegistrationKeyPair", {}, "Get-InnerThing"),
    (
        "busy, and missing inside",
        "New-RegistrationToken",
        {},
        f"$ErrorActionPreference = 'Stop'; Write-Verbose -Verbose '{BUSY}'; Get-InnerThing",
    ),
    ("busy in a warning", "New-AzureBridgeServicePrincipal", {}, f"Write-Warning '{BUSY}'; throw 'no more is known'"),
    (
        "an inner exception",
        "New-AzureBridgeServicePrincipal",
        {},
        "throw [System.InvalidOperationException]::new('The bridge was not made.', [System.AggregateException]::new("
        "'Several errors.', [System.Exception[]]@([System.IO.IOException]::new('The first.'), "
        "[System.Exception]::new('AADSTS53003: Access has been blocked. Trace ID: 1'))))",
    ),
    (
        "error details",
        "New-AzureStackActivation",
        {},
        "$r = [System.Management.Automation.ErrorRecord]::new([System.TimeoutException]::new('The exception.'), 'MyId', "
        "'OperationTimeout', 'the target'); $r.ErrorDetails = [System.Management.Automation.ErrorDetails]::new("
        "'The activation key is not good.'); $r.ErrorDetails.RecommendedAction = 'Ask for another.'; "
        "$PSCmdlet.ThrowTerminatingError($r)",
    ),
    (
        "errors before the last",
        "Remove-AzureStackActivation",
        {},
        f"Write-Error '{BUSY}'; Write-Error 'a second error'; throw 'at last'",
    ),
    ("only an error", "Set-RegistrationKeyPair", {}, "Write-Error 'the keys were not made' -ErrorId KeysNotMade"),
    ("a thrown text", "New-RegistrationToken", {}, "throw 'no more is known'"),
    ("a rethrown exception", "Get-ActionStatus", {}, "try { 1 / 0 } catch { throw }"),
    ("a wrong value", "New-RegistrationToken", {"Model": "Z"}, "param([ValidateSet('A', 'B')][string] $Model)"),
    ("an unknown parameter", "New-RegistrationToken", {"MsAssetTag": "x"}, "param([string] $Model)"),
    ("a missing parameter", "New-RegistrationToken", {}, "param([Parameter(Mandatory)][string] $Model)"),
    (
        "a token and what follows",
        "New-RegistrationToken",
        {},
        f"Write-Host 'the token is made'; '{TOKEN}'; [timespan]::FromSeconds(90); 'Done in 90 s.'; "
        "Write-Error 'one host gave no serial number'",
    ),
    ("a token with a note", "New-RegistrationToken", {}, f"'{TOKEN}' | Add-Member -PassThru NoteProperty From 'ERCS01'"),
    (
        "other forms of values",
        "Get-AzureStackStampInformation",
        {},
        "Write-Information -InformationAction Continue ([pscustomobject]@{ a = 1 }); "
        "[pscustomobject]@{ CloudID = [guid] '11111111-2222-4333-8444-555555555555' | "
        "Add-Member -PassThru NoteProperty From 'ERCS01'; StampVersion = [version] '1.2301.2.58'; NumberOfNodes = [double] 4; "
        "RegionName = 'east' | Add-Member -PassThru NoteProperty From 'ERCS01'; IdentitySystem = 'AzureAD' }",
    ),
    (
        "a principal in a list",
        "New-AzureBridgeServicePrincipal",
        {},
        "Write-Progress -Activity 'bridge' -Status 'half-way' -PercentComplete 50; "
        ", @([timespan]::FromSeconds(1), [pscustomobject]@{ ObjectId = '{11111111-2222-4333-8444-555555555555}' })",
    ),
]


def find():
    here = Path(__file__).resolve().parents[2]
    for place in (*sys.argv[1:2], shutil.which("pwsh"), here.parent / "shared/pwsh/pwsh"):
        if place and Path(place).exists():
            return str(place)
    sys.exit("There is no PowerShell 7: give its path.")


class Server:
    """A restricted session in which one function answers."""

    def __init__(self, pwsh, folder, cmdlet, body):
        module, session = folder / "pep.psm1", folder / "pep.pssc"
        name, body = (cmdlet, body) if body is not None else ("Get-Other", "")
        params, rest = re.match(r"(param\(.*\))?(.*)", body, re.S).groups()
        module.write_text(f"function {name} {{ [CmdletBinding()] {params or 'param()'}\n{rest} }}\n", encoding="utf-8")
        session.write_text(
            "@{ SchemaVersion = '2.0.0.0'; GUID = '%s'; SessionType = 'RestrictedRemoteServer'; LanguageMode = 'NoLanguage'; "
            "ModulesToImport = '%s'; VisibleFunctions = '%s' }" % (uuid.uuid4(), module, name),
            encoding="utf-8",
        )
        self.process = subprocess.Popen(
            [pwsh, "-NoLogo", "-NoProfile", "-SSHServerMode", "-ConfigurationFile", str(session)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "HOME": str(folder), "POWERSHELL_TELEMETRY_OPTOUT": "1"},
        )

    def write(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def send(self, pool):
        while (payload := pool.data_to_send()) is not None:
            of = payload.pipeline_id or uuid.UUID(int=0)
            data = base64.b64encode(payload.data).decode()
            self.write(f"<Data Stream='Default' PSGuid='{of}'>{data}</Data>")

    def packets(self):
        """What it writes: an element's name, whose it is, its bytes."""
        for line in self.process.stdout:
            found = re.search(rb"<(\w+)(?: Stream='\w+')? PSGuid='([0-9a-f-]+)'(?: ?/>|>([^<]*))", line)
            if found:
                yield found[1].decode(), uuid.UUID(found[2].decode()), base64.b64decode(found[3] or b"")


def record(pwsh, scenario, cmdlet, arguments, body):
    with tempfile.TemporaryDirectory() as folder:
        server = Server(pwsh, Path(folder), cmdlet, body)
        # A server that could not begin says nothing: its end is an error here.
        watch = threading.Timer(60, server.process.kill)
        watch.start()
        try:
            packets = server.packets()
            pool = ClientRunspacePool()
            pool.open()
            server.send(pool)
            while pool.state != RunspacePoolState.Opened:
                kind, _, data = next(packets)
                if kind == "Data":
                    pool.receive_data(PSRPPayload(data, StreamType.default, None))
                    while pool.next_event():
                        pass
            shell = ClientPowerShell(pool)
            shell.add_command(cmdlet).add_parameters(**arguments)
            shell.start()
            server.write(f"<Command PSGuid='{shell.pipeline_id}' />")
            while next(packets)[0] != "CommandAck":
                pass
            server.send(pool)
            fragments = []
            while shell.state not in (PSInvocationState.Completed, PSInvocationState.Failed, PSInvocationState.Stopped):
                kind, of, data = next(packets)
                if kind == "Data" and of == shell.pipeline_id:
                    fragments.append(base64.b64encode(data).decode())
                    pool.receive_data(PSRPPayload(data, StreamType.default, of))
                    while pool.next_event():
                        pass
            return {"scenario": scenario, "cmdlet": cmdlet, "fragments": fragments}
        finally:
            watch.cancel()
            server.process.kill()
            server.process.wait()


def main():
    pwsh = find()
    for scenario in SCENARIOS:
        print(json.dumps(record(pwsh, *scenario)), flush=True)
        print(f"recorded: {scenario[0]}", file=sys.stderr)


if __name__ == "__main__":
    main()
