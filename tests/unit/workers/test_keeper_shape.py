"""A file per duty, all of one shape: what a reader of one knows, he knows of all."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import workers.keeper
from storage.settings import Settings
from workers.keeper.duty import as_fields
from workers.keeper.loop import standard_duties

MACHINERY = {"duty", "loop", "notes", "recovery"}
NAMES = sorted({one.name for one in pkgutil.iter_modules(workers.keeper.__path__)} - MACHINERY)


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"workers.keeper.{request.param}")


def duty_of(module: ModuleType) -> type:
    own = [
        one
        for _, one in inspect.getmembers(module, inspect.isclass)
        if one.__module__ == module.__name__ and hasattr(one, "run_once")
    ]
    assert len(own) == 1, f"{module.__name__} has {len(own)} duties"
    return own[0]


def test_a_file_has_one_duty_that_is_called_like_it(module: ModuleType) -> None:
    name = module.__name__.rpartition(".")[2]
    duty = duty_of(module)
    assert duty.name == name
    assert duty.__name__ == name.title().replace("_", "")
    assert module.__doc__ and len(module.__doc__.splitlines()) > 2


def test_its_settings_are_frozen_with_a_default_and_a_word_on_each(module: ModuleType) -> None:
    config = getattr(module, f"{duty_of(module).__name__}Config")
    assert config.__dataclass_params__.frozen and config.__doc__
    lines = inspect.getsource(config).splitlines()
    for one in dataclasses.fields(config):
        assert one.default is not dataclasses.MISSING, one.name
        (line,) = (text for text in lines if text.strip().startswith(f"{one.name}:"))
        assert len(line.partition("#")[2].strip()) > 10, f"{one.name} has no word on it"
    assert config().every_s > 0
    assert duty_of(module)(config()).config == config() == duty_of(module)().config


def test_it_takes_the_database_and_the_objects_and_gives_counts(module: ModuleType) -> None:
    run = inspect.signature(duty_of(module).run_once, eval_str=True)
    assert list(run.parameters) == ["self", "database", "objects"]
    counts = run.return_annotation
    assert counts.__dataclass_params__.frozen
    assert isinstance(inspect.getattr_static(counts, "more"), property)
    zero = counts(*([0] * len(dataclasses.fields(counts))))
    assert all(isinstance(value, int) for value in as_fields(zero).values())
    if "limit" in {one.name for one in dataclasses.fields(counts)}:
        done = {one.name: 0 for one in dataclasses.fields(counts)} | {"limit": 5}
        assert not counts(**done).more


def test_every_one_of_them_is_run() -> None:
    assert sorted(duty.name for duty in standard_duties()) == NAMES


def test_recovery_takes_a_lease_and_a_sweep_however_seldom_the_operator_sweeps() -> None:
    from forebay.composition import duties

    for given, reaper_s, expiry_s in (("60", 2.0, 1.0), ("0.5", 0.5, 0.5), ("", 2.0, 1.0)):
        made = duties(Settings.from_environment({"FOREBAY_SWEEP_EVERY_S": given}))
        paces = {duty.name: duty.config.every_s for duty in made}
        assert paces["sweep"] == float(given or 5)
        assert (paces["reaper"], paces["expiry"]) == (reaper_s, expiry_s)


def test_what_the_operator_keeps_is_kept_by_every_duty() -> None:
    from forebay.composition import duties

    made = duties(Settings.from_environment({"FOREBAY_RETENTION_DAYS": "7"}))
    kept = [duty.config.keep_days for duty in made if hasattr(duty.config, "keep_days")]
    assert kept == [7, 7]
