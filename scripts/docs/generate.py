"""Write the generated parts of the site to build/docs: families, reference, tutorials, libraries.

Run by `make docs`, from the root of the repository: `python -m scripts.docs.generate`. The hooks
of mkdocs.yml add the folder to the pages of docs/.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from scripts.docs.assets import AssetError, write_assets
from scripts.docs.families import write_families
from scripts.docs.notebooks import write_tutorials
from scripts.docs.reference import write_reference

ROOT = Path(__file__).parents[2]
TARGET, CACHE = ROOT / "build" / "docs", ROOT / "build" / "npm"


def main() -> int:
    """Write everything anew; return the exit status."""
    shutil.rmtree(TARGET, ignore_errors=True)
    try:
        write_assets(TARGET / "assets", CACHE)
    except AssetError as error:
        print(f"docs: error: {error}", file=sys.stderr)
        return 1
    write_reference(TARGET)
    write_families(TARGET)
    write_tutorials(TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
