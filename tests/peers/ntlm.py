"""The accepting side of NTLM and SPNEGO by pyspnego, over lines of hexadecimal: what the client's tokens say and prove.

ntlm.py ntlm|negotiate BINDING    BINDING: the application data of the channel that the server is at
"""

import json
import os
import sys
import tempfile

import spnego
from spnego._ntlm_raw.messages import Authenticate, AvId, NTClientChallengeV2
from spnego.channel_bindings import GssChannelBindings

USER, PASSWORD = "AZURESTACK\\CloudAdmin", "pässword"


def say(**members):
    print(json.dumps(members), flush=True)


def main(protocol, binding):
    options = spnego.NegotiateOptions
    context = spnego.server(
        protocol=protocol,
        options=options.use_ntlm if protocol == "ntlm" else options.use_negotiate,
        channel_bindings=GssChannelBindings(application_data=bytes.fromhex(binding)),
    )
    say(user=USER, password=PASSWORD)
    while not context.complete:
        token = bytes.fromhex(sys.stdin.readline())
        try:
            answer = context.step(token)
        except spnego.exceptions.SpnegoError as error:
            return say(refused=type(error).__name__)
        said = {"token": (answer or b"").hex()}
        start = token.find(b"NTLMSSP\0\x03")
        if start >= 0:
            message = Authenticate.unpack(token[start:])
            pairs = NTClientChallengeV2.unpack(message.nt_challenge_response[16:]).av_pairs
            said.update(
                target=pairs[AvId.target_name],
                bound=any(pairs[AvId.channel_bindings]),
                flags=int(pairs[AvId.flags]),
                lm=(message.lm_challenge_response or b"").hex(),
                mic=(message.mic or b"").hex(),
            )
        say(**said)
    for line in sys.stdin:
        signature, data = map(bytes.fromhex, line.split())
        plain = context.unwrap_winrm(signature, data)
        sealed = context.wrap_winrm(b"you said: " + plain)
        say(plain=plain.decode(), signature=sealed.header.hex(), data=sealed.data.hex())


with tempfile.TemporaryDirectory() as folder:
    os.environ["NTLM_USER_FILE"] = os.path.join(folder, "users")
    with open(os.environ["NTLM_USER_FILE"], "w", encoding="utf-8") as file:
        file.write(USER.replace("\\", ":") + ":" + PASSWORD + "\n")
    main(*sys.argv[1:])
