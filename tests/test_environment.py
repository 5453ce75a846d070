"""The environment: the same versions everywhere, made once, brought up to date when they change."""

import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tools import environment, jobs, run

ROOT = pathlib.Path(__file__).resolve().parent.parent
REQUIREMENTS = (ROOT / "requirements.txt").read_text(encoding="utf-8")
posix = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for Python")
# Stands in for an environment's Python: notes what it is asked to do, and installs nothing.
STAND_IN = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in *"pip install"*) exit {code};; esac
exec "{python}" "$@"
"""


def pins(text: str, prefix: str) -> dict[str, str]:
    """Return {package: version}, and fail where a line with this prefix pins nothing."""
    lines = [line.split("#")[0].strip() for line in text.splitlines() if line.startswith(prefix)]
    lines = [line.removeprefix(prefix.strip()).strip() for line in lines if line]
    matches = [re.fullmatch(r"([\w.-]+)==([\d.]+)", line) for line in lines]
    assert all(matches), lines
    return {match[1]: match[2] for match in matches}


def test_conda_and_pip_say_the_same_versions():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    conda = pins(text, "      - ")
    assert len(conda) >= 10
    assert conda == pins(REQUIREMENTS, "")
    version = re.search(r"python=(3\.\d+)$", text, flags=re.MULTILINE)[1]
    assert environment._supported(tuple(map(int, version.split("."))))


def test_what_is_installed_is_what_is_pinned():
    pinned = pins(REQUIREMENTS, "")
    assert {name: importlib.metadata.version(name) for name in pinned} == pinned


def test_tensorflow_hub_imports():
    """It needs pkg_resources, which setuptools has up to version 81."""
    assert int(pins(REQUIREMENTS, "")["setuptools"].split(".")[0]) < 82
    code = "import helpers, tensorflow_hub, pkg_resources; print(tensorflow_hub.__version__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == pins(REQUIREMENTS, "")["tensorflow-hub"]
    assert "Warning" not in done.stderr  # helpers quietens it for the reader


# tools.environment


@pytest.fixture
def root(tmp_path):
    (tmp_path / "requirements.txt").write_text("numpy==1.0\n", encoding="utf-8")
    return tmp_path


def stand_in(root, code: int = 0):
    """Put a Python into root/.venv that only notes down its arguments; return the note's path."""
    python, log = environment.interpreter(root / ".venv"), root / "log.txt"
    python.parent.mkdir(parents=True, exist_ok=True)
    text = STAND_IN.format(log=log, code=code, python=sys.executable)
    python.write_text(text, encoding="utf-8")
    python.chmod(0o755)
    return log


def installs(log) -> int:
    return log.read_text(encoding="utf-8").count("pip install")


@posix
def test_packages_are_installed_once_and_again_when_they_change(root):
    log = stand_in(root)
    python = environment.ensure(root)
    assert python == root / ".venv" / "bin" / "python"
    assert f"-r {root / 'requirements.txt'}" in log.read_text(encoding="utf-8")
    environment.ensure(root)
    assert installs(log) == 1
    (root / "requirements.txt").write_text("numpy==2.0\n", encoding="utf-8")
    environment.ensure(root)
    environment.ensure(root)
    assert installs(log) == 2
    stamp = (root / ".venv" / environment.STAMP).read_text(encoding="utf-8").strip()
    assert stamp == hashlib.sha256(b"numpy==2.0\n").hexdigest()


@posix
def test_a_failed_installation_is_tried_again(root):
    log = stand_in(root, code=1)
    for count in (1, 2):
        with pytest.raises(environment.EnvironmentProblem, match=r"requirements.txt \(exit code 1"):
            environment.ensure(root)
        assert installs(log) == count
    stand_in(root)
    environment.ensure(root)
    assert (root / ".venv" / environment.STAMP).is_file()


def test_an_environment_is_created_with_pip_and_nothing_else(root):
    """A real one; its requirements are empty so that no network is needed."""
    (root / "requirements.txt").write_text("# nothing\n", encoding="utf-8")
    broken = environment.interpreter(root / ".venv")  # as after the Python it links to was removed
    broken.parent.mkdir(parents=True)
    broken.write_text("", encoding="utf-8")
    python = environment.ensure(root)
    code = "import sys, pip; print(sys.prefix)"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    assert pathlib.Path(done.stdout.strip()).resolve() == (root / ".venv").resolve()
    absent = subprocess.run([str(python), "-c", "import numpy"], capture_output=True)
    assert absent.returncode == 1


@pytest.mark.parametrize("version", [(3, 10, 4), (3, 14, 0)])
def test_an_unsupported_python_is_refused(root, version, monkeypatch):
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(environment.EnvironmentProblem) as problem:
        environment.ensure(root)
    assert str(problem.value).startswith(f"This is Python 3.{version[1]}, and the course needs")
    assert not (root / ".venv").exists()


def bare_tools(root):
    """Copy the tools to root, with a stand-in environment; return how to call them from there."""
    for name in ("tools", "helpers"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    log = stand_in(root)
    # -S and -I hide every installed package, as on a machine that has only Python
    code = "import runpy, sys; sys.path.insert(0, '.'); del sys.argv[0]; "
    code += "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    return [sys.executable, "-I", "-S", "-c", code], log


@posix
def test_a_run_without_the_packages_goes_through_the_environment(root):
    command, log = bare_tools(root)
    done = subprocess.run(
        [*command, "tools.run", "--root", "nowhere", "--profile", "smoke"],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    lines = log.read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "-m tools.run --root nowhere --profile smoke", done.stderr
    assert installs(log) == 1
    assert done.returncode == 2 and "nowhere is not the course's repository" in done.stderr


@posix
@pytest.mark.parametrize("code", [0, 3])
def test_the_command_line_returns_the_exit_code_of_what_it_runs(root, code):
    command, _ = bare_tools(root)
    done = subprocess.run(
        [*command, "tools.environment", "-c", f"print('ran'); raise SystemExit({code})"],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code and done.stdout.endswith("ran\n"), done.stderr
    stand_in(root, code=1)
    (root / "requirements.txt").write_text("numpy==3.0\n", encoding="utf-8")
    failed = subprocess.run(
        [*command, "tools.environment"], cwd=root, capture_output=True, text=True
    )
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1 and "pip could not install" in failed.stderr


# make and .ci/run

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


# `make test` hands its own flags and variables down to every make below it, where they would
# announce folders and change goals. The makes that are tested here start as from a fresh shell.
INHERITED = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "GNUMAKEFLAGS", "PROFILE"}


def outside_make(command, **options):
    environ = {name: value for name, value in os.environ.items() if name not in INHERITED}
    return subprocess.run(command, env=environ, capture_output=True, text=True, **options)


def make(*arguments) -> str:
    return outside_make(["make", *arguments, "PYTHON=python3"], cwd=ROOT, check=True).stdout


@needs_make
def test_make_lists_its_commands():
    text = make("help")
    assert text == make()  # the command without a goal
    goals = re.findall(r"^make ([\w-]+)", text, flags=re.MULTILINE)
    wanted = {"run", "outputs", "evidence", "book", "test", "test-fast", "lab", "colab"}
    assert wanted <= set(goals)


@pytest.fixture
def given(tmp_path):
    """Run make with a Python that only notes its arguments: gives one list for each call."""
    script, notes = tmp_path / "python", tmp_path / "notes"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" "" >> {notes}\n', encoding="utf-8")
    script.chmod(0o755)

    def given(*arguments) -> list[list[str]]:
        notes.unlink(missing_ok=True)
        outside_make(["make", *arguments, f"PYTHON={script}"], cwd=ROOT, check=True)
        calls = notes.read_text("utf-8").split("\n\n") if notes.exists() else []
        return [call.split("\n") for call in calls if call]

    return given


@posix
@needs_make
def test_make_gives_the_runner_each_value_as_one_argument(given):
    values = ["PROFILE=smoke", "CHAPTERS=03 04", "SEED=1", "OUT=my runs", "FOLDER=it's mine"]
    (command,) = given("run", *values, "SWEEP=folder=my pictures seed=0,1", "ARGS=--fresh")
    assert command[:4] == ["-m", "tools.environment", "-m", "tools.run"]
    args = run.parse(command[4:])
    assert (args.profile, args.chapters, args.seed, args.fresh) == (
        "smoke",
        ["03", "04"],
        "1",
        True,
    )
    assert (str(args.out), str(args.folder)) == ("my runs", "it's mine")
    assert jobs.parse_sweeps(args.sweep) == {"folder": ["my pictures"], "seed": [0, 1]}


@posix
@needs_make
def test_make_starts_modules_that_exist(given):
    goals = re.findall(r"^make ([\w-]+) ", make("help"), flags=re.MULTILINE)
    called = {goal: given(goal) for goal in goals}
    for goal, calls in called.items():
        for command in calls:
            assert command[:2] == ["-m", "tools.environment"], goal
            module = command[3] if len(command) > 2 else "tools.environment"
            assert importlib.util.find_spec(module), (goal, module)
    assert len(called["outputs"]) == 2  # the chapters and the solutions
    assert all(run.parse(command[4:]).write_back for command in called["outputs"])
    assert len(given("outputs", "FOLDER=notebooks/solutions")) == 1


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Put a program into the way of a command; each notes its arguments in tmp_path/called."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def program(name: str, then: str = "") -> None:
        text = f'#!/bin/sh\necho "{name} $@" >> "{tmp_path / "called"}"\n{then}\n'
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)

    return program


@posix
@needs_make
@pytest.mark.parametrize("code", [0, 1, 5])
def test_the_ci_script_ends_with_the_closing_line_and_its_exit_code(tmp_path, programs, code):
    programs("chromium")  # nothing is installed by a test
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "environment.py").write_text(
        "import sys\nassert sys.argv[1:4] == ['-m', 'pytest', 'tests']\n"
        f"print('a warning', file=sys.stderr)\nprint('=== 3 passed ===')\nsys.exit({code})\n",
        encoding="utf-8",
    )
    script = [str(tmp_path / ".ci" / "run")]
    done = outside_make(script, cwd="/")
    assert done.returncode == code
    assert done.stdout.splitlines()[-1] == "=== 3 passed ==="
    assert "a warning" in done.stdout


@posix
@needs_make
def test_the_ci_script_fails_where_make_does(tmp_path, programs):
    programs("chromium")
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "Makefile").write_text("other:\n", encoding="utf-8")
    done = outside_make([str(tmp_path / ".ci" / "run")])
    assert done.returncode == 2 and "test" in done.stdout


@posix
def test_the_ci_script_installs_chromium_where_there_is_none(tmp_path, programs, monkeypatch):
    """With a PATH on which there is a shell, apt-get and make, and no browser."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    for name in ("bash", "dirname", "awk"):
        (tmp_path / "programs" / name).symlink_to(shutil.which(name))
    for name in ("apt-get", "make"):
        programs(name)
    programs("id", "echo 0")
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    script = ["bash", str(tmp_path / ".ci" / "run")]
    assert subprocess.run(script, capture_output=True, text=True).returncode == 0
    called = (tmp_path / "called").read_text(encoding="utf-8").splitlines()
    assert [line.split()[:2] for line in called if not line.startswith("id")] == [
        ["apt-get", "update"], ["apt-get", "install"], ["make", "test"],
    ]  # fmt: skip
    (tmp_path / "called").unlink()
    programs("chromium")
    assert subprocess.run(script, capture_output=True, text=True).returncode == 0
    assert (tmp_path / "called").read_text(encoding="utf-8") == "make test\n"
