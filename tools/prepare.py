"""Make `.venv` as an ordinary user on a machine that has python3 and nothing else.

Called by tools/demo and tools/test with the name of a lock file ("run" or "test"). Debian's python3 comes without
ensurepip and pip: the environment is made without them and filled by the pip wheel beside this file. Exit code 2 and
one line where something is missing that only the system's packages can give.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PIP = ROOT / "tools" / "vendor" / "pip-26.1-py3-none-any.whl"
PIP_SHA256 = "4e8486d821d814b77319acb7b9e8bf5a4ee7590a643e7cb21029f209be8573c1"
# program -> Debian package; tests speak to real servers and clients that others wrote
TEST_PROGRAMS = {
    "mosquitto": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "systemd-analyze": "systemd",
    "node": "nodejs",
    "npm": "npm",
}
STRANGERS = ROOT / "tests" / "strangers"


def main(kind: str, *, programs: bool = True) -> None:
    """The environment first: it is of use even where a system package is missing (`programs`: look for those too)."""
    if sys.version_info < (3, 11):
        stop(f"Brim needs Python 3.11 or later; this is {sys.version.split()[0]}")
    wanted = [f"{kind}.lock", "typings.lock"] if kind == "test" else [f"{kind}.lock"]
    if not stamped(wanted):
        make(kind)
        (VENV / ".prepared").write_text(stamp(wanted))
    if kind == "test" and programs:
        system_packages(TEST_PROGRAMS)
        node_packages(STRANGERS)


def stamp(files: list[str]) -> str:
    digest = hashlib.sha256(f"{sys.version}\n{ROOT}\n".encode())
    for path in [ROOT / "pyproject.toml", *(ROOT / "requirements" / name for name in files)]:
        digest.update(path.read_bytes())
    return f"{files[0]} {digest.hexdigest()}\n"


def stamped(files: list[str]) -> bool:
    """True if the environment was made from these files; one for tests serves the demo too."""
    if not (VENV / "bin" / "brim").exists() or not (VENV / ".prepared").exists():
        return False
    found = (VENV / ".prepared").read_text()
    return found in (stamp(files), stamp(["test.lock", "typings.lock"]))


def make(kind: str) -> None:
    if hashlib.sha256(PIP.read_bytes()).hexdigest() != PIP_SHA256:
        stop(f"{PIP.name} is not the file that Brim was released with: fetch the checkout again")
    say("preparing .venv (once)")
    try:
        import venv
    except ImportError:
        stop("python3 has no venv module: apt-get install python3-venv")
    try:
        venv.EnvBuilder(with_pip=False, clear=VENV.exists(), symlinks=True).create(VENV)
    except OSError as error:
        stop(
            f"cannot write {VENV}: {error.strerror}; is the checkout (or an old .venv in it) another account's?", code=1
        )
    pip("install", "--require-hashes", "-r", f"requirements/{kind}.lock")
    pip("install", "--no-deps", "--no-build-isolation", "-e", ".")
    if kind == "test":
        pip("install", "--require-hashes", "--target", ".venv/typings", "-r", "requirements/typings.lock")


def pip(*arguments: str) -> None:
    command = [str(VENV / "bin" / "python"), f"{PIP}/pip", "--disable-pip-version-check", "-q", *arguments]
    if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode:
        stop(f"could not install ({' '.join(arguments[:1])} {arguments[-1]}): is the package index reachable?", code=1)


def system_packages(programs: dict[str, str]) -> None:
    """Programs found on PATH or in the folders an ordinary user's PATH leaves out; as root, the missing are added."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    missing = sorted({package for program, package in programs.items() if not shutil.which(program, path=path)})
    if not missing:
        return
    line = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("apt-get"):
        stop(f"missing system packages: sudo {line}")
    say(f"adding system packages: {' '.join(missing)}")
    quiet = {"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], env=environment, **quiet)
    if subprocess.run(line.split(), env=environment, **quiet).returncode:
        stop(f"could not add system packages; try: {line}", code=1)


def node_packages(folder: Path) -> None:
    """What the lock file in `folder` names; nothing of it runs at the installation."""
    lock = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    made = folder / "node_modules" / ".prepared"
    if made.exists() and made.read_text() == lock:
        return
    say(f"preparing {folder.relative_to(ROOT)} (once)")
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(folder)]
    if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode:
        stop("could not install what tests/strangers/package-lock.json names: is the npm registry reachable?", code=1)
    made.write_text(lock)


def say(text: str) -> None:
    print(f"brim: {text}", file=sys.stderr, flush=True)


def stop(text: str, code: int = 2) -> None:
    say(text)
    raise SystemExit(code)


if __name__ == "__main__":
    main(sys.argv[1], programs="--without-programs" not in sys.argv)
