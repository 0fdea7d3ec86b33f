# SPDX-License-Identifier: Apache-2.0
"""A look at a host loads nothing into its kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.host import survey

BOTH = ("nf_tables", "nfnetlink")


@pytest.mark.parametrize(("modular", "loaded", "builtin", "asked"), [
    (True, (), (), set()), (True, BOTH, (), {"nftables", "tool.nft"}), (True, (), BOTH, {"nftables", "tool.nft"}),
    (True, ("nfnetlink",), (), {"tool.nft"}), (False, (), (), {"nftables", "tool.nft"}),
    (True, (), None, {"nftables", "tool.nft"}),  # nobody can tell
])
def test_nft_is_asked_only_where_that_loads_no_module(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modular: bool, loaded: tuple[str, ...],
        builtin: tuple[str, ...] | None, asked: set[str]) -> None:
    ran: list[str] = []

    def run(argv: list[str]) -> dict[str, object]:
        ran.append(argv[0])
        return {"status": 0, "out": "as told"}

    for name in loaded:
        (tmp_path / name).mkdir()
    if builtin is not None:
        lines = ["kernel/fs/ext4/ext4.ko", *(f"kernel/net/netfilter/{name}.ko" for name in builtin)]
        (tmp_path / "builtin").write_text("\n".join(lines))
    monkeypatch.setattr(survey, "MODULAR", str(tmp_path if modular else tmp_path / "none"))
    monkeypatch.setattr(survey, "LOADED", f"{tmp_path}/")
    monkeypatch.setattr(survey, "BUILTIN", f"{tmp_path}/builtin%.0s")
    monkeypatch.setattr(survey, "run", run)
    found = survey.commands(tools=True)
    assert {name for name, answer in found.items() if "nft" in name and answer["out"] == "as told"} == asked
    assert ran.count("nft") == len(asked)
    assert found["nftables"]["out"] == ("as told" if "nftables" in asked else '{"nftables": []}')
