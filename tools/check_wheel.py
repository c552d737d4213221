"""Check that what users install is what is in git: sdist, wheel from it, a fresh environment, another folder.

Exit status 0: everything holds; 1: stderr says what does not (decision 0001 says what went wrong before).
"""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "telemetry"
LINKS = ("analysis", "collector", "storage")
GIT_LINK_MODE = "120000"


class CheckError(Exception):
    """A sentence: what does not hold, and what to look at."""


def git(*arguments: str) -> str:
    """Return what a git command prints about this checkout."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def check_links() -> None:
    """Raise CheckError unless git holds the links at the root as links to the packages."""
    for name in LINKS:
        entry = git("ls-files", "--stage", name).split()
        if entry[:1] != [GIT_LINK_MODE]:
            raise CheckError(f"git does not hold {name} as a symbolic link (it says: {entry or 'not tracked'}).")
        target = git("cat-file", "blob", entry[1])
        if target != f"{PACKAGE}/{name}":
            raise CheckError(f"The link {name} leads to {target} in git, not to {PACKAGE}/{name}.")


def build_wheel(folder: Path) -> Path:
    """Build the sdist and, from it, the wheel; return the wheel.

    hatchling comes from the locked environment, so this needs no network.
    """
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)], cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_content(wheel: Path) -> None:
    """Raise CheckError unless the wheel holds exactly git's files of the package, and its own metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    strays = {top for top in (PurePosixPath(name).parts[0] for name in names) if top != PACKAGE}
    strays = {top for top in strays if not re.fullmatch(rf"{PACKAGE}-[^/]*\.dist-info", top)}
    if strays:
        raise CheckError(f"The wheel would install other top-level names: {', '.join(sorted(strays))}.")
    tracked = set(git("ls-files", PACKAGE).split("\n")) - {""}
    packed = {name for name in names if name.startswith(f"{PACKAGE}/")}
    if tracked != packed:
        raise CheckError(
            "The wheel and git differ. Only in git: "
            f"{', '.join(sorted(tracked - packed)) or 'nothing'}. Only in the wheel: "
            f"{', '.join(sorted(packed - tracked)) or 'nothing'}."
        )


def check_installed(wheel: Path, folder: Path) -> None:
    """Install the wheel into an empty environment and use it far from the checkout.

    Raises CheckError when a command fails. Versions are those of the lock; a dependency that only the lock's
    tools bring is missing there, as it would be at a user's.
    """
    run([sys.executable, "-m", "venv", str(folder / "venv")], cwd=folder)
    programs = folder / "venv" / "bin"
    lock = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{line}\n" for line in re.findall(r"^([^\s#].*?) \\$", lock, re.MULTILINE)))
    pip = [str(programs / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    run([*pip, "--constraint", str(constraints), str(wheel)], cwd=folder)
    away = folder / "away"
    away.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TELEMETRY_", "XDG_"))}
    environment |= {
        "HOME": str(away),
        "TELEMETRY_STORE": str(away / "telemetry.db"),
        "TELEMETRY_RUNTIME_DIR": str(away / "run"),
    }
    for command in (["--help"], ["demo"]):
        run([str(programs / PACKAGE), *command], cwd=away, env=environment)


def run(command: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Run a command quietly. Raises CheckError with its output when it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CheckError(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout}")


def main() -> int:
    """Run the checks in order; return the exit status."""
    try:
        check_links()
        print("links: in git as links")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            wheel = build_wheel(folder)
            check_content(wheel)
            print(f"{wheel.name}: built from the sdist, holds what git holds")
            check_installed(wheel, folder)
            print(f"{wheel.name}: installed alone, its commands run outside the checkout")
    except CheckError as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
