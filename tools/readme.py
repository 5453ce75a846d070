"""Bring README.md's table of chapters up to date with the results in the notebooks.

python -m tools.readme            rewrite the table
python -m tools.readme --check    only say whether it is up to date
"""

import base64
import pathlib
import re
import sys

import nbformat

from tools import colab
from tools.report import duration, label

ROOT = pathlib.Path(__file__).resolve().parent.parent
MARKS = ("<!-- chapters: made by tools/readme.py -->", "<!-- end of chapters -->")
SHOWN = {  # the results that a reader of the README wants to see
    "01_introduction": ("js_divergence_error", "equilibrium_js", "ring_modes"),
    "02_autoencoder": ("ae32_vs_pca32_error_reduction", "vae2_elbo", "vae2_iwae"),
    "03_vanilla_gan": ("fid", "recall", "modes"),
    "04_dcgan": ("fid", "recall", "fid_ratio_to_dense_gan"),
    "05_training_and_evaluation": ("grid25_modes", "grid25_high_quality", "fid_infinity_real"),
    "06_progressive_gan": ("fid_direct", "fid_progressive", "hub_module_fid"),
    "07_semi_supervised_gan": (
        "accuracy_100_labels", "accuracy_100_labels_supervised", "ood_auroc"),
    "08_conditional_gan": ("class_accuracy", "intra_class_recall", "tstr_accuracy"),
    "09_cyclegan": (
        "target_domain_share", "psnr_gain_over_identity_db", "target_domain_share_boots"),
    "10_adversarial_examples": (
        "targeted_success_8bit", "clean_accuracy_robust_model", "robust_accuracy_pgd40x3"),
    "11_applications": (
        "gan_minus_classic_gain", "oracle_minus_classic_gain", "true_preference_gain"),
    "12_what_comes_next": ("dcgan_fid", "diffusion_fid", "detector_accuracy"),
}  # fmt: skip


def row(path: pathlib.Path) -> str:
    """Return one chapter's row: link, measured results, time, badge."""
    source = nbformat.read(path, as_version=4)
    title = re.search(r"^# \d+ (.+)$", source.cells[0].source, re.MULTILINE).group(1)
    course = source.metadata.get("course", {"results": {}, "seconds": None})
    found = course["results"]
    measured = "; ".join(
        f"{label(name, found[name])}: {found[name]['value']:.3g} {found[name]['unit']}".strip()
        for name in SHOWN.get(path.stem, list(found)[:3])
        if name in found
    )
    link = f"[{path.stem[:2]} {title}](notebooks/{path.name})"
    return f"| {link} | {measured} | {duration(course['seconds'])} | {colab.badge(path.stem)} |"


def table() -> str:
    """Return the table between the marks."""
    rows = [row(path) for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))]
    return "\n".join(["| chapter | measured | time, min:s | |", "|---|---|---|---|", *rows])


def picture() -> bytes:
    """Return the PNG that the cell tagged ``readme-picture`` shows; empty before it has run."""
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if "readme-picture" in cell.metadata.get("tags", []):
                found = [
                    o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})
                ]
                return base64.b64decode(found[0]) if found else b""
    return b""


def main(arguments: list[str]) -> int:
    """Command line."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    wanted = f"{before}{MARKS[0]}\n{table()}\n{MARKS[1]}{after}"
    image = ROOT / "docs" / "results.png"
    if "--check" in arguments:
        same = wanted == text and image.is_file() and image.read_bytes() == picture()
        print("README.md is up to date." if same else "Stale: run make colab")
        return int(not same)
    path.write_text(wanted, encoding="utf-8", newline="\n")
    image.parent.mkdir(exist_ok=True)
    image.write_bytes(picture())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
