"""The figures of both servers as a table of ratios and as a plot."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

# name, key, True if larger is better
FIGURES = (
    ("bulk insert, rows/s", "insert_rows_per_s", True),
    ("search at 4 clients, QPS", "search_qps", True),
    ("search p50 at one client, ms", "search_p50_ms", False),
    ("search p99 at one client, ms", "search_p99_ms", False),
    ("server CPU per query, ms", "cpu_ms_per_query", False),
    ("Strong search after an insert, p50 ms", "strong_search_p50_ms", False),
    ("search under 2,000 inserts/s, QPS", "bounded_search_qps_while_inserting", True),
    ("Strong search under 2,000 inserts/s, QPS", "strong_search_qps_while_inserting", True),
    ("search at 4 light clients, QPS", "light_search_qps", True),
    ("server CPU per query of light clients, ms", "light_cpu_ms_per_query", False),
    (
        "search by light clients under 2,000 inserts/s, QPS",
        "light_bounded_search_qps_while_inserting",
        True,
    ),
    ("kill -9 to first answer, s", "kill_to_first_answer_s", False),
    ("start of an empty store, s", "start_s", False),
    ("resident memory idle, MB", "idle_resident_mb", False),
    ("resident memory loaded, MB", "loaded_resident_mb", False),
    ("idle CPU, %", "idle_cpu_percent", False),
    ("index build, s", "index_s", False),
)


def write_report(results: dict[str, dict[str, Any]], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "compare.json").write_text(json.dumps(results, indent=2))
    names = list(results)
    table = Table(title="Same machine, same client, same data")
    table.add_column("figure")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("Elanus is better by", justify="right")
    for title, key, larger in FIGURES:
        values = [results[name][key] for name in names]
        ratio = advantage(results, key, larger)
        table.add_row(title, *(f"{v:,.2f}" for v in values), f"{ratio:.1f}×" if ratio else "")
    for number, key in enumerate(("recall_by_ef", "filtered_recall")):
        for case in results[names[0]][key]:
            label = f"recall@10 at ef={case}" if number == 0 else f"recall@10, {case or 'all rows'}"
            table.add_row(label, *(f"{results[name][key][case]:.4f}" for name in names), "")
    table.add_row("ef that gives 0.95", *(str(results[name]["ef"]) for name in names), "")
    Console(width=120).print(table)
    if len(results) == 2:
        (directory / "compare.svg").write_text(plot(results))


def advantage(results: dict[str, dict[str, Any]], key: str, larger: bool) -> float | None:
    """How many times better Elanus is; None with one server only."""
    if len(results) < 2:
        return None
    ours, theirs = results["elanus"][key], results["milvus"][key]
    above, below = (ours, theirs) if larger else (theirs, ours)
    return above / below if below else float("inf")


def plot(results: dict[str, dict[str, Any]]) -> str:
    """Horizontal bars on a logarithmic scale from 0.1× to 1,000×, the line at 1×."""
    import math

    left, width, height = 360, 520, 26
    lines = []
    for number, (title, key, larger) in enumerate(FIGURES):
        ratio = advantage(results, key, larger) or 1.0
        end = left + width * (math.log10(min(max(ratio, 0.1), 1_000.0)) + 1) / 4
        one = left + width / 4
        start, length = min(one, end), abs(end - one)
        y = 40 + number * height
        color = "#2a7f62" if ratio >= 1 else "#b5483a"
        lines += [
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{title}</text>',
            f'<rect x="{start:.1f}" y="{y}" width="{length:.1f}" height="17" fill="{color}"/>',
            f'<text x="{max(start + length, one) + 6:.1f}" y="{y + 13}">{ratio:.1f}×</text>',
        ]
    total = 60 + len(FIGURES) * height
    one = left + width / 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{total}" '
        'font-family="sans-serif" font-size="12">'
        '<rect width="100%" height="100%" fill="white"/>'
        '<text x="8" y="20" font-size="14">Elanus against Milvus 2.3.5: times better</text>'
        f'<line x1="{one}" y1="34" x2="{one}" y2="{total - 10}" stroke="#888"/>'
        + "".join(lines)
        + "</svg>\n"
    )
