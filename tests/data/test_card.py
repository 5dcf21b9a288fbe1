"""Cards as the Hub reads them: strict YAML, one `configs:` key, a licence, a size."""

import doctest

import pytest
import yaml
from support.hub_mirror import card_errors

from remem_tasks.data import card


def test_doctests():
    assert doctest.testmod(card).failed == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "---\nconfigs:\n- config_name: a\nconfigs:\n- config_name: a\n---\n",
            "duplicated mapping key 'configs'",
        ),
        ("---\nlicense: mine\n---\n", '"license" must be one of'),
        ("---\nlicense: other\nlicense_name: My own\n---\n", '"license_name"'),
        ("---\nsize_categories: [few]\n---\n", '"size_categories"'),
        ("---\nconfigs:\n- config_name: a\n- config_name: a\n---\n", "comes twice"),
        ("---\na: [\n---\n", "YAML"),
        ("no metadata", ""),
    ],
)
def test_the_mirror_refuses_what_the_hub_refuses(text, said):
    errors = card_errors(text)
    assert (said in errors[0]) if said else not errors


def test_a_card_has_each_key_once():
    text = card.card(
        {"default": {"forget1": "data/forget1-*"}, "b": {"x": "b/x-*"}}, "# Title\n", 2000, **card.DRAWN
    )
    assert card_errors(text) == [] and text.endswith("---\n# Title\n")
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == "mit" and head["size_categories"] == ["1K<n<10K"]
    assert [config["config_name"] for config in head["configs"]] == ["default", "b"]


@pytest.mark.parametrize("rows", [0, 999, 10**3, 10**7, 10**8, 10**9, 10**12, 10**15])
def test_every_size_is_one_of_the_hubs(rows):
    assert card_errors(card.card({"default": {"a": "a-*"}}, rows=rows)) == []


@pytest.mark.parametrize(
    "name", ["no", "on", "null", "1e3", "2024-01-01", "a: b", "forget01+tofu", "~", "Łódź", "'"]
)
def test_names_that_yaml_would_read_as_something_else_stay_names(name):
    text = card.card({name: {name: f"{name}-*"}}, rows=1)
    assert card_errors(text) == []
    [config] = yaml.safe_load(text.split("---\n")[1])["configs"]
    assert config == {"config_name": name, "data_files": [{"split": name, "path": f"{name}-*"}]}
