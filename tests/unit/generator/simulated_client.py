# SPDX-License-Identifier: Apache-2.0
"""A SIMULATED client with the interface of trex.stl.api, for tests of the agent and the driver alone.

It forwards everything it is asked to send; a rate above 1 Mpps kills it.
"""
import base64
import os
import time


class _Fields(object):
    def __init__(self, *args, **fields):
        self.args, self.fields = args, fields


STLScVmRaw = STLVmTupleGen = STLVmWrFlowVar = STLVmFixIpv4 = _Fields
STLTXCont = STLFlowLatencyStats = STLPktBuilder = STLStream = _Fields


class PacketBuffer(object):
    def __init__(self, buffer, port_src=False, port_dst=False):
        self.buffer = buffer


class STLError(Exception):
    pass


class STLClient(object):
    def __init__(self, username, server, sync_port, async_port, verbose_level):
        self.count, self.streams, self.pushed, self.service = 0, {}, [], False

    def connect(self):
        print("connecting: a client that prints must not disturb the protocol")

    def reset(self, ports):
        self.streams = {}

    def get_server_version(self):
        return {"version": "simulated", "mode": "STL"}

    def ping_rpc_server(self):
        return {"ts": 1.0}

    def get_port_info(self, ports):
        return [{"hw_mac": "02:00:00:00:00:%02x" % ports[0], "speed": 10, "driver": "simulated", "link": "UP"}]

    def is_connected(self):
        return True

    def stop(self, ports):
        pass

    def remove_all_streams(self, ports):
        self.streams = {}

    def add_streams(self, streams, ports):
        for stream in streams:
            self.streams.setdefault(ports[0], []).append(stream)
        return len(self.streams[ports[0]])

    def clear_stats(self, ports):
        pass

    def start(self, ports, mult, duration, force, synchronized=False):
        rate = float(mult[:-3])
        if rate > 1e6:
            os._exit(9)
        if rate < 10:
            raise STLError("current stream configuration enforces a minimum rate")
        if not any(self.streams.get(p) for p in ports):
            raise STLError("no streams on ports %r" % ports)
        self.sent = int(rate * duration)
        self.count += self.sent

    def is_traffic_active(self, ports):
        return False

    def wait_on_traffic(self, ports, timeout, rx_delay_ms):
        time.sleep(rx_delay_ms / 1000.0)

    def rpc(self, method, params):
        if method == "get_port_stats":
            return {"opackets": self.count, "ipackets": self.count + 5, "x_marked_ipackets": self.count,
                    "x_tx_refused": self.count // 10, "x_tx_skipped_stall": self.count // 100, "m_cpu_util": 0.5}
        if method == "x_get_reports":
            return [{"core": 0, "utilisation": 0.25, "pause_log": [[1, 2]],
                     "first_departure_ns": 1000, "last_departure_ns": 50001000},
                    {"core": 1, "utilisation": 0.0, "pause_log": [], "first_departure_ns": 0, "last_departure_ns": 0}]
        if method == "get_pgid_stats":
            key = str(params["pgids"][0])
            return {"flow_stats": {key: {"tp": {"0": 100}, "rp": {"0": 99}}},
                    "latency": {key: {"lat": {"total_min": 3, "total_max": 9, "average": 4.5, "jit": 1,
                                              "x_hist_ns": [[3000, 98], [9000, 1]]}, "er": {"drp": 1}}}}
        return {}

    def set_service_mode(self, ports, enabled):
        self.service = enabled

    def start_capture(self, rx_ports, limit, tx_ports=()):
        self.pushed, self.watched = [], {"TX": tx_ports, "RX": rx_ports}
        return {"id": 1, "ts": 1000.0}

    def push_packets(self, pkts, ports, force):
        self.pushed += [p.buffer for p in pkts]

    def stop_capture(self, capture_id, output):
        for number, pushed in enumerate(self.pushed):
            output.extend({"binary": base64.b64encode(pushed).decode(), "ts": 1000.5 + number, "origin": origin}
                          for origin in ("TX", "RX") if self.watched[origin])

    def disconnect(self, stop_traffic, release_ports):
        print("bye")
