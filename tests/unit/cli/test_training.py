"""``forebay train``: how a spec is read, what is said of how far it is, how curves are drawn."""

from __future__ import annotations

import pytest

from producers.cli import training_answers
from producers.cli.exits import Failure
from producers.cli.output import displayed
from producers.cli.plot import in_dots, in_letters, scale_of, spark
from producers.cli.spec_file import model_of, pointed_to, read_spec_file
from producers.cli.training_answers import told
from producers.cli.training_curves import curves_in

SPEC = """\
model: digits
data:
  uri: [a.csv, 's3://in/b.csv']
  label: y
network: {recipe: dense, units: [64]}
optimizer: {name: adam, learning_rate: 1e-3}
loss: mse
epochs: 3
prepare:
  labels: {0: no, 1: 'yes'}
"""


def test_a_spec_is_read_as_it_is_meant():
    file = read_spec_file("a.yaml", SPEC)
    assert file.told["data"]["uri"] == ["a.csv", "s3://in/b.csv"]
    assert file.told["optimizer"]["learning_rate"] == 0.001
    assert file.told["prepare"]["labels"] == {"0": False, "1": "yes"}  # YAML's no: the service says
    assert model_of(file.told, None, "a.yaml") == "digits" and "model" not in file.told
    assert read_spec_file("b.json", '{"epochs": 3, "at": "2024-01-01"}').told == {
        "epochs": 3,
        "at": "2024-01-01",
    }
    assert read_spec_file("c.yaml", "at: 2024-01-01\nn: 1_000\nx: ~\ny: .5\n").told == {
        "at": "2024-01-01",
        "n": 1000,
        "x": None,
        "y": 0.5,
    }


def test_numbers_are_decimal_and_what_is_in_quotes_is_text():
    text = (
        "a: [0, -0, 0.5, -0.25, 0e0, 10, 1_000, 0., +7, '064', \"12:30\", 089, 1:2a]\n001: {0x1: b}"
    )
    assert read_spec_file("a.yaml", text).told == {
        "a": [0, 0, 0.5, -0.25, 0.0, 10, 1000, 0.0, 7, "064", "12:30", "089", "1:2a"],
        "001": {"0x1": "b"},
    }


WRONG = [
    ("a: 1\nb: [1,\n", "line 3"),
    ("a: 1\nb: 2\na: 3\n", "line 3: 'a' is given twice; first in line 1"),
    ("a:\n  b: 1\n  b: 2\n", "line 3: 'b' is given twice; first in line 2"),
    ("a: 1\nb: !!python/object/apply:os.system [ls]\n", "line 2: the tag"),
    ("a: !!binary aGk=\n", "line 1: the tag"),
    ("a: .nan\n", "line 1: .nan is no finite number"),
    ("a: 1e999\n", "no finite number"),
    ("a: 1\nb: 064\n", "line 2: YAML takes 064 for 52: put it in quotes, or write it as a decimal"),
    ("where:\n- [zip, '=', 02134]\n", "line 2: YAML takes 02134 for 1116"),
    ("a: 12:30\n", "line 1: YAML takes 12:30 for 750"),
    ("a: -1:30.5\n", "put it in quotes"),
    ("a: [001]\n", "line 1: YAML takes 001 for 1: put it in quotes"),
    ("a: 0x1F\n", "takes 0x1F for 31"),
    ("a: 0b11\n", "takes 0b11 for 3"),
    ("a: 00.5\n", "takes 00.5 for 0.5"),
    ("a: 01e2\n", "takes 01e2 for 100.0"),
    ("a: &a [*a]\n", "too much in it"),
    ("a: &a {x: 1}\nb: {<<: *a}\n", "line 2: a key is a word"),
    ("? [a]\n: 1\n", "a key is a word"),
    ("- a\n", "holds no fields"),
    ("", "holds no fields"),
    ("just words", "holds no fields"),
    ("a: \x00", "not YAML"),
    ("a: " + "[" * 2_000 + "]" * 2_000, "nests too deep"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_what_is_no_spec_is_wrong_usage_with_its_line(text, says):
    with pytest.raises(Failure) as caught:
        read_spec_file("a.yaml", text)
    assert caught.value.exit_code == 2 and says in caught.value.message


def test_a_thousand_laughs_are_none():
    text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n"
        for old, new in zip("abcdefg", "bcdefgh", strict=True)
    )
    with pytest.raises(Failure, match="too much"):
        read_spec_file("a.yaml", text)


def test_what_is_set_takes_the_files_place():
    file = read_spec_file("a.yaml", SPEC)
    file.set(["epochs=5", "network.units=[8, 8]", "split.seed=7", "loss={name: huber, delta: 2}"])
    assert (file.told["epochs"], file.told["split"]) == (5, {"seed": 7})
    assert file.told["network"] == {"recipe": "dense", "units": [8, 8]}
    assert file.told["loss"] == {"name": "huber", "delta": 2}
    for wrong in ("epochs", "=3", "a..b=1", "epochs.x=1", "epochs=[1"):
        with pytest.raises(Failure) as caught:
            file.set([wrong])
        assert caught.value.exit_code == 2


def test_a_refusal_is_told_with_its_line():
    file = read_spec_file("a.yaml", SPEC)
    for field, line in (
        ("spec.data.uri[1]", 3),
        ("spec.network.units[0]", 5),
        ("spec.network.filters", 5),
        ("spec.prepare.labels.1", 10),
        ("spec.split", None),
        ("model", 1),
    ):
        refused = Failure("no", exit_code=2, details={"field": field})
        told_ = pointed_to(refused, file)
        assert told_.details.get("line") == line, field
        assert told_.hint == (None if line is None else f"a.yaml, line {line}")


def test_a_spec_without_a_model_names_none():
    with pytest.raises(Failure, match="names no model"):
        model_of({}, None, "a.yaml")
    assert model_of({"model": "a"}, "b", "a.yaml") == "b"


def test_how_far_it_is_in_one_line():
    seen = {
        "state": "training",
        "epoch": 3,
        "epochs": 10,
        "step": 1_200,
        "steps": 4_000,
        "share": 0.3,
        "latest": {"loss": 0.12345, "accuracy": 0.9},
        "rows_per_s": 1_900.4,
        "estimated_end_at": None,
    }
    line = "epoch 3 of 10, step 1,200 of 4,000 (30 %), loss 0.1235, accuracy 0.9, 1,900 rows/s"
    assert told(seen) == line
    assert told(seen | {"state": "paused"}).endswith("accuracy 0.9, paused")
    assert told({"state": "preparing", "rows_read": 1_000}) == "preparing, 1,000 rows read"
    assert told({}) == "waiting" and told({"state": "ended"}) == "epoch 0"


def test_curves_are_drawn_by_epoch_or_else_by_step():
    epochs = [{"epoch": n, "accuracy": n / 4, "loss": 1 / n, "val_loss": 2 / n} for n in (1, 2, 3)]
    loss, accuracy = curves_in({"epochs": epochs, "steps": {}})
    assert (loss.name, len(loss.lines), len(accuracy.lines)) == ("loss", 2, 1)
    assert loss.title == "loss by epoch: training 0.3333, validation 0.6667"
    steps = {"step": [1, 2, 3], "loss": [3, 2, 1], "accuracy": [None, None, 0.5]}
    loss, accuracy = curves_in({"epochs": epochs[:1], "steps": steps})
    assert loss.title == "loss by step: training 1" and list(accuracy.lines[0]) == [(3.0, 0.5)]
    assert curves_in({"epochs": [], "steps": {}}) == []


def text_of(rows):
    return ["".join(cell.text for cell in row) for row in rows]


def test_a_line_goes_from_its_first_point_to_its_last():
    falling, flat = [(0.0, 1.0), (1.0, 0.0)], [(0.0, 0.0), (1.0, 0.0)]
    drawn = text_of(in_letters([falling, flat], 5, 3))
    assert drawn[0].startswith("*") and drawn[2] == "ooooo" and "*" in drawn[1]
    assert all(len(row) == 5 for row in drawn)
    assert scale_of([falling], 3) == ["1", "", "0"] and scale_of([[]], 2) == ["", ""]
    dots = in_dots([falling], 4, 2)
    assert dots[0][0].text == "⠑" and dots[0][0].line == 0 and dots[1][0].text == " "
    for one in ([[]], [[(1.0, 2.0)]], [[(1.0, 2.0), (2.0, 2.0)]]):
        assert len(in_letters(one, 5, 3)) == 3 and len(in_dots(one, 5, 3)) == 3


def test_a_spark_is_as_high_as_its_value():
    assert spark([0, 7, 3.5]) == "▁█▅" and spark([1, 1]) == "▁▁" and spark([]) == ""
    assert len(spark(list(range(99)), 10)) == 10


WRONG_WORDS = [
    ("/nowhere.yaml",),
    ("SPEC", "--png", "a.png"),
    ("SPEC", "--wait", "--png", "/"),
    ("SPEC", "--set", "epochs"),
    ("SPEC", "--metadata", "x"),
    ("NO_MODEL",),
    ("LOCAL",),
    (),
]


@pytest.mark.parametrize("words", WRONG_WORDS)
def test_wrong_usage_ends_in_two_and_nothing_is_sent(forebay, service, tmp_path, words):
    files = {
        "SPEC": SPEC.replace("a.csv", "s3://in/a.csv"),
        "NO_MODEL": SPEC.replace("model: digits\n", ""),
        "LOCAL": SPEC,  # there is no a.csv beside it
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    given = [tmp_path / word if word in files else word for word in words]
    code, out, err = forebay("train", *given)
    assert code == 2 and err.strip() and out == "" and service.requests == []


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_and_in_lines(monkeypatch, capsys, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "200")
    with displayed(training_answers._bar, training_answers.told, quiet=False) as show:
        for step in range(1, 4):
            latest = {"loss": 1 / step}
            show({"state": "training", "step": step, "steps": 3, "latest": latest, "share": 0.5})
        show({"state": "ended", "step": 3, "steps": 3, "share": 1, "latest": {"loss": 0.25}})
    err = capsys.readouterr().err
    assert "loss 0.25" in err and ("▁" in err) is terminal
    with displayed(training_answers._bar, training_answers.told, quiet=True) as show:
        show({"state": "training"})
    assert capsys.readouterr().err == ""


def test_a_models_name_that_is_a_number_is_asked_for_as_text():
    with pytest.raises(Failure, match="model must be a name, not 7") as caught:
        model_of(read_spec_file("a.yaml", "model: 7").told, None, "a.yaml")
    assert caught.value.hint == "put it in quotes"


def test_a_picture_that_cannot_be_written_says_how_to_draw_it_later(tmp_path):
    from types import SimpleNamespace

    job = SimpleNamespace(id="j1", curves_png=lambda path: path.write_bytes(b""))
    with pytest.raises(Failure, match="No such file") as caught:
        training_answers.save_picture(job, tmp_path / "none" / "x.png")
    assert "forebay jobs show j1 --png" in caught.value.hint


def test_a_jobs_error_is_pointed_to_in_the_file():
    from producers.cli.train import places_in

    class Client:
        files = property(lambda self: self)

        def show(self, uri):
            return type("Stored", (), {"document": {"filename": "rows.csv"}})

    uri = "forebay://files/01a21bed-c34d-7462-96e5-b0f533bbe48e"
    file = read_spec_file("a.yaml", SPEC)
    told = list(
        places_in(f"spec.data.label: the first is row 7 of {uri}. Mend {uri}", file, Client())
    )
    assert told == ["a.yaml, line 4", f"{uri} is rows.csv"]
    assert list(places_in("it died: at once", file, Client())) == []
