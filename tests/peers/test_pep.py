#!/usr/bin/env python3
"""An independent client's opinion of the lab's privileged endpoint (PEP).

Everything here goes through pypsrp and pyspnego, which this project did not write: if the lab and our own client shared a
misreading of WinRM, PSRP or NTLM, they would agree with each other and disagree with these tests.

Run:  AZSREG_LAB='{...one line of JSON...}' python test_pep.py -v

The lab must be fresh (not registered). Every test opens its own connections and leaves the stamp idle and not activated.
Nothing sleeps for a fixed time; where a test waits for the stamp it polls, and every wait has a deadline.
"""

import base64
import contextlib
import http.client
import json
import os
import re
import ssl
import struct
import time
import unittest
import urllib.request
import uuid

# The lab is on loopback; a proxy from the environment has no business in between.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

import requests
import spnego
from pypsrp.complex_objects import ComplexObject, ObjectMeta, PSCredential, PSInvocationState
from pypsrp.encryption import WinRMEncryption
from pypsrp.exceptions import AuthenticationError, WinRMError, WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan
from spnego._ntlm_raw.messages import Authenticate, AvId, Challenge, NegotiateFlags

LAB = json.loads(os.environ["AZSREG_LAB"]) if os.environ.get("AZSREG_LAB") else None
CONFIGURATION = "PrivilegedEndpoint"
DEADLINE = 60  # seconds; far above anything the lab needs, so only a hang meets it
QUICK, SLOW = 1, 3  # seconds an activation takes in this file
NTLM_ANONYMOUS = 0x00000800
BUSY = "Cannot invoke action plan because another action is in progress"
ALL_CMDLETS = (
    "Get-AzureStackStampInformation",
    "Get-Command",
    "Get-ActionStatus",
    "Set-RegistrationKeyPair",
    "New-AzureBridgeServicePrincipal",
    "New-RegistrationToken",
    "New-AzureStackActivation",
    "Remove-AzureStackActivation",
    "Close-PrivilegedEndpoint",
)


# ---------------------------------------------------------------------------------------------------------------------
# The lab: addresses, secrets, control port
# ---------------------------------------------------------------------------------------------------------------------


def read_secret(path):
    """A secret file's content without the line end an editor may have left."""
    with open(path, encoding="utf-8") as file:
        return file.read().strip("\r\n")


def split_address(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def stamp(index=0):
    return LAB["stamps"][index]


def has_old_stamp():
    return LAB is not None and len(LAB["stamps"]) > 1


def control(method, path, body=None):
    """One call to the lab's control port, which is a test helper and no part of what is tested."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        LAB["control_endpoint"].rstrip("/") + path,
        data=data if method == "GET" or data is not None else b"",
        method=method,
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        text = response.read().decode()
    return json.loads(text) if text.strip() else None


def logons():
    answer = control("GET", f"/stamps/{stamp()['name']}/logons")
    return answer["failed"], answer["succeeded"]


def set_activation_seconds(seconds):
    control("POST", f"/stamps/{stamp()['name']}", {"activation_seconds": seconds})


def new_refresh_token():
    return control("POST", "/refresh-token", {})["refresh_token"]


def activation_key_for(registration_token):
    return control("POST", "/activation-key", {"registration_token": registration_token})["activation_key"]


# ---------------------------------------------------------------------------------------------------------------------
# pypsrp helpers
# ---------------------------------------------------------------------------------------------------------------------


def connect(index=0, pep=0, auth="ntlm", tls=False, encryption=None, user=None, password=None, **options):
    """A WSMan client for one of a stamp's endpoints; sealed by NTLM on HTTP, by TLS on HTTPS, unless told otherwise."""
    target = stamp(index)
    host, port = split_address(target["pep_https"] if tls else target["pep"][pep])
    if tls:
        options.setdefault("cert_validation", LAB["ca_file"])
    return WSMan(
        host,
        port=port,
        ssl=tls,
        path="wsman",
        auth=auth,
        encryption=encryption or ("auto" if tls else "always"),
        username=user or target["pep_user"],
        password=read_secret(target["pep_password_file"]) if password is None else password,
        no_proxy=True,
        **options,
    )


@contextlib.contextmanager
def privileged_pool(configuration=CONFIGURATION, **connection):
    """An open runspace pool; a failure while closing never hides the failure of the test itself."""
    wsman = connect(**connection)
    try:
        pool = RunspacePool(wsman, configuration_name=configuration)
        pool.open()
        try:
            yield pool
        except BaseException:
            with contextlib.suppress(Exception):
                pool.close()
            raise
        pool.close()
    finally:
        wsman.close()


def begin(pool, cmdlet, parameters=None):
    """Start a cmdlet with named arguments and do not wait for it."""
    ps = PowerShell(pool)
    ps.add_cmdlet(cmdlet)
    ps.add_parameters(parameters or {})
    ps.begin_invoke()
    return ps


def finish(ps):
    """Like PowerShell.end_invoke, but with a deadline; then releases the command (Signal Terminate) as a good client does."""
    give_up = time.monotonic() + DEADLINE
    while ps.state == PSInvocationState.RUNNING:
        if time.monotonic() > give_up:
            raise AssertionError(f"the pipeline was still running after {DEADLINE} s")
        ps.poll_invoke()
    ps.close()
    return ps


def run(pool, cmdlet, parameters=None):
    return finish(begin(pool, cmdlet, parameters))


def member(value, name):
    """A property of a deserialized object wherever the server chose to put it (adapted, extended, or a dictionary).

    Names are compared without case, as PowerShell does.
    """
    if isinstance(value, dict):
        properties = value
    else:
        properties = dict(getattr(value, "extended_properties", {}))
        properties.update(getattr(value, "adapted_properties", {}))
    for key, found in properties.items():
        if str(key).lower() == name.lower():
            return found
    raise AssertionError(f"no member {name!r} in {value!r} with members {sorted(map(str, properties))}")


def flatten(value):
    """Every value inside an output object, as one text. For answers whose exact shape is nobody's promise."""
    if isinstance(value, dict):
        return " ".join(flatten(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return " ".join(flatten(v) for v in value)
    if isinstance(value, ComplexObject):
        parts = [getattr(value, "to_string", None) or value._to_string or ""]
        for group in ("extended_properties", "adapted_properties"):
            parts.append(flatten(getattr(value, group, {})))
        parts.append(flatten(getattr(value, "property_sets", [])))
        return " ".join(str(p) for p in parts)
    return "" if value is None else str(value)


def error_text(record):
    """All the words of an error record: its own text, the exception, the category message."""
    parts = [record._to_string, flatten(record.exception), record.message, record.details_message]
    return " ".join(str(part) for part in parts if part)


def decode_token(token):
    return json.loads(base64.b64decode(token, validate=True).decode("utf-8"))


def token_parameters(**more):
    parameters = {
        "BillingModel": "PayAsYouUse",
        "MarketplaceSyndicationEnabled": True,
        "UsageReportingEnabled": True,
    }
    parameters.update(more)
    return parameters


def activation_parameters(key):
    return {"ActivationKey": key, "TimeoutInSeconds": 1800}


def tamper_signature(key):
    """Change one character in the middle of a JWS signature (the last one may carry only padding bits)."""
    head, payload, signature = key.split(".")
    middle = len(signature) // 2
    other = "A" if signature[middle] != "A" else "B"
    return ".".join((head, payload, signature[:middle] + other + signature[middle + 1 :]))


# ---------------------------------------------------------------------------------------------------------------------
# Raw HTTP and NTLM helpers, for what pypsrp would never send
# ---------------------------------------------------------------------------------------------------------------------


class RawEndpoint:
    """One pinned TCP connection to a PEP, so that every leg of a handshake travels on the same one."""

    def __init__(self, tls=False):
        if tls:
            host, port = split_address(stamp()["pep_https"])
            context = ssl.create_default_context(cafile=LAB["ca_file"])
            self.connection = http.client.HTTPSConnection(host, port, timeout=30, context=context)
        else:
            host, port = split_address(stamp()["pep"][0])
            self.connection = http.client.HTTPConnection(host, port, timeout=30)
        self.connection.connect()
        # http.client reconnects silently, and a handshake across two connections proves nothing.
        self.connection.auto_open = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def post(self, body=b"", authorization=None, content_type=None):
        """-> (status, WWW-Authenticate or "", body)"""
        headers = {"Content-Length": str(len(body)), "Connection": "Keep-Alive"}
        if content_type:
            headers["Content-Type"] = content_type
        if authorization:
            headers["Authorization"] = authorization
        self.connection.request("POST", "/wsman", body=body, headers=headers)
        response = self.connection.getresponse()
        challenges = ", ".join(response.msg.get_all("WWW-Authenticate") or [])
        return response.status, challenges, response.read()

    def post_token(self, token, body=b"", content_type=None):
        return self.post(body, "Negotiate " + base64.b64encode(token).decode(), content_type)

    def challenge(self, type1):
        """Send a Type 1, return the Type 2 the server answers with."""
        status, header, _ = self.post_token(type1)
        if status != 401:
            raise AssertionError(f"a Type 1 was answered with {status}, expected 401 with a Type 2")
        match = re.search(r"Negotiate\s+([A-Za-z0-9+/=]+)", header)
        if not match:
            raise AssertionError(f"no Type 2 in {header!r}")
        type2 = base64.b64decode(match.group(1))
        if not type2.startswith(b"NTLMSSP\0\2\0\0\0"):
            raise AssertionError("a raw Type 1 must be answered with a raw Type 2")
        return type2


def ntlm_client(password=None):
    """pyspnego's NTLM initiator with the stamp's account."""
    return spnego.client(
        stamp()["pep_user"],
        read_secret(stamp()["pep_password_file"]) if password is None else password,
        hostname="127.0.0.1",
        service="host",
        protocol="ntlm",
        options=spnego.NegotiateOptions.use_ntlm,
    )


def without_timestamp(type2):
    """The same challenge without MsvAvTimestamp: an NTLM client then makes no MIC and sets no MIC flag.

    NTProofStr stays valid for the server, as it is computed over what the client sends.
    """
    challenge = Challenge.unpack(type2)
    target_info = challenge.target_info.copy()
    target_info.pop(AvId.timestamp, None)
    return Challenge(
        challenge.flags,
        challenge.server_challenge,
        target_name=challenge.target_name,
        target_info=target_info,
        version=challenge.version,
    ).pack()


def flip_proof(type3):
    """Flip bits of NTProofStr, the first 16 bytes of NtChallengeResponse (field at offset 20)."""
    offset = struct.unpack_from("<I", type3, 24)[0]
    changed = bytearray(type3)
    for position in range(offset, offset + 16):
        changed[position] ^= 0xFF
    return bytes(changed)


def change_mic(type3, change):
    message = Authenticate.unpack(type3)
    message.mic = change(message.mic)
    return message.pack()


def soap_create():
    """A well-formed Create for the privileged endpoint. It must never be obeyed unsealed over plain HTTP."""
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
        ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
        ' xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"'
        ' xmlns:r="http://schemas.microsoft.com/wbem/wsman/1/windows/shell">'
        "<s:Header>"
        '<a:Action s:mustUnderstand="true">http://schemas.xmlsoap.org/ws/2004/09/transfer/Create</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID>"
        "<a:To>http://127.0.0.1/wsman</a:To>"
        "<a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>"
        f"<w:ResourceURI>http://schemas.microsoft.com/powershell/{CONFIGURATION}</w:ResourceURI>"
        "<w:OperationTimeout>PT20S</w:OperationTimeout>"
        '<w:OptionSet><w:Option Name="protocolversion" MustComply="true">2.3</w:Option></w:OptionSet>'
        "</s:Header>"
        f'<s:Body><r:Shell ShellId="{str(uuid.uuid4()).upper()}">'
        "<r:InputStreams>stdin pr</r:InputStreams><r:OutputStreams>stdout</r:OutputStreams>"
        "</r:Shell></s:Body></s:Envelope>"
    ).encode()


SOAP_TYPE = "application/soap+xml;charset=UTF-8"
SEALED_TYPE = (
    'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'
)


# ---------------------------------------------------------------------------------------------------------------------
# Tests
# ---------------------------------------------------------------------------------------------------------------------


@unittest.skipUnless(LAB, "AZSREG_LAB is not set")
class PepTest(unittest.TestCase):
    """Assertions about pipelines, and a stamp left idle and inactive whatever happened."""

    maxDiff = None

    def setUp(self):
        set_activation_seconds(QUICK)

    def succeed(self, pool, cmdlet, parameters=None):
        """Run a cmdlet that must complete without any error record."""
        ps = run(pool, cmdlet, parameters)
        texts = [f"{e.fq_error}: {error_text(e)}" for e in ps.streams.error]
        self.assertEqual(texts, [], f"{cmdlet} reported errors")
        self.assertEqual(ps.state, PSInvocationState.COMPLETED, cmdlet)
        self.assertFalse(ps.had_errors, cmdlet)
        return ps

    def terminating_error(self, ps):
        """The record of a terminating error: it comes with PipelineState Failed, and only there."""
        self.assertEqual(ps.state, PSInvocationState.FAILED, "expected a terminating error")
        self.assertTrue(ps.streams.error, "PipelineState Failed carried no error record")
        record = ps.streams.error[-1]
        self.assertTrue(record.fq_error, "an error record needs a FullyQualifiedErrorId")
        self.assertTrue(error_text(record), "an error record needs a text")
        return record

    def fail_with(self, pool, cmdlet, parameters, error_id):
        record = self.terminating_error(run(pool, cmdlet, parameters))
        self.assertIn(error_id, record.fq_error)
        return record

    def only(self, ps):
        self.assertEqual(len(ps.output), 1, f"expected one output object, got {ps.output!r}")
        return ps.output[0]

    # -- steps of a registration ------------------------------------------------------------------------------------

    def service_principal(self, pool):
        ps = self.succeed(
            pool,
            "New-AzureBridgeServicePrincipal",
            {
                "AzureEnvironment": "AzureCloud",
                "TenantId": LAB["tenant_id"],
                "RefreshToken": new_refresh_token(),
                "TimeoutInSeconds": 1800,
            },
        )
        return str(uuid.UUID(str(member(self.only(ps), "ObjectId"))))

    def registration_token(self, pool, **more):
        token = self.only(self.succeed(pool, "New-RegistrationToken", token_parameters(**more)))
        self.assertIsInstance(token, str)
        return token

    def activation_key(self, pool):
        """All that precedes an activation: service principal, token, registration in Azure."""
        self.service_principal(pool)
        return activation_key_for(self.registration_token(pool))

    def leave_inactive(self):
        """Clean-up: wait for the stamp to be idle, then deactivate it. Whether it was active is not of interest here."""

        def attempt():
            with privileged_pool() as pool:
                ps = run(pool, "Remove-AzureStackActivation")
                busy = any(BUSY in error_text(e) for e in ps.streams.error)
                return not busy

        set_activation_seconds(QUICK)
        self.poll(attempt, bool, "the stamp never became idle")

    # -- waiting ----------------------------------------------------------------------------------------------------

    def poll(self, question, answered, complaint):
        give_up = time.monotonic() + DEADLINE
        while True:
            answer = question()
            if answered(answer):
                return answer
            if time.monotonic() > give_up:
                self.fail(f"{complaint}; last answer: {answer!r}")
            time.sleep(0.1)

    def action_status(self, pool, function="New-AzureStackActivation"):
        """What Get-ActionStatus says, as text; empty while it knows no run of that action yet."""
        ps = run(pool, "Get-ActionStatus", {"FunctionName": function})
        return flatten(ps.output) if ps.state == PSInvocationState.COMPLETED else ""

    def wait_for_status(self, pool, pattern):
        return self.poll(
            lambda: self.action_status(pool),
            lambda text: re.search(pattern, text, re.I),
            f"Get-ActionStatus never matched {pattern!r}",
        )

    def wait_running(self, pool):
        return self.wait_for_status(pool, r"\bRunning\b")

    def wait_completed(self, pool):
        return self.wait_for_status(pool, r"\b(Completed|Success|Succeeded|Successful)\b")

    def assert_stamp_information(self, info):
        self.assertEqual(str(member(info, "StampVersion")), "1.2501.0.21")
        self.assertEqual(str(member(info, "CloudID")).lower(), stamp()["cloud_id"].lower())
        deployment = uuid.UUID(str(member(info, "DeploymentID")))
        self.assertNotEqual(str(deployment), stamp()["cloud_id"].lower(), "DeploymentID is another id than CloudID")
        self.assertEqual(member(info, "NumberOfNodes"), 4)
        self.assertIsInstance(member(info, "NumberOfNodes"), int)
        self.assertEqual(str(member(info, "AADTenantID")).lower(), LAB["tenant_id"].lower())
        self.assertRegex(str(member(info, "IdentitySystem")), re.compile(r"^(AAD|AzureAD)$", re.I))
        admin_arm = str(member(member(info, "AdminExternalEndpoints"), "AdminResourceManager"))
        self.assertEqual(admin_arm.rstrip("/"), stamp()["admin_arm_endpoint"].rstrip("/"))
        self.assertIn(".", str(member(info, "ExternalDomainFQDN")))

    def assert_registration_token(self, token, version, object_id):
        content = decode_token(token)
        self.assertEqual(content["version"], version)
        self.assertEqual(content["billingModel"], "PayAsYouUse")
        self.assertEqual(content["cloudId"].lower(), stamp()["cloud_id"].lower())
        self.assertEqual(content["objectId"].lower(), object_id.lower())
        self.assertIs(content["marketplaceSyndicationEnabled"], True)
        self.assertIs(content["usageReportingEnabled"], True)
        self.assertTrue(content["issuer"])
        self.assertEqual(len(content["hardwareInfo"]), 4, "one element per node")
        for node in content["hardwareInfo"]:
            self.assertIsInstance(node["numCores"], int)
            self.assertTrue(node["name"])
            uuid.UUID(node["uuid"])
            for part in ("bios", "nic", "cpu", "disk", "memory"):
                for digest in node[part]:
                    self.assertRegex(digest, r"^[0-9A-Fa-f]{32}$")


class EveryCmdlet:
    """Every cmdlet once; the subclasses say over which authentication and transport."""

    CONNECTION = {}

    def test_stamp_information(self):
        with privileged_pool(**self.CONNECTION) as pool:
            self.assert_stamp_information(self.only(self.succeed(pool, "Get-AzureStackStampInformation")))

    def test_get_command_lists_what_may_be_called(self):
        with privileged_pool(**self.CONNECTION) as pool:
            output = self.succeed(pool, "Get-Command").output
        names = {(o if isinstance(o, str) else str(member(o, "Name"))).lower() for o in output}
        self.assertEqual([c for c in ALL_CMDLETS if c.lower() not in names], [])

    def test_set_registration_key_pair(self):
        with privileged_pool(**self.CONNECTION) as pool:
            self.succeed(pool, "Set-RegistrationKeyPair")

    def test_service_principal_is_made_once(self):
        """A second call finds the principal of the first: a registration is rerun often."""
        with privileged_pool(**self.CONNECTION) as pool:
            first = self.service_principal(pool)
            self.assertEqual(self.service_principal(pool), first)

    def test_registration_token_versions(self):
        with privileged_pool(**self.CONNECTION) as pool:
            object_id = self.service_principal(pool)
            self.succeed(pool, "Set-RegistrationKeyPair")
            for version in ("4.0", "3.0", "1.0", "6.0"):
                with self.subTest(version=version):
                    token = self.registration_token(pool, TokenVersion=version)
                    self.assert_registration_token(token, version, object_id)

    def test_activation_and_deactivation(self):
        self.addCleanup(self.leave_inactive)
        with privileged_pool(**self.CONNECTION) as pool:
            key = self.activation_key(pool)
            ps = self.succeed(pool, "New-AzureStackActivation", activation_parameters(key))
            self.assertTrue(ps.streams.progress, "an activation reports progress")
            for record in ps.streams.progress:
                self.assertTrue(record.activity)
                self.assertGreaterEqual(record.percent_complete, -1)
                self.assertLessEqual(record.percent_complete, 100)
            for record in ps.streams.verbose:
                self.assertTrue(record.message)
            self.assertRegex(self.action_status(pool), r"(?i)\b(Completed|Success\w*|Succeeded)\b")
            self.succeed(pool, "Remove-AzureStackActivation")

    def test_close_privileged_endpoint(self):
        """The session may be gone afterwards, so closing it again may fail; the pipeline itself must complete."""
        wsman = connect(**self.CONNECTION)
        self.addCleanup(wsman.close)
        pool = RunspacePool(wsman, configuration_name=CONFIGURATION)
        pool.open()
        ps = begin(pool, "Close-PrivilegedEndpoint")
        give_up = time.monotonic() + DEADLINE
        while ps.state == PSInvocationState.RUNNING and time.monotonic() < give_up:
            ps.poll_invoke()
        self.assertEqual(ps.state, PSInvocationState.COMPLETED)
        self.assertEqual([error_text(e) for e in ps.streams.error], [])
        with contextlib.suppress(WinRMError, requests.RequestException):
            ps.close()
            pool.close()


class Ntlm(EveryCmdlet, PepTest):
    """Raw NTLM tokens under `Negotiate`, messages sealed, plain HTTP."""

    CONNECTION = {"auth": "ntlm", "encryption": "always"}


class Negotiate(EveryCmdlet, PepTest):
    """NTLM wrapped in SPNEGO (with mechListMIC), messages sealed, plain HTTP."""

    CONNECTION = {"auth": "negotiate", "encryption": "always"}


class Https(PepTest):
    """Over TLS nothing is sealed: pypsrp sends the full SOAP body on every leg of the handshake."""

    def test_every_combination(self):
        for auth in ("ntlm", "negotiate"):
            for encryption in ("never", "auto"):
                with self.subTest(auth=auth, encryption=encryption):
                    with privileged_pool(tls=True, auth=auth, encryption=encryption) as pool:
                        self.assert_stamp_information(self.only(self.succeed(pool, "Get-AzureStackStampInformation")))
                        self.registration_token(pool)

    def test_certificate_is_vouched_for_by_the_lab_authority_only(self):
        with self.assertRaises(requests.exceptions.SSLError):
            RunspacePool(connect(tls=True, cert_validation=True), configuration_name=CONFIGURATION).open()

    def test_soap_without_authentication_is_refused(self):
        with RawEndpoint(tls=True) as raw:
            status, header, body = raw.post(soap_create(), content_type=SOAP_TYPE)
        self.assertEqual(status, 401)
        self.assertIn("negotiate", header.lower())
        self.assertNotIn(b"ResourceCreated", body)

    def test_wrong_password(self):
        failed, succeeded = logons()
        with self.assertRaises(AuthenticationError):
            RunspacePool(connect(tls=True, password="wrong"), configuration_name=CONFIGURATION).open()
        self.assertEqual(logons(), (failed + 1, succeeded))


class Endpoints(PepTest):
    def test_three_endpoints_speak_for_one_stamp(self):
        self.assertEqual(len(stamp()["pep"]), 3)
        for pep in range(3):
            with self.subTest(pep=pep), privileged_pool(pep=pep) as pool:
                self.assert_stamp_information(self.only(self.succeed(pool, "Get-AzureStackStampInformation")))

    def test_wrong_configuration_is_a_fault(self):
        """The account may use one configuration; anything else is refused with a WSManFault, not a dropped connection."""
        for name in ("Microsoft.PowerShell", "NoSuchEndpoint"):
            with self.subTest(configuration=name):
                wsman = connect()
                self.addCleanup(wsman.close)
                with self.assertRaises(WSManFaultError) as caught:
                    RunspacePool(wsman, configuration_name=name).open()
                self.assertTrue(caught.exception.reason, "a fault says why")

    def test_two_pools_at_once(self):
        with privileged_pool() as first, privileged_pool(auth="negotiate") as second:
            self.succeed(first, "Get-AzureStackStampInformation")
            self.succeed(second, "Get-AzureStackStampInformation")
            self.succeed(first, "Get-AzureStackStampInformation")


class Errors(PepTest):
    """A terminating error ends the pipeline, never the session: each test goes on in the same pool."""

    def test_unknown_command(self):
        with privileged_pool() as pool:
            record = self.fail_with(pool, "Get-Process", {}, "CommandNotFoundException")
            self.assertIn("Get-Process", error_text(record))
            self.succeed(pool, "Get-AzureStackStampInformation")

    def test_unknown_parameter(self):
        with privileged_pool() as pool:
            record = self.fail_with(
                pool, "Get-AzureStackStampInformation", {"NoSuchParameter": "x"}, "NamedParameterNotFound"
            )
            self.assertIn("NoSuchParameter", error_text(record))
            self.succeed(pool, "Get-AzureStackStampInformation")

    def test_missing_mandatory_parameter(self):
        with privileged_pool() as pool:
            parameters = {"MarketplaceSyndicationEnabled": True, "UsageReportingEnabled": True}
            record = self.fail_with(pool, "New-RegistrationToken", parameters, "MissingMandatoryParameter")
            self.assertIn("BillingModel", error_text(record))
            self.registration_token(pool)

    def test_value_outside_the_enumeration(self):
        with privileged_pool() as pool:
            ps = run(pool, "New-RegistrationToken", token_parameters(BillingModel="Nonsense"))
            record = self.terminating_error(ps)
            self.assertIn("BillingModel", error_text(record))
            self.assertEqual(ps.output, [])
            self.registration_token(pool)

    def test_scripts_are_not_allowed(self):
        for script in ("Get-AzureStackStampInformation | Out-String", "$x = 1", "Get-AzureStackStampInformation"):
            with self.subTest(script=script), privileged_pool() as pool:
                ps = PowerShell(pool)
                ps.add_script(script)
                ps.begin_invoke()
                record = self.terminating_error(finish(ps))
                self.assertIn("ScriptsNotAllowed", record.fq_error)
                self.assertEqual(ps.output, [])
                self.succeed(pool, "Get-AzureStackStampInformation")

    def test_empty_activation_key(self):
        with privileged_pool() as pool:
            record = self.terminating_error(run(pool, "New-AzureStackActivation", activation_parameters("")))
            self.assertIn(
                "Cannot bind argument to parameter 'ActivationKey' because it is an empty string.", error_text(record)
            )

    def test_tampered_activation_key(self):
        """One character of the signature is another: the stamp must not believe the key, and must take the true one."""
        self.addCleanup(self.leave_inactive)
        with privileged_pool() as pool:
            key = self.activation_key(pool)
            ps = run(pool, "New-AzureStackActivation", activation_parameters(tamper_signature(key)))
            self.terminating_error(ps)
            self.succeed(pool, "New-AzureStackActivation", activation_parameters(key))

    @unittest.skipUnless(has_old_stamp(), "no second stamp")
    def test_old_stamp_knows_fewer_parameters(self):
        """Build 1.1910 precedes MsAssetTag (1.1912), TokenVersion (2008) and the key pair (2209)."""
        with privileged_pool(index=1) as pool:
            info = self.only(self.succeed(pool, "Get-AzureStackStampInformation"))
            self.assertEqual(str(member(info, "StampVersion")), "1.1910.0.50")
            self.assertEqual(member(info, "NumberOfNodes"), 1)
            self.assertEqual(str(member(info, "CloudID")).lower(), stamp(1)["cloud_id"].lower())
            for name, value in (("MsAssetTag", "tag"), ("TokenVersion", "4.0")):
                with self.subTest(parameter=name):
                    record = self.fail_with(
                        pool, "New-RegistrationToken", token_parameters(**{name: value}), "NamedParameterNotFound"
                    )
                    self.assertIn(name, error_text(record))
            self.fail_with(pool, "Set-RegistrationKeyPair", {}, "CommandNotFoundException")
            content = decode_token(self.registration_token(pool))
            self.assertEqual(content["cloudId"].lower(), stamp(1)["cloud_id"].lower())
            self.assertEqual(len(content["hardwareInfo"]), 1)


class Actions(PepTest):
    """One action at a time, and an action belongs to the stamp, not to the client that started it."""

    def start_activation(self, pool):
        self.addCleanup(self.leave_inactive)
        key = self.activation_key(pool)
        set_activation_seconds(SLOW)
        return begin(pool, "New-AzureStackActivation", activation_parameters(key))

    def test_second_action_is_refused_as_busy(self):
        with privileged_pool() as first, privileged_pool() as second:
            activation = self.start_activation(first)
            self.wait_running(second)
            record = self.terminating_error(run(second, "Remove-AzureStackActivation"))
            self.assertIn(BUSY, error_text(record))
            self.assertRegex(error_text(record), r"[0-9A-Fa-f]{8}-[0-9A-Fa-f-]{27}", "the running action's id is told")
            self.wait_running(second)
            finish(activation)
            self.assertEqual(activation.state, PSInvocationState.COMPLETED)
            self.wait_completed(second)

    def test_activation_outlives_its_client(self):
        """The first client's sockets vanish without a Delete or a Signal; the stamp carries on."""
        wsman = connect()
        pool = RunspacePool(wsman, configuration_name=CONFIGURATION)
        pool.open()
        try:
            self.start_activation(pool)
            with privileged_pool() as watcher:
                self.wait_running(watcher)
                wsman.close()
                self.assertRegex(self.action_status(watcher), r"(?i)\bRunning\b")
                self.wait_completed(watcher)
                self.succeed(watcher, "Remove-AzureStackActivation")
        finally:
            wsman.close()

    def test_stop(self):
        """PowerShell's own code, spelled so: the command's last word is that it has stopped."""
        with privileged_pool() as pool:
            ps = self.start_activation(pool)
            pool.shell.signal("powershell/signal/crtl_c", str(ps.id).upper())
            finish(ps)
            self.assertEqual(ps.state, PSInvocationState.STOPPED)
            self.succeed(pool, "Get-AzureStackStampInformation")

    def test_any_other_code_closes_the_command(self):
        """So does Windows with pypsrp's `powershell/signal/ctrl_c`: there is nothing more to receive."""
        with privileged_pool() as pool:
            ps = self.start_activation(pool)
            ps.stop()
            self.assertEqual(ps.state, PSInvocationState.STOPPED)
            pool.pipelines[ps.id] = ps
            ps.state = PSInvocationState.RUNNING
            with self.assertRaises(WSManFaultError):
                ps.poll_invoke()
            self.succeed(pool, "Get-AzureStackStampInformation")

    def test_client_polls_again_after_an_operation_timeout(self):
        """With one second per Receive a three-second action takes several; each w:TimedOut fault means: ask again."""
        with privileged_pool(operation_timeout=1) as pool:
            activation = finish(self.start_activation(pool))
            self.assertEqual([error_text(e) for e in activation.streams.error], [])
            self.assertEqual(activation.state, PSInvocationState.COMPLETED)


class Authentication(PepTest):
    """Who is let in, and that the stamp counts every failed logon once and locks nobody out."""

    def assert_refused(self, **credentials):
        failed, succeeded = logons()
        wsman = connect(**credentials)
        self.addCleanup(wsman.close)
        with self.assertRaises(AuthenticationError):
            RunspacePool(wsman, configuration_name=CONFIGURATION).open()
        self.assertEqual(logons(), (failed + 1, succeeded), "exactly one failed logon per attempt")

    def assert_let_in(self):
        with privileged_pool() as pool:
            self.succeed(pool, "Get-AzureStackStampInformation")

    def test_good_logon_is_counted(self):
        failed, succeeded = logons()
        self.assert_let_in()
        after = logons()
        self.assertEqual(after[0], failed)
        self.assertEqual(after[1], succeeded + 1)

    def test_wrong_password(self):
        for auth in ("ntlm", "negotiate"):
            for attempt in range(3):
                with self.subTest(auth=auth, attempt=attempt):
                    self.assert_refused(auth=auth, password="not the password")
        self.assert_let_in()

    def test_empty_password(self):
        self.assert_refused(password="")
        self.assert_let_in()

    def test_wrong_user(self):
        for user in ("AZURESTACK\\Nobody", "AZURESTACK\\AzureStackAdmin"):
            for auth in ("ntlm", "negotiate"):
                with self.subTest(user=user, auth=auth):
                    self.assert_refused(user=user, auth=auth)
        self.assert_let_in()

    def test_nothing_without_authentication(self):
        failed, succeeded = logons()
        with RawEndpoint() as raw:
            status, header, body = raw.post(soap_create(), content_type=SOAP_TYPE)
        self.assertEqual(status, 401)
        self.assertIn("negotiate", header.lower())
        self.assertNotIn(b"ResourceCreated", body)
        with RawEndpoint() as raw:
            self.assertEqual(raw.post()[0], 401)
        self.assertEqual(logons(), (failed, succeeded), "asking without credentials is no logon")

    def test_basic_is_not_accepted(self):
        credentials = f"{stamp()['pep_user']}:{read_secret(stamp()['pep_password_file'])}"
        header = "Basic " + base64.b64encode(credentials.encode()).decode()
        with RawEndpoint() as raw:
            status, _, body = raw.post(soap_create(), header, SOAP_TYPE)
        self.assertEqual(status, 401)
        self.assertNotIn(b"ResourceCreated", body)


class RawNtlm(PepTest):
    """Type 3 messages no decent client sends. A server that checks only the MIC lets some of these in with any password."""

    def answer(self, make_type3, password=None):
        """Handshake on one connection; make_type3(client, type2) builds the last leg. -> HTTP status"""
        client = ntlm_client(password)
        with RawEndpoint() as raw:
            type2 = raw.challenge(client.step())
            return raw.post_token(make_type3(client, type2))[0]

    def assert_refused(self, make_type3, password=None):
        _, succeeded = logons()
        self.assertEqual(self.answer(make_type3, password), 401)
        self.assertEqual(logons()[1], succeeded, "a refused logon must not count as a success")

    def test_valid_handshake(self):
        """The control experiment: untouched, the same code is let in."""
        self.assertEqual(self.answer(lambda client, type2: client.step(type2)), 200)

    def test_challenge_asks_for_a_mic_and_for_sealing(self):
        client = ntlm_client()
        with RawEndpoint() as raw:
            challenge = Challenge.unpack(raw.challenge(client.step()))
        self.assertIn(AvId.timestamp, challenge.target_info, "without MsvAvTimestamp clients make no MIC")
        for flag in (
            NegotiateFlags.unicode,
            NegotiateFlags.sign,
            NegotiateFlags.seal,
            NegotiateFlags.key_exch,
            NegotiateFlags.key_128,
            NegotiateFlags.extended_session_security,
            NegotiateFlags.target_info,
        ):
            self.assertTrue(challenge.flags & flag, f"{flag!r} is not set in the challenge")

    def test_challenges_differ(self):
        seen = set()
        for _ in range(4):
            with RawEndpoint() as raw:
                seen.add(Challenge.unpack(raw.challenge(ntlm_client().step())).server_challenge)
        self.assertEqual(len(seen), 4)

    def test_no_mic_right_password(self):
        """May be taken or refused; it must be one of the two and harm nothing."""
        self.assertIn(self.answer(lambda client, type2: client.step(without_timestamp(type2))), (200, 401))
        self.assertEqual(self.answer(lambda client, type2: client.step(type2)), 200)

    def test_no_mic_wrong_password(self):
        self.assert_refused(lambda client, type2: client.step(without_timestamp(type2)), password="wrong")

    def test_no_mic_wrong_proof(self):
        self.assert_refused(lambda client, type2: flip_proof(client.step(without_timestamp(type2))))

    def test_zeroed_mic_wrong_proof(self):
        self.assert_refused(lambda client, type2: flip_proof(change_mic(client.step(type2), lambda mic: bytes(16))))

    def test_zeroed_mic_wrong_password(self):
        self.assert_refused(
            lambda client, type2: change_mic(client.step(type2), lambda mic: bytes(16)), password="wrong"
        )

    def test_wrong_mic(self):
        """The response promises a MIC (MsvAvFlags), so a MIC that does not match must be refused (MS-NLMP 3.2.5.2.2)."""
        self.assert_refused(
            lambda client, type2: change_mic(client.step(type2), lambda mic: bytes(b ^ 0xFF for b in mic))
        )

    def test_wrong_proof_with_its_mic(self):
        self.assert_refused(lambda client, type2: flip_proof(client.step(type2)))

    def test_anonymous(self):
        def anonymous(_, type2):
            flags = Challenge.unpack(type2).flags | NTLM_ANONYMOUS
            return Authenticate(flags, lm_challenge_response=b"\0", domain_name="", username="").pack()

        self.assert_refused(anonymous)

    def test_empty_response_under_the_right_name(self):
        domain, user = stamp()["pep_user"].split("\\")
        for response in (b"", bytes(16), bytes(24)):
            with self.subTest(length=len(response)):
                self.assert_refused(
                    lambda _, type2: Authenticate(
                        Challenge.unpack(type2).flags,
                        lm_challenge_response=bytes(24),
                        nt_challenge_response=response,
                        domain_name=domain,
                        username=user,
                        encrypted_session_key=bytes(16),
                    ).pack()
                )

    def test_malformed_tokens(self):
        """Cut, inflated or senseless tokens are refused; the server survives them."""
        valid = []
        self.answer(lambda client, type2: valid.append(client.step(type2)) or valid[0])
        beyond = bytearray(valid[0])
        struct.pack_into("<I", beyond, 24, 0xFFFFFFF0)  # NtChallengeResponse far outside the message
        for name, token in (
            ("half", valid[0][: len(valid[0]) // 2]),
            ("signature only", b"NTLMSSP\0"),
            ("offset outside", bytes(beyond)),
            ("noise", b"\x60\x84\xff\xff\xff\xff" + bytes(64)),
        ):
            with self.subTest(token=name):
                client = ntlm_client()
                with RawEndpoint() as raw:
                    raw.challenge(client.step())
                    status = raw.post_token(token)[0]
                self.assertIn(status, (400, 401))
        self.assertEqual(self.answer(lambda client, type2: client.step(type2)), 200)

    def test_type3_belongs_to_its_connection(self):
        """Neither a Type 3 without a Type 1 nor one made for another challenge opens anything."""
        client = ntlm_client()
        with RawEndpoint() as raw:
            type3 = client.step(raw.challenge(client.step()))
            with RawEndpoint() as other:
                self.assertIn(other.post_token(type3)[0], (400, 401))
            with RawEndpoint() as third:
                third.challenge(ntlm_client().step())
                self.assertEqual(third.post_token(type3)[0], 401)


class Sealing(PepTest):
    """Over plain HTTP a good logon is not enough: only sealed messages are obeyed."""

    @contextlib.contextmanager
    def logged_on(self):
        client = ntlm_client()
        with RawEndpoint() as raw:
            status, _, _ = raw.post_token(client.step(raw.challenge(client.step())))
            self.assertEqual(status, 200)
            yield raw, client

    def assert_not_obeyed(self, status, body):
        self.assertGreaterEqual(status, 400)
        self.assertNotIn(b"ResourceCreated", body)
        self.assertNotIn(b"transfer/CreateResponse", body)

    def test_unsealed_soap_after_logon(self):
        with self.logged_on() as (raw, _):
            status, _, body = raw.post(soap_create(), content_type=SOAP_TYPE)
        self.assert_not_obeyed(status, body)

    def test_unsealed_soap_with_the_type3(self):
        client = ntlm_client()
        with RawEndpoint() as raw:
            type3 = client.step(raw.challenge(client.step()))
            _, _, body = raw.post_token(type3, soap_create(), SOAP_TYPE)
        self.assertNotIn(b"ResourceCreated", body)
        self.assertNotIn(b"transfer/CreateResponse", body)

    def test_tampered_sealed_message(self):
        with self.logged_on() as (raw, client):
            _, payload = WinRMEncryption(client, WinRMEncryption.SPNEGO).wrap_message(soap_create())
            changed = bytearray(payload)
            changed[len(changed) // 2] ^= 0x01  # somewhere in the ciphertext
            status, _, body = raw.post(bytes(changed), content_type=SEALED_TYPE)
        self.assert_not_obeyed(status, body)

    def test_sealed_message_on_another_connection(self):
        """NTLM state belongs to the TCP connection; what was sealed for one is worth nothing on another."""
        with self.logged_on() as (_, client):
            _, payload = WinRMEncryption(client, WinRMEncryption.SPNEGO).wrap_message(soap_create())
            with RawEndpoint() as other:
                status, _, body = other.post(payload, content_type=SEALED_TYPE)
        self.assertEqual(status, 401)
        self.assertNotIn(b"ResourceCreated", body)


class LargeArguments(PepTest):
    """Arguments larger than an envelope travel as fragments: the first in Command, the others in Sends."""

    def assert_refused_for_the_key(self, pool, size):
        record = self.terminating_error(
            run(pool, "New-AzureStackActivation", activation_parameters("k" * size))
        )
        self.assertRegex(error_text(record), re.compile(r"key|signature|token", re.I))
        self.succeed(pool, "Get-AzureStackStampInformation")

    def test_default_envelope(self):
        """153600 is pypsrp's default; on reading protocol version 2.2 or newer it goes up to 512000 by itself."""
        with privileged_pool(max_envelope_size=153600) as pool:
            self.assert_refused_for_the_key(pool, 400 * 1024)

    def test_150_kilobyte_envelopes(self):
        """Any size but exactly 153600 stays as it is, so this one does make fragments of 150 KB."""
        with privileged_pool(max_envelope_size=153599) as pool:
            self.assertEqual(pool.connection.max_envelope_size, 153599)
            self.assert_refused_for_the_key(pool, 400 * 1024)

    def test_small_envelopes(self):
        """Fragments of about 10 KB; not smaller, since pypsrp sends only the first fragment of the opening messages."""
        with privileged_pool(max_envelope_size=16384) as pool:
            self.assert_refused_for_the_key(pool, 64 * 1024)
            self.registration_token(pool)


class SessionKey(PepTest):
    """SecureStrings need a session key; the exchange may happen at any time in a pool's life."""

    def assert_key(self, pool):
        pool.exchange_keys()
        cipher = pool._serializer.cipher
        self.assertIsNotNone(cipher)
        self.assertEqual(cipher.algorithm.key_size, 256, "PSRP uses AES-256")
        element = pool.serialize("S3cret \u00e4\u20ac", ObjectMeta("SS"))
        self.assertNotIn("S3cret", element.text)
        self.assertEqual(pool._serializer.deserialize(element), "S3cret \u00e4\u20ac")

    def test_before_the_first_pipeline(self):
        with privileged_pool() as pool:
            self.assert_key(pool)
            self.succeed(pool, "Get-AzureStackStampInformation")

    def test_after_the_first_pipeline(self):
        with privileged_pool() as pool:
            self.succeed(pool, "Get-AzureStackStampInformation")
            self.assert_key(pool)
            self.succeed(pool, "Get-AzureStackStampInformation")

    def test_credential_argument(self):
        """A PSCredential reaches the cmdlet. If the share is refused, that is the share's error, not the argument's."""
        wsman = connect()
        self.addCleanup(wsman.close)
        pool = RunspacePool(wsman, configuration_name=CONFIGURATION)
        pool.open()
        pool.exchange_keys()
        ps = begin(
            pool,
            "Close-PrivilegedEndpoint",
            {
                "TranscriptsPathDestination": "\\\\fileserver\\transcripts",
                "Credential": PSCredential(username="CONTOSO\\operator", password="S3cret \u00e4\u20ac"),
            },
        )
        give_up = time.monotonic() + DEADLINE
        while ps.state == PSInvocationState.RUNNING and time.monotonic() < give_up:
            ps.poll_invoke()
        self.assertIn(ps.state, (PSInvocationState.COMPLETED, PSInvocationState.FAILED))
        for record in ps.streams.error:
            self.assertNotRegex(record.fq_error, "NamedParameterNotFound|ParameterArgument|CannotConvert")
        with contextlib.suppress(WinRMError, requests.RequestException):
            ps.close()
            pool.close()


if __name__ == "__main__":
    unittest.main()
