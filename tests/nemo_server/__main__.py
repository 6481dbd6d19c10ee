"""Start NEMO with the seeded week until Ctrl-C: ``cd tests && python -m nemo_server [port]``."""

import contextlib
import signal
import sys

from nemo_server import NemoProcess

with NemoProcess(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as nemo:
    print(
        f"NX_NEMO_ADDRESS_1={nemo.url}\nNX_NEMO_TOKEN_1={nemo.token}\nadmin token: {nemo.admin_token}",
        flush=True,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
