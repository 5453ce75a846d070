"""Chart: a decision tree as a picture."""

import textwrap

import matplotlib.pyplot as plt

from helpers import plots

COURSE = {  # numbers in brackets: chapters
    "What do you want?": {
        "new images": {
            "How many real ones?": {
                "hundreds": "DiffAugment; look for copies (5, 12)",
                "thousands": {
                    "What counts?": {
                        "speed": "GAN: R1 or R3GAN, averaged weights (4, 5, 12)",
                        "completeness": "diffusion, if there is time (12)",
                        "control": "labels (8) or styles (12)",
                        "size": "grow progressively (6)",
                    }
                },
            }
        },
        "translate": {
            "Are there pairs?": {
                "yes": "learn from the pairs, with an adversary (9)",
                "no": "CycleGAN; check what it hides (9)",
            }
        },
        "classify": {
            "What is missing?": {
                "labels": "semi-supervised GAN (7)",
                "robustness": "adversarial training (10)",
            }
        },
        "codes": "autoencoder; VAE to sample from (2)",
    }
}
ROW, COLUMN = 0.42, 2.5  # inches: of a leaf, of a level


def leaves(tree) -> int:
    """Return how many ends a tree has: {question: {answer: tree or text}}, or a text."""
    if isinstance(tree, str):
        return 1
    (answers,) = tree.values()
    return sum(leaves(branch) for branch in answers.values())


def depth(tree) -> int:
    """Return how many questions the longest way through a tree has."""
    if isinstance(tree, str):
        return 0
    (answers,) = tree.values()
    return 1 + max(depth(branch) for branch in answers.values())


def _draw(ax, tree, x: float, top: float) -> float:
    """Draw a tree whose first row is ``top``; return the height of its root."""
    end = isinstance(tree, str)
    y = top + (leaves(tree) - 1) / 2
    if not end:
        ((question, answers),) = tree.items()
        for answer, branch in answers.items():
            below = _draw(ax, branch, x + 1, top)
            top += leaves(branch)
            stop = x + (0.72 if isinstance(branch, str) else 1)
            ax.plot(
                [x, x + 0.32, stop], [y, below, below], color=plots.QUIET, linewidth=1, zorder=1
            )
            ax.text(x + 0.33, below - 0.08, answer, fontsize=8, style="italic", va="bottom")
    ax.text(
        x if not end else x - 0.28,
        y,
        textwrap.fill(tree if end else question, 40 if end else 18),
        fontsize=8,
        va="center",
        ha="left" if end else "center",
        bbox={"boxstyle": "round", "facecolor": "white",
              "edgecolor": plots.GENERATED if end else plots.REAL},
    )  # fmt: skip
    return y


def decisions(tree) -> None:
    """Show a tree of decisions, from left to right.

    Args:
        tree: {question: {answer: the same again, or a text with the advice}}, one question at
            the root.

    Raises:
        ValueError: a question has no answers, or there is more than one at the root of a branch.
    """
    _check(tree)
    rows, levels = leaves(tree), depth(tree)
    _, ax = plt.subplots(figsize=(COLUMN * (levels + 0.8), ROW * rows + 0.3))
    _draw(ax, tree, 0, 0)
    ax.set(xlim=(-0.45, levels + 0.6), ylim=(rows - 0.4, -0.7))
    ax.set_axis_off()
    plt.show()


def _check(tree) -> None:
    if isinstance(tree, str):
        return
    if not isinstance(tree, dict) or len(tree) != 1 or not next(iter(tree.values())):
        raise ValueError(f"{tree!r} is no decision: give {{question: {{answer: what follows}}}}.")
    for branch in next(iter(tree.values())).values():
        _check(branch)
