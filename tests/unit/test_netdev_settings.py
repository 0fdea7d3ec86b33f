# SPDX-License-Identifier: Apache-2.0
"""Settings of a NIC from ethtool's listings, and the commands that bring them back, and no others."""

from __future__ import annotations

import pytest

from harness.stacks import netdev_settings
from harness.stacks.netdev_settings import listing, lost, nic, restore, spread

CHANNELS = """Channel parameters for eth1:
Pre-set maximums:
RX:\t\tn/a
TX:\t\tn/a
Other:\t\t1
Combined:\t63
Current hardware settings:
RX:\t\tn/a
TX:\t\tn/a
Other:\t\t1
Combined:\t{queues}
"""
COALESCE = "Coalesce parameters for eth1:\nAdaptive RX: {adaptive}  TX: n/a\nrx-usecs:\t50\n" \
           "rx-frames:\tn/a\ntx-usecs:\t9\n"
FEATURES = "Features for eth1:\nrx-checksumming: on\ntx-checksumming: on\n\ttx-checksum-ipv4: {tx}\n" \
           "large-receive-offload: off [fixed]\n"
HASH = "RX flow hash indirection table for eth1 with 4 RX ring(s):\n    0:      {table}\nRSS hash key:\n" \
       "6d:5a:56:da:25:5b:0e:c2:41:67:25:3d:43:a3:8f:b0\nRSS hash function:\n    toeplitz: on\n"


class Nic:
    """Answers of the programs by their words; ``set``: commands that change something."""

    def __init__(self, **how: str) -> None:
        how = {"queues": "4", "adaptive": "off", "tx": "on", "table": "0 1 2 3 0 1 2 3", "rules": "0", "qdisc": "0:",
               **how}
        self.answers = {
            "ethtool -l eth1": CHANNELS.format(**how), "ethtool -c eth1": COALESCE.format(**how),
            "ethtool -k eth1": FEATURES.format(**how), "ethtool -x eth1": HASH.format(**how),
            "ethtool -n eth1": f"4 RX rings available\nTotal {how['rules']} rules\n",
            "ethtool -n eth1 rx-flow-hash udp4": "UDP over IPV4 flows use these fields for computing Hash flow key:\n"
                                                 "IP SA\nIP DA\n",
            "tc -j qdisc show dev eth1": f'[{{"kind": "mq", "handle": "{how["qdisc"]}"}}]',
        }
        self.set: list[str] = []

    def run(self, argv: list[str]) -> tuple[int, str]:
        words = " ".join(argv)
        if words not in self.answers:
            self.set.append(words)
            return 95, ""
        return 0, self.answers[words]


def on(monkeypatch: pytest.MonkeyPatch, **how: str) -> Nic:
    made = Nic(**how)
    monkeypatch.setattr(netdev_settings, "run", made.run)
    monkeypatch.setattr(netdev_settings, "NET", "/nowhere")
    monkeypatch.setattr(netdev_settings, "PROC", "/nowhere")
    return made


def test_what_ethtool_lists_is_kept_by_the_words_that_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch)
    assert nic("eth1") == {
        "ethtool -l combined": "4", "ethtool -c adaptive-rx": "off", "ethtool -c rx-usecs": "50",
        "ethtool -c tx-usecs": "9", "ethtool -k rx-checksumming": "on", "ethtool -k tx-checksum-ipv4": "on",
        "rx-flow-hash udp4": "sd", "rss table": "0 1 2 3 0 1 2 3",
        "rss key": "6d:5a:56:da:25:5b:0e:c2:41:67:25:3d:43:a3:8f:b0",
    }
    assert "rx-usecs" not in listing(COALESCE.format(adaptive="on")), "the driver moves it"
    pause = "Pause parameters for eth1:\nAutonegotiate:\t{}\nRX:\t\ton\nTX:\t\toff\nRX negotiated:\ton\n"
    assert listing(pause.format("off")) == {"autoneg": "off", "rx": "on", "tx": "off"}
    assert listing(pause.format("on")) == {"autoneg": "on"}, "the link's other end has a say"
    assert lost("eth1") == []


def test_only_what_differs_is_set_and_what_stays_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch)
    wanted = nic("eth1")
    fresh = on(monkeypatch, queues="8", tx="off", table="0 1 2 3 4 5 6 7")
    wrong = restore("eth1", wanted)
    changes = [words for words in fresh.set if words.split()[1] in ("-L", "-G", "-C", "-A", "-K", "-N", "-X")]
    assert changes == ["ethtool -L eth1 combined 4", "ethtool -K eth1 tx-checksum-ipv4 on", "ethtool -X eth1 equal 4"]
    assert wrong == ["ethtool -k tx-checksum-ipv4 was on and is off", "ethtool -l combined was 4 and is 8",
                     "rss table was 0 1 2 3 0 1 2 3 and is 0 1 2 3 4 5 6 7"]


def test_what_cannot_be_put_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, rules="3", qdisc="8001:", table="3 1 2 0 0 1 2 3")
    assert lost("eth1") == ["3 ntuple rules (ethtool -n)", "an RSS table set by hand (ethtool -x)",
                            "qdiscs of somebody's (mq; tc qdisc)"]
    assert spread([0, 0, 0, 1]) == ["weight", "3", "1"]
