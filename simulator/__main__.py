"""`python -m simulator`: the simulator as a process, with the lines that point az at it."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence

from simulator import Simulator
from simulator.identity import ACTORS


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="simulator", description="A local Azure Resource Manager. Nothing leaves this machine."
    )
    parser.add_argument("--port", type=int, default=8801, help="plain http (default 8801; 0: any)")
    parser.add_argument(
        "--tls-port", type=int, default=8443, help="https, which az and the SDKs need (default 8443; 0: any)"
    )
    parser.add_argument("--folder", default=".run", help="where the certificates are kept (default .run)")
    parser.add_argument(
        "--resources", action="append", default=[], metavar="FOLDER", help="seed from the *.json of a folder"
    )
    parser.add_argument(
        "--events-to", action="append", default=[], metavar="URL", help="deliver every event to this web hook or queue"
    )
    given = parser.parse_args(arguments)
    sim = Simulator(folder=given.folder)
    for folder in given.resources:
        sim.load(folder)
    for url in given.events_to:
        sim.events.to(url)
    sim.start(given.port, given.tls_port)
    print(f"simulator  {sim.url}  {sim.https_url}   {sum(1 for _ in sim.world.all())} resources. This is not Azure.")
    print(f"actors     {', '.join(ACTORS)}: the name is the IDENTITY_HEADER")
    print(f"for az     export REQUESTS_CA_BUNDLE={sim.ca_file} IDENTITY_ENDPOINT={sim.https_url}/msi/token", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        sim.stop()
        print("stopped")


if __name__ == "__main__":
    main()
