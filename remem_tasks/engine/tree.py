"""Keys and values of a batch of rows, each row a tree: what branches share is held and computed once.

A row's columns are its prompt and then every token appended since, in any branch. A branch is the set
of columns that it sees, so branching, reordering and dropping branches move no keys or values, and
all branches of a row are queries of one forward pass (the mask says who sees whom, positions are
given). The cache grows by what is new, not by branches times length.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from remem_tasks.engine.packing import Packer, Packing, PrivateColumns, packing
from remem_tasks.engine.transformers_seam import Cache, DynamicLayer
from remem_tasks.errors import RememError


class _Layer(DynamicLayer):
    """Keys and values (rows, heads, columns, size) with room to grow, so that a step copies one column.

    They lie in memory by rows and columns, (rows, room, heads, size): what belongs to a token is in one
    piece, and to keep some columns of some rows is to copy such pieces.
    """

    room: tuple[torch.Tensor, ...]  # of keys and of values; there is none before the first tokens

    def __init__(self, name: object = None) -> None:
        super().__init__()
        self.name = name or object()  # a copy's is that of what it was copied from

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any):
        here = packing()
        if here and here.lanes:
            here.lanes.put(self.name, (key_states, value_states))
            return self.keys, self.values
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            used = 0
            self.room = tuple(
                new.new_empty(len(new), _room(new.shape[2], 0), new.shape[1], new.shape[3])
                for new in (key_states, value_states)
            )
        else:
            used = self.get_seq_length()
        end = used + (here.width if here else key_states.shape[2])
        if self.room[0].shape[1] < end:
            self.room = tuple(
                torch.cat(
                    [old[:, :used], old.new_empty(len(old), _room(end, end - used) - used, *old.shape[2:])], 1
                )
                for old in self.room
            )
        for room, new in zip(self.room, (key_states, value_states)):
            place = room[:, used:end]
            if here:
                here.into(place, new)
            else:
                place[:] = new.transpose(1, 2)
        self.crop_to(end)
        return self.keys, self.values

    def crop_to(self, columns: int) -> None:
        """Keep the first columns."""
        if self.is_initialized:
            self.keys, self.values = (room[:, :columns].transpose(1, 2) for room in self.room)

    def of(self, rows: torch.Tensor, columns: torch.Tensor, coming: int) -> _Layer:
        """A copy of some rows, and of some columns (rows, C) of each, with room for those that come next."""
        other = _Layer(self.name)
        other.lazy_initialization(self.keys, self.values)
        count, width = columns.shape
        # The room behind them is copied from anywhere: it is written before it is read.
        places = F.pad(columns, (0, _room(width, coming) - width)) + (rows * self.room[0].shape[1])[:, None]
        other.room = tuple(
            room.flatten(0, 1).index_select(0, places.flatten()).view(count, -1, *room.shape[2:])
            for room in self.room
        )
        other.crop_to(width)
        return other


def _room(columns: int, coming: int) -> int:
    """How many columns to make room for where there are so many, and so many come at a time."""
    return columns + max(32, columns // 4, coming)


def _window(text_config: Any) -> tuple[int | None, set[str]]:
    """(size of the sliding window, kinds of attention in the layers)."""
    kinds = set(getattr(text_config, "layer_types", None) or [])
    size = getattr(text_config, "sliding_window", None)
    if not kinds:
        # Without a list of kinds all layers are alike (Mistral); Qwen2's window is off unless it says so.
        on = size is not None and getattr(text_config, "use_sliding_window", True)
        kinds = {"sliding_attention" if on else "full_attention"}
    if unknown := kinds - {"sliding_attention", "full_attention"}:
        raise RememError(f"the model's layers have {', '.join(sorted(unknown))}, which cannot branch here")
    return size, kinds


class Tree:
    """A batch of rows and the columns of their trees.

    Attributes:
        names: how error messages call the rows.
        columns: how many columns each row has.
        position: (rows, columns) of the token in each.
    """

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        self.model = model
        self.names = list(names)
        self.cache = Cache(layer_class_to_replicate=_Layer)
        self.columns = 0
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._base = base
        self.dtype = base.dtype
        self._window, self._kinds = _window(base.config.get_text_config())
        takes = inspect.signature(base.forward).parameters
        self._keeps = "logits_to_keep" in takes
        self._cache_is = (
            "cache" if "cache" in takes else "past_key_values"
        )  # its name up to transformers 5.23
        self._packer = Packer(base)

    @property
    def slides(self) -> bool:
        """Whether some layers see no further back than a window."""
        return self._kinds != {"full_attention"}

    def _call(self, **inputs: Any) -> torch.Tensor:
        return self.model(**inputs, **{self._cache_is: self.cache}, use_cache=True).logits

    def prefill(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Read the prompts.

        Args:
            inputs: the processor's, padded on the left.

        Returns:
            (logits of the first token behind each prompt (rows, vocabulary), its position (rows), the
            columns of the prompt (rows, columns), False where it is padded)
        """
        inputs = dict(inputs)
        mask = inputs["attention_mask"].bool()
        places = (mask.long().cumsum(-1) - 1).clamp_min(0)
        following = mask.sum(-1)
        # With pictures, these models count positions in three dimensions and say by how much text is shifted.
        three = next((part for part in self._base.modules() if hasattr(part, "rope_deltas")), None)
        pictures = any(name.endswith("grid_thw") for name in inputs)
        if three is None or not pictures:
            inputs["position_ids"] = places
        if self._keeps:
            inputs["logits_to_keep"] = 1
        logits = self._call(**inputs)[:, -1]
        if three is not None:
            if pictures:
                following = following + three.rope_deltas.reshape(-1).to(mask.device)
            three.rope_deltas = None
        self.columns = mask.shape[1]
        # Counted back from the next token's position, as sliding windows count.
        self.position = places + (following - mask.sum(-1))[:, None]
        return logits, following, mask

    def append(
        self,
        rows: torch.Tensor,
        slots: torch.Tensor,
        width: int,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        visible: torch.Tensor,
    ) -> torch.Tensor:
        """Append `width` columns to every row and read the N tokens that stand in them.

        Args:
            rows: (N) row of each token.
            slots: (N) its place among the new columns; (row, slot) are distinct.
            width: the number of new columns; columns with no token are seen by none.
            tokens: (N).
            positions: (N).
            visible: (N, columns + width) what each token sees, itself included.

        Returns:
            Logits, (N, vocabulary).
        """
        count, before = len(self.names), self.columns
        device = tokens.device
        ids = tokens.new_zeros(count, width)
        places = tokens.new_zeros(count, width)
        ids[rows, slots], places[rows, slots] = tokens, positions
        self.position = torch.cat([self.position, places], 1)
        seen = torch.zeros(count, width, before + width, dtype=torch.bool, device=device)
        index = torch.arange(width, device=device)
        seen[:, index, before + index] = True
        seen[rows, slots] = visible
        mask = self.masks(seen, places)
        self.columns = before + width
        if not self._packer.fits:
            return self._call(input_ids=ids, attention_mask=mask, position_ids=places)[rows, slots]
        with self._packer.reading(Packing(rows, slots, count, width)):
            return self._call(input_ids=tokens[None], attention_mask=mask, position_ids=positions[None])[0]

    def lanes(self, count: int, longest: int) -> PrivateColumns | None:
        """PrivateColumns for so many branches and tokens, or None where this model cannot have them."""
        of_model = self._base.config.get_text_config().num_hidden_layers
        fit = (
            self._packer.lanes
            and (not self.slides or longest <= self._window)
            and len(self.cache.layers) == of_model  # each layer has keys of its own
            and all(layer.keys.shape == layer.values.shape for layer in self.cache.layers)
        )
        return PrivateColumns(count, self.position.device) if fit else None

    def advance(
        self,
        here: Packing,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | dict[str, torch.Tensor],
    ) -> torch.Tensor:
        """Read one token a lane; the rows' columns stay as they are.

        Args:
            here: the rows of the N lanes, and the lanes.
            tokens, positions: (N).
            mask: `masks` of what the rows' columns are to the lanes.

        Returns:
            Logits, (N, vocabulary).
        """
        with self._packer.reading(here):
            logits = self._call(input_ids=tokens[None], attention_mask=mask, position_ids=positions[None])[0]
        if here.lanes is not None:
            here.lanes.used += 1
        return logits

    def masks(self, seen: torch.Tensor, places: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """The additive mask (rows, 1, queries, columns), one for each kind of attention where there are several.

        Args:
            seen: (rows, queries, columns) what each query sees.
            places: (rows, queries) their positions.
        """
        lowest = torch.finfo(self.dtype).min

        def additive(mask: torch.Tensor) -> torch.Tensor:
            return torch.zeros(mask.shape, dtype=self.dtype, device=mask.device).masked_fill_(~mask, lowest)[
                :, None
            ]

        masks = {}
        for kind in self._kinds:
            if kind == "sliding_attention":
                near = places[:, :, None] - self.position[:, None] < self._window
                masks[kind] = additive(seen & near)
            else:
                masks[kind] = additive(seen)
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def crop(self, columns: int) -> None:
        """Forget what was appended since there were so many columns."""
        for layer in self.cache.layers:
            layer.crop_to(columns)
        self.columns = columns
        self.position = self.position[:, :columns]

    def of(self, rows: torch.Tensor, columns: torch.Tensor, coming: int = 0) -> Tree:
        """A copy of some rows, and of some columns (rows, C) of each, to go on with them alone.

        Args:
            coming: how many columns will be appended next.
        """
        other = Tree.__new__(Tree)
        other.__dict__.update(self.__dict__)
        other.names = [self.names[row] for row in rows.tolist()]
        other.cache = Cache(layers=[layer.of(rows, columns, coming) for layer in self.cache.layers])
        other.columns = columns.shape[1]
        other.position = self.position[rows[:, None], columns]
        return other
