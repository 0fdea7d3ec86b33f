# SPDX-License-Identifier: Apache-2.0
"""A SIMULATED client with the interface of trex.astf.api, for tests of the agent and the driver alone.

The server it stands for answers every connection with 59 bytes. It begins no more than 50,000 connections a second and
takes its time beyond that; the SYN of every 40th connection from 198.19.2.0 on is lost once; 400,000/s kill it.
"""
import os
import struct

MOST, HANDSHAKE_S, REPLY_S, AGAIN_S = 50000.0, 0.0001, 0.0002, 0.6


class TRexError(Exception):
    pass


class _Fields(object):
    def __init__(self, *args, **fields):
        self.args, self.fields = args, fields


ASTFIPGen = ASTFIPGenDist = ASTFIPGenGlobal = ASTFProfile = ASTFTemplate = _Fields
ASTFTCPClientTemplate = ASTFTCPServerTemplate = ASTFAssociationRule = TopoGW = ASTFTopology = _Fields


class ASTFProgram(object):
    def __init__(self, side="c"):
        self.commands, self.labels = [], {}

    def set_label(self, name):
        self.labels[name] = len(self.commands)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: self.commands.append((name, *args))

    def add_stats(self, counter, value):
        self.commands.append(("add_stats", counter, value))

    def play(self, took_s):
        """The counters that one connection adds to, which took so long."""
        at, counted = 0, []
        while at < len(self.commands):
            command, at = self.commands[at], at + 1
            if command[0] == "add_stats":
                counted.append("user_counter_" + command[1])
            if command[0] == "jmp" or (command[0] == "jmp_dp" and took_s < command[3]):
                at = self.labels[command[1 if command[0] == "jmp" else 2]]
        return counted


def frame(client, port, flags, payload, back):
    ends = struct.pack("!II", 0xC6120001, client) if back else struct.pack("!II", client, 0xC6120001)
    ports = struct.pack("!HH", 9000, port) if back else struct.pack("!HH", port, 9000)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0) + ends
    return b"\0" * 12 + b"\x08\0" + ip + ports + b"\0" * 8 + struct.pack("!BBHHH", 0x50, flags, 0, 0, 0) + payload


def told(name):
    """Whether a test has put a file of this name beside the client."""
    return os.path.exists(os.path.join(os.path.dirname(__file__), name))


class Port(object):
    def get_owner(self):
        return "alice" if told("held") else ""


class ASTFClient(object):
    def __init__(self, username, server, sync_port, async_port, verbose_level):
        self.user, self.packets, self.every, self.counters, self.capturing = username, [], 1, {}, None

    def connect(self):
        print("connecting: a client that prints must not disturb the protocol")
        self.ports = {number: Port() for number in self.get_all_ports()}

    def acquire(self, ports, force):
        assert not (force and told("held")), "a port of somebody else is never taken by force"

    def reset(self):
        pass

    def get_all_ports(self):
        return [0, 1, 2, 3] if told("pairs") else [0, 1]

    def get_server_system_info(self):
        return {"dp_core_count_per_port": 1}

    def get_server_version(self):
        return {"version": "simulated", "mode": "ASTF"}

    def get_port_info(self, ports):
        return [{"hw_mac": "02:00:00:00:00:00", "speed": 10, "driver": "simulated", "link": "UP"}]

    def ping_rpc_server(self):
        return {"ts": 1.0}

    def topo_clear(self):
        pass

    topo_resolve = clear_profile = clear_stats = stop = topo_clear

    def topo_load(self, topology):
        self.topology = topology

    def load_profile(self, profile):
        template = profile.fields["templates"][0].fields
        self.template = template["client_template"].fields
        self.range = self.template["ip_gen"].fields["dist_client"].fields["ip_range"]

    def start_capture(self, tx_ports, rx_ports, limit, bpf_filter):
        self.every = int(bpf_filter.split("& ")[1].split(" ")[0]) + 1
        self.capturing = bpf_filter
        return {"id": 7, "ts": 1000.0}

    def start(self, mult, duration, t_duration, client_mask):
        if mult > 400000:
            os._exit(9)
        first = struct.unpack("!I", bytes(bytearray(map(int, self.range[0].split(".")))))[0]
        wanted, program = self.template["limit"], self.template["program"]
        lossy = first >= 0xC6130200
        self.counters, self.packets = {"tcps_connattempt": wanted, "m_tx_pps_r": 1.5, "tcps_drops": 0}, []
        for number in range(wanted):
            at = 1000.5 + number / min(mult, MOST)
            lost = lossy and number % 40 == 0
            took = (AGAIN_S if lost else 0.0) + HANDSHAKE_S + REPLY_S
            for counter in program.play(took):
                self.counters[counter] = self.counters.get(counter, 0) + 1
            if lost:
                self.counters["tcps_rexmttimeo_syn"] = self.counters.get("tcps_rexmttimeo_syn", 0) + 1
            if self.capturing and number % self.every == 0:
                self.packets += list(self.exchange(first + number % 64, 1024 + number // 64, at, lost))
        self.counters["tcps_rcvbyte"] = 59 * wanted

    def exchange(self, client, port, at, lost):
        up = at + (AGAIN_S if lost else 0.0) + HANDSHAKE_S
        sent = [(at, "TX", 2, b""), (up, "RX", 18, b""), (up, "TX", 24, b"GET"), (up + REPLY_S, "RX", 25, b"ok"),
                (up + REPLY_S, "TX", 17, b"")]
        for when, origin, flags, payload in sent + ([(at + AGAIN_S, "TX", 2, b"")] if lost else []):
            yield {"ts": when, "origin": origin, "binary": frame(client, port, flags, payload, origin == "RX")}

    def is_traffic_active(self):
        return set()

    def stop_capture(self, capture_id, output):
        self.capturing = None
        output.extend(self.packets)

    def get_util_stats(self):
        return {"cpu": [{"ports": [0, 1], "history": [25]}]}

    def get_traffic_stats(self, skip_zero):
        return {"client": self.counters, "server": {}}

    def get_stats(self, ports):
        return {"global": {"queue_full": 0}, 0: {"ierrors": 0, "opackets": 9}, 1: {"ierrors": 0}, 2: {}, 3: {}}

    def disconnect(self, stop_traffic, release_ports):
        print("bye")
