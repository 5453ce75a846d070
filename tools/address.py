"""Where this repository lies: the address stands in CITATION.cff alone."""

import pathlib
import re

_CITATION = pathlib.Path(__file__).resolve().parent.parent / "CITATION.cff"
_PATTERN = r"^repository-code: https://github\.com/(\S+)$"

REPOSITORY = re.search(_PATTERN, _CITATION.read_text(encoding="utf-8"), re.MULTILINE)[1]
BRANCH = "main"
GITHUB = f"https://github.com/{REPOSITORY}/blob/{BRANCH}"
COLAB = f"https://colab.research.google.com/github/{REPOSITORY}/blob/{BRANCH}/colab"
