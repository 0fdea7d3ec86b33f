# SPDX-License-Identifier: Apache-2.0
"""What is known about labs on disk: /run/netstack-harness/LAB/lab.json, written before anything of the lab is made.

Every name a lab uses follows from the lab's own name, so the record's existence is the journal: whoever finds it knows
all that may exist. A lab belongs to the process that made it and is stale when that is gone; a persistent one has no
owner once it is up. One lock, on the directory itself, orders claiming and removing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.lab.addresses import check_name
from harness.lab.cores import CorePauses, CoreSplit
from harness.lab.errors import LabError, LabNameError
from harness.lab.process import ProcessId, alive, boot_id, identify

ROOT = Path("/run/netstack-harness")
VERSION = 1
#: Kinds of DUT: a namespace of this machine, a virtual machine.
NETNS, VM = "netns", "vm"
_RECORD, _SHARED, _PIDS = "lab.json", "shared.json", "pids"


@dataclass(frozen=True)
class LabRecord:
    """One lab.json. ``owner``: the process whose end makes the lab stale (None: persistent and complete).
    ``phase``: "building" or "up". ``created``: Unix time. ``split`` is None until the cores have been chosen.
    ``dut``: what the DUT is, NETNS or VM; ``iommu``: a VM that has one."""

    name: str
    boot: str
    owner: ProcessId | None
    persistent: bool
    phase: str
    wires: int
    queues: int
    created: float = field(default_factory=time.time)
    split: CoreSplit | None = None
    dut: str = NETNS
    iommu: bool = False

    def stale(self) -> bool:
        """Whether nothing alive stands behind this lab any more."""
        return self.boot != boot_id() or (self.owner is not None and not alive(self.owner))

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabRecord:
        """Read back what :meth:`to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']}")
        owner, split = data["owner"], data["split"]
        return cls(
            name=check_name(str(data["name"])), boot=str(data["boot"]),
            owner=None if owner is None else ProcessId(int(owner["pid"]), int(owner["start"])),
            persistent=bool(data["persistent"]), phase=str(data["phase"]), wires=int(data["wires"]),
            queues=int(data["queues"]), created=float(data["created"]),
            split=None if split is None else _split_from_json(split), dut=str(data.get("dut", NETNS)),
            iommu=bool(data.get("iommu", False)),
        )


def _split_from_json(data: Mapping[str, Any]) -> CoreSplit:
    pauses = {int(core): CorePauses(int(p["count"]), int(p["total_ns"]), int(p["longest_ns"]))
              for core, p in data["pauses"].items()}
    return CoreSplit(tg=tuple(map(int, data["tg"])), dut=tuple(map(int, data["dut"])), pauses=pauses)


def write_json(path: Path, data: object) -> None:
    """Atomically: a reader sees the old content or the new, a killed writer leaves the old."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(data), encoding="utf-8")
    temporary.replace(path)


class LabStore:
    """All labs below one directory (0700). Tests use another root; nothing else does."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root

    def directory(self, lab: str) -> Path:
        """A lab's own directory."""
        return self.root / check_name(lab)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the one lock. The root is made when missing and removed when it is empty at the end, so whoever waited
        for a lock on a removed directory tries again on the new one."""
        while True:
            try:
                self.root.mkdir(mode=0o700, exist_ok=True)
                fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # removed between the two
            except FileExistsError:
                if self.root.exists() and not self.root.is_dir():
                    raise LabError(f"{self.root} is in the way: it is no directory") from None
                continue  # it was there, and gone when pathlib looked what it is
            except PermissionError as error:
                raise LabError(f"{self.root}: {error.strerror}; run as root, for example with sudo") from error
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink > 0:
                break
            os.close(fd)
        try:
            yield
        finally:
            try:
                if not any(self.root.iterdir()):
                    self.root.rmdir()
            finally:
                os.close(fd)

    def names(self) -> list[str]:
        """Directories that are labs, claimed or half claimed. Others below the root are not the lab's business."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and self._is_lab(path))

    def _is_lab(self, path: Path) -> bool:
        try:
            check_name(path.name)
        except LabNameError:
            return False
        content = {entry.name for entry in path.iterdir()}
        return _RECORD in content or content <= {_RECORD + ".new"}

    def read(self, lab: str) -> LabRecord | None:
        """The record, None when the lab was claimed halfway (its maker was killed: nothing else exists of it).

        Raises LabNameError when there is no such lab, LabError when the record is not one of this version's.
        """
        directory = self.directory(lab)
        if not directory.is_dir():
            raise LabNameError(f"there is no lab {lab!r}; `harness lab status` lists them")
        path = directory / _RECORD
        if not path.exists():
            return None
        try:
            return LabRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LabError(f"{path} is not readable by this version ({error!r}); remove the lab with "
                           f"`harness lab down {lab}`") from error

    def claim(self, record: LabRecord) -> None:
        """Write the record of a lab that is about to be made; hold the lock. Raises LabNameError when it exists."""
        directory = self.directory(record.name)
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError as error:
            raise LabNameError(f"lab {record.name!r} is up already; `harness lab down {record.name}` removes it"
                               ) from error
        self.write(record)

    def write(self, record: LabRecord) -> None:
        """Replace the record of a claimed lab."""
        write_json(self.directory(record.name) / _RECORD, record.to_json())

    def forget(self, lab: str) -> None:
        """Remove the lab's directory, last of all; hold the lock."""
        shutil.rmtree(self.directory(lab))

    def note_process(self, lab: str, name: str, pid: int) -> None:
        """Record a process of the lab with its start time."""
        process = identify(pid)
        if process is not None:
            directory = self.directory(lab) / _PIDS
            directory.mkdir(mode=0o700, exist_ok=True)
            write_json(directory / f"{name}.json", {**asdict(process), "boot": boot_id()})

    def processes(self, lab: str) -> dict[str, ProcessId]:
        """Recorded processes of the lab that are alive, by name."""
        found = {}
        for path in sorted((self.directory(lab) / _PIDS).glob("*.json")):
            data = json.loads(path.read_text(encoding="utf-8"))
            process = ProcessId(int(data["pid"]), int(data["start"]))
            if data["boot"] == boot_id() and alive(process):
                found[path.stem] = process
        return found

    def note_shared(self, what: str) -> None:
        """Record, before it is made, something outside the lab's directory that labs share; hold the lock."""
        write_json(self.root / _SHARED, sorted({*self.shared(), what}))

    def shared(self) -> list[str]:
        """Shared things that labs made and the last one removes."""
        path = self.root / _SHARED
        return [str(item) for item in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []

    def forget_shared(self) -> None:
        """Forget them; hold the lock."""
        for name in (_SHARED, _SHARED + ".new"):
            (self.root / name).unlink(missing_ok=True)


def new_record(name: str, *, persistent: bool, wires: int, queues: int, dut: str = NETNS) -> LabRecord:
    """The record with which this process claims a lab. Raises LabError when this process cannot be identified."""
    owner = identify(os.getpid())
    if owner is None:
        raise LabError("/proc does not show this process; is /proc mounted?")
    return LabRecord(name=name, boot=boot_id(), owner=owner, persistent=persistent, phase="building", wires=wires,
                     queues=queues, dut=dut)


def completed(record: LabRecord) -> LabRecord:
    """The record once the lab is up: a persistent one outlives its maker."""
    return replace(record, phase="up", owner=None if record.persistent else record.owner)
