"""What a cell of a table says: a text, or several texts, however the table was written.

Tables come from pandas, `datasets`, spreadsheets and other languages: a column of numbers where texts are
meant, categories, lists as lists, as JSON, as Python writes them, as numpy prints them. What can mean one
thing only is read; anything else is an error that names column and kind, never "empty".
"""

from __future__ import annotations

import ast
import json
import re
import tokenize
from collections.abc import Sequence

import pyarrow as pa

from remem_tasks.data.pictures import kind_of
from remem_tasks.errors import RememError
from remem_tasks.seen import MARKER, visible

HALF = re.compile("[\ud800-\udfff]")  # JSON and Python can write one alone
LIST_COLUMNS = ("keywords",)  # columns of texts whose cells may be lists, which are kept as JSON
ARRAY = re.compile(
    r"^(?:array|Index|Series|tensor|list|tuple|set|frozenset)\((?P<listed>[\[({].*?)(?:,\s*dtype=[\w'<>.]+)?\)$|"
    r"^ARRAY(?P<sql>\[.*\])$|^c(?P<r>\(\s*['\"].*\))$",
    re.DOTALL,
)  # as numpy, pandas, PyTorch, SQL and R write one
A_LIST = re.compile(
    r"^\[(\s*['\"\[]|.*\]$)|^[({].*[)}]$|^array\(|" + ARRAY.pattern, re.DOTALL
)  # what is meant as a list, if anything is


def emptiness(cell: object) -> str:
    """Why a cell is not a text to be used, in words that are true of it; "" where it is one."""
    if not isinstance(cell, str):
        return "is null" if cell is None else f"holds {kind_of(cell)}, not a text"
    if visible(cell):
        return ""
    if not cell:
        return "is empty"
    return "holds only blanks" if not cell.strip() else "holds only characters that show nothing"


def text_of(cell: object) -> str | None:
    """A cell as text: a text itself, a whole number as it is written; None where it is null.

    Raises:
        RememError: it holds something else; the message is to be put behind the name of row and column.
    """
    if cell is None or isinstance(cell, str):
        if cell and HALF.search(cell):
            raise RememError("holds half of a character pair, which no file can hold")
        return cell
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    raise RememError(f"holds {kind_of(cell)}, not a text")


def texts_of(cell: object) -> list[str]:
    """The texts of a cell: a list, or a text that is one or that some language writes as a list.

    Read are JSON (`["a", "b"]`), Python (`['a', 'b']`, tuples, sets), and what numpy prints of arrays
    (`['a' 'b']`, `array(['a'])`). Any other text is one text itself, semicolons and bars included.

    Raises:
        RememError: a list in a list, an entry that is not a text, brackets that hold no list that can be read;
            the message is to be put behind the name of row and column.
    """
    if cell is None:
        return []
    if isinstance(cell, str):
        text = _bare(cell)
        if not A_LIST.match(text):
            return [text] if text else []
        cell = _parsed(text)
    if isinstance(cell, dict):
        raise RememError("holds a record, not a list of texts")
    found = []
    for entry in cell if isinstance(cell, list | tuple | set | frozenset) else [cell]:
        if isinstance(entry, list | tuple | set | dict):
            raise RememError("holds a list in a list")
        if entry is None:
            raise RememError("holds a list with null in it")
        try:
            found.append((text_of(entry) or "").strip())
        except RememError as error:
            raise RememError(str(error).replace("holds", "holds a list with", 1)) from None
    if blank := [entry for entry in found if not visible(entry)]:
        raise RememError(
            f"holds a list with {'an empty text' if blank[0] == '' else 'a text that shows nothing'}"
        )
    return sorted(found) if isinstance(cell, set | frozenset) else found


def _bare(text: str) -> str:
    """A text without blanks and byte order mark around it."""
    return text.strip().strip("\ufeff").strip()


def _parsed(text: str) -> object:
    """The value of a text in brackets; the text itself where round or curly ones hold no texts."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        found = ARRAY.match(text)
        value = ast.literal_eval(_with_commas(next(filter(None, found.groups())) if found else text))
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        value = None
    if text[0] in "({":  # these occur in plain texts
        several = isinstance(value, list | tuple | set) and all(isinstance(one, str) for one in value)
        return value if several else [text]
    if isinstance(value, list | tuple | set | dict):
        return value
    raise RememError(
        f'begins as a list but is none that can be read ({text[:40]!r}); write a JSON list, ["a", "b"]'
    )


def _with_commas(text: str) -> str:
    """The text with a comma between any two quoted texts that stand side by side, as numpy prints them."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    places, before = [], None
    for token in tokenize.generate_tokens(iter(lines).__next__):
        if token.type == tokenize.STRING and before == tokenize.STRING:
            places.append(starts[token.start[0] - 1] + token.start[1])
        if token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT):
            before = token.type
    pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)])]
    return ", ".join(pieces)


def is_written_list(text: object) -> bool:
    """Whether a text is a list of texts as some language writes it: brackets that a model would be taught to say."""
    if not isinstance(text, str) or not A_LIST.match(_bare(text)):
        return False
    try:
        found = _parsed(_bare(text))
    except RememError:
        return False
    several = isinstance(found, list | tuple | set) and all(isinstance(one, str) for one in found)
    return several and found != [_bare(text)]


def oddity(text: object) -> str:
    """Why a text cannot be asked or taught as it stands, in words that are true of it; "" where it can.

    A list with its brackets, or what chat templates of this field write for a picture or the end of a turn: a
    processor would put a picture there, and an answer would end there.
    """
    if is_written_list(text):
        return "is a list, written as text"
    if isinstance(text, str) and HALF.search(text):
        return "holds half of a character pair, which no file can hold"
    found = MARKER.search(text) if isinstance(text, str) else None
    return f"holds '{found[0]}', which chat templates take for a token of their own" if found else ""


def _valid_utf8(column: pa.ChunkedArray, name: str, where: str, first: int) -> pa.ChunkedArray:
    """A column of strings, all of which are UTF-8 (Arrow itself takes any bytes)."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        for index, cell in enumerate(column):
            try:
                cell.as_py()
            except UnicodeDecodeError:
                raise RememError(
                    f"{where}, row {first + index}: column '{name}' holds bytes that are no UTF-8, not a text"
                ) from None
    return column


def _plain_text(cell: object, name: str) -> str | None:
    """A cell of a column of texts; of `keywords` a list is JSON, elsewhere a list of one text is that text."""
    if not isinstance(cell, list):
        return text_of(cell)
    if name in LIST_COLUMNS:
        return json.dumps(texts_of(cell), ensure_ascii=False)
    if len(cell) == 1 and isinstance(cell[0], str):
        return cell[0]
    raise RememError("holds an empty list, not a text" if not cell else f"holds {kind_of(cell)}, not a text")


def text_column(column: pa.ChunkedArray, name: str, where: str, first: int = 0) -> pa.ChunkedArray:
    """A column as Arrow strings; lists of `keywords` as JSON, see `_plain_text`.

    Args:
        column: of any type.
        name: of the column, for messages.
        where: of the table, for messages: `split 'forget1'`.
        first: the number of its first row there.

    Raises:
        RememError: names the row of the first cell that is not a text.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return text_column(
            pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], kind.value_type),
            name,
            where,
            first,
        )
    if pa.types.is_string(kind):
        return _valid_utf8(column, name, where, first)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _valid_utf8(column, name, where, first).cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return column.cast(pa.string())
    texts = []
    for index, cell in enumerate(column.to_pylist()):
        try:
            texts.append(_plain_text(cell, name))
        except RememError as error:
            raise RememError(f"{where}, row {first + index}: column '{name}' {error}") from None
    return pa.chunked_array([pa.array(texts, pa.string())])


def list_column(column: pa.ChunkedArray, name: str, where: str, first: int = 0) -> pa.ChunkedArray:
    """A column as Arrow lists of strings, see `texts_of`; null stays null.

    Raises:
        RememError: names the row of the first cell that is not a list of texts.
    """
    kind = column.type
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return column
    lists: list[Sequence[str] | None] = []
    for index, cell in enumerate(column.to_pylist()):
        try:
            lists.append(None if cell is None else texts_of(cell))
        except RememError as error:
            raise RememError(f"{where}, row {first + index}: column '{name}' {error}") from None
    return pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
