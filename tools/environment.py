"""The course's environment: the folder .venv with everything that requirements.txt pins.

    python -m tools.environment                       create it, or bring it up to date
    python -m tools.environment -m pytest tests       the same, then run its Python with the rest

Only the standard library is used, so that any Python from 3.11 to 3.13 can start here. Nothing
is installed when requirements.txt is the one that was installed last: its sha256 is kept
inside the environment.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
STAMP = "requirements.sha256"
SUPPORTED = ((3, 11), (3, 13))


class EnvironmentProblem(RuntimeError):
    """The environment cannot be made; the message says what to do."""


def interpreter(folder: pathlib.Path) -> pathlib.Path:
    """Return the path of an environment's Python, on Windows as elsewhere."""
    windows = folder / "Scripts" / "python.exe"
    return windows if os.name == "nt" else folder / "bin" / "python"


def _works(python: pathlib.Path) -> bool:
    """Return whether the interpreter starts: the one that it links to may have been removed."""
    try:
        version = "import sys; print(*sys.version_info[:2])"
        answer = subprocess.run([str(python), "-c", version], capture_output=True, text=True)
    except OSError:
        return False
    return answer.returncode == 0 and _supported(tuple(map(int, answer.stdout.split())))


def _supported(version) -> bool:
    return SUPPORTED[0] <= tuple(version[:2]) <= SUPPORTED[1]


def _create(folder: pathlib.Path) -> None:
    if not _supported(sys.version_info):
        raise EnvironmentProblem(
            f"This is Python {sys.version_info[0]}.{sys.version_info[1]}, and the course needs "
            "Python 3.11, 3.12 or 3.13: start the command with one of these "
            "(for example: make PYTHON=python3.12 run)."
        )
    print(f"Creating the environment {folder} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise EnvironmentProblem(
            f"The environment {folder} could not be created ({error}): check that the folder "
            "can be written, and on Debian or Ubuntu install the package python3-venv."
        ) from None


def ensure(root: pathlib.Path = ROOT) -> pathlib.Path:
    """Create or update ``root/.venv`` where needed, and return the path of its Python.

    Args:
        root: the folder with requirements.txt.

    Raises:
        EnvironmentProblem: this Python is too old or too new, the folder cannot be written, or
            pip did not succeed.
    """
    requirements, folder = root / "requirements.txt", root / ".venv"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    stamp, python = folder / STAMP, interpreter(folder)
    if not _works(python):
        _create(folder)
    elif stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == wanted:
        return python
    print(f"Installing {requirements.name} (the first time: about 2 GB, minutes) ...", flush=True)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    pip += [] if sys.stdout.isatty() else ["--quiet"]
    code = subprocess.run([*pip, "-r", str(requirements)]).returncode
    if code:
        raise EnvironmentProblem(
            f"pip could not install {requirements.name} (exit code {code}): its message is "
            "above; check the network and the free disk space, then run the command again."
        )
    stamp.write_text(wanted + "\n", encoding="utf-8")
    return python


def run(arguments: list, root: pathlib.Path = ROOT) -> int:
    """Run the environment's Python with ``arguments`` in ``root`` and return its exit code.

    Where the system can, this process becomes the new one, so that Ctrl-C and signals reach it
    directly; the function then does not return.
    """
    command = [str(ensure(root)), *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.chdir(root)
        os.execv(command[0], command)
    return subprocess.call(command, cwd=root)


def main(arguments: list) -> int:
    """Command line: without arguments make the environment, else also run its Python."""
    try:
        if arguments:
            return run(arguments)
        print(f"The environment is ready: {ensure()}")
        return 0
    except EnvironmentProblem as problem:
        print(problem, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
