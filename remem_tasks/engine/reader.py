"""What reads rows once and says ln p of what could follow: prompts, prefixes, candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from remem_tasks.checkpoints import reason
from remem_tasks.engine.frontiers import slots_of
from remem_tasks.engine.prompts import Chat, Given, Prompts, text_tokens
from remem_tasks.engine.state import Known, State, apart, picked, widened
from remem_tasks.engine.tree import Tree
from remem_tasks.engine.trie import Trie
from remem_tasks.errors import NonFiniteError, PromptTooLong, RememError


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory did not suffice."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "allocate memory" in text


def moments_of(logp: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation of ln p(z) under p, over the vocabulary, and the likeliest token: (N, V) to (N, 3), float32.

    A token of probability 0 (ln p = −∞), as those that are no text, counts nothing. Ids below 2^24 are whole in float32.
    """
    p, values = logp.exp(), logp.masked_fill(logp == -torch.inf, 0.0)
    means = (p * values).sum(-1, keepdim=True)
    sds = (p * (values - means).square()).sum(-1, keepdim=True).sqrt()
    return torch.cat([means, sds, logp.argmax(-1, keepdim=True).float()], -1)


def _alike(counts: Mapping[int, int]) -> list[set[int]]:
    """Rows with about as much to read, together: attention takes all of a batch to be as wide as the widest.

    Args:
        counts: what each row has to read.
    """
    groups: list[set[int]] = []
    widest = 0
    for row in sorted(counts, key=lambda row: -counts[row]):
        if not groups or counts[row] < 0.7 * widest:
            groups.append(set())
            widest = counts[row]
        groups[-1].add(row)
    return groups


def for_each(number: int | Sequence[int], count: int) -> list[int]:
    """One number per branch, of one for all or a list of them."""
    return [number] * count if isinstance(number, int) else list(number)


class PromptReader:
    """Reads rows in branches that share their prompts.

    Args:
        model: an image-text-to-text model, with an adapter or without, in eval mode.
        processor: its processor.
        budget: bytes that logits may take at once; by default 2 GiB on a GPU, 16 MiB on a CPU.
    """

    def __init__(self, model: Any, processor: Any, budget: int | None = None) -> None:
        self.model = model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        text = self.text_config = base.config.get_text_config()
        self.device = next(model.parameters()).device
        self.dtype = base.dtype
        self.context_length: int | None = getattr(text, "max_position_embeddings", None)
        self.vocabulary = int(text.vocab_size)
        banned, self.ends = text_tokens(base, processor, self.vocabulary)
        self.prompts = Prompts(processor, self.ends)
        self.banned = banned.to(self.device)
        self._ends = torch.tensor(self.ends, device=self.device)
        if getattr(text, "_attn_implementation", "eager") not in ("eager", "sdpa"):
            # Flash attention takes no mask that says which branch sees what.
            base.set_attn_implementation({"text_config": "sdpa"})
        # Rows of logits to make at once where more are wanted; on a CPU what stays in its caches is fastest.
        most = budget if budget is not None else 2**24 if self.device.type == "cpu" else 2**31
        self._logits_at_once = max(1, most // (self.vocabulary * 4))

    def log_probabilities(self, logits: torch.Tensor, tree: Tree, rows: torch.Tensor) -> torch.Tensor:
        """Float32 log-probabilities over the tokens that are text.

        Args:
            logits: (N, vocabulary), overwritten if they are float32.
            rows: (N) row of each, for the message.

        Raises:
            NonFiniteError: names the first row whose logits are NaN or infinite.
        """
        logits = logits.float()
        fine = torch.isfinite(logits.amax(-1))
        logits = logits.masked_fill_(self.banned, -torch.inf)
        fine &= torch.isfinite(logits.amax(-1))
        if not fine.all():
            row = int(rows[int((~fine).nonzero()[0])])
            raise NonFiniteError(
                f"{tree.names[row]}: the model's logits are NaN or infinite; its weights or dtype are broken"
            )
        return logits.log_softmax(-1)

    def _check_room(self, state: State, extra: torch.Tensor) -> None:
        """Raises PromptTooLong if a branch and `extra` (B) tokens more are longer than the context."""
        if self.context_length is None or not len(state):
            return
        over = state.lengths() + extra - self.context_length
        worst = int(over.argmax())
        if over[worst] > 0:
            length, new = int(state.lengths()[worst]), int(extra[worst])
            raise PromptTooLong(
                f"{state.name(worst)}: the prompt has {length} tokens, which with {new} new ones is more "
                f"than the model's context of {self.context_length}"
            )

    @torch.inference_mode()
    def prefill(self, chats: Sequence[Chat]) -> State:
        """One branch per chat; the picture is encoded and the prompt read once.

        An unfinished assistant's turn is read after its prompt, as `extend` would; several
        continuations of one chat share its prompt if they are made with `extend`.

        Raises:
            RememError: a prompt longer than the context, or logits that are no numbers.
        """
        return self._state_of(self.prompts.encode(chats), chats)

    @torch.inference_mode()
    def begin(self, inputs: Any, names: Sequence[str]) -> State:
        """One branch per row from model inputs that are padded on the left.

        Args:
            inputs: `input_ids`, `attention_mask` and what else the model takes.
            names: how error messages call the rows.
        """
        inputs = {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            if torch.is_tensor(value)
            else value
            for name, value in inputs.items()
        }
        lengths = inputs["attention_mask"].sum(-1)
        if self.context_length is not None and int(lengths.max()) > self.context_length:
            worst = int(lengths.argmax())
            raise PromptTooLong(
                f"{names[worst]}: the prompt has {int(lengths[worst])} tokens, which is more than the "
                f"model's context of {self.context_length}"
            )
        tree = Tree(self.model, names)
        logits, positions, visible = tree.prefill(inputs)
        rows = torch.arange(len(tree.names), device=self.device)
        logp = self.log_probabilities(logits, tree, rows)
        return State(tree, rows, visible, positions, logp, [torch.zeros(0)] * len(rows))

    def _state_of(self, inputs: Any, chats: Sequence[Chat]) -> State:
        try:
            state = self.begin(inputs, [chat.row for chat in chats])
        except (RememError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as error:
            if out_of_memory(error):
                raise
            raise RememError(f"{chats[0].row}: the model cannot read its prompt: {reason(error)}") from error
        said = [self.prompts.split(chat)[1] for chat in chats]
        if not any(said):
            return state
        tokens = [self.prompts.said(chat, text) for chat, text in zip(chats, said)]
        return self.extend(state, range(len(chats)), tokens)

    def _read(
        self, state: State, trie: Trie, ends: Sequence[int], leaves: bool, moments: bool = False
    ) -> tuple[Known, torch.Tensor, torch.Tensor]:
        """Read the tokens of a trie behind a state's branches, each node once.

        Args:
            ends: the last node of each token list.
            leaves: whether nodes without children are read too.
            moments: whether the scores hold `moments_of` where the token stands, too.

        Returns:
            (what has been read, ln p of every node's token on the CPU, log-probabilities behind the
            lists' last nodes that have been read, in the order of their nodes); ln p is (nodes) or, with its
            moments, (nodes, 4)
        """
        device, tree, before = self.device, state.tree, state.tree.columns
        depths: list[int] = []
        roots: list[int] = []
        inner: set[int] = set()
        for parent in trie.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 1)
            roots.append(roots[parent] if parent >= 0 else -1 - parent)
            inner.add(parent)
        read = [node for node in range(len(trie)) if leaves or node in inner]
        wanted = sorted({end for end in ends if end >= 0 and (leaves or end in inner)})
        parents, said, depth, root, nodes, last = (
            torch.tensor(numbers, dtype=torch.long, device=device)
            for numbers in (trie.parents, trie.tokens, depths, roots, read, wanted)
        )
        scores = torch.zeros(len(trie), 1 + 3 * moments, device=device)
        first = (parents < 0).nonzero()[:, 0]
        scores[first, 0] = state.logp[root[first], said[first]]
        if moments:
            scores[first, 1:] = moments_of(state.logp)[root[first]]
        place = parents.new_full((len(trie),), -1)
        place[nodes] = torch.arange(len(read), device=device)
        depth, root, ids = depth[nodes], root[nodes], said[nodes]
        rows, positions = state.rows[root], state.positions[root] + depth
        slots, width = slots_of(rows) if read else (rows, 0)
        # A node sees itself and what its parent sees.
        columns = torch.zeros(len(read), width, dtype=torch.bool, device=device)
        for level in range(1, max(depths, default=0) + 1):
            here = (depth == level).nonzero()[:, 0]
            if level > 1:
                columns[here] = columns[place[parents[nodes[here]]]]
            columns[here, slots[here]] = True
        visible = torch.cat([widened(state.visible, before)[root], columns], 1)

        below = (parents >= 0).nonzero()[:, 0]
        above, last = place[parents[below]], place[last]
        behind = state.logp.new_empty(len(wanted), state.logp.shape[1])
        values, tokens = torch.zeros(len(read), device=device), parents.new_zeros(len(read))
        # In pieces, so that the logits fit; the columns of a piece stand behind those of the one before.
        piece = max(1, self._logits_at_once // len(tree.names))
        for start in range(0, width, piece):
            size = min(piece, width - start)
            inside = (slots >= start) & (slots < start + size)
            here = inside.nonzero()[:, 0]
            logits = tree.append(
                rows[here],
                slots[here] - start,
                size,
                ids[here],
                positions[here] - 1,
                visible[here, : before + start + size],
            )
            logp = self.log_probabilities(logits, tree, rows[here])
            at = inside.cumsum(0) - 1  # place among those of this piece
            if leaves:
                values[here], tokens[here] = logp.max(-1)
            child, parent = below[inside[above]], at[above[inside[above]]]
            scores[child, 0] = logp[parent, said[child]]
            if moments:
                scores[child, 1:] = moments_of(logp)[parent]
            behind[inside[last]] = logp[at[last[inside[last]]]]
        best = list(zip(tokens.tolist(), values.tolist()))
        places = {node: index for index, node in enumerate(read)}
        known = Known(trie, list(ends), places, rows, visible, positions, best)
        return known, (scores if moments else scores[:, 0]).cpu(), behind

    @torch.inference_mode()
    def extend(self, state: State, branches: Sequence[int], tokens: Sequence[Sequence[int]]) -> State:
        """Branches that go on from those of a state.

        Args:
            branches: N indices of branches; one may come several times.
            tokens: N lists that the new branches read; beginnings that agree are read once.

        Returns:
            N branches, `given` holding the log-probabilities of their tokens. The keys and values
            stay in the state's tree; the state itself can be used on.
        """
        branches = [int(branch) for branch in branches]
        extra = torch.tensor([len(given) for given in tokens], device=self.device)
        self._check_room(picked(state, branches), extra)
        trie = Trie()
        paths = [trie.add(branch, given) for branch, given in zip(branches, tokens)]
        ends = [path[-1] if path else -1 - branch for branch, path in zip(branches, paths)]
        known, scores, behind = self._read(state, trie, ends, leaves=True)
        index = torch.tensor(branches, dtype=torch.long, device=self.device)
        rows, positions, logp = state.rows[index], state.positions[index], state.logp[index]
        visible = widened(state.visible, state.tree.columns)[index]
        if long := [branch for branch, end in enumerate(ends) if end >= 0]:
            nodes = [known.place[ends[branch]] for branch in long]
            visible[long], positions[long] = known.visible[nodes], known.positions[nodes]
            order = {node: place for place, node in enumerate(sorted({ends[branch] for branch in long}))}
            logp[long] = behind[[order[ends[branch]] for branch in long]]
        return State(state.tree, rows, visible, positions, logp, [scores[path] for path in paths], known)

    def _allowed(self, text: bytes) -> torch.Tensor:
        """Ids of the tokens that can be said where a text is to come: those that begin with it or that it begins with."""
        spelling = self.prompts.spelling
        found = [*spelling.covering(text), *spelling.within(text)]
        return torch.tensor([token for token in found if token < self.vocabulary], device=self.device)

    @torch.inference_mode()
    def begun(
        self, state: State, branches: Sequence[int], beginnings: Sequence[Given]
    ) -> tuple[State, list[int], list[Given]]:
        """Branches that have read beginnings; where one ends inside a token, the likeliest that says its end.

        Args:
            branches: N indices of branches of the state.
            beginnings: N.

        Returns:
            (N branches as of `extend`, the token that each has to say first or −1, the beginnings with what was
            read to come to their ends)
        """
        beginnings = list(beginnings)
        while True:
            behind = self.extend(state, branches, [one.tokens for one in beginnings])
            first = [-1] * len(beginnings)
            onward = False
            for branch, one in enumerate(beginnings):
                if one.open:
                    allowed = self._allowed(one.open)
                    first[branch] = token = int(allowed[behind.logp[branch, allowed].argmax()])
                    (said,) = self.prompts.spelling.of([token])
                    if len(said) < len(one.open):
                        beginnings[branch] = Given([*one.tokens, token], one.open[len(said) :])
                        onward = True
            if not onward:
                return behind, first, beginnings

    @torch.inference_mode()
    def conditioned(self, state: State, beginnings: Sequence[Given]) -> State:
        """The state with p given that the next token says what each beginning, read in its branch, leaves open."""
        for branch, one in enumerate(beginnings):
            if one.open:
                allowed = self._allowed(one.open)
                values = state.logp[branch, allowed].log_softmax(-1)
                state.logp[branch] = -torch.inf
                state.logp[branch, allowed] = values
        return state

    @torch.inference_mode()
    def logprobs(
        self, state: State, candidates: Sequence[Sequence[Sequence[int]]], moments: bool = False
    ) -> list[list[torch.Tensor]]:
        """Log-probability of every token of every candidate.

        Args:
            candidates: for each branch of the state a list of token lists that could follow.
            moments: whether `moments_of` where each token stands are wanted beside it.

        Returns:
            In the same shape, one float32 tensor (on the CPU) a candidate: (T), or (T, 4) with moments.
        """
        flat = [(branch, tokens) for branch, lists in enumerate(candidates) for tokens in lists]
        extra = torch.tensor([len(tokens) for _, tokens in flat], device=self.device)
        self._check_room(picked(state, [branch for branch, _ in flat]), extra)
        rows = state.rows.tolist()
        tokens_of = dict.fromkeys(rows, 0)
        for branch, tokens in flat:
            tokens_of[rows[branch]] += len(tokens)
        found: list[list[torch.Tensor]] = [[] for _ in candidates]
        for group in _alike(tokens_of):
            branches = [branch for branch, row in enumerate(rows) if row in group]
            part, trie = apart(state, branches), Trie()
            paths = [
                [trie.add(place, tokens) for tokens in candidates[branch]]
                for place, branch in enumerate(branches)
            ]
            _, scores, _ = self._read(part, trie, [], leaves=False, moments=moments)
            for branch, of_branch in zip(branches, paths):
                found[branch] = [scores[path] for path in of_branch]
        return found
