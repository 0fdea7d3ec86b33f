# SPDX-License-Identifier: Apache-2.0
"""The text of a testbed file: what was found, why, and what is left to fill in."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.rack.choose import Cable, Choice, generator_cores, node_of
from harness.rack.look import HostSeen, Nic
from harness.testbed import Jump, Ssh, check_testbed
from harness.yamlfile import load

FILL_IN = "FILL IN"
_COMMENT = 112


def text_of_testbed(name: str, generator: HostSeen, duts: Sequence[HostSeen], chosen: Choice,
                 ) -> tuple[str, tuple[str, ...]]:
    """The file's text, and what is missing from it: nothing where it loads. Ways through a switch that share a
    generator port are wires where this harness takes such, and comments where not."""
    text = _text(name, generator, duts, chosen, every=True)
    if _problem(text) and any(cable.shared for cable in chosen.cables):
        text = _text(name, generator, duts, chosen, every=False)
    problem = _problem(text)
    return text, (*chosen.missing, *([problem] if problem and not chosen.missing else []))


def _problem(text: str) -> str:
    try:
        check_testbed(load(Path("testbed.yaml"), text))
    except UsageError as error:
        return str(error)
    return ""


def _text(name: str, generator: HostSeen, duts: Sequence[HostSeen], chosen: Choice, *, every: bool) -> str:
    lines = ["# SPDX-License-Identifier: Apache-2.0",
             "# Written by `harness testbed init`; the comments say what was found. Prove it, now and later, with",
             "#   harness testbed check FILE", *_comments([*chosen.missing], f"{FILL_IN}: "), *_comments(chosen.notes),
             f"name: {_quoted(name)}", "", *_generator(generator, chosen.tg), "", "duts:"]
    for dut, ports in zip(duts, chosen.duts, strict=True):
        lines += _dut(dut, ports)
    return "\n".join([*lines, "", *_wires(chosen.cables, every)]) + "\n"


def _generator(host: HostSeen, ports: Sequence[Nic]) -> Iterator[str]:
    yield "generator:"
    yield f"  # {_about(host)}"
    if host.ssh is not None:
        yield f"  ssh: {_ssh(host.ssh)}"
    cores = generator_cores(host, ports)
    yield "  # One thread of each physical core on its ports' node; without core 0 and the management's if it can."
    yield f"  cores: {_list(cores)}" if cores else f"  # cores: {FILL_IN}, such as [2-7]"
    software = ", software: true" if any(not nic.pci for nic in ports) else ""  # it cannot take such from the kernel
    for index, found in enumerate(host.trex):
        off, about = "# " if index else "", found.version or "version not known"
        yield f"  {off}trex: {{dir: {_quoted(found.dir)}{software}}}   # {about}"
    if host.trex and not host.pythons:
        yield "  # No Python from 3.6 to 3.12 was found there, which TRex's client needs: apt-get install python3.11"
    if not host.trex:
        yield "  # No TRex was found (/opt/trex*, ...). Install one and write  trex: {dir: /opt/trex/v3.08}  ; without,"
        yield "  # the generator is xdpgen, to be started there by hand (`harness xdpgen`)."
    yield from _left_out(host, ports)
    yield from _ports(ports, "  ")


def _dut(host: HostSeen, ports: Sequence[Nic]) -> Iterator[str]:
    yield f"  - name: {_quoted(host.name)}"
    yield f"    # {_about(host)}"
    if host.ssh is not None:
        yield f"    ssh: {_ssh(host.ssh)}"
    yield f"    management: {_quoted(host.management)}   # SSH comes in here; never touched" if host.management else (
        f"    # management: {FILL_IN}, the interface that carries SSH")
    if host.topology:
        yield "    cores: auto"
        yield "    topology:"
        node = node_of(ports)
        if node is not None:
            yield f"      node: {node}"
        if host.busy:
            yield f"      busy: {_list(host.busy)}   # interrupts of {host.management}"
        yield "      cpus: |   # lscpu -p=CPU,CORE,SOCKET,NODE"
        yield from (f"        {row.strip()}" for row in host.topology.splitlines())
        yield f"    all_cores: {max(host.online) + 1}"
    else:
        yield f"    # cores: {FILL_IN}, such as [2-9]"
        yield f"    # all_cores: {FILL_IN}, how many it has"
    yield "    tuning: stock"
    yield from _left_out(host, ports, "    ")
    yield from _ports(ports, "    ")


def _about(host: HostSeen) -> str:
    return f"{host.hostname or host.name}: kernel {_plain(host.kernel) or 'not known'}, {len(host.online) or '?'} cores"


def _left_out(host: HostSeen, ports: Sequence[Nic], indent: str = "  ") -> Iterator[str]:
    for nic in host.nics:
        if nic not in ports:
            why = nic.why_not or ("not cabled to a port of the other side" if nic.carrier else "no link")
            yield f"{indent}# not a test port: {nic.ifname} ({nic.pci or nic.mac}): {_plain(why)}"
    for one in host.bound:
        yield f"{indent}# not tried: {one.pci}, which {one.driver or 'no driver'} has; the kernel cannot send there"


def _ports(ports: Sequence[Nic], indent: str) -> Iterator[str]:
    if not ports:
        yield f"{indent}# ports: {FILL_IN}"
        yield f'{indent}#   - {{mac: "3c:fd:fe:a0:00:00", ifname: enp3s0f0, pci: "0000:03:00.0"}}'
        return
    yield f"{indent}ports:"
    for nic in ports:
        pci = f", pci: {_quoted(nic.pci)}" if nic.pci else ""
        about = ", ".join(filter(None, (nic.driver, "" if nic.node is None else f"node {nic.node}")))
        yield f"{indent}  - {{mac: {_quoted(nic.mac)}, ifname: {_quoted(nic.ifname)}{pci}}}" + (f"   # {about}" if about
                                                                                              else "")


def _wires(cables: Sequence[Cable], every: bool) -> Iterator[str]:
    yield "# Found by marked frames in both directions: generator port, DUT's port. A switch that joins two ports only"
    yield "# looks like a cable."
    yield "wires:" if cables else f"# wires: {FILL_IN}, such as  - {{tg: 0, dut: sut1/0, speed: 10G}}"
    for cable in cables:
        off = "" if cable.speed is not None and (every or not cable.shared) else "# "
        speed = FILL_IN if cable.speed is None else f"{cable.speed:g}G"
        virtual = ", virtual: true" if cable.virtual else ""
        also = "   # through a switch; this port has a wire already" if off and cable.shared else ""
        yield f"  {off}- {{tg: {cable.tg}, dut: {cable.host}/{cable.port}, speed: {speed}{virtual}}}{also}"


def _ssh(ssh: Ssh) -> str:
    jump = f", jump: {{{_way(ssh.jump)}}}" if ssh.jump is not None else ""
    return f"{{{_way(ssh)}{jump}}}"


def _way(hop: Jump) -> str:
    given = hop.model_dump(exclude_defaults=True, exclude={"jump"})
    return ", ".join(f"{key}: {_quoted(value) if isinstance(value, str) else value}" for key, value in given.items())


def _quoted(text: str) -> str:
    """JSON's way is YAML's too; names of letters and digits stay bare."""
    return text if text.isalnum() and text[0].isalpha() and text.lower() not in ("true", "false", "null") else (
        json.dumps(text))


def _list(cores: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, cores)) + "]"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def _comments(texts: Sequence[str], head: str = "") -> Iterator[str]:
    for text in texts:
        plain = "".join(c if c.isprintable() else " " for c in text[:1000])
        for number, part in enumerate(textwrap.wrap(head + plain, _COMMENT)):
            yield f"#   {part}" if number else f"# {part}"
