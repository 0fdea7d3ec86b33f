# SPDX-License-Identifier: Apache-2.0
"""Frame sizes and mixes: mean, shares, line rate and names, from scenario to frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.flows import directions
from harness.generator.frames import flow_frame
from harness.lab import plan_wires
from harness.measure.rolecheck import canonical
from harness.plan import FCS, SIMPLE_IMIX, FrameMix, Role, line_rate_pps
from harness.scenario import load_scenario, minimum_frame
from tests.wires import with_ip_version

Write = Callable[..., Path]
MIXES = st.dictionaries(st.integers(64, 1522), st.integers(1, 1000), min_size=1, max_size=8)


@given(MIXES)
def test_a_mix_sends_its_ratio_at_the_line_rate_of_its_mean(parts: dict[int, int]) -> None:
    mix = FrameMix(tuple(sorted(parts.items())))
    rate = line_rate_pps(10, mix.mean)
    assert sum(share for _, share in mix.shares) == pytest.approx(1)
    assert sum(8 * (size + 20) * share * rate for size, share in mix.shares) == pytest.approx(10e9)
    for size, share in mix.shares:
        assert share * sum(parts.values()) == pytest.approx(parts[size])
    assert mix.smallest <= mix.mean <= mix.sizes[-1]
    assert f"{mix.mean:.1f} B" in mix.label or mix.single
    assert set(mix.slug) <= set("imx0123456789-B")


def test_simple_imix_is_named_with_its_mean() -> None:
    assert SIMPLE_IMIX.label == "IMIX 7:4:1 (mean 361.8 B)"
    assert FrameMix(((64, 3), (1518, 1))).label == "IMIX 3:1 of 64/1518 B (mean 427.5 B)"
    assert FrameMix.of(82).label == "82 B"
    assert line_rate_pps(10, SIMPLE_IMIX.mean) == pytest.approx(3_273_679, abs=1)


@pytest.mark.parametrize("parts", [(), ((64, 0),), ((128, 1), (64, 1)), ((64, 1), (64, 2)),
                                   tuple((n, 1) for n in range(64, 73))])
def test_what_is_no_mix_is_refused(parts: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="a mix is 1 to 8 distinct sizes"):
        FrameMix(parts)


@pytest.mark.parametrize(("traffic", "mixes"), [
    ("frame: imix", [SIMPLE_IMIX]),
    ("frame: [64, IMIX]", [FrameMix.of(64), SIMPLE_IMIX]),
    ("frame: {imix: {1518: 2, 64: 14, 594: 8}}", [SIMPLE_IMIX]),
    ("frame: {imix: {min: 7, 594: 4, 1518: 1}}, l3: ipv6, vlan: 9", [FrameMix(((86, 7), (594, 4), (1518, 1)))]),
    ("frame: {imix: {min: 7, 64: 4}}", [FrameMix.of(64)]),
])
def test_mixes_in_a_scenario(write: Write, traffic: str, mixes: list[FrameMix]) -> None:
    path = write(f"""
        name: mixed
        role: echo
        traffic: {{{traffic}}}
        stacks: [xdp]
        measure: {{throughput: {{}}, latency: {{}}}}
        """)
    spec = load_scenario(path).spec
    assert list(spec.frames()) == mixes
    json.dumps(spec.model_dump(mode="json"))  # a run keeps it


@given(version=st.sampled_from([4, 6]), vlan=st.none() | st.integers(1, 4094), extra=st.integers(0, 1432),
       flow=st.integers(0, 999_999))
def test_every_flow_has_a_frame_of_the_size_asked_for(version: int, vlan: int | None, extra: int, flow: int) -> None:
    wires = tuple(with_ip_version(wire, version) for wire in plan_wires("abc"))
    direction, = directions(Role.ECHO, wires, 1_000_000, bidirectional=False, vlan=vlan)
    size = minimum_frame(f"ipv{version}", vlan=vlan is not None, latency=False) + extra
    frame = flow_frame(direction, size, flow)
    assert len(frame) + FCS == size
    read = canonical(frame, keep_ttl=True)
    assert read is not None
    assert (read.vlan, read.dst, read.dport, read.ttl) == (vlan, direction.flows.dst_ip, 9000, 64)
    assert len(read.payload) == size - FCS - direction.headers
