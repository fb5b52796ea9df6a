"""Load of Telnyx's SDK what a sender needs: its client, without the three thousand modules of its models and resources.

``import telnyx`` reads every model of every product, and the first use of a resource every resource: seconds of CPU and
60 MB in each worker process, at the worst time, when a restarted one should take over. The client's own ``get`` and
``post`` need neither. Invariants, each with a test:

- Whoever asks the package ``telnyx.types`` for anything gets it, loaded then, as if it had been loaded at first.
- A worker that only sends loads no resource.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_TYPES: Final = "telnyx.types"
_loading = threading.RLock()


def load() -> ModuleType:
    """The package ``telnyx``, with its models left for whoever asks for them."""
    if "telnyx" not in sys.modules:
        with _loading:
            if _TYPES not in sys.modules:
                sys.modules[_TYPES] = _package_read_later()
    import telnyx

    return telnyx


def _package_read_later() -> ModuleType:
    """``telnyx.types`` as an empty package, which finds its modules, and reads its own ``__init__`` for any other name."""
    sdk = importlib.util.find_spec("telnyx")
    if sdk is None or sdk.origin is None:
        raise ModuleNotFoundError("No module named 'telnyx'", name="telnyx")
    folder = Path(sdk.origin).parent / "types"
    spec = importlib.util.spec_from_file_location(
        _TYPES, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {_TYPES!r}", name=_TYPES)
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def read_now(name: str) -> Any:
        # A model's name is in CamelCase; the import system asks for dunder names, and for a module before it looks for its file.
        if name.islower() or name.startswith("__"):
            raise AttributeError(f"module {_TYPES!r} has no attribute {name!r}")
        with _loading:
            if package.__dict__.pop("__getattr__", None) is not None:
                loader.exec_module(package)
        return getattr(package, name)

    package.__getattr__ = read_now  # type: ignore[method-assign]
    return package
