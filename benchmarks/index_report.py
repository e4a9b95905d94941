"""The tables of docs/index-benchmarks.md, from what :mod:`benchmarks.index_recall` kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.index_recall import DOCUMENTED, KINDS, PARTS, TYPES, VARIANTS

DOCUMENT = Path(__file__).parents[1] / "docs" / "index-benchmarks.md"
MB = 1_000_000
BEGIN, END = "<!-- {}: written by benchmarks.indexes -->", "<!-- end of {} -->"


def write_document(kept: dict[str, Any], path: Path = DOCUMENT) -> None:
    """Replace the tables between their marks; what stands around them is written by hand."""
    text = path.read_text()
    for name, lines in (("tables", _tables(kept)), ("filters", _filters(kept))):
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = text.split(begin)
        text = "\n".join([before + begin, "", *lines, "", end + rest.split(end)[1]])
    path.write_text(text)


def _tables(kept: dict[str, Any]) -> Iterator[str]:
    for data, types in TYPES.items():
        rows = kept["tables"].get(data)
        if not rows:
            continue
        facts = kept["data"][data]
        yield (
            f"| {data}, {facts['raw_bytes'] / MB:.0f} MB of vectors | build, s | file, MB | "
            "of the vectors | in memory, MB | recall@10 | µs/query | at nq=100 |"
        )
        yield "|---|---|---|---|---|---|---|---|"
        for index_type in types:
            for variant in VARIANTS[index_type]:
                row = rows.get(f"{index_type} {variant}".strip())
                if row is not None:
                    yield _row(row, facts["raw_bytes"])
        yield ""


def _row(row: dict[str, Any], raw_bytes: int) -> str:
    cells = (
        f"{row['index']} {row['params']}".strip(),
        f"{row['build_s']:.0f}" if row["build_s"] >= 2 else f"{row['build_s']:.1f}",
        f"{row['file_bytes'] / MB:.0f}",
        f"{row['file_bytes'] / raw_bytes:.0%}".replace("%", " %"),
        f"{row['memory_bytes'] / MB:.0f}",
        f"{row['recall']:.3f}",
        f"{row['single_us']:,.0f}",
        f"{row['batch_us']:,.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def _filters(kept: dict[str, Any]) -> Iterator[str]:
    for data in TYPES:
        cases = kept["filters"].get(data)
        if not cases:
            continue
        shown = [name for name in DOCUMENTED if any(name in case for case in cases.values())]
        titles = [f"{name} {DOCUMENTED[name]}".strip() for name in shown]
        yield f"| {data}: rows that pass | " + " | ".join(titles) + " |"
        yield "|---" * (len(shown) + 1) + "|"
        for kind in KINDS:
            for part in PARTS:
                case = cases.get(f"{kind} {part}", {})
                cells = [_cell(case.get(name), str(DOCUMENTED[name])) for name in shown]
                yield f"| {kind} {part:g} | " + " | ".join(cells) + " |"
        yield ""


def _cell(found: dict[str, Any] | None, params: str) -> str:
    """Empty if it was not measured, or with other parameters."""
    if found is None or found["params"] != params:
        return ""
    return f"{found['recall']:.3f}, {found['single_us']:,.0f} µs"
