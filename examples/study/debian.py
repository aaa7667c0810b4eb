"""Files out of Debian packages, without installing them and without being root."""

import os
import subprocess
import sys
from pathlib import Path


def fetch(packages: list[str], folder: Path) -> Path:
    """Downloads `packages` by name and unpacks each into `<result>/<package>/`. Ends the program where that fails.

    The package lists are fetched into `folder` as well: what the machine has of them may be old, or nothing.
    """
    state, cache, files = folder / "state", folder / "cache", folder / "files"
    for made in (state / "lists/partial", cache / "archives/partial", files):
        made.mkdir(parents=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State={state}", "-o", f"Dir::Cache={cache}"]
    # Root would fetch as another user, who cannot write here.
    apt += ["-o", "APT::Sandbox::User=root", "-o", "Dir::State::status=/var/lib/dpkg/status"]
    run([*apt, "update"], folder)
    run([*apt, "download", *packages], files)
    for archive in files.glob("*.deb"):
        run(["dpkg-deb", "-x", str(archive), str(files / archive.name.split("_")[0])], files)
    return files


def run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(command, cwd=folder, stdout=sys.stderr, env=environment, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        sys.exit(
            f"make_data: '{command[0]} ... {command[-1]}' did not work. The images are made from Debian packages: this"
            " needs apt-get and dpkg-deb (Debian 12, also in a container) and a package mirror it can reach."
        )
