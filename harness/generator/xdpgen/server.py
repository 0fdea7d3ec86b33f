# SPDX-License-Identifier: Apache-2.0
"""xdpgen's server: RPC over ZMQ (REP 4501, PUB 4500) in front of a dataplane."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType

import zmq

from harness.errors import GeneratorError
from harness.generator.xdpgen import ASYNC_PORT, LOOPBACK, SYNC_PORT, TABLE_CELLS
from harness.generator.xdpgen.contract import Dataplane
from harness.generator.xdpgen.rpc.dispatch import RpcCore
from harness.generator.xdpgen.rpc.state import ServerState

#: What ZMQ takes in at most: requests over the RPC limit but under this are answered with an error.
_MAX_MESSAGE = 16 << 20
_SIOCGIFFLAGS = 0x8913
_IFF_RUNNING = 0x40
_WAKE_UP = b"{}"


def link_up(ifname: str) -> bool:
    """True if an interface of this process' network namespace has a link."""
    request = struct.pack("16sH14x", ifname.encode()[:15], 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            reply = fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
        except OSError:
            return False
    flags: int = struct.unpack("16sH14x", reply)[1]
    return bool(flags & _IFF_RUNNING)


class Server:
    """The sockets and the loop. Close it in the thread that ran it; ``stop`` may be called from any other.

    ``bind``: address to listen on; ports 0 choose free ones (see ``sync_port``, ``async_port``).
    """

    def __init__(
        self, state: ServerState, bind: str = LOOPBACK, sync_port: int = SYNC_PORT, async_port: int = ASYNC_PORT
    ) -> None:
        self.core = RpcCore(state)
        self._state = state
        self._context = zmq.Context()
        self._stop_read, self._stop_write = socket.socketpair()
        self._sync = self._context.socket(zmq.REP)
        self._async = self._context.socket(zmq.PUB)
        self._sync.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE)
        for one in (self._sync, self._async):
            one.setsockopt(zmq.LINGER, 200)
        try:
            self.sync_port = _bind(self._sync, bind, sync_port)
            self.async_port = _bind(self._async, bind, async_port)
        except GeneratorError:
            self.close()
            raise
        state.events.wake = self._publish

    def _publish(self) -> None:
        # A PUB socket drops what subscribers do not take; it does not block.
        self._async.send(_WAKE_UP, zmq.NOBLOCK)

    def stop(self) -> None:
        """Make ``run`` return soon. Callable from other threads and from signal handlers."""
        self._stop_write.send(b"x")

    def stop_at_eof(self, descriptor: int) -> None:
        """Stop once a pipe that is only held open by whom this serves has ended. Returns at once."""
        def until_eof() -> None:
            while os.read(descriptor, 4096):
                pass
            self.stop()

        threading.Thread(target=until_eof, name="end of input", daemon=True).start()

    def run(self) -> None:
        """Answer requests until ``stop`` or a client's ``shutdown``; raises GeneratorDied if the dataplane is gone."""
        poller = zmq.Poller()
        poller.register(self._sync, zmq.POLLIN)
        poller.register(self._stop_read, zmq.POLLIN)
        while not self._state.shutdown:
            ready = dict(poller.poll(self._patience_ms()))
            if self._stop_read.fileno() in ready:
                return
            if self._sync in ready:
                parts = self._sync.recv_multipart()
                self._sync.send(self.core.handle(parts[0]))
            else:
                self.core.tick()
            if self._state.died is not None:
                raise self._state.died

    def _patience_ms(self) -> int | None:
        """How long nothing has to be done without a request; None: forever. No periodic wake-ups."""
        due = self.core.next_due()
        return None if due is None else max(0, math.ceil((due - self._state.now()) * 1000))

    def close(self) -> None:
        """Close sockets. Idempotent."""
        self._sync.close()
        self._async.close()
        self._context.term()
        self._stop_read.close()
        self._stop_write.close()


def _bind(sock: zmq.Socket[bytes], address: str, port: int) -> int:
    try:
        if port:
            sock.bind(f"tcp://{address}:{port}")
            return port
        return int(sock.bind_to_random_port(f"tcp://{address}"))
    except zmq.ZMQError as error:
        raise GeneratorError(
            f"xdpgen cannot listen on {address}:{port} ({error.strerror}): another generator runs there, "
            "the address is not this machine's, or 'lo' is down in this network namespace"
        ) from error


@contextlib.contextmanager
def _stop_on_signals(server: Server) -> Iterator[None]:
    """SIGINT and SIGTERM end the server in an orderly way."""

    def handler(number: int, frame: FrameType | None) -> None:
        server.stop()

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


#: As native/sender.c sets for its threads.
_NICE = -20


def serve_dataplane(
    dataplane: Dataplane,
    bind: str = LOOPBACK,
    sync_port: int = SYNC_PORT,
    async_port: int = ASYNC_PORT,
    dst_macs: Mapping[int, str] | None = None,
    ready: Callable[[Server], None] | None = None,
) -> None:
    """Serve a dataplane until SIGINT, SIGTERM or a client's ``shutdown``; the dataplane stays open.

    ``dst_macs``: destination MAC by port index (default: the neighbour's, 0-1, 2-3, ...). ``ready`` is called once
    requests are taken. Call it from the main thread.
    """
    state = ServerState(dataplane, dst_macs, link_up)
    with contextlib.closing(Server(state, bind, sync_port, async_port)) as server, _stop_on_signals(server):
        if ready is not None:
            ready(server)
        server.run()


def serve(
    ifaces: Sequence[str],
    cores: Sequence[int],
    bind: str = LOOPBACK,
    sync_port: int = SYNC_PORT,
    async_port: int = ASYNC_PORT,
    dst_macs: Mapping[int, str] | None = None,
    speed_gbps: float = 10.0,
    ready: Callable[[Server], None] | None = None,
    table_cells: int = TABLE_CELLS,
) -> None:
    """Run the embedded generator on interfaces of this network namespace (needs root) until told to end.

    ``ifaces``: port 0, 1, ... in order. ``cores``: sending cores. ``speed_gbps``: nominal line rate of a port.
    ``table_cells``: room for the prepared headers of all streams, of 64 bytes each.
    Raises ``GeneratorError`` if an address is taken, and what the dataplane raises if the machine is not fit.
    """
    from harness.generator.xdpgen.native_dataplane import NativeDataplane

    made = NativeDataplane(ifaces, cores, speed_gbps=speed_gbps, table_cells=table_cells)
    with contextlib.closing(made) as dataplane:
        # The senders spin at this priority; on a machine with few cores a request must still get its turn.
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        serve_dataplane(dataplane, bind, sync_port, async_port, dst_macs, ready)
