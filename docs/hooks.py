"""Hooks of MkDocs: pages made of files outside docs/, and of the executed notebook."""

import posixpath
import re
from pathlib import Path

import nbformat
from mkdocs.structure.files import File
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
# Files of the repository, from its root, and the pages that they become.
PAGES = {
    "README.md": "index.md",
    "BUILD.md": "build.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{
        path.relative_to(ROOT).as_posix(): f"cards/{path.parent.name}.md"
        for path in sorted(ROOT.glob("regnet_jax/pretrained/*/CARD.md"))
    },
}
NOTEBOOK = "notebooks/register"
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)")


def _relinked(text: str, source: str, page: str) -> str:
    """Return Markdown whose relative links lead from ``page`` to other pages."""

    def replace(match):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        target = PAGES.get(target, target.removeprefix("docs/"))
        target = target.replace(".ipynb", ".md")
        return match[1] + posixpath.relpath(target, posixpath.dirname(page) or ".")

    return LINK.sub(replace, text)


def _execute_notebook(config):
    """Yield the files of the executed notebook: its page and its figures."""
    notebook = nbformat.read(ROOT / "docs" / f"{NOTEBOOK}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    body, made = MarkdownExporter().from_notebook_node(notebook)
    yield File.generated(config, f"{NOTEBOOK}.md", content=body)
    for name, content in made["outputs"].items():
        yield File.generated(config, f"notebooks/{name}", content=content)


def on_files(files, config):
    """Add the generated pages to those of docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        content = _relinked(text, source, page)
        files.append(File.generated(config, page, content=content))
    for file in _execute_notebook(config):
        files.append(file)
    return files


def on_page_markdown(markdown, page, **_):
    """Lead links from docs/ to files of the root to the pages that these become."""
    if page.file.generated_by:
        return markdown
    source = f"docs/{page.file.src_uri}"
    return _relinked(markdown, source, page.file.src_uri)
