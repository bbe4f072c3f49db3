"""Makes the description that a package index shows: the README without links that lead nowhere there.

hatchling calls it when it builds. `[tool.warmfork] files` in pyproject.toml is the address of a file of the project, with
{path} in it. Where it is empty, a relative link becomes its text, and a picture goes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

try:
    from hatchling.metadata.plugin.interface import MetadataHookInterface as Hook
except ImportError:  # the tests read it without hatchling
    Hook = object

PICTURE = re.compile(r"<!-- picture -->.*?<!-- /picture -->", re.DOTALL)
"""A picture, and what is said about it."""

LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<path>[^)\s]+)\)")


def make_description(readme: str, files: str) -> str:
    """Give the README with each relative link made absolute, or taken out."""

    def replace(link: re.Match[str]) -> str:
        if re.match(r"[a-z]+:", link["path"]):
            return link[0]
        if files:
            return f"{link['picture']}[{link['text']}]({files.replace('{path}', link['path'])})"
        return "" if link["picture"] else link["text"]

    if not files:
        readme = PICTURE.sub("", readme)
    return re.sub(r"\n{3,}", "\n\n", LINK.sub(replace, readme))


class Description(Hook):  # type: ignore[misc]
    """What hatchling asks for the fields that are dynamic."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description, and the project's addresses."""
        text = (Path(self.root) / "README.md").read_text()
        files = self.config.get("files", "")
        metadata["readme"] = {"content-type": "text/markdown", "text": make_description(text, files)}
        metadata["urls"] = {name: url for name, url in self.config.get("urls", {}).items() if url}
