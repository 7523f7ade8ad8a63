from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from poise_git.errors import SettingRenamed, SettingsError
from poise_git.package_data import template_files
from poise_git.pipeline.protocol import load_protocol
from poise_git.settings import ObjectiveSettings, PoiseSettings, load_settings


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("version: 1\nsearch:\n  parents: 0\n", 3, "search.parents"),
        ("version: 1\nsearch:\n  parent: 3\n", 3, "search.parent"),
        ("version: 2\n", 1, "version"),
        ("seed: many\n", 1, "seed"),
        ("- a\n- b\n", 1, ""),
        ("agent: [\n", 2, ""),
    ],
)
def test_an_error_names_file_line_and_field(text: str, line: int, field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(text, PoiseSettings, "poise.yaml")
    assert (caught.value.line, caught.value.field) == (line, field)
    assert str(caught.value).startswith(f"poise.yaml:{line}: ")
    assert "\n" not in str(caught.value)


def test_the_template_states_every_setting_and_its_default() -> None:
    text = template_files()["poise.yaml"]
    assert load_settings(text, PoiseSettings, "poise.yaml") == PoiseSettings()

    def names(settings: object, path: str = "") -> set[str]:
        if not isinstance(settings, dict) or not settings:
            return {path}
        return {name for key, value in settings.items() for name in names(value, f"{path}.{key}")}

    assert names(yaml.safe_load(text)) == names(PoiseSettings().model_dump())


def test_the_protocol_hash_depends_on_numbers_but_not_on_comments() -> None:
    text = (Path(__file__).parent / "protocols" / "short.yaml").read_text(encoding="utf-8")
    protocol = load_protocol(text, "p")

    def hash_with(old: str, new: str) -> str:
        assert old in text
        return load_protocol(text.replace(old, new), "p").hash

    not_hashed = (
        "description: others",
        "# a comment",
        "paired_deviation: {value: 0.01, freedom: 9}",
        "predicts: the direction of most effects",
        "finalist_learning_rates: [0.5, 2]",
    )
    for words in not_hashed:
        assert hash_with("name: short\n", f"name: short\n{words}\n") == protocol.hash, words
    assert hash_with("confirmation_seeds: [100, 102]", "confirmation_seeds: [104]") == protocol.hash
    assert hash_with("seeds: [0, 2]", "seeds: [0, 4]") != protocol.hash
    assert hash_with("group_size: 8", "group_size: 4") != protocol.hash
    assert hash_with("epochs: 2", "epochs: 3") != protocol.hash, "a number of one regime"
    assert sum(protocol.suite_weights.values()) == pytest.approx(1.0)


def test_seeds_must_differ() -> None:
    text = "name: p\nbackend: testbed\nseeds: [0, 1]\nconfirmation_seeds: [1]\nsuites: {a: 1}\nestimator: final\n"
    with pytest.raises(SettingsError, match="must all be different"):
        load_protocol(text, "protocols/p.yaml")


@pytest.mark.parametrize("weights", ["{a: 0, b: 0}", "{a: 1.0e+308, b: 1.0e+308}"])
def test_weights_sum_to_a_positive_finite_number(weights: str) -> None:
    text = f"name: p\nbackend: b\nseeds: [0]\nsuites: {weights}\nestimator: final\n"
    with pytest.raises(SettingsError, match="the weights of the suites must sum to a positive, finite number"):
        load_protocol(text, "protocols/p.yaml")
    with pytest.raises(ValidationError, match="the weights must sum to a positive, finite number"):
        ObjectiveSettings.model_validate({"metrics": yaml.safe_load(weights)})


@pytest.mark.parametrize("rates", ["[1]", "[0.5, 0.5]", "[0]", "[.nan]", "[-2]"])
def test_a_finalist_has_further_learning_rates(rates: str) -> None:
    text = f"name: p\nbackend: b\nseeds: [0]\nsuites: {{a: 1}}\nestimator: final\nfinalist_learning_rates: {rates}\n"
    with pytest.raises(SettingsError):
        load_protocol(text, "protocols/p.yaml")


@pytest.mark.parametrize("number", ["0", "-0.1", ".inf", "often"])
def test_a_protocol_states_a_deviation_above_0(number: str) -> None:
    stated = f"paired_deviation: {{value: {number}, freedom: 9}}\n"
    text = f"name: p\nbackend: b\nseeds: [0]\nsuites: {{a: 1}}\nestimator: final\n{stated}"
    with pytest.raises(SettingsError) as caught:
        load_protocol(text, "protocols/p.yaml")
    assert (caught.value.line, caught.value.field) == (6, "paired_deviation.value")


def test_an_old_name_is_read_with_a_warning() -> None:
    with pytest.warns(SettingRenamed, match=r"^x\.yaml:2: search\.reserve is called exploration_share now; rename it$"):
        settings = load_settings("search:\n  reserve: 0.5\n  distill_every: 3\n", PoiseSettings, "x.yaml")
    assert (settings.search.exploration_share, settings.search.distill_every) == (0.5, 3)


def test_an_old_name_beside_the_new_one_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^x\.yaml:1: search\.distil_every: is the old name of distill_every"):
        load_settings("search: {distil_every: 1, distill_every: 2}", PoiseSettings, "x.yaml")


def test_an_error_of_an_old_name_has_its_position(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(SettingsError, match=r"^x\.yaml:2: search\.reserve: "):
        load_settings("search:\n  reserve: 2\n", PoiseSettings, "x.yaml")


def test_an_error_under_an_old_name_is_at_its_line() -> None:
    with pytest.warns(SettingRenamed), pytest.raises(SettingsError, match=r"^x\.yaml:3: search\.reserve: "):
        load_settings("protocol: a\nsearch:\n  reserve: many\n", PoiseSettings, "x.yaml")
