"""Print as JSON where an event source finds its collection, and which modules of Ansible it imported for that."""

from __future__ import annotations

import json
import runpy
import sys

found = runpy.run_path(sys.argv[1])
try:
    watcher = found["_core"]("_watch.watcher")
    print(json.dumps([watcher.__file__, sorted(name for name in sys.modules if name.startswith("ansible"))]))
except RuntimeError as error:
    print(json.dumps([str(error), None]))
