"""Writes what was found, and the table of verdicts, in README.md from results/claims.json."""

import json
from pathlib import Path

from nfrepro import atomic
from nfrepro.report.words import SYMBOLS, verdict_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
BEGIN, END = "<!-- written by docs/verdicts.py -->\n", "<!-- end -->\n"
REPORT = "results/REPORT.md"


def table() -> str:
    """A row a verdict, a column a scale: how many claims, and which."""
    found = json.loads((ROOT / "results" / "claims.json").read_text(encoding="utf-8"))
    rows = [["", *(f"at scale {scale}" for scale in found["scales"])], ["---"] * (1 + len(found["scales"]))]
    ids: dict[tuple[str, str], list[str]] = {}
    for claim in found["claims"]:
        ids.setdefault((claim["verdict"], claim["scale"]), []).append(claim["id"])
    for verdict in SYMBOLS:
        rows.append([verdict_text(verdict), *(cell(ids.get((verdict, scale), [])) for scale in found["scales"])])
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def found() -> str:
    """A line for each claim whose number has a meaning in words."""
    said = json.loads((ROOT / "results" / "claims.json").read_text(encoding="utf-8"))["found"]
    return "".join(f"- [{of['claim']}]({REPORT}#{of['claim'].lower()}) {of['text']}\n" for of in said)


def cell(ids: list[str]) -> str:
    links = ", ".join(f"[{name}]({REPORT}#{name.lower()})" for name in ids)
    return f"{len(ids)}: {links}" if ids else "0"


def page() -> str:
    """The page with both written anew."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return before + BEGIN + found() + "\n" + table() + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    atomic.write_text(PAGE, page())
