"""Read damaged files in a process of little memory: requests on the standard input, verdicts on the standard output.

``python worker.py TESTS``: one JSON line each way. What a reader prints goes nowhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import traceback
from pathlib import Path

MEMORY = 2 << 30  # [bytes] more than it has when it begins
GROWN = 1 << 30  # [bytes], by one case


def verdict(read, root):
    """What came of it: "read" with a digest of the meaning, "refused", or what is wrong."""
    try:
        return {"verdict": "read", "meaning": digest(read(root))}
    except (ValueError, OSError) as error:
        said = str(error)
        if str(root) not in said:
            return {"verdict": "unnamed", "said": f"{type(error).__name__}: {said[:500]}"}
        if "\n" in said or len(said) > 1500:
            return {"verdict": "long", "said": said[:500]}
        return {"verdict": "refused", "said": said}
    except MemoryError:
        return {"verdict": "memory", "said": traceback.format_exc()[-500:]}
    except Exception:  # whatever it is: no reader should let it out
        return {"verdict": "foreign", "said": traceback.format_exc()[-700:]}


def digest(value):
    found = hashlib.sha256()
    _digest(value, found)
    return found.hexdigest()


def _digest(value, found):
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, dict):
        value = sorted(value.items())
    if isinstance(value, list | tuple):
        found.update(f"{len(value)} of".encode())
        for part in value:
            _digest(part, found)
    elif isinstance(value, np.ndarray):
        found.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    else:
        found.update(repr(value).encode())


def main(tests):
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.path[:0] = [tests, str(Path(__file__).parent)]
    import torch
    from readers import READERS

    torch.set_num_threads(1)
    readers = {reader.name: reader for reader in READERS}
    print("{}", file=answers, flush=True)
    limited = False
    for line in sys.stdin:
        asked = json.loads(line)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        said = verdict(readers[asked["reader"]].read, Path(asked["root"]))
        if 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) > GROWN:
            said |= {"verdict": "memory"}
        print(json.dumps(said), file=answers, flush=True)
        if asked.get("limit") and not limited:  # what every reader imports is there by now
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
            limited = True


if __name__ == "__main__":
    main(sys.argv[1])
