"""Evidence: what several seeds gave, in the form that the table of a chapter reads."""

import json
import statistics

import pytest
from tiny_course import REPOSITORY, chapter, edit, log

from helpers import experiment
from tools import evidence


def test_the_committed_evidence_is_of_todays_code():
    assert evidence.stale() == [], "run make evidence for these chapters"


def test_evidence_is_written_read_and_checked(root, scheduler, capsys, monkeypatch):
    path = chapter(root, "01_one", "experiment.record('gain', 2 + seed / 10, difference=True)")
    edit(path, "seed = 0", "seed = 0\\nsize = 8")
    (root / "docs").mkdir()
    other = {"02_two": {"computes_sha256": "x", "results": {}}}
    (root / "docs/evidence.json").write_text(json.dumps(other), encoding="utf-8")
    common = ["--root", str(root)]
    command = [*common, "--scheduler", scheduler, "--chapters", "01", "--seeds"]
    assert evidence.main([*command, "0", "1", "2"]) == 0
    assert evidence.main([*command, "0", "1", "2", "3"]) == 0
    assert log(root).count("01_one ends") == 4  # what had finished was kept

    found = evidence.read(root)
    assert found["02_two"] == other["02_two"]
    one = found["01_one"]
    assert (one["profile"], one["options"], one["seeds"]) == ("laptop", {"size": 8}, [0, 1, 2, 3])
    value = one["results"]["value"]
    numbers = [0.5, 1.5, 4.5, 9.5]  # seed**2 + 0.5
    assert value["values"] == dict(zip("0123", numbers, strict=True))
    assert value["mean"] == pytest.approx(statistics.fmean(numbers))
    assert value["sd"] == pytest.approx(statistics.stdev(numbers))
    assert (value["n"], value["unit"], value["label"]) == (4, "nats", "the value, in nats")
    assert one["results"]["gain"]["difference"] and not value["difference"]
    assert "holds" in capsys.readouterr().out  # 2.15 ± 0.13

    monkeypatch.setattr(experiment, "EVIDENCE", root / "docs" / "evidence.json")
    here = experiment.Run("laptop", 0, "01_one", {"size": 8})
    assert experiment.evidence(here) == one["results"]
    assert experiment.evidence(experiment.Run("laptop", 0, "01_one", {"size": 9})) == {}

    assert evidence.stale(root) == ["02_two"]
    edit(path, "seed / 10", "seed / 11")
    assert evidence.stale(root) == ["01_one", "02_two"]
    assert evidence.main([*common, "--check"]) == 1
    assert "Not of today's code: 01_one, 02_two" in capsys.readouterr().out


def test_other_values_of_an_option_stand_beside_the_seeds(root, scheduler, monkeypatch, capsys):
    path = chapter(root, "01_one", "experiment.record('gain', seed + (limit or 100))")
    edit(path, "seed = 0", "seed = 0\\nlimit = None")
    common = ["--root", str(root), "--scheduler", scheduler, "--chapters", "01", "--seeds", "0"]
    assert evidence.main([*common, "1", "--vary", "limit=6,20"]) == 0
    assert evidence.main([*common, "1"]) == 0
    assert evidence.main([*common, "--vary", "limit=7"]) == 0
    assert "01_one, limit = 20" in capsys.readouterr().out
    one = evidence.read(root)["01_one"]
    assert (one["options"], one["seeds"]) == ({"limit": None}, [0, 1])
    assert one["results"]["gain"]["values"] == {"0": 100, "1": 101}
    found = {value: results["gain"]["values"] for value, results in one["varied"]["limit"].items()}
    assert found == {"6": {"0": 6, "1": 7}, "20": {"0": 20, "1": 21}, "7": {"0": 7}}

    monkeypatch.setattr(experiment, "EVIDENCE", root / "docs" / "evidence.json")
    monkeypatch.setattr(experiment, "_run", experiment.Run("laptop", 5, "01_one", {"limit": None}))
    assert experiment.varied("limit") == one["varied"]["limit"]
    assert experiment.varied("size") == {}
    monkeypatch.setattr(experiment, "_run", experiment.Run("laptop", 5, "01_one", {"limit": 6}))
    assert experiment.varied("limit") == {}

    edit(path, "limit or 100", "limit or 200")
    assert evidence.main([*common, "--vary", "limit=9"]) == 0
    one = evidence.read(root)["01_one"]
    assert list(one["varied"]["limit"]) == ["9"] and one["results"] == {}  # nothing of old code


def test_a_result_need_not_be_in_the_first_run():
    told = {"label": "", "unit": "", "difference": False}
    a, later, b = (told | {"value": value} for value in (1, 3, 5))
    runs = [{"seed": 0, "results": {"a": a}}, {"seed": 1, "results": {"a": later, "b": b}}]
    found = evidence.results_of(runs)
    assert found["a"]["values"] == {"0": 1, "1": 3} and found["b"]["values"] == {"1": 5}


@pytest.mark.parametrize("vary", ["limit=6 size=8", "limit", "limit=6,6"])
def test_what_cannot_be_varied_is_said_before_anything_runs(root, vary, capsys):
    with pytest.raises(SystemExit):
        evidence.main(["--root", str(root), "--vary", vary])
    assert "--vary takes one option and its values" in capsys.readouterr().err


def test_a_chapter_that_fails_leaves_the_old_entry(root, scheduler):
    chapter(root, "01_one", "assert seed == 0")
    command = ["--root", str(root), "--scheduler", scheduler, "--seeds"]
    assert evidence.main([*command, "0"]) == 0
    before = evidence.read(root)
    assert evidence.main([*command, "0", "1"]) == 1
    assert evidence.read(root) == before


def test_the_evidence_is_in_the_place_where_the_chapters_look():
    assert experiment.EVIDENCE == REPOSITORY / "docs" / "evidence.json"
