"""Augmentation: what arms need that are compared on the same patients: draws, batches, scores."""

import numpy as np
import tensorflow as tf
from sklearn import metrics
from sklearn.neighbors import NearestNeighbors

from helpers import files


def _of_class(cohort, label: int) -> np.ndarray:
    """Return the positions of a class's pictures; a patient counts in one class only."""
    _, patient = np.unique(cohort.patients, return_inverse=True)
    pairs = np.unique(np.stack([patient, cohort.labels], axis=1), axis=0)
    _, first, classes = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    counts_as = pairs[first + np.arange(len(first)) % classes, 1]  # taken in turns where several
    return np.flatnonzero((cohort.labels == label) & (counts_as[patient] == label))


def count_patients(cohort) -> list[int]:
    """Return how many patients there are of each class of a cohort (see ``choose``)."""
    positions = [_of_class(cohort, label) for label in range(len(cohort.names))]
    return [len(np.unique(cohort.patients[mine])) for mine in positions]


def choose(cohort, per_class: int, seed: int) -> np.ndarray:
    """Choose equally many patients of each class; a smaller choice is part of a larger one.

    Of a patient with several pictures one is taken; one who has pictures of several classes counts
    in one of them.

    Args:
        cohort: has ``names``, ``labels`` and ``patients``.
        per_class: how many of each class.
        seed: an integer from 0.

    Returns:
        Positions in the cohort, shape (classes * per_class,), class by class.

    Raises:
        ValueError: a class has fewer patients.
    """
    rng, chosen = np.random.default_rng(seed), []
    for label, name in enumerate(cohort.names):
        mine = rng.permutation(_of_class(cohort, label))
        _, first = np.unique(cohort.patients[mine], return_index=True)
        if not 1 <= per_class <= len(first):
            raise ValueError(f"per_class is {per_class}: {name} has {len(first)} patients.")
        chosen.append(mine[np.sort(first)[:per_class]])
    return np.concatenate(chosen)


def sample(cohort, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of those that ``choose`` takes from a cohort."""
    chosen = choose(cohort, per_class, seed)
    return cohort.images[chosen], cohort.labels[chosen]


def halves(cohort, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of those that ``sample`` takes, and of as many other patients."""
    chosen = choose(cohort, 2 * per_class, seed).reshape(-1, 2, per_class)
    return cohort.images[chosen[:, 0].ravel()], cohort.images[chosen[:, 1].ravel()]


def affordable(pools, sizes, more: int) -> tuple[tuple[int, ...], int]:
    """Return those sizes (a class) that leave half of every pool, and how many more there are.

    Args:
        pools: cohorts to train with.
        sizes: training patients a class.
        more: how many further ones an oracle would like.

    Raises:
        helpers.files.DataError: the rarest class is too small for the smallest size.
    """
    counts = [count_patients(pool) for pool in pools]
    most = min(map(min, counts))
    kept = tuple(size for size in sizes if size <= most // 2)
    if not kept:
        name = pools[0].names[int(np.argmin(counts[0]))]
        raise files.DataError(
            f"The rarest class, {name}, has {most} patients to train with, and this chapter needs "
            f"{2 * min(sizes)}: give more, or leave the class out."
        )
    return kept, min(more, most - max(kept))


def mixed_batches(parts, batch_size: int, steps: int, seed: int) -> tf.data.Dataset:
    """Return batches of which every part gives an equal share, drawn with replacement.

    Args:
        parts: pairs of images (n, ...) and labels (n,), n >= 1; all of one shape and dtype.
        batch_size: a multiple of the number of parts.
        steps: how many batches.
        seed: an integer from 0.

    Raises:
        ValueError: the batch size is no such multiple.
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


def scores(labels, probabilities, positive: int | None = None) -> dict[str, float]:
    """Return sensitivity, specificity, accuracy and AUROC, each in [0, 1].

    Sensitivity, specificity and AUROC are those of the positive class against all others; without
    one they are means over the classes, each against all others, as in Frid-Adar et al. 2018.

    Args:
        labels: whole numbers from 0 to classes - 1, shape (n,); every class appears.
        probabilities: shape (n, classes).
        positive: the number of the class that is to be found; needed where there are two.

    Raises:
        ValueError: there are two classes, and ``positive`` is None.
    """
    labels, named = np.asarray(labels), probabilities.argmax(axis=1)
    classes = range(probabilities.shape[1])
    if positive is None and len(classes) == 2:
        raise ValueError("There are two classes: say with positive, 0 or 1, which is to be found.")
    rows = []
    for c in classes if positive is None else [positive]:
        ill, called = labels == c, named == c
        auroc = metrics.roc_auc_score(ill, probabilities[:, c])
        rows.append((called[ill].mean(), (~called[~ill]).mean(), auroc))
    sensitivity, specificity, auroc = np.mean(rows, axis=0).tolist()
    accuracy = float(np.mean(named == labels))
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": accuracy,
        "AUROC": auroc,
    }


def nearest_distance(images, library) -> np.ndarray:
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
