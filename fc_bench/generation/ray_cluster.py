"""The connection to a Ray cluster: joining it, and the resources of its workers."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from fc_bench.errors import UserError

PATIENCE = 60.0
"""Seconds to wait for the resources of one worker."""
STARTING = 600.0
"""Seconds for the first worker to start; processes start slowly on busy nodes."""
REACHING = 10.0
"""Seconds to check that an address responds before Ray tries for minutes."""
GRAIN = 10_000
"""Ray counts resources in ten-thousandths."""
PASSED_ON = (
    "FC_BENCH_CACHE",
    "HF_HOME",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "DIFFUSERS_OFFLINE",
    "OMP_NUM_THREADS",
)
"""Environment variables that workers inherit from the driver, if it has them."""


@dataclass(frozen=True)
class Cluster:
    """A cluster and the resources of a worker.

    `address` as `ray.init` takes it (None: `RAY_ADDRESS`, or a new cluster on this machine for this command); `workers`
    is the largest number of workers (None: as many as fit when the run starts).
    """

    address: str | None = None
    gpus_per_job: float = 0.0
    cpus_per_job: float = 1.0
    workers: int | None = None

    @property
    def requested(self) -> dict[str, float]:
        """The resources that one worker requests from Ray."""
        return {"num_cpus": self.cpus_per_job, "num_gpus": self.gpus_per_job}


class Connection:
    """This process's connection to a cluster; raises UserError if Ray is not installed.

    It leaves only a cluster that it has joined itself.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.ray = _imported()
        self.cluster = cluster
        self._started = False

    def open(self) -> None:
        """Join the cluster, or start one on this machine; raises UserError if that fails."""
        ray = self.ray
        if ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        address = self.cluster.address or os.environ.get("RAY_ADDRESS") or "local"  # not one that happens to run here
        if address == "local":
            quiet["include_dashboard"] = False
        else:
            quiet["runtime_env"] = {"env_vars": environment}
        ours = signal.getsignal(signal.SIGTERM)
        try:
            if address != "local":
                _check_listening(address)
            ray.init(address=address, **quiet)
        except UserError:
            raise
        except Exception as error:  # Ray raises many kinds, a bare one, too, when it starts too slowly
            where = "a Ray cluster here" if address == "local" else f"the Ray cluster {address}"
            raise UserError(
                f"Connecting to {where} failed ({reason(error)}); correct --address, or start it."
            ) from None
        finally:
            if threading.current_thread() is threading.main_thread() and callable(ours):
                signal.signal(signal.SIGTERM, ours)  # Ray takes it, and would abort
        self._started = True

    def close(self) -> None:
        """Leave the cluster if this connection joined it."""
        if self._started:
            self.ray.shutdown()
            self._started = False

    def room(self) -> int:
        """How many workers the nodes hold if nothing else runs on them; raises UserError if there is room for none."""
        self.open()
        room = sum(holds(node, self.cluster) for node in self._nodes())
        if room < 1:
            raise UserError(
                f"The Ray cluster has no room for a worker: {self._required_and_available()}; request less with "
                "--gpus-per-job, or name --workers if the cluster grows."
            )
        return room

    def check(self) -> None:
        """Join the cluster and reserve the resources of one worker briefly.

        Raises UserError if the cluster does not provide them within `PATIENCE`.
        """
        self.open()
        if self.cluster.workers is None:
            self.room()
        from ray.util.placement_group import placement_group, remove_placement_group

        taken = {"CPU": self.cluster.cpus_per_job, "GPU": self.cluster.gpus_per_job}
        bundle = {name: each for name, each in taken.items() if each}
        if not bundle:
            return
        place = placement_group([bundle])
        try:
            if not place.wait(int(PATIENCE)):
                raise self._unplaced(PATIENCE)
        finally:
            remove_placement_group(place)

    def check_waiting(self, seconds: float) -> None:
        """Raise UserError if the first worker has been awaited for too long.

        A worker with reserved resources may still be starting; if no node is large enough, there is none.
        """
        if seconds >= STARTING or not any(holds(node, self.cluster) for node in self._nodes()):
            raise self._unplaced(seconds)

    def _unplaced(self, seconds: float) -> UserError:
        return UserError(
            f"The Ray cluster gave no worker in {seconds:g} s: {self._required_and_available()}; request less with "
            "--gpus-per-job, or repeat the command when there is room; nothing finished is lost."
        )

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _required_and_available(self) -> str:
        nodes, free = self._nodes(), self.ray.available_resources()
        one = f"a job takes {self.cluster.cpus_per_job:g} CPU and {self.cluster.gpus_per_job:g} GPU of one node"
        cpus, gpus = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
        count = f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"
        there = f"{count} with {cpus:g} CPU and {gpus:g} GPU together"
        return f"{one}, the cluster has {there}, of which {free.get('CPU', 0):g} and {free.get('GPU', 0):g} are free"


def holds(node: dict[str, float], cluster: Cluster) -> int:
    """How many workers fit on a node with these resources.

    A worker with less than one GPU gets its whole share from one GPU. A worker without any resources counts once.
    """
    rooms: list[int] = []
    if cluster.cpus_per_job:
        rooms.append(_times(node.get("CPU", 0), cluster.cpus_per_job))
    if cluster.gpus_per_job >= 1:
        rooms.append(_times(node.get("GPU", 0), cluster.gpus_per_job))
    elif cluster.gpus_per_job:
        rooms.append(int(node.get("GPU", 0)) * _times(1, cluster.gpus_per_job))
    return min(rooms, default=1)


def _times(there: float, each: float) -> int:
    return round(there * GRAIN) // round(each * GRAIN)


def _check_listening(address: str) -> None:
    """Raise UserError if no cluster responds at an address within `REACHING`.

    `auto` is the address that `ray start` saved on this machine. It remains saved if the cluster ends without `ray
    stop`.
    """
    from ray._private.services import canonicalize_bootstrap_address

    where = address if "://" in address else canonicalize_bootstrap_address(address) or ""
    found = re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d{1,5})", where, re.ASCII)
    if found is None:
        return  # Ray says what is wrong with it
    until, failed = time.monotonic() + REACHING, ""
    while True:
        try:
            socket.create_connection((found[1], int(found[2])), timeout=2).close()
            return
        except (OSError, ValueError, OverflowError) as error:
            failed = reason(error)
        if time.monotonic() > until:
            break
        time.sleep(0.5)
    place = where if where == address else f"{address} ({where})"
    raise UserError(f"No Ray cluster answers at {place} ({failed}); correct --address, or start it: ray start --head.")


def reason(error: BaseException) -> str:
    """The first line of an error's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f'The executor "ray" needs the package ray ({error}); install it in the checkout: pip install -e ".[ray]".'
        ) from None
    return ray
