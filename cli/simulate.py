"""guardrail simulate: the local Azure alone, for az, for Core Tools, for your own experiments."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import Code, Ended, count, say, tell, text

if TYPE_CHECKING:
    from simulator import Simulator


def simulate(
    port: Annotated[int, typer.Option(help="For plain http; 0: any free one.")] = 8801,
    tls_port: Annotated[int, typer.Option(help="For https, which az insists on; 0: any free one.")] = 8443,
    resources: Annotated[str, typer.Option(metavar="DIR", help="Documents to begin with; without: the story's 14.")] = "",
    events_to: Annotated[str, typer.Option(metavar="URL", help="A web hook that gets the events, as Event Grid would.")] = "",
    host: Annotated[str, typer.Option(help="Loopback only.")] = "127.0.0.1",
) -> None:
    """Serves a simulated Azure Resource Manager on this machine until Ctrl+C."""
    from cli.run import free, refuse_foreign

    refuse_foreign(host)
    simulator, many = made(resources, Path(".run"))
    try:
        url = simulator.start(free(port), free(tls_port))
    except OSError as error:
        raise Ended(Code.UNFINISHED, f"port {port} or {tls_port}: {error.strerror}. cure: --port 0 --tls-port 0.") from error
    if events_to:
        simulator.events.to(events_to, name="guardrail")
    ca = Path(simulator.ca_file).absolute()
    tell(f"simulator  {url}   {count(many, 'resource')}. Nothing here is Azure.")
    tell(f"           {simulator.https_url}   CA: {ca}")
    tell(f"events     {events_to or 'go nowhere: --events-to URL'}")
    tell("az signs in so, in a shell of its own:")
    for line in SIGN_IN:
        tell("  " + line.format(ca=ca, url=simulator.https_url))
    say("Ctrl+C ends it.")
    try:
        threading.Event().wait()
    finally:
        simulator.stop()


SIGN_IN = (
    "export IDENTITY_HEADER=ml-engineer AZURE_CONFIG_DIR=.run/az-ml-engineer NO_PROXY=localhost,127.0.0.1",
    "export IDENTITY_ENDPOINT={url}/msi/token REQUESTS_CA_BUNDLE={ca}",
    "az cloud register -n Simulated --endpoint-resource-manager {url} && az cloud set -n Simulated",
    "az login --identity",
)


def made(resources: str, folder: Path) -> tuple[Simulator, int]:
    """(Simulator, how many resources), not started yet. Errors: Ended."""
    from cli import world
    from simulator import Simulator  # uvicorn, cryptography: not before they are needed

    found = list(world.samples(Path(resources) if resources else world.STORY))
    if not found:
        raise Ended(Code.USAGE, f"{resources}: no documents. cure: JSON files with id, api_version and document.")
    simulator = Simulator(subscriptions=world.subscriptions(found), folder=folder)
    return simulator, world.seed(simulator, found)


HELP = text("guardrail simulate", "guardrail simulate --port 8801 --resources recorded/resources --events-to "
            "http://127.0.0.1:7071/runtime/webhooks/EventGrid?functionName=on_resource_change", exits=(0, 1, 130))
