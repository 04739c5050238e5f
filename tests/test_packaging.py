"""What gets shipped: both distributions are built here, from this tree, and looked into."""

import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.lower_bounds import lower_bounds

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hsplit_flower"
SHIPPED_SUFFIXES = {
    *(".jinja", ".html", ".css"),
    *(".py", ".pyi", ".typed", ".proto", ".safetensors", ".json", ".md", ".toml"),
}


def build(source: Path, kind: str, into: Path) -> Path:
    # Without isolation nothing is downloaded: the build backend is one of the developer tools.
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", into, source],
        check=True,
        capture_output=True,
        timeout=100,
    )
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it is built from the unpacked sdist, far from the checkout."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def shipped_files() -> set[str]:
    """What belongs into the wheel: all that lies in the package and is source or data."""
    files = (file for file in PACKAGE.rglob("*") if file.is_file())
    return {
        str(file.relative_to(ROOT))
        for file in files
        if file.suffix in SHIPPED_SUFFIXES or file.name == "py.typed"
    }


def test_the_wheel_holds_the_package_once_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    assert {name for name in names if ".dist-info/" not in name} == shipped_files()


def test_the_wheel_holds_types_model_and_protocol(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        size = archive.getinfo("hsplit_flower/bases/llama-tiny/model.safetensors").file_size
    assert size > 2**20
    assert "hsplit_flower/py.typed" in names
    for pattern in (
        r"hsplit_flower/bases/.*SOURCES\.md",
        r"hsplit_flower/bases/llama-tiny/config\.json",
        r"hsplit_flower/bases/llama-tiny/tokenizer\.json",
        r"hsplit_flower/wire/proto/\w+\.proto",
        r"hsplit_flower/wire/proto/\w+_pb2\.py",
        r"hsplit_flower/wire/proto/\w+_pb2_grpc\.py",
        r"hsplit_flower/strategies/\w+\.py",
        r".*\.dist-info/licenses/LICENSE",
    ):
        assert any(re.fullmatch(pattern, name) for name in names), f"no {pattern} in the wheel"


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    where = "import hsplit_flower, hsplit_flower.cli; print(hsplit_flower.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, 'site'); {where}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "site" / "hsplit_flower" / "__init__.py")


def test_the_metadata_says_what_was_promised(metadata: Message) -> None:
    assert metadata["Name"] == "hsplit-flower"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_sdist_holds_what_a_developer_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "README.md"}
    assert wanted <= names
    assert "tests/test_packaging.py" in names
    assert "benchmarks/harness/figures.py" in names
    tops = {name.partition("/")[0] for name in names}
    assert not tops & {"strategies", "outputs", "results", ".venv", ".flwr", ".git"}


def test_the_strategies_are_visible_at_the_top() -> None:
    link = ROOT / "strategies"
    assert link.is_symlink()
    assert link.readlink() == Path("hsplit_flower/strategies")
    assert link.resolve().is_dir()


def test_every_dependency_has_a_lower_bound_and_a_tested_version(metadata: Message) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in pins}
    for text in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        extras = ({"extra": extra} for extra in ("dev", "docs", "nlg"))
        if requirement.marker and not any(map(requirement.marker.evaluate, extras)):
            continue
        name = canonicalize_name(requirement.name)
        assert [bound.operator for bound in requirement.specifier] == [">="], text
        assert requirement.specifier.contains(pinned[name]), f"{text}, tested with {pinned[name]}"


def test_the_stubs_run_with_the_oldest_grpc_and_protobuf() -> None:
    oldest = dict(pin.partition(";")[0].split("==") for pin in lower_bounds())
    grpc_stubs = "".join(file.read_text() for file in PACKAGE.rglob("*_pb2_grpc.py"))
    messages = "".join(file.read_text() for file in PACKAGE.rglob("*_pb2.py"))
    generated = re.findall(r"GRPC_GENERATED_VERSION = '([\d.]+)'", grpc_stubs)
    runtime = re.findall(r"# Protobuf Python Version: ([\d.]+)", messages)
    assert generated
    assert runtime
    for version in generated:
        assert Requirement(f"grpcio>={version}").specifier.contains(oldest["grpcio"])
    for version in runtime:
        assert Requirement(f"protobuf>={version}").specifier.contains(oldest["protobuf"])
