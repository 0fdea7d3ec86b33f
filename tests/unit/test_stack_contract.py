# SPDX-License-Identifier: Apache-2.0
"""One contract test over every stack folder: what the core, the report and a reader of the folder rely on."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from pydantic import ValidationError

from harness import stacks
from harness.errors import UsageError
from harness.plan import Role
from harness.resources import resource
from harness.stack import Stack

FOLDERS = sorted(p for p in resource("stacks").iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
SOURCES = {".py": "# SPDX-License-Identifier: Apache-2.0", ".c": "/* SPDX-License-Identifier: Apache-2.0 */",
           ".h": "/* SPDX-License-Identifier: Apache-2.0 */"}
BPF = "// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)"


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def stack(folder: Path) -> type[Stack]:
    return stacks.get(folder.name.replace("_", "-"))


def test_every_folder_is_found() -> None:
    assert [f.name.replace("_", "-") for f in FOLDERS] == list(stacks.available())
    assert FOLDERS


def test_identity(folder: Path, stack: type[Stack]) -> None:
    assert stack.name == folder.name.replace("_", "-")
    assert stacks.source(stack.name) == folder
    assert 10 <= len(stack.summary) <= 120
    assert "\n" not in stack.summary
    assert inspect.getdoc(stack)
    assert not inspect.isabstract(stack)


def test_roles(stack: type[Stack]) -> None:
    assert stack.roles
    for role, info in stack.roles.items():
        assert isinstance(role, Role)
        assert info.semantics
        assert info.layer in {"l2", "l3"} if role is Role.FORWARD else info.layer == ""
        assert bool(info.discard_counter) == (role is Role.DROP), "role drop names its exact counter, no other"
    assert stack.ceiling_for <= set(stack.roles)
    assert stack.features <= {"ipv6", "vlan"}


def test_parameters_have_defaults_and_descriptions(stack: type[Stack]) -> None:
    for name, field in stack.Params.model_fields.items():
        assert not field.is_required(), f"{name}: a stack can be named without parameters"
        assert field.description, f"{name}: documented for 'harness stacks show' and the report"
    schema = stack.Params.model_json_schema()
    assert schema["additionalProperties"] is False
    params = stack.Params()
    assert stack.Params.model_validate(params.model_dump(mode="json")) == params, "parameters survive a run file"
    assert stack(params).params == params


def test_unknown_parameter_is_refused(stack: type[Stack]) -> None:
    with pytest.raises(ValidationError):
        stack.Params.model_validate({"no_such_parameter": 1})
    with pytest.raises(UsageError, match="no_such_parameter"):
        stacks.create(stack.name, {"no_such_parameter": 1})


def test_readme_covers_roles_and_parameters(folder: Path, stack: type[Stack]) -> None:
    readme = (folder / "README.md").read_text()
    assert readme.startswith(f"# {stack.name}\n")
    for word in [*(role.value for role in stack.roles), *stack.Params.model_fields]:
        assert word in readme, f"README.md says nothing of {word!r}"
    for info in stack.roles.values():
        assert info.discard_counter in readme


def test_native_sources_build_with_make_and_are_licensed(folder: Path) -> None:
    if (folder / "src").is_dir():
        assert (folder / "src" / "Makefile").is_file()
    for path in folder.rglob("*"):
        expected = BPF if path.name.endswith(".bpf.c") else SOURCES.get(path.suffix)
        if expected and not path.name.endswith(".skel.h"):
            first = path.read_text().splitlines()[0]
            shared_with_bpf = path.suffix == ".h" and first == f"/* {BPF.removeprefix('// ')} */"
            assert first == expected or shared_with_bpf, path
    makefile = folder / "src" / "Makefile"
    if makefile.exists():
        assert makefile.read_text().startswith(SOURCES[".py"])


def test_has_tests_of_its_own(folder: Path) -> None:
    assert list((folder / "tests").glob("test_*.py"))


def test_core_names_no_stack() -> None:
    core = Path(stacks.__file__).parent.parent
    modules = [core / "plan.py", core / "stack.py", core / "runner.py", *(core / "stacks").glob("*.py"),
               *(core / "measure").glob("*.py"), *(core / "host").glob("*.py")]
    for module in (m for m in modules if m.exists()):
        text = module.read_text()
        for name in stacks.available():
            assert f'"{name}"' not in text, f"{module} names the stack {name}"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of stacks in place of the real one."""
    monkeypatch.setattr(stacks, "_FOLDERS", tmp_path)
    monkeypatch.setattr(stacks, "__path__", [str(tmp_path)])
    return tmp_path


def _write(shelf: Path, folder: str, text: str) -> None:
    (shelf / folder).mkdir()
    (shelf / folder / "stack.py").write_text(text)


STACK = """
from harness.plan import Role
from harness.stack import RoleInfo, Stack
class Mine(Stack):
    name = {name!r}
    summary = "a stack"
    roles = {{Role.ECHO: RoleInfo("echo")}}
    def requirements(self, dut, point): return []
    def deploy(self, context): raise NotImplementedError
"""


def test_a_new_folder_is_all_it_takes(shelf: Path) -> None:
    _write(shelf, "added_by_test", STACK.format(name="added-by-test"))
    assert list(stacks.available()) == ["added-by-test"]
    assert stacks.create("added-by-test", {}).name == "added-by-test"


def test_folder_without_stack_is_an_error(shelf: Path) -> None:
    (shelf / "hollow").mkdir()
    with pytest.raises(UsageError, match=r"hollow has no stack\.py"):
        stacks.available()


def test_name_unlike_its_folder_is_an_error(shelf: Path) -> None:
    _write(shelf, "misnamed_by_test", STACK.format(name="other"))
    with pytest.raises(UsageError, match="must be 'misnamed-by-test'"):
        stacks.available()


def test_two_stacks_in_one_folder_are_an_error(shelf: Path) -> None:
    _write(shelf, "twofold_by_test", STACK.format(name="twofold-by-test") + STACK.format(name="b").replace("Mine", "B"))
    with pytest.raises(UsageError, match="defines 2 stacks"):
        stacks.available()


def test_unknown_name_lists_the_names_and_hints_at_a_close_one(shelf: Path) -> None:
    _write(shelf, "near_by_test", STACK.format(name="near-by-test"))
    _write(shelf, "far_off", STACK.format(name="far-off"))
    with pytest.raises(UsageError, match=r"Did you mean 'near-by-test'\?.*The stacks are: far-off, near-by-test\."):
        stacks.get("near_by_tset")
    with pytest.raises(UsageError, match=r"no stack 'zebra'\. The stacks are: "):
        stacks.get("zebra")
