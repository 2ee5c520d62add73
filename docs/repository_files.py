"""A hook of MkDocs: pages may link files of the repository outside of docs/, such as pictures in results/.

A link to ``../results/kinova/arms.gif`` works where a page is read in the repository. For the site the file is copied
to ``repository/results/kinova/arms.gif``, and the link follows it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

LINK = re.compile(r"(?<=\]\()(?P<target>\.\./[^)\s#]+)(?=[)\s#])")
COPIES = "repository"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return the page with links that leave docs/ pointing to copies, which are added to ``files``."""
    docs = Path(config.docs_dir)
    folder = posixpath.dirname(page.file.src_uri)

    def followed(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link["target"]))
        if not path.startswith("../") or not (docs / path).is_file():
            return link["target"]  # a page; or missing, which MkDocs says
        copy = f"{COPIES}/{path.removeprefix('../')}"
        if files.get_file_from_path(copy) is None:
            files.append(File.generated(config, copy, abs_src_path=str((docs / path).resolve())))
        return posixpath.relpath(copy, folder or ".")

    return LINK.sub(followed, markdown)
