"""Start CDCS with our template until Ctrl-C: ``cd tests && python -m cdcs_server [sqlite|postgres] [full]``."""

import contextlib
import signal
import sys

from cdcs_server import CdcsProcess

with CdcsProcess(database="postgres" if "postgres" in sys.argv else "sqlite", full="full" in sys.argv) as cdcs:
    print("\n".join(f"{name}={value}" for name, value in cdcs.variables(cdcs.url).items()), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
