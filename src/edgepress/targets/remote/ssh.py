"""How a worker is started over ssh, and what ssh's own failures mean.

Everything about the host but its name comes from the user's OpenSSH configuration.
"""

from __future__ import annotations

import shlex
import shutil

from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.targets.remote.bundle import bootstrap
from edgepress.targets.remote.channel import ConnectionLost
from edgepress.targets.target import Remote, Target

# ssh's own exit status, as opposed to the far command's; and the shell's for a command that is not there.
SSH_FAILED, NOT_FOUND = 255, 127
# A silent line is given up after this many unanswered questions, five seconds apart.
ALIVE_INTERVAL_S, ALIVE_COUNT = 5, 3
# Words of ssh on failures that another attempt cannot mend -> what to do.
FINAL = {
    "Host key verification failed": "ssh HOST once; if its key changed and you know why, ssh-keygen -R HOST first",
    "Permission denied": "ssh HOST must work without a password: ssh-copy-id HOST, or an agent with your key",
    "Could not resolve hostname": "check remote.host in the target file, or add a Host entry to ~/.ssh/config",
    "Bad configuration option": "mend the OpenSSH configuration",
    "No such file or directory": "check remote.config in the target file",
}


def command(target: Target) -> list[str]:
    """The command that starts a worker on the target's host.

    Raises:
        MissingTool: no ssh here. UserError: the target names no host.
    """
    remote = target.remote
    if remote is None or not remote.host or remote.host.startswith("-"):
        raise UserError(f"target {target.name} names no host", fix="set remote.host in the target file")
    if shutil.which("ssh") is None:
        raise MissingTool("ssh", needed_for=f"target {target.name}", install="apt-get install openssh-client")
    # Not `exec`: the shell turns a crash into an exit status, which ssh would otherwise report as a lost connection.
    far_command = f"{remote.python} -c {shlex.quote(bootstrap(remote.directory))}; exit $?"
    return [*_ssh(remote), remote.host, far_command]


def _ssh(remote: Remote) -> list[str]:
    options = {
        "BatchMode": "yes",  # ask nobody for passwords
        "ConnectTimeout": str(remote.connect_timeout_s),
        "ServerAliveInterval": str(ALIVE_INTERVAL_S),
        "ServerAliveCountMax": str(ALIVE_COUNT),
    }
    config = ["-F", remote.config] if remote.config else []
    return ["ssh", "-T", *config, *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]


def explain(target: Target, lost: ConnectionLost) -> ToolError | None:
    """What a failure to connect or start means, or `None` if another attempt may succeed."""
    host, python = (target.remote.host, target.remote.python) if target.remote else ("", "")
    said = " | ".join(lost.last_words[-3:])
    if lost.returncode == NOT_FOUND:
        fix = f"ssh {host} sudo apt-get install python3, or set remote.python (now {python!r}) in the target file"
        return MissingTool(f"Python on {host}", needed_for=f"target {target.name}", install=fix)
    if lost.returncode != SSH_FAILED:
        return ToolError(f"the worker on {host} ended", found=said or f"exit status {lost.returncode}")
    for words, fix in FINAL.items():
        if words in " ".join(lost.last_words):
            return ToolError(f"no connection to {host}", found=said, fix=fix.replace("HOST", host))
    return None
