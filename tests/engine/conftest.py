"""Tiny models of each shape, made once."""

import pytest
from support import architectures as shapes
from support.chats import TEXTS, lively

from remem_tasks.engine.decoder import Decoder


@pytest.fixture(scope="session")
def shape_of():
    """shape_of(shape) -> (model, processor, decoder), each made once and shared: do not change them."""
    made = {}

    def get(shape):
        if shape not in made:
            model, processor = shapes.build(shape, TEXTS)
            made[shape] = (lively(model), processor, Decoder(model, processor))
        return made[shape]

    return get
