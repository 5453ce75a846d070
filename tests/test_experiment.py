"""helpers.experiment: profiles, what is recorded, and the table beside other seeds."""

import json

import keras
import numpy as np
import pytest
import scipy.stats

from helpers import experiment


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv("COURSE_RESULTS", raising=False)
    experiment.start("laptop", 0)
    yield
    experiment.start("laptop", 0)


@pytest.fixture
def shown(monkeypatch):
    """What is displayed: a list of {kind: content}."""
    outputs = []
    monkeypatch.setattr(experiment, "display", lambda content, raw: outputs.append(content))
    return outputs


def test_a_profile_picks_its_size():
    sizes = {"smoke": 1, "laptop": 2, "gpu": 3}
    for profile, size in sizes.items():
        assert experiment.start(profile, 0).pick(**sizes) == size


def test_a_seed_repeats_what_is_drawn():
    drawn = []
    for seed in (5, 5, 6):
        experiment.start("smoke", seed)
        drawn.append((float(keras.random.normal(())), np.random.random()))
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("profile", "seed", "sentence"),
    [
        ("big", 0, "profile is 'big'"),
        ("smoke", -1, "seed is -1"),
        ("smoke", True, "seed is True"),
        ("smoke", 1.0, "seed is 1.0"),
    ],
)
def test_wrong_parameters_are_a_sentence(profile, seed, sentence):
    with pytest.raises(ValueError, match=sentence):
        experiment.start(profile, seed)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("a b", 1), "is no result name"),
        (("a", float("nan")), "a is nan"),
        (("a", 1, 2, "<"), "op is '<'"),
    ],
)
def test_wrong_results_are_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        experiment.record(*arguments)
    assert experiment.recorded() == {}


def test_a_new_start_forgets_the_results_of_the_run_before():
    experiment.record("fid", 3)
    assert list(experiment.recorded()) == ["fid"]
    experiment.start("laptop", 1)
    assert experiment.recorded() == {}


def test_the_table_says_what_was_reached_in_words(shown):
    experiment.record("fid", 7.2345, 8, unit="nats", label="FID <of> samples")
    experiment.record("recall", np.float32(0.5), 0.8, ">=")
    experiment.record("steps", np.int64(3))
    experiment.table()
    text, page = shown[0]["text/plain"], shown[0]["text/html"]
    lines = text.splitlines()
    assert lines[0].split() == ["result", "measured", "expected", "verdict"]
    assert [line.split()[-1] for line in lines[1:3]] == ["reached", "missed"]
    assert "7.234 nats" in text or "7.235 nats" in text
    assert "FID &lt;of&gt; samples" in page and "<th></th>" not in page
    kept = shown[0][experiment.MIME_TYPE]
    assert kept["steps"]["value"] == 3 and kept["recall"]["label"] == "recall"
    json.dumps(kept)


def test_smoke_judges_no_target(shown):
    experiment.start("smoke", 0)
    experiment.record("fid", 300, 8)
    experiment.table()
    assert "missed" not in shown[0]["text/plain"] and "<= 8" in shown[0]["text/plain"]


def test_results_are_kept_as_they_come(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    monkeypatch.setenv("COURSE_RESULTS", str(path))
    experiment.record("fid", 3)
    experiment.record("recall", 0.5)
    assert json.loads(path.read_text()) == experiment.recorded()


def evidence(tmp_path, monkeypatch, values, options=None):
    entry = {
        "n": len(values),
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)),
        "values": dict(enumerate(values)),
    }
    chapters = {
        "04_dcgan": {"profile": "laptop", "options": options or {}, "results": {"gain": entry}}
    }
    path = tmp_path / "evidence.json"
    path.write_text(json.dumps(chapters), encoding="utf-8")
    monkeypatch.setattr(experiment, "EVIDENCE", path)


def test_other_seeds_stand_beside_the_reader_s_value(tmp_path, monkeypatch, shown):
    evidence(tmp_path, monkeypatch, [7.0, 7.4, 7.2, 7.6, 6.8])
    experiment.start("laptop", 9, chapter="04_dcgan")
    experiment.record("gain", 7.3, difference=True)
    experiment.record("other", 1)
    experiment.table()
    assert "5 seeds: 7.2 ± 0.32, holds" in shown[0]["text/plain"]
    assert "outside" not in shown[0]["text/plain"]
    experiment.record("gain", 17.3)
    experiment.table()
    assert "5 seeds: 7.2 ± 0.32 (yours lies outside)" in shown[1]["text/plain"]


def test_a_difference_around_zero_is_open(tmp_path, monkeypatch, shown):
    evidence(tmp_path, monkeypatch, [-1.0, 1.5, 0.2])
    experiment.start("laptop", 0, chapter="04_dcgan")
    experiment.record("gain", 0.1, difference=True)
    experiment.table()
    assert ", open" in shown[0]["text/plain"]


def test_evidence_of_other_options_or_profiles_is_not_shown(tmp_path, monkeypatch):
    evidence(tmp_path, monkeypatch, [1.0, 2.0], {"folders": None})
    assert experiment.evidence(experiment.start("laptop", 0, chapter="04_dcgan")) == {}
    run = experiment.start("laptop", 0, chapter="04_dcgan", folders=None)
    assert set(experiment.evidence(run)) == {"gain"}
    assert experiment.evidence(experiment.start("gpu", 0, chapter="04_dcgan", folders=None)) == {}
    assert experiment.evidence(experiment.start("laptop", 0, chapter="05")) == {}
    experiment.EVIDENCE.write_text("{", encoding="utf-8")
    assert experiment.evidence(run) == {}


def test_the_intervals_cover_what_they_say():
    rng = np.random.default_rng(0)
    covered, excluded = [], []
    for _ in range(4000):
        drawn = rng.normal(2.0, 3.0, 6)
        mean, sd = drawn[:5].mean(), drawn[:5].std(ddof=1)
        low, high = experiment.prediction_interval(mean, sd, 5)
        covered.append(low <= drawn[5] <= high)
        excluded.append(experiment.holds(mean - 2.0, sd, 5))
    assert np.mean(covered) == pytest.approx(0.99, abs=0.006)
    assert np.mean(excluded) == pytest.approx(0.05, abs=0.012)
    drawn = [0.4, 0.9, 0.1, 0.7]
    found = scipy.stats.ttest_1samp(drawn, 0).pvalue < 0.05
    assert experiment.holds(np.mean(drawn), np.std(drawn, ddof=1), 4) == found


def test_a_table_of_candidates_has_means_and_spreads(monkeypatch):
    outputs = []
    monkeypatch.setattr(experiment, "display", outputs.append)
    experiment.compare({"a": {"x": [1, 2, 3], "y": 1}, "b": {"x": [4.0], "y": 2}}, digits=1)
    assert outputs[0].loc["a", "x"] == "2.0 ± 1.0" and outputs[0].loc["b", "x"] == "4.0"
    assert list(outputs[0].columns) == ["x", "y"]
