"""Notices of Google Cloud that this machine will be taken back or stopped for maintenance.

Each machine there asks a server of its own, at an address that no packet leaves the host for. It is asked only where
the firmware names the machine a Google one, and the question holds nothing but two fixed paths. The environment
variable NO_GCE_CHECK=true, which Google's own libraries know too, turns it off.

Source: "Query the metadata server for maintenance event notices" and "Spot VMs: preemption process" of the
documentation of Compute Engine. A spot machine has 30 seconds after the notice, one with a GPU has an hour before its
maintenance.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

HOST = "169.254.169.254"
PRODUCT = Path("/sys/class/dmi/id/product_name")
SECONDS = 5.0  # between two questions
TIMEOUT = 2.0  # seconds for an answer
PREEMPTED, MAINTENANCE = "preempted", "maintenance-event"
_FLAVOR = {"Metadata-Flavor": "Google"}  # the server answers only with this header, and its answers have it too


def is_google_machine(product: Path = PRODUCT) -> bool:
    """Whether the firmware names this machine a virtual machine of Google Cloud, and nobody turned the notices off."""
    if os.environ.get("NO_GCE_CHECK", "").lower() == "true":
        return False
    try:
        return product.read_text("utf-8", "replace").strip() in ("Google", "Google Compute Engine")
    except OSError:
        return False


@contextlib.contextmanager
def watched(on_save: Callable[[str], None], on_stop: Callable[[str], None]) -> Iterator[None]:
    """Context manager with a thread that looks for notices; without a thread where this is no machine of Google Cloud.

    Args:
      on_save: called with a text when a maintenance that stops the machine is announced, once for each.
      on_stop: called with a text, once, when the machine is being taken back.
    """
    if not is_google_machine():
        yield
        return
    ended = threading.Event()
    threading.Thread(target=watch, args=(ended, on_save, on_stop), daemon=True, name="notices").start()
    try:
        yield
    finally:
        ended.set()


def watch(
    ended: threading.Event, on_save: Callable[[str], None], on_stop: Callable[[str], None], host: str = HOST
) -> None:
    """Asks until `ended` is set, or until the machine is taken back; the other arguments are those of `watched`."""
    announced = False
    while not ended.is_set():
        if ask(PREEMPTED, host) == "TRUE":
            on_stop("Google Cloud takes this machine back")
            return
        event = ask(MAINTENANCE, host)
        if event is not None:
            stops = event.startswith("TERMINATE")  # A machine that is moved while it runs needs no checkpoint.
            if stops and not announced:
                on_save("Google Cloud will stop this machine for maintenance")
            announced = stops
        ended.wait(SECONDS)


def ask(name: str, host: str = HOST) -> str | None:
    """The value of `name` of this machine; None where the server does not answer as Google's does. It never raises."""
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT)
    try:
        connection.request("GET", f"/computeMetadata/v1/instance/{name}", headers=_FLAVOR)
        response = connection.getresponse()
        if response.status != 200 or response.getheader("Metadata-Flavor") != "Google":
            return None
        return response.read(100).decode("ascii", "replace").strip()
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
