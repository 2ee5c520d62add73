"""For tests of what is checked after the digests: manifests changed on purpose, with digests that fit."""

from __future__ import annotations

import json

from onestride.manifest import write_manifest


def rewrite(path, _drop=(), **values):
    """Change entries of a manifest and give it, and the files it lists, digests anew."""
    found = json.loads(path.read_text())
    files = [name for name in found.pop("files") if (path.parent / name).exists()]
    del found["sha256"]
    write_manifest(path, {k: v for k, v in (found | values).items() if k not in _drop}, files)
