"""Browser libraries of the site, from pinned npm packages into build/docs/assets.

`npm pack` fetches a package's archive with npm's own configuration. The archive must have the
SHA-512 sum that is written here. A page then loads nothing from another host.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pin:
    """One npm package: version, sum of its archive, and the files that the site takes."""

    name: str
    version: str
    sha512: str
    files: str

    @property
    def archive(self) -> str:
        """Name of the archive that `npm pack` writes."""
        return f"{self.name}-{self.version}.tgz"


PINS = (
    Pin(
        "mermaid",
        "12.3.0",
        "4113TdXeLAsMruJ79OpFL5O8+LTFXhQqZ260rF3tgUmiNAtRm4Uume04I+65PRN6yZ69J4f8rVYWW8zRk65UYw==",
        r"package/(dist/mermaid\.min\.js|LICENSE)",
    ),
    Pin(
        "katex",
        "0.19.1",
        "jG8uKntjSEcm2EpQOh0XturpPuuC9r3Sq5HLHdsFdWZT27E672SF19QEi+of0/YeOy15lDgRhKvr5614uRrEfA==",
        r"package/(dist/katex\.min\.(js|css)|dist/fonts/[\w-]+\.woff2|LICENSE)",
    ),
)


class AssetError(RuntimeError):
    """An archive that has another sum."""


class MissingAssetError(AssetError):
    """An archive that npm cannot fetch."""


def fetch(pin: Pin, cache: Path) -> Path:
    """Return the archive of a package in the cache folder; `npm pack` writes it if it is absent.

    Raises:
        MissingAssetError: npm is missing or fails.
        AssetError: The archive has another sum.
    """
    archive = cache / pin.archive
    if not archive.is_file():
        if shutil.which("npm") is None:
            raise MissingAssetError(f"{pin.name}: npm not found on PATH. Install npm.")
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"{pin.name}@{pin.version}"]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=False)
        if done.returncode or not archive.is_file():
            raise MissingAssetError(f"{pin.name}: npm pack failed: {done.stderr.strip()}")
    verify(pin, archive)
    return archive


def verify(pin: Pin, archive: Path) -> None:
    """Compare the sum of an archive with its pin.

    Raises:
        AssetError: The sums differ. The archive is removed.
    """
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != pin.sha512:
        archive.unlink()
        raise AssetError(f"{pin.archive}: SHA-512 {found}. Accepted: {pin.sha512}.")


def unpack(pin: Pin, archive: Path, target: Path) -> list[Path]:
    """Write the files of a package that the site takes to target/NAME, and return their paths."""
    written = []
    with tarfile.open(archive) as tar:
        for member in tar:
            source = tar.extractfile(member) if member.isfile() else None
            if source is None or not re.fullmatch(pin.files, member.name):
                continue
            inner = member.name.removeprefix("package/").removeprefix("dist/")
            path = target / pin.name / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read())
            written.append(path)
    return written


def write_assets(target: Path, cache: Path) -> None:
    """Fetch, verify and unpack every pinned package."""
    for pin in PINS:
        unpack(pin, fetch(pin, cache), target)
