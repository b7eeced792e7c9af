"""Build the documentation site: `python docs/build.py [FOLDER]` (default: build/site).

1. Bring the generated part of `docs/tables.md` up to date.
2. Copy the pages of `docs/`, and the READMEs that belong to the site, into a source folder.
3. Add the reference pages that `reference.py` generates from the code.
4. Rewrite links between pages and files of the repository. A link without a target is an error.
5. Run Sphinx with warnings as errors: a page outside the navigation or a missing section is an error too.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

PAGES = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "deploy/databricks/README.md": "databricks.md",
}
"""Pages outside `docs/` and their names in the site."""

LINK = re.compile(r"(?<=\]\()([^()\s]+)(?=\))")
FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


class BrokenLinks(Exception):
    """Links of pages that lead to no file of the repository."""


def site_name(path: str) -> str:
    """Name of a repository file in the site: a page keeps its place below `docs/`, other files go to `files/`."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/").replace(".ipynb", ".md")
    return f"files/{path}"


def notebook_as_markdown(path: Path) -> str:
    """The cells of a notebook, code as code blocks."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
    return "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for text, kind in texts) + "\n"


def stage(folder: Path) -> None:
    """Write all pages, and the files that they link to, into a folder.

    Raises:
        BrokenLinks: names each page and target.
    """
    generated = write_reference(folder)
    sources = sorted({*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb"), *(ROOT / path for path in PAGES)})
    broken = []
    for source in sources:
        path = source.relative_to(ROOT).as_posix()
        text = notebook_as_markdown(source) if source.suffix == ".ipynb" else source.read_text(encoding="utf-8")
        text, missing = _rewrite_links(text, path, folder, generated)
        broken += [f"{path}: {target}" for target in missing]
        page = folder / site_name(path)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    if broken:
        raise BrokenLinks("links without a target:\n" + "\n".join(broken))


def write_reference(folder: Path) -> set[str]:
    """Write the generated pages; returns their names as repository paths below `docs/`."""
    sys.path.insert(0, str(DOCS))
    from reference import TABLES_PAGE, generated_pages, tables_page

    if (text := tables_page()) != TABLES_PAGE.read_text(encoding="utf-8"):
        TABLES_PAGE.write_text(text, encoding="utf-8")
    pages = generated_pages()
    for name, text in pages.items():
        page = folder / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    return {f"docs/{name}" for name in pages}


def _rewrite_links(text: str, path: str, folder: Path, generated: set[str]) -> tuple[str, list[str]]:
    """The text with its links as they are in the site, and the targets that do not exist."""
    missing: list[str] = []
    page = posixpath.dirname(site_name(path))

    def rewrite(match: re.Match[str]) -> str:
        target, mark, anchor = match[1].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[1]
        linked = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if (ROOT / linked).is_dir():
            linked = f"{linked}/README.md"
        if linked not in generated and not (ROOT / linked).is_file():
            missing.append(match[1])
            return match[1]
        name = site_name(linked)
        if not name.endswith(".md"):
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / linked, copy)
        return posixpath.relpath(name, page or ".") + mark + anchor

    parts, end = [], 0
    for fence in FENCED.finditer(text):
        parts += [LINK.sub(rewrite, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(rewrite, text[end:])]), missing


def build(output: Path) -> None:
    """Build the site. Raises BrokenLinks, or CalledProcessError if Sphinx warns."""
    with tempfile.TemporaryDirectory() as temporary:
        stage(Path(temporary))
        command = ["-W", "--keep-going", "-q", "-E", "-d", f"{temporary}/.doctrees", "-c", str(DOCS)]
        shutil.rmtree(output, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "sphinx", *command, temporary, str(output)], check=True)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    try:
        build(folder)
    except (BrokenLinks, subprocess.CalledProcessError) as error:
        sys.exit(f"docs: {error}")
    print(f"docs: {(folder / 'index.html').as_uri()}")
