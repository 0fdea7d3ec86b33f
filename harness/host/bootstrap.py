# SPDX-License-Identifier: Apache-2.0
"""Start the agent on a host with one remote command: a shell there may take long to start, so there is only one.

The command is a few lines of Python that ask for the agent's file unless it is there under its hash, and become it.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from harness.errors import TestbedError
from harness.host.channel import ByteChannel
from harness.host.ssh import SshConnection

AGENT_FILE = Path(__file__).with_name("agent.py")
#: Interpreters looked for on a host; the agent runs on Python 3.6 and newer.
PYTHONS = ("/usr/bin/python3", "/usr/libexec/platform-python", "/usr/local/bin/python3", "python3")
_ANSWER_S = 30.0

#: argv: digest and size of the agent, its path, then the agent's own arguments. Says "have", "need" or "old".
_BOOT = """
import hashlib, os, sys
digest, size, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def say(word):
    os.write(1, word + b"\\n")
def there():
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest() == digest
    except OSError:
        return False
if sys.version_info < (3, 6):
    say(b"old")
    sys.exit(1)
if not there():
    say(b"need")
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit("the upload broke off")
        data += part
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o755)
    fresh = "%s.%d" % (path, os.getpid())
    with open(fresh, "wb") as stream:
        stream.write(data)
    os.rename(fresh, path)
    if not there():
        sys.exit("the agent's file does not have the content that was sent")
say(b"have")
os.execv(sys.executable, [sys.executable, "-I", path] + sys.argv[4:])
"""


def start_agent(connection: SshConnection, name: str, run_dir: str, state_dir: str, cache_dir: str) -> ByteChannel:
    """Start ``agent.py serve``; the channel returned is the agent's, before its greeting. Raises TestbedError."""
    content = AGENT_FILE.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    path = f"{cache_dir}/agent-{digest[:32]}.py"
    reasons = []
    for python in PYTHONS:
        channel = connection.start([python, "-I", "-c", _BOOT, digest, str(len(content)), path,
                                    "serve", run_dir, state_dir, cache_dir])
        word = _boot(channel, content)
        if word == "have":
            return channel
        connection.refuse_sudo(channel.diagnosis())
        reasons.append(f"{python}: {'too old' if word == 'old' else channel.diagnosis() or 'no answer'}")
        channel.close()
    raise TestbedError(
        f"{name}: the agent does not start. It needs Python 3.6 or newer there (apt-get install python3-minimal, or "
        f"dnf install python3) and a writable {cache_dir}.\n" + "\n".join(reasons)
    )


def _boot(channel: ByteChannel, content: bytes) -> str:
    """Upload when asked to; returns the last word, "" when there was none."""
    try:
        word = _word(channel)
        if word == "need":
            channel.send(content)
            word = _word(channel)
    except OSError:  # no interpreter of this name, or the connection broke: the next attempt tells
        return ""
    return word


def _word(channel: ByteChannel) -> str:
    """The next line of the bootstrap, "" when it ended."""
    line = b""
    deadline = time.monotonic() + _ANSWER_S
    while not line.endswith(b"\n"):
        data = channel.receive(max(0.0, deadline - time.monotonic()))
        if not data or len(line) > 100:
            return ""
        line += data
    return line.decode(errors="replace").strip()
