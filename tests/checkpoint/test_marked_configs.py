"""The mark in transformers' configuration: made, taken off byte by byte, and left out where it can't be."""

import json
from pathlib import Path

import pytest

from bioconvert.checkpoint.folders.config_mark import (
    MARK,
    NO_FILE,
    WEIGHTS,
    is_marked,
    marked,
    unmarked,
    without_mark,
)
from bioconvert.core.errors import CorruptFileError

CONFIG = Path("config.json")
TEXTS = [
    pytest.param(b'{\n  "model_type": "gpt2",\n  "n_layer": 2\n}\n', id="as transformers writes it"),
    pytest.param(b' { "architectures":["Net"]}', id="space before, none inside"),
    pytest.param(b'{"model_type":\r\n "x", "name": "\xc3\xa9{"}', id="other line ends, braces and accents"),
]


@pytest.mark.parametrize("text", TEXTS)
class TestAConfiguration:
    def test_is_marked_and_else_the_same(self, text):
        """The mark adds two keys and changes no other."""
        config = json.loads(marked(text, CONFIG))
        assert is_marked(config)
        assert "bioconvert.load" in config[MARK]["use"]
        assert config[WEIGHTS] == NO_FILE
        assert without_mark(config) == json.loads(text)

    def test_gets_its_bytes_back(self, text):
        """Taking the mark off gives the source's bytes."""
        assert unmarked(marked(text, CONFIG), CONFIG) == text

    def test_is_marked_once(self, text):
        """Marking what is marked changes nothing."""
        assert marked(marked(text, CONFIG), CONFIG) == marked(text, CONFIG)

    def test_that_was_changed_since_is_not_unmarked(self, text):
        """A marked file that someone edited can't be brought back, and the error says what to do by hand."""
        edited = marked(text, CONFIG).replace(b'"architectures"', b'"architecturez"').replace(b'"x"', b'"y"')
        edited = edited.replace(b'"n_layer": 2', b'"n_layer": 3')
        with pytest.raises(CorruptFileError, match="take out the keys 'bioconvert' and 'transformers_w"):
            unmarked(edited, CONFIG)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'{"architecture": "resnet18"}', id="timm"),
        pytest.param(b"{}", id="empty"),
        pytest.param(b"[1]", id="no object"),
        pytest.param(b"nonsense", id="no JSON"),
    ],
)
def test_what_is_no_configuration_of_transformers_stays_as_it_is(text):
    """Only transformers reads the mark; other files aren't touched, marking or unmarking."""
    assert marked(text, CONFIG) == text
    assert unmarked(text, CONFIG) == text


@pytest.mark.parametrize("key", [MARK, WEIGHTS])
def test_a_key_that_is_taken_is_left_alone(key, caplog):
    """A configuration that has one of the keys for its own use isn't marked, with a logged warning."""
    text = json.dumps({"model_type": "gpt2", key: "mine.safetensors"}).encode()
    assert marked(text, CONFIG) == text
    assert f"has a key {key!r} of its own" in caplog.text
