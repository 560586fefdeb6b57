#!/usr/bin/env python3
"""An independent privileged endpoint: a WinRM/PSRP server that our client is tested against.

Why it exists: the lab's server and our client come from the same hands and share their codec, so they would agree on a
misreading of PSRP. Here the messages are psrpcore's and NTLM and SPNEGO are pyspnego's, neither written by this project; only
the thin WS-Management layer is ours. On purpose it says legal things that the lab does not: lower-case ids, other namespace
prefixes, base64 with line breaks, chunked bodies, small fragments spread over several answers, the pool's state in a later
answer than its capability, an answer without any Stream, TimedOut in the middle of a slow cmdlet, two WWW-Authenticate lines.

Run:  python psrp_server.py   (needs psrpcore and pyspnego)

It listens on a free port of 127.0.0.1 (plain HTTP), prints {"port":..,"user":..,"password":..} on one line, and runs until
its standard input closes. State is per run; nothing outside of a temporary file is written.
"""

import base64
import http.server
import itertools
import json
import os
import re
import secrets
import struct
import sys
import tempfile
import threading
import uuid
import xml.etree.ElementTree as ET

import spnego
from psrpcore import CreatePipelineEvent, GetCommandMetadataEvent, PSRPPayload, ServerPipeline, ServerRunspacePool, StreamType
from psrpcore.types import (
    CommandOrigin,
    CommandTypes,
    ErrorCategory,
    ErrorCategoryInfo,
    ErrorRecord,
    InvocationInfo,
    NETException,
    PipelineState,
    PSCustomObject,
    PSDict,
    PSGuid,
    PSInt,
    PSInvocationState,
    PSVersion,
    SessionStateEntryVisibility,
)
from spnego.exceptions import SpnegoError

USER, PASSWORD = "LAB\\CloudAdmin", secrets.token_urlsafe(18)
CLOUD_ID = uuid.uuid4()
RESOURCE = "http://schemas.microsoft.com/powershell/PrivilegedEndpoint"
WAIT = 0.5  # seconds a Receive waits before it says TimedOut
SLOW = 1.5  # seconds an activation takes: some TimedOut faults come before its end
FRAGMENT, STREAMS = 900, 3  # bytes of fragments in a Stream, Streams in an answer

SOAP = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
POWERSHELL = "http://schemas.microsoft.com/powershell"
FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
for prefix, uri in {"env": SOAP, "adr": ADDRESSING, "man": WSMAN, "sh": SHELL, "tr": TRANSFER, "flt": FAULT}.items():
    ET.register_namespace(prefix, uri)  # anything but the usual s, a, w, rsp, x, f

SEALED = "application/HTTP-SPNEGO-session-encrypted"
SEALED_TYPE = f'multipart/encrypted;protocol="{SEALED}";boundary="Encrypted Boundary"'


class Fault(Exception):
    """A WS-Management fault: number, subcode, text."""

    def __init__(self, code, subcode, text):
        super().__init__(text)
        self.code, self.subcode, self.text = code, subcode, text


# ---------------------------------------------------------------------------------------------------------------------
# Cmdlets: (pipeline, command's arguments) -> None, or a terminating ErrorRecord
# ---------------------------------------------------------------------------------------------------------------------


def error(name, message, category, exception, error_id):
    """A terminating error with all that a remote one carries, InvocationInfo included."""
    cause = NETException(Message=message, HResult=-2146233087)
    cause.PSObject.type_names = [exception, "System.Management.Automation.RuntimeException", *cause.PSObject.type_names]
    command = PSCustomObject(
        CommandType=CommandTypes.Function, Name=name, Definition="", Visibility=SessionStateEntryVisibility.Public
    )
    record = ErrorRecord(
        Exception=cause,
        TargetObject=name,
        FullyQualifiedErrorId=error_id,
        CategoryInfo=ErrorCategoryInfo(
            Category=category, Activity=name, Reason=exception.rsplit(".", 1)[1], TargetName=name, TargetType="String"
        ),
        InvocationInfo=InvocationInfo(
            BoundParameters=PSDict(),
            CommandOrigin=CommandOrigin.Runspace,
            ExpectingInput=False,
            HistoryId=1,
            InvocationName=name,
            Line=f"{name} <arguments>",
            MyCommand=command,
            OffsetInLine=1,
            PipelineLength=1,
            PipelinePosition=1,
            PositionMessage=f"At line:1 char:1\n+ {name}\n+ ~~~",
            ScriptLineNumber=1,
            UnboundArguments=[],
        ),
        PipelineIterationInfo=[0, 1],
        ScriptStackTrace="at <ScriptBlock>, <No file>: line 1",
    )
    record.serialize_extended_info = True
    return record


def stamp_information(pipeline, _):
    pipeline.write_verbose("Reading the stamp's configuration \u2026")
    pipeline.write_warning("This stamp's clock is not synchronised.")
    pipeline.write_progress("Stamp information", 1, "Collecting", current_operation="Nodes", percent_complete=50)
    pipeline.write_output(
        PSCustomObject(
            PSTypeName="AzureStack.StampInformation",
            StampVersion=PSVersion("1.2311.1.22"),
            CloudID=PSGuid(CLOUD_ID),
            DeploymentID=PSGuid(uuid.uuid4()),
            NumberOfNodes=PSInt(4),
            AADTenantID=PSGuid(uuid.uuid4()),
            IdentitySystem="AzureAD",
            ExternalDomainFQDN="lab.example",
            AdminExternalEndpoints=PSDict({"AdminResourceManager": "https://adminmanagement.local.lab.example/"}),
        )
    )


def registration_token(pipeline, arguments):
    token = {
        "version": "4.0",
        "cloudId": str(CLOUD_ID),
        "billingModel": arguments.get("BillingModel"),
        "marketplaceSyndicationEnabled": True,
        "hardwareInfo": [],
    }
    pipeline.write_output(base64.b64encode(json.dumps(token).encode()).decode())


def activation(*_):
    name, exception = "New-AzureStackActivation", "System.InvalidOperationException"
    return error(name, "The activation key is not valid.", ErrorCategory.InvalidOperation, exception, "InvalidActivationKey")


CMDLETS = {  # name: (what it does, after how many seconds)
    "Get-AzureStackStampInformation": (stamp_information, 0),
    "Get-ActionStatus": (lambda *_: None, 0),
    "New-RegistrationToken": (registration_token, 0),
    "New-AzureStackActivation": (activation, SLOW),
}


def not_found(name):
    text = f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program."
    exception = "System.Management.Automation.CommandNotFoundException"
    return error(name, text, ErrorCategory.ObjectNotFound, exception, "CommandNotFoundException")


# ---------------------------------------------------------------------------------------------------------------------
# Shells: one ServerRunspacePool each, and what waits to be received
# ---------------------------------------------------------------------------------------------------------------------


class Shell:
    def __init__(self, name):
        self.name = name
        self.pool = ServerRunspacePool()
        self.changed = threading.Condition()
        self.outbox = {}  # pipeline id, or None for the pool: payloads
        self.quiet = False  # whether the one answer without any Stream has been given
        self.done_apart = itertools.cycle((False, True))

    def take_in(self, data, stream="stdin"):
        """Feeds fragments to psrpcore and starts what they ask for. Call with self.changed held."""
        kind = StreamType.prompt_response if stream == "pr" else StreamType.default
        self.pool.receive_data(PSRPPayload(data, kind, None))
        while (event := self.pool.next_event()) is not None:
            if isinstance(event, (CreatePipelineEvent, GetCommandMetadataEvent)):
                self.start(event)
            self.flush()

    def start(self, event):
        pipeline, name, arguments, action, delay = self.pool.pipeline_table[event.pipeline_id], "Get-Command", {}, None, 0
        pipeline.start()
        if isinstance(event, CreatePipelineEvent):
            command = event.pipeline.commands[0]
            name, arguments = command.command_text, dict(command.parameters)
            if len(event.pipeline.commands) == 1 and not command.is_script:
                action, delay = CMDLETS.get(name, (None, 0))

        def run():
            with self.changed:
                if pipeline.state != PSInvocationState.Running:
                    return  # stopped in the meantime
                failure = action(pipeline, arguments) if action else not_found(name)
                if failure is None:
                    pipeline.complete()
                else:
                    state = PSInvocationState.Failed
                    pipeline.prepare_message(PipelineState(PipelineState=int(state), ExceptionAsErrorRecord=failure))
                    pipeline.state = state
                self.flush()

        timer = threading.Timer(delay, run)
        timer.daemon = True
        timer.start()

    def flush(self):
        """Moves what psrpcore wants to send to the outbox."""
        while (payload := self.pool.data_to_send(FRAGMENT)) is not None:
            self.outbox.setdefault(payload.pipeline_id, []).append(payload.data)
        self.changed.notify_all()

    def receive(self, target):
        """-> payloads and whether the command is done (None for the pool)"""
        with self.changed:
            pipeline = self.pool.pipeline_table.get(target)
            if target is not None and pipeline is None:
                raise Fault(2150858843, "InvalidSelectors", "There is no such command.")
            if pipeline is not None and not self.quiet:
                self.quiet = True
                return [], False
            ended = (PSInvocationState.Completed, PSInvocationState.Failed, PSInvocationState.Stopped)

            def over():
                return pipeline is not None and pipeline.state in ended

            if not self.changed.wait_for(lambda: self.outbox.get(target) or over(), WAIT):
                raise Fault(2150858793, "TimedOut", "The operation was not completed within OperationTimeout.")
            waiting = self.outbox.get(target, [])
            count = 1 if target is None else STREAMS  # the pool's state thus comes in a later answer than its capability
            data, waiting[:] = waiting[:count], waiting[count:]
            done = over() and not waiting and not (data and next(self.done_apart))
            if done:
                pipeline.close()
            return data, None if target is None else done


SHELLS = {}


def find_shell(request):
    name = request.findtext(f".//{{{WSMAN}}}Selector[@Name='ShellId']", "").lower()
    if name not in SHELLS:
        raise Fault(2150858843, "InvalidSelectors", "There is no such shell.")
    return SHELLS[name]


def command_id(element):
    text = None if element is None else element.get("CommandId")
    return uuid.UUID(text) if text else None


def fragments(element):
    return base64.b64decode("" if element is None else element.text or "")


# ---------------------------------------------------------------------------------------------------------------------
# WS-Management: request element -> answer's body element
# ---------------------------------------------------------------------------------------------------------------------


def node(parent, ns, name, text=None, **attributes):
    element = ET.SubElement(parent, f"{{{ns}}}{name}", attributes)
    element.text = text
    return element


def create(request, body):
    asked = request.find(f".//{{{SHELL}}}Shell")
    shell = Shell((asked.get("ShellId") or str(uuid.uuid4())).lower())
    with shell.changed:
        shell.take_in(fragments(asked.find(f"{{{POWERSHELL}}}creationXml")))
    SHELLS[shell.name] = shell
    created = node(body, TRANSFER, "ResourceCreated")
    node(created, ADDRESSING, "Address", "http://127.0.0.1/wsman")
    parameters = node(created, ADDRESSING, "ReferenceParameters")
    node(parameters, WSMAN, "ResourceURI", RESOURCE)
    node(node(parameters, WSMAN, "SelectorSet"), WSMAN, "Selector", shell.name, Name="ShellId")
    node(node(body, SHELL, "Shell"), SHELL, "ShellId", shell.name)


def command(request, body):
    shell, line = find_shell(request), request.find(f".//{{{SHELL}}}CommandLine")
    target = command_id(line) or uuid.uuid4()
    with shell.changed:
        ServerPipeline(shell.pool, target)
        shell.take_in(fragments(line.find(f"{{{SHELL}}}Arguments")))
    node(node(body, SHELL, "CommandResponse"), SHELL, "CommandId", str(target))


def send(request, body):
    shell = find_shell(request)
    with shell.changed:
        for stream in request.iter(f"{{{SHELL}}}Stream"):
            shell.take_in(fragments(stream), stream.get("Name"))
    node(body, SHELL, "SendResponse")


def receive(request, body):
    target = command_id(request.find(f".//{{{SHELL}}}DesiredStream"))
    data, done = find_shell(request).receive(target)
    attributes = {} if target is None else {"CommandId": str(target)}
    answer = node(body, SHELL, "ReceiveResponse")
    for part in data:
        node(answer, SHELL, "Stream", base64.encodebytes(part).decode(), Name="stdout", **attributes)  # 76 columns
    if target is not None:
        state = node(answer, SHELL, "CommandState", State=f"{SHELL}/CommandState/{'Done' if done else 'Running'}", **attributes)
        if done:
            node(state, SHELL, "ExitCode", "0")


def signal(request, body):
    shell, asked = find_shell(request), request.find(f".//{{{SHELL}}}Signal")
    with shell.changed:
        pipeline = shell.pool.pipeline_table.get(command_id(asked))
        if pipeline is not None and pipeline.state == PSInvocationState.Running:
            pipeline.stop()
            shell.flush()
    node(body, SHELL, "SignalResponse")


def delete(request, _):
    del SHELLS[find_shell(request).name]


ACTIONS = {f"{TRANSFER}/Create": create, f"{TRANSFER}/Delete": delete}
ACTIONS.update({f"{SHELL}/{f.__name__.title()}": f for f in (command, send, receive, signal)})


def answer(envelope):
    """-> HTTP status, envelope"""
    request, status = ET.fromstring(envelope), 200
    action = request.findtext(f".//{{{ADDRESSING}}}Action", "")
    root = ET.Element(f"{{{SOAP}}}Envelope")
    header, body = node(root, SOAP, "Header"), node(root, SOAP, "Body")
    try:
        if request.findtext(f".//{{{WSMAN}}}ResourceURI") != RESOURCE:
            raise Fault(2150858811, "InvalidSelectors", "There is no such session configuration.")
        if action not in ACTIONS:
            raise Fault(2150858817, "ActionNotSupported", f"{action} is not supported.")
        ACTIONS[action](request, body)
        action += "Response"
    except Fault as fault:
        status, action = 500, "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
        body.clear()
        root.set("xmlns:man", WSMAN)  # ElementTree does not see the prefix in the subcode's text
        element = node(body, SOAP, "Fault")
        code = node(element, SOAP, "Code")
        side = "Receiver" if fault.subcode == "TimedOut" else "Sender"
        node(code, SOAP, "Value", f"env:{side}")
        node(node(code, SOAP, "Subcode"), SOAP, "Value", f"man:{fault.subcode}")
        text = node(node(element, SOAP, "Reason"), SOAP, "Text", fault.text)
        text.set("{http://www.w3.org/XML/1998/namespace}lang", "en-US")
        detail = node(node(element, SOAP, "Detail"), FAULT, "WSManFault", Code=str(fault.code), Machine="peer")
        node(detail, FAULT, "Message", fault.text)
    node(header, ADDRESSING, "Action", action)
    node(header, ADDRESSING, "MessageID", f"uuid:{uuid.uuid4()}")
    node(header, ADDRESSING, "RelatesTo", request.findtext(f".//{{{ADDRESSING}}}MessageID", ""))
    return status, ET.tostring(root, encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# HTTP, sign-in and sealing: one security context per TCP connection
# ---------------------------------------------------------------------------------------------------------------------


class Connection(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    context = None

    def setup(self):
        super().setup()
        self.chunked = itertools.cycle((False, True))

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/wsman":
            return self.reply(404)
        token = None
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "negotiate":
            try:
                token = self.sign_in(base64.b64decode(credentials))
            except (SpnegoError, ValueError, KeyError, struct.error) as refusal:
                print(f"refused: {refusal!r}", file=sys.stderr)
                self.context = None
                return self.reply(401)
        if self.context is None or not self.context.complete:
            return self.reply(401, token=token)
        if not body:
            return self.reply(200, token=token)
        try:
            envelope = self.unseal(body)
        except (SpnegoError, ValueError, AttributeError, struct.error) as damage:
            print(f"not obeyed: {damage!r}", file=sys.stderr)
            return self.reply(400)
        status, envelope = answer(envelope)
        return self.reply(status, self.seal(envelope), token)

    def sign_in(self, token):
        if self.context is None or self.context.complete:
            raw, options = token.startswith(b"NTLMSSP\0"), spnego.NegotiateOptions
            self.context = spnego.server(
                protocol="ntlm" if raw else "negotiate",
                options=options.use_ntlm if raw else options.use_negotiate,  # pyspnego's own, not the system's GSSAPI
            )
        return self.context.step(token)

    def unseal(self, body):
        length = int(re.search(rb"OriginalContent:[^\r\n]*Length=(\d+)", body).group(1))
        if not self.headers["Content-Type"].startswith("multipart/encrypted"):
            raise ValueError("the body is not sealed")
        part = body[re.search(rb"application/octet-stream\r\n", body).end() :]
        (size,) = struct.unpack_from("<I", part)
        return self.context.unwrap_winrm(part[4 : 4 + size], part[4 + size : 4 + size + length])

    def seal(self, envelope):
        sealed = self.context.wrap_winrm(envelope)
        head = (
            f"--Encrypted Boundary\r\n\tContent-Type: {SEALED}\r\n"
            f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(envelope) + sealed.padding_length}\r\n"
            "--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n"
        )
        size = struct.pack("<I", len(sealed.header))
        return head.encode() + size + sealed.header + sealed.data + b"--Encrypted Boundary--\r\n"

    def reply(self, status, body=b"", token=None):
        self.send_response(status)
        if token:
            self.send_header("WWW-Authenticate", "Negotiate " + base64.b64encode(token).decode())
        elif status == 401:
            self.send_header("WWW-Authenticate", "Negotiate")
            self.send_header("WWW-Authenticate", "Kerberos")
        if body:
            self.send_header("Content-Type", SEALED_TYPE)
        if body and next(self.chunked):
            self.send_header("Transfer-Encoding", "chunked")
            parts = [body[i : i + 1000] for i in range(0, len(body), 1000)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NTLM_USER_FILE"] = os.path.join(folder, "users")
        with open(os.environ["NTLM_USER_FILE"], "w", encoding="utf-8") as file:
            file.write(USER.replace("\\", ":") + ":" + PASSWORD + "\n")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Connection)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(json.dumps({"port": server.server_address[1], "user": USER, "password": PASSWORD}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
