"""Count sentences that native readers stumble over, in docstrings, comments and pages: part of `make lint`.

Each pattern is a question, not a verdict. `BOUNDS` holds the number of marked sentences of each folder. More fail, and
fewer ask for a lower bound. `python -m docs.prose --list` prints the sentences.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BOUNDS = {"distill": 14, "stages": 1, "docs": 6}
PATTERNS = (
    r"^(What|Of|Which|Those|Such|That)\b",
    r"\b(that|those) of\b",
    r"\b(is|are|of|as) none\b",
    r"\bsuch\b(?! as)",
    r"\b(of|by|from|in|to) (which|whom)\b",
    r"\b(less|beside)\b(?! than)",
    r"\bthe ones?\b|\bones\b",
    r"\b(so|as) (many|much)\b",
    r"\b(is|are|was|be) (found|said|told|heard)\b",
)
MARKED = re.compile("|".join(PATTERNS))


def main() -> None:
    """Compare the counts with their bounds. Exit status 1 where they differ."""
    status = 0
    for folder, bound in BOUNDS.items():
        marked = [
            (path, sentence)
            for path, sentence in sentences(ROOT / folder)
            if MARKED.search(sentence)
        ]
        if "--list" in sys.argv:
            print("\n".join(f"{path.relative_to(ROOT)}: {sentence}" for path, sentence in marked))
        if len(marked) != bound:
            wanted = (
                "say them plainly" if len(marked) > bound else f"lower the bound to {len(marked)}"
            )
            print(
                f"{folder}: expected {bound} sentences to look at, found {len(marked)}; {wanted} (docs/prose.py)"
            )
            status = 1
    sys.exit(status)


def sentences(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the sentences of docstrings, comments and hand-written pages below a folder, with their files."""
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.md")]):
        if "decisions" in path.parts or "_build" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        if text.startswith("<!-- made from the code"):
            continue
        parts = (
            python_prose(text)
            if path.suffix == ".py"
            else [re.sub(r"(?ms)```.*?```|^\|[^\n]*$", "", text)]
        )
        for part in parts:
            for sentence in re.split(r"(?<=[.:;])\s+|\n\n", part):
                if joined := " ".join(sentence.split()):
                    yield path, joined


def python_prose(text: str) -> Iterator[str]:
    """Yield the docstrings and comments of a module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("# ")


if __name__ == "__main__":
    main()
