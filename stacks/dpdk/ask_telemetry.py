# SPDX-License-Identifier: Apache-2.0
"""Ask a DPDK program over its telemetry socket. Runs on the DUT by ``python3 -c``: ``dpdk-telemetry.py`` comes with
DPDK's development package only and is made for terminals. Standard library only, Python 3.6 syntax.

Arguments: path of the socket, then commands ("/ethdev/xstats,0"). Prints the program's greeting and one answer a
command, each a JSON object on a line of its own.
"""

import socket
import sys

TIMEOUT_S = 5.0
GREETING_BYTES = 1024
#: The longest answer DPDK sends (MAX_OUTPUT_LEN), with room.
ANSWER_BYTES = 1 << 17


def main(path: str, *commands: str) -> int:
    """Status 0 when all were answered; 1 with the reason on stderr."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(path)
            answers = [connection.recv(GREETING_BYTES)]
            for command in commands:
                connection.send(command.encode())
                answers.append(connection.recv(ANSWER_BYTES))
    except OSError as error:
        sys.stderr.write("%s: %s\n" % (path, error))
        return 1
    for answer in answers:
        print(answer.decode("utf-8", "replace").replace("\n", " "))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
