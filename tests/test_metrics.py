"""Metrics against independent formulas, brute force and inputs with a known answer."""

import numpy as np
import pytest
import scipy.linalg
from sklearn.metrics.pairwise import polynomial_kernel

from helpers import data, files, metrics

made = np.random.default_rng(0)
a = made.normal(size=(300, 6)) @ made.normal(size=(6, 6))
b = made.normal(size=(260, 6)) + 0.5


def test_fid_is_the_formula_with_scipys_matrix_root():
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(c1 + c2 - 2 * root)
    assert metrics.fid(a, b) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_diagonal_normals_in_closed_form(rng):
    m1, m2, s1, s2 = rng.random((4, 5))
    expected = np.sum((m1 - m2) ** 2) + np.sum((s1 - s2) ** 2)
    value = metrics.frechet_distance(m1, np.diag(s1**2), m2, np.diag(s2**2))
    assert value == pytest.approx(expected)


def test_fid_of_a_set_and_itself_is_0_even_with_singular_covariances(rng):
    flat = np.repeat(a[:, :1], 4, axis=1)  # rank 1
    assert metrics.fid(flat, flat) == pytest.approx(0, abs=1e-8)
    assert metrics.fid(flat, flat + 1) == pytest.approx(4)
    few = rng.normal(size=(3, 50))  # fewer samples than dimensions
    assert np.isfinite(metrics.fid(few, few + 0.1))


def test_fid_of_numbers(rng):
    x, y = rng.normal(1, 2, (500, 1)), rng.normal(3, 1, (500, 1))
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert metrics.fid(x, y) == pytest.approx(expected)


def test_kid_is_the_unbiased_estimator_of_its_definition():
    x, y = a[:40], b[:40]
    kxx, kyy, kxy = (
        polynomial_kernel(u, v, degree=3, gamma=1 / 6, coef0=1) for u, v in ((x, x), (y, y), (x, y))
    )
    total = 0.0
    for i in range(40):
        for j in range(40):
            total += ((kxx[i, j] + kyy[i, j]) / (40 * 39) if i != j else 0) - 2 * kxy[i, j] / 1600
    assert metrics.squared_mmd(x, y) == pytest.approx(total)


def test_kid_is_the_mean_over_subsets_that_share_no_sample():
    x, y = a[:200], b[:160]
    order = np.random.default_rng(7)
    rows, columns = order.permutation(200)[:160], order.permutation(160)
    parts = [
        metrics.squared_mmd(x[rows[i : i + 16]], y[columns[i : i + 16]]) for i in range(0, 160, 16)
    ]
    expected = np.mean(parts), np.std(parts, ddof=1) / np.sqrt(10)
    assert metrics.kid(x, y, subsets=10, seed=7) == pytest.approx(expected)
    assert metrics.kid(x, y, seed=1) == metrics.kid(x, y, seed=1) != metrics.kid(x, y, seed=2)


@pytest.mark.parametrize("shift", [0, 0.5])
def test_kid_is_unbiased_and_its_standard_error_honest(shift, rng):
    found = []
    for seed in range(100):
        r = np.random.default_rng(seed)
        found.append(metrics.kid(r.normal(size=(400, 4)), r.normal(shift, 1, (400, 4))))
    values, errors = np.transpose(found)
    spread = values.std(ddof=1)
    assert errors.mean() == pytest.approx(spread, rel=0.3)
    large = metrics.squared_mmd(rng.normal(size=(4000, 4)), rng.normal(shift, 1, (4000, 4)))
    assert abs(values.mean() - (large if shift else 0)) < 4 * spread / 10 + 0.02 * shift
    assert shift or min(values) < 0 < max(values), "unbiased: both signs occur"


@pytest.mark.parametrize(
    "probabilities, score",
    [
        (np.full((20, 10), 0.1), 1),
        (np.eye(10)[np.arange(100) % 10], 10),
        (np.eye(10)[np.arange(100) % 4], 4),
        (np.eye(10)[np.zeros(50, int)], 1),
    ],
)
def test_inception_score_at_its_ends(probabilities, score):
    assert metrics.inception_score(probabilities) == pytest.approx(score)


def test_inception_score_is_the_mean_divergence_from_the_marginal(rng):
    p = rng.dirichlet(np.ones(5), 40)
    divergence = [np.sum(row * np.log(row / p.mean(axis=0))) for row in p]
    assert metrics.inception_score(p) == pytest.approx(np.exp(np.mean(divergence)))


def brute_force(real, fake, k):
    """All four by loops, from the papers' definitions."""

    def distance(x, y):
        return float(np.linalg.norm(x - y))

    def radii(points):
        return [sorted(distance(p, o) for o in points)[k] for p in points]

    rr, rf = radii(real), radii(fake)
    inside = [[distance(f, r) <= rad for r, rad in zip(real, rr, strict=True)] for f in fake]
    precision = np.mean([any(row) for row in inside])
    recall = np.mean(
        [any(distance(r, f) <= rad for f, rad in zip(fake, rf, strict=True)) for r in real]
    )
    density = np.mean([sum(row) for row in inside]) / k
    coverage = np.mean(np.any(inside, axis=0))
    return precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 3, 5])
def test_manifold_metrics_agree_with_brute_force(k, rng):
    real, fake = rng.normal(size=(60, 3)), rng.normal(0.5, 0.6, (45, 3))
    expected = brute_force(real, fake, k)
    found = metrics.precision_recall(real, fake, k) + metrics.density_coverage(real, fake, k)
    np.testing.assert_allclose(found, expected)


def test_manifold_metrics_of_equal_and_of_distant_sets():
    assert metrics.precision_recall(a, a) == (1, 1)
    assert metrics.density_coverage(a, a)[1] == 1
    assert metrics.precision_recall(a, a + 1000) == (0, 0)
    assert metrics.density_coverage(a, a + 1000) == (0, 0)


def test_a_generator_with_half_of_the_modes_has_half_of_the_recall(rng):
    centres = np.repeat([[0, 0], [50, 0], [0, 50], [50, 50]], 250, axis=0)
    real = centres + rng.normal(size=(1000, 2))
    fake = centres[:500] + rng.normal(size=(500, 2))
    precision, recall = metrics.precision_recall(real, fake)
    assert precision > 0.95 and recall == pytest.approx(0.5, abs=0.03)
    assert metrics.density_coverage(real, fake)[1] == pytest.approx(0.5, abs=0.03)


def test_equal_points_count_as_inside_in_spite_of_rounding():
    assert metrics.density_coverage(a, a, k=5)[0] == pytest.approx(6 / 5)  # itself, 5 neighbours
    copies = np.repeat(a[:30], 10, axis=0)  # balls of radius 0 hold the point itself alone
    assert metrics.precision_recall(a, copies) == (1, pytest.approx(30 / 300))


def test_blocks_do_not_change_the_counts(rng):
    points, centres = rng.normal(size=(2300, 2)), rng.normal(size=(1100, 2))
    radii = rng.random(1100) * 0.3
    inside, full = metrics._balls(points, centres, radii)
    hit = np.linalg.norm(points[:, None] - centres, axis=-1) <= radii
    np.testing.assert_array_equal(inside, hit.sum(axis=1))
    np.testing.assert_array_equal(full, hit.any(axis=0))


def test_histogram_and_modes():
    p = np.eye(4)[[0, 0, 0, 1]]
    np.testing.assert_allclose(metrics.class_histogram(p), [0.75, 0.25, 0, 0])
    assert metrics.modes(p) == 2 and metrics.modes(p, share=0.5) == 1


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.fid(a, b[:, :3]), "one d"),
        (lambda: metrics.fid(a[:1], b), "n >= 2"),
        (lambda: metrics.fid(a, b * np.nan), "not finite"),
        (lambda: metrics.precision_recall(a[:3], b), "n >= 4"),
        (lambda: metrics.precision_recall(a, b, k=0), "k is 0"),
        (lambda: metrics.density_coverage(a[:5], b), "n >= 6"),
        (lambda: metrics.density_coverage(a[0], b), r"shapes \[\(6,\)"),
        (lambda: metrics.kid(a, b, subsets=1), "at least 2"),
        (lambda: metrics.kid(a[:39], b), "n >= 40"),
        (lambda: metrics.inception_score(np.ones((3, 3))), "sum to 1"),
        (lambda: metrics.inception_score(np.full((3, 3), np.nan)), "sum to 1"),
        (lambda: metrics.class_histogram(np.zeros((0, 10))), "sum to 1"),
        (lambda: metrics.modes(np.ones(10) / 10), "sum to 1"),
        (lambda: metrics.evaluate(0.5, "mnist"), "shape"),
        (lambda: metrics.evaluate(np.zeros((28, 28, 1)), "mnist"), "shape"),
        (lambda: metrics.evaluate(np.full((60, 28, 28, 1), np.nan), "mnist"), "nan"),
        (lambda: metrics.evaluate(np.zeros((10, 28, 28, 1)), "mnist"), "at least 50"),
        (lambda: metrics.evaluate(np.zeros((60, 32, 32, 1)), "mnist"), "shape"),
        (lambda: metrics.evaluate(np.full((60, 28, 28, 1), 2.0), "mnist"), r"\[0, 1\]"),
    ],
)
def test_wrong_inputs_say_what_to_give(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_evaluate_of_an_unknown_set():
    with pytest.raises(files.DataError, match="no classifier for 'cifar'"):
        metrics.evaluate(np.zeros((60, 28, 28, 1)), "cifar")


@pytest.fixture(scope="module")
def digits():
    images, labels = data.load("mnist", "train")
    return data.to_unit(images[:2000]), labels[:2000]


def test_evaluate_knows_real_digits(digits):
    found = metrics.evaluate(digits[0], "mnist")
    assert found["fid"] < 4 * found["fid_floor"] + 0.5
    assert found["modes"] == 10 and found["precision"] > 0.8 and found["recall"] > 0.8
    shares = np.bincount(digits[1], minlength=10) / 2000
    assert found["smallest_class_share"] == pytest.approx(shares.min(), abs=0.01)
    assert found["largest_class_share"] == pytest.approx(shares.max(), abs=0.01)
    assert abs(found["kid"]) < 5 * found["kid_se"]


def test_evaluate_tells_collapse_and_noise_from_digits(digits, rng):
    real = metrics.evaluate(digits[0][:500], "mnist")
    assert real["kid_se"] > 0
    half = metrics.evaluate(digits[0][digits[1] < 5][:500], "mnist")
    assert half["modes"] == 5 and half["precision"] > 0.7
    assert half["recall"] == pytest.approx(real["recall"] / 2, abs=0.1)
    assert half["fid"] > 5 * real["fid"]
    one = metrics.evaluate(np.repeat(digits[0][:1], 200, axis=0), "mnist")
    assert one["modes"] == 1 and one["recall"] < 0.02 and one["fid"] > 50 * real["fid"]
    ones = metrics.evaluate(digits[0][digits[1] == 1][:150], "mnist")
    assert ones["modes"] == 1 and ones["largest_class_share"] > 0.98
    assert ones["precision"] > 0.7 > 0.3 > ones["recall"]
    noise = metrics.evaluate(rng.random((500, 28, 28, 1)), "mnist")
    assert noise["fid"] > 100 * real["fid"] and noise["precision"] < 0.05


def test_evaluate_of_the_test_images_themselves():
    images = data.to_unit(data.load("mnist", "test")[0][:600])
    found = metrics.evaluate(images, "mnist")
    assert found["fid"] == pytest.approx(0, abs=1e-3) and found["fid_floor"] > 0.1
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["density"] == pytest.approx(1.2, abs=1e-3) and found["modes"] == 10
    assert abs(found["kid"]) < 4 * found["kid_se"] and 5 < found["inception_score"] < 10
    with pytest.raises(ValueError, match="read-only"):
        metrics.real_features("mnist", 10)[0] = 0
