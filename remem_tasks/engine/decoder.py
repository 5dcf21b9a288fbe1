"""Everything that continues a row, from one prefill: greedy replies, rollouts, distinct outcomes, log-probabilities.

    decoder = Decoder(model, processor)
    state = decoder.prefill(chats)                        # one branch a row
    cuts = decoder.extend(state, rows, prefixes)          # more branches, sharing the row's prompt
    replies = decoder.greedy(cuts, 200)

Probabilities are the model's own, at temperature 1, float32, renormalised without the tokens that are
no text (`prompts.text_tokens`). Nothing here calls `generate`.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from remem_tasks.checkpoints import reason
from remem_tasks.engine.beams import Beams
from remem_tasks.engine.draw import generator, uniforms
from remem_tasks.engine.frontiers import Front, Lone, slots_of
from remem_tasks.engine.prompts import Chat, Given, Prompts, text_tokens
from remem_tasks.engine.search import Beam, BestFirst, Rank, shown
from remem_tasks.engine.state import Continuations, Known, Reply, State, apart, picked, widened
from remem_tasks.engine.tree import Tree
from remem_tasks.engine.trie import Trie
from remem_tasks.errors import NonFiniteError, RememError


@dataclass
class _GreedyCursor:
    """A greedy reply as far as it is known without decoding.

    Attributes:
        node: where it has come to.
        branch: whose reply it is.
        next: the token that it says next, and its log-probability.
        tokens, values: what it has said, and ln p of each.
        open: whether it goes on.
    """

    node: int
    branch: int
    next: tuple[int, float]
    tokens: list[int]
    values: list[float]
    open: bool = True

    @property
    def place(self) -> tuple[int, int]:
        """What goes on from here goes on alike."""
        return self.node, self.next[0]

    def say(self) -> None:
        self.tokens.append(self.next[0])
        self.values.append(self.next[1])


def _for_each(number: int | Sequence[int], count: int) -> list[int]:
    """A number for each of so many branches."""
    return [number] * count if isinstance(number, int) else list(number)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory did not suffice."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "allocate memory" in text


def moments_of(logp: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation of ln p(z) under p, over the vocabulary: (N, V) to (N, 2), float32.

    A token of probability 0 (ln p = −∞), as those that are no text, counts nothing.
    """
    p, values = logp.exp(), logp.masked_fill(logp == -torch.inf, 0.0)
    means = (p * values).sum(-1, keepdim=True)
    return torch.cat([means, (p * (values - means).square()).sum(-1, keepdim=True).sqrt()], -1)


class Decoder:
    """Continues rows in batches.

    Args:
        model: an image-text-to-text model, with an adapter or without, in eval mode.
        processor: its processor.
        budget: bytes that a batch's keys, values and logits may take; by default 60 % of what is free
            on a GPU, else 1 GiB.
    """

    def __init__(self, model: Any, processor: Any, budget: int | None = None) -> None:
        self.model = model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        text = base.config.get_text_config()
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
        heads = getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", 1)
        size = getattr(text, "head_dim", None) or text.hidden_size // max(
            1, getattr(text, "num_attention_heads", 1)
        )
        itemsize = torch.finfo(self.dtype).bits // 8
        self._column_bytes = 2 * getattr(text, "num_hidden_layers", 1) * heads * size * itemsize
        self._branch_bytes = self.vocabulary * 24  # logits, their float32 copy, work of the sampling
        self._reading_bytes = 16 * text.hidden_size * itemsize  # of a token, while a prompt is read
        # Rows of logits to make at once where more are wanted; on a CPU what stays in its caches is fastest.
        most = budget if budget is not None else 2**24 if self.device.type == "cpu" else 2**31
        self._logits_at_once = max(1, most // (self.vocabulary * 4))
        self._budget = budget
        self._rows_at_once: int | None = None

    # Probabilities

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
        """Raises RememError if a branch and `extra` (B) tokens more are longer than the context."""
        if self.context_length is None or not len(state):
            return
        over = state.lengths() + extra - self.context_length
        worst = int(over.argmax())
        if over[worst] > 0:
            length, new = int(state.lengths()[worst]), int(extra[worst])
            raise RememError(
                f"{state.name(worst)}: the prompt has {length} tokens, which with {new} new ones is more "
                f"than the model's context of {self.context_length}"
            )

    # States

    @torch.inference_mode()
    def prefill(self, chats: Sequence[Chat]) -> State:
        """One branch a chat; the picture is encoded and the prompt read once.

        An unfinished assistant's turn is read after its prompt, as `extend` would; several
        continuations of one chat share its prompt if they are made with `extend`.

        Raises:
            RememError: a prompt longer than the context, or logits that are no numbers.
        """
        return self._state_of(self.prompts.encode(chats), chats)

    @torch.inference_mode()
    def begin(self, inputs: Any, names: Sequence[str]) -> State:
        """One branch a row from model inputs that are padded on the left.

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
            raise RememError(
                f"{names[worst]}: the prompt has {int(lengths[worst])} tokens, which is more than the "
                f"model's context of {self.context_length}"
            )
        tree = Tree(self.model, names)
        logits, positions, visible = tree.prefill(inputs)
        rows = torch.arange(len(tree.names), device=self.device)
        logp = self.log_probabilities(logits, tree, rows)
        return State(tree, rows, visible, positions, logp, [torch.zeros(0)] * len(rows))

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
            moments, (nodes, 3)
        """
        device, tree, before = self.device, state.tree, state.tree.columns
        depths, roots, inner = [], [], set()
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
        scores = torch.zeros(len(trie), 1 + 2 * moments, device=device)
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
            In the same shape, one float32 tensor (on the CPU) a candidate: (T), or (T, 3) with moments.
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

    # Continuations

    @torch.inference_mode()
    def greedy(
        self, state: State, max_new_tokens: int | Sequence[int], first: Sequence[int] | None = None
    ) -> list[Reply]:
        """The likeliest token again and again, until an end token or the limit; one reply a branch.

        A branch that says what `extend` has read for another is not decoded again: it follows the
        other, and goes on with it as one. So the cuts of an answer that a model knows by heart cost
        little more than one reply.

        Args:
            max_new_tokens: at least 1, for all or for each branch.
            first: the token that each branch says first; −1 for the likeliest.
        """
        limits = _for_each(max_new_tokens, len(state))
        if min(limits, default=1) < 1:
            raise ValueError(f"max_new_tokens is {min(limits)}; at least 1")
        self._check_room(state, torch.tensor(limits, device=self.device))
        walks = self._follow(state, limits, first)
        starts: dict[tuple[int, int], int] = {}  # node and next token to the front's branch
        need: list[int] = []  # tokens wanted from each
        for walk, limit in zip(walks, limits):
            if walk.open:
                if walk.place not in starts:
                    starts[walk.place] = len(need)
                    need.append(0)
                at = starts[walk.place]
                need[at] = max(need[at], limit - len(walk.tokens))
        tails = self._decode(state, walks, starts, need)
        replies = []
        for walk, limit in zip(walks, limits):
            tokens, values = walk.tokens, walk.values
            if walk.open:
                more, extra = tails[starts[walk.place]]
                tokens, values = (tokens + more)[:limit], (values + extra)[:limit]
            replies.append(Reply(tokens, tokens[-1] in self.ends, math.fsum(values)))
        return replies

    def _follow(
        self, state: State, limits: Sequence[int], first: Sequence[int] | None
    ) -> list[_GreedyCursor]:
        """What each branch says as long as it stays among what `extend` has read."""
        best, chosen = state.logp.max(-1)
        if first is not None:
            told = torch.tensor(first, dtype=torch.long, device=self.device)
            chosen = torch.where(told < 0, chosen, told)
            best = state.logp.gather(1, chosen[:, None])[:, 0]
        value, token = best.tolist(), chosen.tolist()
        known = state.known
        walks = []
        for branch, limit in enumerate(limits):
            # Without a trie, every branch is a node of its own.
            node = known.ends[branch] if known else -1 - branch
            walk = _GreedyCursor(node, branch, (token[branch], value[branch]), [], [])
            while known and len(walk.tokens) < limit and walk.next[0] not in self.ends:
                child = known.trie.children.get((walk.node, walk.next[0]))
                if child is None:
                    break
                walk.say()
                walk.node, walk.next = child, known.best[known.place[child]]
            if len(walk.tokens) < limit and walk.next[0] in self.ends:
                walk.say()
                walk.open = False
            walk.open = walk.open and len(walk.tokens) < limit
            walks.append(walk)
        return walks

    def _decode(
        self,
        state: State,
        walks: Sequence[_GreedyCursor],
        starts: Mapping[tuple[int, int], int],
        need: Sequence[int],
    ) -> list[tuple[list[int], list[float]]]:
        """Greedy tokens, and ln p of each, from the nodes where walks have left what is known.

        Args:
            starts: node and next token to index.
            need: how many tokens are wanted from each.
        """
        if not starts:
            return []
        first: dict[int, _GreedyCursor] = {}
        for walk in walks:
            if walk.open:
                first.setdefault(starts[walk.place], walk)
        from_ = [first[index] for index in range(len(need))]
        front, device = Lone(self.log_probabilities, state), self.device
        index = torch.tensor([walk.branch for walk in from_], device=device)
        rows, visible, positions = front.rows[index], front.visible[index], front.positions[index]
        if away := [place for place, walk in enumerate(from_) if walk.node >= 0]:
            nodes = [state.known.place[from_[place].node] for place in away]
            rows[away], positions[away] = state.known.rows[nodes], state.known.positions[nodes]
            visible[away] = widened(state.known.visible[nodes], front.mark)
        front.rows, front.visible, front.positions = rows, visible, positions
        limit, longest = torch.tensor(need, device=device), max(need)
        front.begin(torch.arange(len(need), device=device), longest)
        out = torch.full((len(need), longest), -1, dtype=torch.long, device=device)
        values = torch.zeros(len(need), longest, dtype=torch.float64, device=device)
        at = torch.arange(len(need), device=device)
        token = torch.tensor([walk.next[0] for walk in from_], device=device)
        best = torch.tensor([walk.next[1] for walk in from_], device=device)
        for place in range(longest):
            out[at, place], values[at, place] = token, best.double()
            going = ~torch.isin(token, self._ends) & (place + 1 < limit[at])
            if not going.all():
                left = going.nonzero()[:, 0]
                at, token = at[left], token[left]
                if not len(at):
                    break
                front.take(left)
            best, token = front.step(token).max(-1)
        front.close()
        lengths = (out >= 0).sum(-1).tolist()
        return [
            (tokens[:length], of_tokens[:length])
            for tokens, of_tokens, length in zip(out.tolist(), values.tolist(), lengths)
        ]

    @torch.inference_mode()
    def sample(
        self,
        state: State,
        m: int,
        max_tokens: int | Sequence[int],
        seeds: Sequence[int],
        warp: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> list[Continuations]:
        """m rollouts a branch from the model's own distribution: temperature 1, no top-k, no top-p.

        Rollouts that agree so far are one branch of the tree, so a peaked model costs little.

        Args:
            m: rollouts a branch.
            max_tokens: where they are cut, for all or for each branch.
            seeds: one a branch (`draw.row_seed`).
            warp: draws from another distribution: log-probabilities (N, vocabulary) to log-probabilities.
        """
        count, device = len(state), self.device
        limits = _for_each(max_tokens, count)
        limit = torch.tensor(limits, device=device).repeat_interleave(m)
        self._check_room(state, torch.tensor(limits, device=device))
        longest = max(limits, default=0)
        # One number a rollout and token, drawn at once: a branch's numbers never depend on the others'.
        noise = torch.zeros(count, m, longest, dtype=torch.float64)
        for branch, seed in enumerate(seeds):
            noise[branch, :, : limits[branch]] = uniforms(generator(seed), m, limits[branch])
        noise = noise.view(count * m, longest).to(device)
        out = torch.full((count * m, longest), -1, dtype=torch.long, device=device)
        total = torch.zeros(count * m, dtype=torch.float64, device=device)
        front, logp = Front(self.log_probabilities, state), state.logp if warp is None else warp(state.logp)
        at = torch.arange(count * m, device=device)  # rollouts that go on
        node = at // m  # the front's branch of each of them
        for place in range(longest):
            token = _inverse(logp, node, noise[at, place])
            out[at, place] = token
            total[at] += logp[node, token].double()
            going = (~torch.isin(token, self._ends) & (place + 1 < limit[at])).nonzero()[:, 0]
            if not len(going):
                break
            at, node, token = at[going], node[going], token[going]
            joint, node = torch.unique(node * self.vocabulary + token, return_inverse=True)
            front.take(joint // self.vocabulary)
            logp = front.step(joint % self.vocabulary)
            logp = logp if warp is None else warp(logp)
        front.close()
        lengths = (out >= 0).sum(-1).tolist()
        cut = [tokens[:length] for tokens, length in zip(out.tolist(), lengths)]
        total = total.cpu()
        return [
            Continuations(cut[start : start + m], total[start : start + m])
            for start in range(0, count * m, m)
        ]

    @torch.inference_mode()
    def distinct(
        self,
        state: State,
        m: int,
        lengths: int | Sequence[int],
        seeds: Sequence[int],
        floors: Sequence[float] | None = None,
    ) -> list[Continuations]:
        """m distinct outcomes a branch, drawn from p without replacement; all of them if there are fewer.

        An outcome is a continuation cut at n tokens, or earlier behind an end token. Where a model has
        several end tokens, they end different outcomes. By stochastic beam search (see `beams`).

        Args:
            m: outcomes a branch.
            lengths: n, for all or for each branch.
            seeds: one a branch (`draw.row_seed`).
            floors: log-probabilities, one a branch. A prefix that is no likelier than the floor is not
                gone on with: all its continuations, none of which can be likelier, are one outcome
                (given by the prefix, cut short). With floor ln P(s), the outcomes likelier than s are
                whole and are what counts for the rank of s; a model that knows s costs next to nothing.

        Returns:
            Outcomes in falling order of their perturbed log-probability.
        """
        count = len(state)
        limits = _for_each(lengths, count)
        floors = [-math.inf] * count if floors is None else list(floors)
        self._check_room(state, torch.tensor(limits, device=self.device))
        found: list[Continuations | None] = [None] * count
        for part in self._side_by_side(m, limits, floors):
            beams = self._beams(m, part, limits, seeds, floors)
            self._grow(state, part, [beams])
            for branch, parts in zip(part, beams.outcomes()):
                found[branch] = Continuations(*parts)
        return found

    def _beams(
        self,
        m: int,
        part: Sequence[int],
        limits: Sequence[int],
        seeds: Sequence[int],
        floors: Sequence[float],
    ) -> Beams:
        """The beams of some branches, which draw outcomes without replacement."""
        of_part = ([numbers[branch] for branch in part] for numbers in (limits, seeds, floors))
        return Beams(m, *of_part, self._ends, self.device)

    def _grow(self, state: State, part: Sequence[int], searches: Sequence[Beam | Beams]) -> None:
        """Lead searches of the same branches down to their outcomes; what several come to is read once."""
        front = Front(self.log_probabilities, state)
        index = torch.tensor(list(part), device=self.device)
        front.take(index, copy=len(state) > len(part))
        logp, going = state.logp[index], {place: slice(None) for place in range(len(searches))}
        while True:
            wanted = {}
            for place, at in going.items():
                # A search may overwrite what it is given.
                here = logp[at] if isinstance(at, torch.Tensor) else logp.clone()
                parents, tokens = searches[place].grow(here)
                if len(parents):
                    parents = at[parents] if isinstance(at, torch.Tensor) else parents
                    wanted[place] = parents * self.vocabulary + tokens
            if not wanted:
                break
            joint, inverse = torch.unique(torch.cat(list(wanted.values())), return_inverse=True)
            going = dict(zip(wanted, inverse.split([len(one) for one in wanted.values()])))
            front.take(joint // self.vocabulary)
            logp = front.step(joint % self.vocabulary)
        front.close()

    @torch.inference_mode()
    def ranks(
        self,
        state: State,
        m: int,
        secrets: Sequence[Sequence[int]],
        floors: Sequence[float],
        budget: int,
        seeds: Sequence[Sequence[int]] = (),
    ) -> tuple[list[Rank], list[list[Continuations]]]:
        """The guess rank of a secret behind each branch, exactly or between bounds (see `search`).

        With seeds, outcomes are drawn on the way, as `distinct` does with the floors: each prefix is read once
        for all. Where they show m outcomes above a secret, its rank is above m without a search.

        Args:
            m: guesses among which the secrets are ranked.
            secrets: the tokens of each, at least one.
            floors: ln P of each.
            budget: prefixes that may be read for a secret whose rank the beam cannot say.
            seeds: for each drawing one a branch.

        Returns:
            (a rank a branch; for each drawing the outcomes of each branch)
        """
        count, words = len(state), self.vocabulary - int(self.banned.sum())
        limits = [len(secret) for secret in secrets]
        self._check_room(state, torch.tensor(limits, device=self.device))
        found: list[Rank | None] = [None] * count
        drawn: list[list[Continuations | None]] = [[None] * count for _ in seeds]
        for part in self._side_by_side(m * (2 + len(seeds)) // 2, limits, floors):
            of_part = ([numbers[branch] for branch in part] for numbers in (secrets, floors))
            beam = Beam(m, *of_part, self._ends, words, self.device)
            beams = [self._beams(m, part, limits, of_drawing, floors) for of_drawing in seeds]
            self._grow(state, part, [beam, *beams])
            for branch, rank in zip(part, beam.ranks()):
                found[branch] = rank
            for here, one in zip(drawn, beams):
                for branch, parts in zip(part, one.outcomes()):
                    here[branch] = Continuations(*parts)
        searches = {}
        for branch in [branch for branch in range(count) if found[branch] is None]:
            secret, floor = secrets[branch], floors[branch]
            found[branch] = shown(m, secret, floor, [of_drawing[branch] for of_drawing in drawn])
            if found[branch] is None:
                searches[branch] = BestFirst(m, secret, floor, self.ends, words, budget)
        mark = state.tree.columns
        while going := [branch for branch, search in searches.items() if search.open]:
            taken = [(branch, searches[branch].take(m)) for branch in going]
            asked = [(branch, prefix) for branch, prefixes in taken for _, prefix in prefixes]
            branches, prefixes = [branch for branch, _ in asked], [prefix for _, prefix in asked]
            parts = self.extend(state, branches, prefixes).logp.split([len(some) for _, some in taken])
            for (branch, some), logp in zip(taken, parts):
                searches[branch].put(some, logp)
            state.tree.crop(mark)
        return [searches[branch].rank() if rank is None else rank for branch, rank in enumerate(found)], drawn

    def _side_by_side(self, m: int, limits: Sequence[int], floors: Sequence[float]) -> Iterator[list[int]]:
        """Branches with about as many beams, for about as many tokens.

        At e^floor there are no more than e^-floor prefixes that go on.
        """
        order = sorted(
            range(len(limits)),
            key=lambda branch: (round(min(math.log(m), -floors[branch])), limits[branch]),
        )
        group = max(8, (8192 if self.device.type == "cuda" else 2048) // m)
        for start in range(0, len(order), group):
            yield order[start : start + group]

    # Batches

    @property
    def budget(self) -> int:
        """Bytes for a batch's keys, values and logits."""
        if self._budget is None:
            free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else None
            self._budget = 2**30 if free is None else int(0.6 * free)
        return self._budget

    def batches(
        self,
        chats: Sequence[Chat],
        work: Callable[[State, list[int], list[Chat]], list[Any]],
        *,
        sizes: Sequence[Any] | None = None,
        branches: int = 1,
        columns: int = 0,
        limit: int = 64,
    ) -> Iterator[tuple[list[int], list[Any]]]:
        """Do the work of all chats, in batches that fill the budget, chats of similar length side by side.

        Long prompts come first, so that what does not fit shows at the start. Out of memory halves the
        batch, and it stays halved.

        Args:
            chats: one prefill each; with `sizes`, each is asked for when its batch comes.
            work: a state (one branch a chat), the indices of its chats and these to one result a chat.
            sizes: what the chats are ordered by, the longest first; by default pictures and letters.
            branches: the most branches of a row that `work` holds at a time.
            columns: the most tokens that `work` appends to a row in all its branches.
            limit: the most chats in a batch.

        Yields:
            (indices, results)

        Raises:
            RememError: a chat alone does not fit into memory.
        """
        if sizes is None:
            sizes = [_extent(chat) for chat in chats]
        order = sorted(range(len(chats)), key=lambda index: (sizes[index], index), reverse=True)
        row_bytes = columns * self._column_bytes + branches * self._branch_bytes
        column_bytes = self._column_bytes + self._reading_bytes
        most = min(limit, self._rows_at_once or limit)
        length: int | None = None  # columns of the batch before
        made: dict[int, Chat] = {}
        start = 0
        while start < len(order):
            if length is None:
                made[order[start]] = chats[order[start]]
                length = self.prompts.encode([made[order[start]]])["input_ids"].shape[1]
            fits = max(1, self.budget // (row_bytes + length * column_bytes))
            chunk = order[start : start + min(most, fits)]
            made = {index: made[index] if index in made else chats[index] for index in chunk}
            pictures = _extent(made[chunk[0]])[0]
            chunk = list(itertools.takewhile(lambda index: _extent(made[index])[0] == pictures, chunk))  # noqa: B023
            here, result = [made[index] for index in chunk], None
            try:
                inputs = self.prompts.encode(here)
                length = inputs["input_ids"].shape[1]
                if len(chunk) > max(1, self.budget // (row_bytes + length * column_bytes)):
                    continue  # a longer one was among them
                state = self._state_of(inputs, here)
                result = work(state, chunk, here)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if len(chunk) == 1:
                    raise RememError(f"{here[0].row}: out of memory with this row alone") from error
            if result is None:  # outside the handler, so that the failed batch's memory is let go
                inputs = state = None
                self._rows_at_once = most = max(1, len(chunk) // 2)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                warnings.warn(f"out of memory: going on with {most} rows at once", stacklevel=2)
                continue
            yield chunk, result
            start += len(chunk)

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


def _extent(chat: Chat) -> tuple[int, int]:
    """(pictures, letters) of a chat: what its length goes by."""
    parts = [
        part
        for turn in chat.messages
        for part in ([] if isinstance(turn["content"], str) else turn["content"])
    ]
    letters = sum(len(turn["content"]) for turn in chat.messages if isinstance(turn["content"], str))
    return (
        sum(part["type"] == "image" for part in parts),
        letters + sum(len(part["text"]) for part in parts if part["type"] == "text"),
    )


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


def _inverse(logp: torch.Tensor, node: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Tokens by the inverse of the distribution function.

    Args:
        logp: (N, vocabulary).
        node: (R), in rising order, whose distribution each number is for.
        drawn: (R) uniform in [0, 1), float64.
    """
    slots, width = slots_of(node)
    asked = torch.zeros(len(logp), width, dtype=torch.float64, device=logp.device)
    summed = logp.double().exp_().cumsum_(-1)
    whole = summed[node, -1]
    asked[node, slots] = torch.minimum(drawn * whole, whole.nextafter(torch.zeros_like(whole)))
    # The first token whose sum is above the number: a token without probability is never the first.
    return torch.searchsorted(summed, asked, right=True)[node, slots]
