"""Cards as the Hub reads them: strict YAML, one `configs:` key, a licence, a size."""

import doctest
from pathlib import Path

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


def check_card(folder):
    text = Path(folder, "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert card_errors(text) == [] and head["license"] and head["size_categories"] and head["configs"]
