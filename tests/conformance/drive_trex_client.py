# SPDX-License-Identifier: Apache-2.0
"""Runs inside TRex's own interpreter tree: drives a server with TRex's client, prints one JSON object.

Usage: drive_trex_client.py TREE SYNC_PORT ASYNC_PORT. TREE holds the package ``trex``. Standard library and TRex only.
"""

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
from trex.stl.api import *  # noqa: E402, F403
from trex.stl.api import (  # noqa: E402
    IP,
    UDP,
    Ether,
    STLClient,
    STLError,
    STLFlowLatencyStats,
    STLFlowStats,
    STLPktBuilder,
    STLScVmRaw,
    STLStream,
    STLTXCont,
    STLTXMultiBurst,
    STLTXSingleBurst,
    STLVmFixIpv4,
    STLVmTupleGen,
    STLVmWrFlowVar,
)

PACKET = Ether() / IP(src="16.0.0.1", dst="48.0.0.1") / UDP(sport=1025, dport=12, chksum=0) / ("x" * 22)


def field_engine():
    """200 addresses and five ports."""
    return STLScVmRaw([
        STLVmTupleGen(name="t", ip_min="16.0.0.1", ip_max="16.0.0.200", port_min=1025, port_max=1029, limit_flows=1000),
        STLVmWrFlowVar(fv_name="t.ip", pkt_offset="IP.src"),
        STLVmWrFlowVar(fv_name="t.port", pkt_offset="UDP.sport"),
        STLVmFixIpv4(offset="IP"),
    ])


def stream(mode, vm=None, **options):
    return STLStream(packet=STLPktBuilder(pkt=PACKET, vm=vm), mode=mode, **options)


def continuous(client):
    """Two streams for two seconds, one with a latency header; the rate is changed on the way."""
    client.add_streams([
        stream(STLTXCont(pps=1000), field_engine(), flow_stats=STLFlowStats(pg_id=7)),
        stream(STLTXCont(pps=500), flow_stats=STLFlowLatencyStats(pg_id=12)),
    ], ports=[0])
    client.clear_stats()
    client.start(ports=[0], mult="4500pps", duration=2)
    time.sleep(0.7)
    active = bool(client.is_traffic_active(ports=[0]))
    client.update(ports=[0], mult="2500pps")
    client.wait_on_traffic(ports=[0], timeout=30)
    stats = client.get_stats()
    return {"active": active, "ports": {p: stats[p] for p in (0, 1)}, "total": stats["total"],
            "flow": stats["flow_stats"][7], "latency_flow": stats["flow_stats"][12], "latency": stats["latency"][12]}


def pausing(client):
    """Pause, resume and stop of an endless run."""
    client.start(ports=[0])
    time.sleep(0.3)
    client.pause(ports=[0])
    before = client.get_stats(ports=[0])[0]["opackets"]
    time.sleep(0.3)
    during = client.get_stats(ports=[0])[0]["opackets"]
    client.resume(ports=[0])
    time.sleep(0.3)
    after = client.get_stats(ports=[0])[0]["opackets"]
    client.stop(ports=[0])
    return {"before": before, "during": during, "after": after}


def bursts(client):
    """A chain of bursts that ends by itself."""
    client.remove_all_streams(ports=[0])
    client.add_streams([
        stream(STLTXSingleBurst(pps=1000, total_pkts=50), name="first", next="second",
               flow_stats=STLFlowStats(pg_id=21)),
        stream(STLTXMultiBurst(pps=1000, pkts_per_burst=10, count=3, ibg=20000.0), name="second", self_start=False,
               isg=30000.0, flow_stats=STLFlowStats(pg_id=22)),
    ], ports=[0])
    client.clear_stats()
    client.start(ports=[0])
    client.wait_on_traffic(ports=[0], timeout=30)
    flows = client.get_pgid_stats([21, 22])["flow_stats"]
    return {str(pg): [flows[pg]["tx_pkts"]["total"], flows[pg]["rx_pkts"]["total"]] for pg in (21, 22)}


def capturing(client):
    """A pushed packet comes out of a capture at the other port."""
    client.set_service_mode(ports=[0, 1])
    capture = client.start_capture(rx_ports=[1], limit=10, bpf_filter="udp and dst host 48.0.0.1")
    client.push_packets(PACKET, ports=[0])
    time.sleep(0.3)
    frames = []
    client.stop_capture(capture["id"], frames)
    client.set_service_mode(ports=[0, 1], enabled=False)
    return [{"port": f["port"], "origin": f["origin"], "length": len(f["binary"])} for f in frames]


def refusals(client):
    """Requests that have to fail."""
    result = {}
    for name, attempt in (
        ("over line rate", lambda: client.start(ports=[0], mult="20gbps")),
        ("same latency group", lambda: client.add_streams([
            stream(STLTXCont(pps=1), flow_stats=STLFlowLatencyStats(pg_id=99)) for _ in range(2)], ports=[0])),
    ):
        try:
            attempt()
            result[name] = None
        except STLError as error:
            result[name] = str(error).replace("\x1b", "").strip().splitlines()[-1]
    return result


def main():
    """Every scenario against one server."""
    client = STLClient(username="conformance", server="127.0.0.1", sync_port=int(sys.argv[2]),
                       async_port=int(sys.argv[3]), verbose_level="error")
    client.connect()
    try:
        client.acquire(ports=[0, 1], force=True)
        client.reset(ports=[0, 1])
        result = {"version": client.get_server_version()["version"], "ports": client.get_all_ports()}
        for scenario in (continuous, pausing, bursts, refusals, capturing):
            result[scenario.__name__] = scenario(client)
        result["xstats"] = dict(client.get_xstats(0))
        result["utilization"] = len(client.get_util_stats()["cpu"])
        result["warnings"] = [str(one) for one in client.get_warnings()]
        client.release(ports=[0, 1])
    finally:
        client.disconnect()
    print(json.dumps(result, default=str))


main()
