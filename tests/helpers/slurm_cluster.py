"""A SLURM of two nodes on the loopback of this machine: no systemd, no munge, nothing outside of its folder."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

NODES = ("n0", "n1")
DONE = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmUser={user}
SlurmdUser={user}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=5
MinJobAge=3600
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=2000 State=UNKNOWN
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=usual Nodes=n[0-1] Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=n[0-1] State=UP PriorityTier=9 PreemptMode=OFF
"""


class SlurmCluster:
    """slurmctld and two slurmd, which :meth:`start` brings up and :meth:`stop` ends with all that they started.

    Args:
        folder: of its own, on a path without spaces: configuration, state, logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        self.environment |= {"SLURM_CONF": str(self.conf), "MASTER_ADDR": "127.0.0.1"}  # nobody resolves n0 and n1
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._keeper: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> list[str]:
        """The programs that this machine lacks."""
        return [name for name in ("slurmctld", "slurmd", "sbatch", "srun", "scontrol") if shutil.which(name) is None]

    def start(self, patience: float = 20.0) -> None:
        """Return when both nodes are idle."""
        (self.folder / "state").mkdir(parents=True)
        text = CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0], ports=free_ports(3), user=getpass.getuser(), folder=self.folder
        )
        self.conf.write_text(text)
        keeper = [sys.executable, __file__, str(self.folder)]
        self._keeper = subprocess.Popen(keeper, stdin=subprocess.PIPE, start_new_session=True)
        self._run_daemon("slurmctld", "-D", "-i")
        for name in NODES:
            (self.folder / f"spool-{name}").mkdir()
            self._run_daemon("slurmd", "-D", "-N", name)
        until = time.monotonic() + patience
        while self.call("sinfo", "-h", "-p", "usual", "-t", "idle", "-o", "%D", check=False).strip() != str(len(NODES)):
            if time.monotonic() > until:
                raise TimeoutError(self.logs())
            time.sleep(0.1)

    def _run_daemon(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("ab") as output:
            started = subprocess.Popen(
                [*command, "-f", str(self.conf)], stdout=output, stderr=output, env=self.environment
            )
        self._daemons.append(started)

    def stop(self) -> None:
        """End the jobs, then the daemons, then what is left of them."""
        if self._keeper is not None:
            self._keeper.communicate()
            self._keeper = None
        for daemon in self._daemons:
            daemon.wait(10)

    def end(self) -> None:
        """What :meth:`stop` has the keeper do: it does so too when this process dies before."""
        me = f"--user={getpass.getuser()}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.call("scancel", "--full", "--signal=KILL", me, check=False)
            self.call("scancel", me, check=False)
            until = time.monotonic() + 10
            while self.call("squeue", "-h", check=False) and time.monotonic() < until:
                time.sleep(0.1)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            until = time.monotonic() + 5
            while self.processes() and time.monotonic() < until:
                time.sleep(0.1)

    def processes(self) -> list[int]:
        """Those that the cluster has started, known by its configuration in their environment."""
        mark, found = f"SLURM_CONF={self.conf}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def call(self, *command: str, check: bool = True, timeout: float = 20) -> str:
        """What a command of SLURM prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def submit(
        self, options: Sequence[str], script: Path, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> str:
        """The number of a new job; ``environment`` is added to the harness's own."""
        (port,) = free_ports(1)
        added = {**self.environment, "MASTER_PORT": str(port), **environment}
        command = [shutil.which("sbatch") or "sbatch", "--parsable", *options, str(script), *arguments]
        done = subprocess.run(command, env=added, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def show(self, job: str) -> dict[str, str]:
        """What SLURM knows of a job, such as ``JobState``, ``Restarts``, ``ExitCode``."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.call("scontrol", "show", "job", "-o", job)))

    def wait(self, job: str, until: Callable[[dict[str, str]], bool], patience: float = 600.0) -> dict[str, str]:
        """What is known of a job as soon as it is so."""
        end = time.monotonic() + patience
        while not until(known := self.show(job)):
            if time.monotonic() > end:
                raise TimeoutError(f"{known}\n{self.logs()}")
            time.sleep(0.1)
        return known

    def logs(self) -> str:
        """The daemons' last lines."""
        tails = (path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*.log")))
        return "\n".join(tails)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def finished(known: Mapping[str, str]) -> bool:
    """Whether a job has come to an end, and nothing of it runs."""
    return known["JobState"] in DONE


def is_running(known: Mapping[str, str]) -> bool:
    """Whether a job runs now."""
    return known["JobState"] == "RUNNING"


if __name__ == "__main__":  # the keeper: when the pipe from the one who started the cluster closes, that is over
    sys.stdin.read()
    SlurmCluster(Path(sys.argv[1])).end()
