"""Studies: arms that are compared on the same patients, and what the differences are worth."""

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
import tensorflow as tf
from sklearn import metrics
from sklearn.neighbors import NearestNeighbors

from helpers import experiment, files


def check_apart(train, test) -> None:
    """Refuse patients that are on both sides, by number or by picture.

    Args:
        train, test: cohorts with ``images`` (n, ...), uint8, and ``patients`` (n,), or pairs of
            such arrays.

    Raises:
        helpers.files.DataError: a patient's number, or a whole picture, is in both.
    """
    sides = [(s.images, s.patients) if hasattr(s, "images") else s for s in (train, test)]
    both = set(np.asarray(sides[0][1]).tolist()) & set(np.asarray(sides[1][1]).tolist())
    if both:
        raise files.DataError(
            f"{len(both)} patients are in training and test (such as {sorted(both)[0]}): split by "
            "patient."
        )
    seen, unseen = ({np.ascontiguousarray(x).tobytes() for x in images} for images, _ in sides)
    if seen & unseen:
        raise files.DataError(
            f"{len(seen & unseen)} pictures are in training and test: remove the copies."
        )


def draw(labels, per_class: int, seed: int) -> np.ndarray:
    """Draw equally many examples of each class; a smaller draw is part of a larger one.

    Args:
        labels: whole numbers from 0, shape (n,).
        per_class: how many of each class.
        seed: an integer from 0.

    Returns:
        Positions, shape (classes * per_class,), class by class.

    Raises:
        ValueError: a class has fewer examples.
    """
    rng, chosen = np.random.default_rng(seed), []
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        if not 1 <= per_class <= len(mine):
            raise ValueError(f"per_class is {per_class}: class {label} has {len(mine)} examples.")
        chosen.append(mine[:per_class])
    return np.concatenate(chosen)


def sample(cohort, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of those that ``draw`` chooses from a cohort."""
    chosen = draw(cohort.labels, per_class, seed)
    return cohort.images[chosen], cohort.labels[chosen]


def halves(cohort, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of those that ``sample`` chooses, and of as many others."""
    chosen = draw(cohort.labels, 2 * per_class, seed).reshape(-1, 2, per_class)
    return cohort.images[chosen[:, 0].ravel()], cohort.images[chosen[:, 1].ravel()]


def affordable(pools, sizes, more: int) -> tuple[tuple[int, ...], int]:
    """Return those sizes (a class) that leave half of every pool, and how many more there are.

    Args:
        pools: cohorts with ``labels``.
        sizes: training patients a class.
        more: how many further ones an oracle would like.

    Raises:
        helpers.files.DataError: the rarest class is too small for the smallest size.
    """
    most = int(min(np.bincount(pool.labels).min() for pool in pools))
    kept = tuple(size for size in sizes if size <= most // 2)
    if not kept:
        raise files.DataError(
            f"The rarest class has {most} training pictures: give {2 * min(sizes)} or more."
        )
    return kept, min(more, most - max(kept))


def mixed_batches(parts, batch_size: int, steps: int, seed: int) -> tf.data.Dataset:
    """Return batches of which every part gives an equal share, drawn with replacement.

    Args:
        parts: pairs of images (n, ...) and labels (n,), n >= 1; all of one shape and dtype.
        batch_size: a multiple of the number of parts.
        steps: how many batches.
        seed: an integer from 0.
    """
    share, left = divmod(batch_size, len(parts))
    if left or not share:
        raise ValueError(f"batch_size is {batch_size}: give a multiple of {len(parts)}.")
    rng, first, chosen = np.random.default_rng(seed), 0, []
    for images, _ in parts:
        chosen.append(first + rng.integers(len(images), size=(steps, share)))
        first += len(images)
    images, labels = (tf.constant(np.concatenate(side)) for side in zip(*parts, strict=True))
    positions = tf.data.Dataset.from_tensor_slices(np.concatenate(chosen, axis=1))
    return positions.map(lambda at: (tf.gather(images, at), tf.gather(labels, at))).prefetch(2)


def _variables(model) -> list:
    found = {id(v): v for v in model.variables}
    for name in ("optimizer", "generator_optimizer", "discriminator_optimizer"):
        optimizer = getattr(model, name, None)
        found |= {id(v): v for v in (optimizer.variables if optimizer is not None else ())}
    return list(found.values())


def snapshot(model) -> list[np.ndarray]:
    """Return all that a compiled model remembers: weights, optimizers, random generators.

    The optimizers must be built (``optimizer.build(model.trainable_variables)``).
    """
    return [np.array(variable.numpy()) for variable in _variables(model)]


def restore(model, state) -> None:
    """Put a model back to a snapshot.

    Its training step is kept: many small trainings cost no more than their steps.

    Raises:
        ValueError: the snapshot is that of a model with other variables.
    """
    variables = _variables(model)
    if [tuple(v.shape) for v in variables] != [v.shape for v in state]:
        raise ValueError("The snapshot is of another model: take one of this model.")
    for variable, value in zip(variables, state, strict=True):
        variable.assign(value)


def scores(labels, probabilities) -> dict[str, float]:
    """Return sensitivity, specificity, accuracy and AUROC, each in [0, 1].

    With more than two classes, sensitivity, specificity and AUROC are means over the classes, each
    against all others, as in Frid-Adar et al. 2018. With two, class 1 is the one to find.

    Args:
        labels: whole numbers from 0 to classes - 1, shape (n,); every class appears.
        probabilities: shape (n, classes).
    """
    classes, named = probabilities.shape[1], probabilities.argmax(axis=1)
    table = metrics.confusion_matrix(labels, named, labels=np.arange(classes))
    hit, positive, predicted = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    false = predicted - hit
    asked = [1] if classes == 2 else range(classes)
    return {
        "sensitivity": float(np.mean([hit[c] / positive[c] for c in asked])),
        "specificity": float(np.mean([1 - false[c] / (len(labels) - positive[c]) for c in asked])),
        "accuracy": float(hit.sum() / len(labels)),
        "AUROC": float(
            np.mean([metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in asked])
        ),
    }


def paired(after, before, looks: int = 1, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean difference of pairs, and its t interval's ends.

    Args:
        after, before: shape (n,), n >= 2: the same seeds in both.
        looks: how many such comparisons are made; the interval is widened so that all of them
            together hold with the confidence (Bonferroni).
        confidence: in (0, 1).

    Returns:
        mean, lower end, upper end.

    Raises:
        ValueError: the shapes differ, or there are fewer than two pairs.
    """
    gain = np.asarray(after, float) - np.asarray(before, float)
    if np.shape(after) != np.shape(before) or gain.ndim != 1 or len(gain) < 2:
        raise ValueError("An interval needs two pairs or more: give two lists of one length.")
    quantile = scipy.stats.t.ppf(1 - (1 - confidence) / 2 / looks, len(gain) - 1)
    half = quantile * gain.std(ddof=1) / np.sqrt(len(gain))
    return float(gain.mean()), float(gain.mean() - half), float(gain.mean() + half)


def nearest(images, library) -> np.ndarray:
    """Return how far each image is from the most similar one of a library, turned or mirrored.

    The eight turns by 90 degrees, with and without a mirror, are tried.

    Args:
        images, library: shapes (n, s, s, 1) and (m, s, s, 1), values 0 to 255.

    Returns:
        Root mean squared difference of the pixels, shape (n,).
    """
    search = NearestNeighbors(n_neighbors=1).fit(np.reshape(library, (len(library), -1)) / 1.0)
    found = []
    for quarter in range(4):
        turned = np.rot90(images, quarter, (1, 2)) / 1.0
        for view in (turned, turned[:, ::-1]):
            found.append(search.kneighbors(view.reshape(len(images), -1))[0][:, 0])
    return np.min(found, axis=0) / np.sqrt(images[0].size)


def curves(accuracies: dict[str, list], sizes) -> None:
    """Draw the accuracy (in [0, 1]) of every arm over the number of real patients a class."""
    _, ax = plt.subplots(figsize=(6, 2.6))
    for arm, values in accuracies.items():
        ax.plot(sizes, 100 * np.asarray(values), "o-", label=arm)
    ax.set(xscale="log", xlabel="real patients of each class", ylabel="test accuracy, %")
    ax.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    ax.minorticks_off()
    ax.legend(frameon=False)
    plt.show()


def compare(draws, rival: str) -> dict[tuple, tuple[float, float, float]]:
    """Print what every arm reaches at every size, draw the accuracies, and print the gains.

    Args:
        draws: one dict for each draw of patients, {(size, arm): scores}.
        rival: the arm that the others are compared to.

    Returns:
        {(arm, size): mean gain in accuracy over the rival, lower and upper end of the interval},
        in percentage points; the intervals of all sizes together hold with 95 % confidence.
    """
    sizes, arms = (list(dict.fromkeys(key[i] for key in draws[0])) for i in (0, 1))
    gains = {}
    for size in sizes:
        print(f"\n{size} patients of each class")
        rows = {arm: [draw[size, arm] for draw in draws] for arm in arms}
        experiment.compare(
            {arm: {k: [r[k] for r in rows[arm]] for k in rows[arm][0]} for arm in arms}
        )
    accuracies = {
        arm: [[draw[size, arm]["accuracy"] for draw in draws] for size in sizes] for arm in arms
    }
    curves({arm: np.mean(values, axis=1) for arm, values in accuracies.items()}, sizes)
    for arm in [arm for arm in arms if arm != rival]:
        for number, size in enumerate(sizes):
            both = [100 * np.array(accuracies[name][number]) for name in (arm, rival)]
            gains[arm, size] = mean, low, high = paired(*both, looks=len(sizes))
            print(f"{arm} - {rival}, {size:3d}: {mean:+.1f} points ({low:+.1f} to {high:+.1f})")
    return gains
