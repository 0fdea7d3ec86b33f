# SPDX-License-Identifier: Apache-2.0
"""Loss places from the counters of real drivers, under the names that ``ethtool -S`` gives them."""

from __future__ import annotations

import pytest

from harness.measure.places import port_losses

#: What /sys/class/net/*/statistics holds for every port, whatever its driver counts.
KERNEL = ("rx_packets", "tx_packets", "rx_dropped", "tx_dropped", "rx_missed_errors", "rx_fifo_errors",
          "rx_over_errors", "rx_crc_errors", "rx_errors")
#: Driver -> all its counters that matter here, and some that must not.
NAMES = {
    "veth": ("peer_ifindex", "rx_queue_0_xdp_packets", "rx_queue_0_drops", "rx_queue_0_xdp_drops",
             "rx_queue_0_xdp_tx_errors", "tx_queue_0_xdp_xmit_errors"),
    "mlx5": ("rx_out_of_buffer", "rx_discards_phy", "rx_crc_errors_phy", "rx_xdp_drop", "rx_xdp_tx_full",
             "rx_xdp_tx_err", "tx_xdp_full", "tx_queue_dropped", "rx0_xdp_tx_full", "rx_steer_missed_packets"),
    "i40e": ("port.rx_dropped", "port.rx_crc_errors", "ethtool.rx_dropped", "ethtool.tx_dropped", "rx_alloc_fail",
             "rx-0.packets"),
    "i40e of 2025": ("port.rx_discards", "ethtool.rx_missed_errors", "ethtool.rx_dropped", "rx_alloc_fail"),
    "ice": ("rx_dropped.nic", "ethtool.rx_dropped", "rx_crc_errors.nic", "rx_alloc_fail"),
    "ixgbe": ("rx_no_dma_resources", "ethtool.rx_missed_errors", "alloc_rx_page_failed", "alloc_rx_buff_failed"),
    "ena": ("admin_q_pause", "rx_drops", "tx_drops", "queue_0_rx_page_alloc_fail"),
    "virtio": ("rx_queue_0_kicks", "rx_queue_0_drops", "rx_queue_0_xdp_drops", "rx_queue_1_drops"),
    "virtio of 2024": ("rx0_kicks", "rx0_drops", "rx0_xdp_drops"),
    "vmxnet3": ("pkts rx OOB", "pkts rx err", "drv dropped rx total", "drv dropped tx total", "err"),
    "other": (),
}


@pytest.mark.parametrize(("driver", "rose", "places"), [
    ("veth", {"rx_queue_0_drops": 7, "rx_queue_0_xdp_drops": 1000}, {"DUT ring": 7}),
    ("veth", {"tx_dropped": 5, "rx_queue_0_xdp_tx_errors": 5}, {"return path": 5}),
    ("veth", {"rx_missed_errors": 9}, {}),  # the first that it has is meant, not the first that rose
    ("mlx5", {"rx_discards_phy": 40, "rx_out_of_buffer": 2, "rx_xdp_drop": 1000, "rx_missed_errors": 2},
     {"DUT ring": 42}),
    ("mlx5", {"rx_xdp_tx_full": 3, "rx0_xdp_tx_full": 3, "tx_xdp_full": 4, "rx_xdp_tx_err": 1}, {"return path": 8}),
    ("mlx5", {"rx_crc_errors_phy": 2, "rx_crc_errors": 2, "rx_steer_missed_packets": 50}, {"wire": 2}),
    ("i40e", {"port.rx_dropped": 10, "ethtool.rx_dropped": 5, "rx_dropped": 6, "rx_alloc_fail": 3},
     {"DUT ring": 15, "driver": 3}),
    ("i40e of 2025", {"port.rx_discards": 10, "ethtool.rx_missed_errors": 5, "rx_missed_errors": 5}, {"DUT ring": 15}),
    ("ice", {"rx_dropped.nic": 8, "rx_alloc_fail": 2, "rx_crc_errors.nic": 1},
     {"DUT ring": 8, "driver": 2, "wire": 1}),
    ("ixgbe", {"rx_missed_errors": 6, "ethtool.rx_missed_errors": 6, "rx_no_dma_resources": 4,
               "alloc_rx_page_failed": 1}, {"DUT ring": 10, "driver": 1}),
    ("ena", {"rx_drops": 11, "rx_dropped": 11, "tx_drops": 2}, {"DUT ring": 11, "return path": 2}),
    ("virtio", {"rx_queue_0_drops": 1000, "rx_queue_0_xdp_drops": 998, "rx_queue_1_drops": 3}, {"driver": 5}),
    ("virtio of 2024", {"rx0_drops": 12, "rx0_xdp_drops": 12}, {}),
    ("vmxnet3", {"pkts rx OOB": 13, "drv dropped rx total": 1, "drv dropped tx total": 2, "err": 1},
     {"DUT ring": 13, "driver": 1, "return path": 2}),
    ("other", {"rx_missed_errors": 5, "rx_fifo_errors": 5, "rx_dropped": 900, "tx_dropped": 1},
     {"DUT ring": 5, "return path": 1}),
])
def test_every_drivers_drops_have_their_place_and_count_once(
        driver: str, rose: dict[str, int], places: dict[str, int]) -> None:
    names = {*KERNEL, *NAMES[driver]}
    assert rose.keys() <= names
    assert {place: count for place, count in port_losses(names, rose).items() if count} == places


def test_drops_of_a_queueing_discipline_are_a_place_of_every_driver() -> None:
    names = {*KERNEL, *NAMES["mlx5"], "qdisc.mq@0:.drops", "qdisc.tbf@8001:.drops"}
    found = port_losses(names, {"qdisc.tbf@8001:.drops": 30, "qdisc.mq@0:.drops": 2, "tx_queue_dropped": 5})
    assert {place: count for place, count in found.items() if count} == {"qdisc": 32, "return path": 5}
