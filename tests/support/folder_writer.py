"""A process that writes output folders without torch, each in a child that can be traced, killed or failed.

Started as a script, it takes one JSON object a line: arguments of :func:`write`. It answers with the child's
process id; after an empty line the child begins, and its end is answered with its exit status; with a number
in that line it is killed after as many seconds. The child does all in one thread, unless a file has more than
some MiB.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from bioconvert.checkpoint.files.header import read_header
from bioconvert.checkpoint.files.regular_files import blocks, open_regular
from bioconvert.checkpoint.folders.manifest import Manifest
from bioconvert.checkpoint.output import publishing
from bioconvert.checkpoint.output.journal import Job
from bioconvert.checkpoint.output.output_folder import Content, write_folder
from bioconvert.checkpoint.output.writing import Payload
from bioconvert.core.errors import CheckpointError, ResourceError, TargetError

INPUT, SYSTEM, REFUSED, RESOURCES, BUG = 3, 4, 5, 6, 7
"""How a child ends that could not do its work."""
_ANY_PROCESS, _SET_TRACER = -1, 0x59616D61


def payloads(source):
    """Give the tensors of a safetensors file, which are read when they are written."""
    found = []
    for name, entry in read_header(source).tensors.items():

        def read(entry=entry):
            with open_regular(source) as handle:
                yield from blocks(handle, entry.start, entry.nbytes)

        found.append(Payload(name, entry.dtype, entry.shape, entry.nbytes, read))
    return found


def manifest(tool="1"):
    """Give a manifest without records."""
    return Manifest(
        format_version=1,
        tool={"bioconvert": tool, "torch": "2"},
        source=None,
        rules=[],
        conversion=None,
        architecture=None,
        ties=(),
        tensors={},
        files={},
    )


def write(
    source,
    target,
    *,
    resume=False,
    overwrite=False,
    journal=True,
    shard_size=4000,
    tool="1",
    key="1",
    swap=True,
):
    """Write a folder of a file's tensors, shard by shard, with one of them as an original and a side file.

    Args:
        source: the file.
        target: the folder.
        resume: whether to go on with what is there.
        overwrite: whether a folder may be replaced.
        journal: whether finished files are put on record.
        shard_size: bytes of tensors in a file.
        tool: the version that the manifest names.
        key: something else that decides the result.
        swap: whether the system can exchange two folders in one step.
    """
    source = Path(source)
    if not swap:
        publishing.exchange = lambda one, other: False
    found = payloads(source)
    content = Content(found, found[:1], [source.with_name("config.json")], shard_size)
    job = Job({"the test": key}, {"command": "none"}, resume) if journal else None
    write_folder(Path(target), content, manifest(tool), overwrite=overwrite, job=job)


def _child(arguments, gate):
    import ctypes

    # Linux lets a process be traced by others than its parent only if it says so.
    ctypes.CDLL(None).prctl(_SET_TRACER, _ANY_PROCESS, 0, 0, 0)
    os.read(gate, 1)
    try:
        write(**arguments)
    except ResourceError:
        return RESOURCES
    except TargetError as error:
        return SYSTEM if isinstance(error.__cause__, OSError) else REFUSED
    except OSError:
        return SYSTEM
    except CheckpointError:
        return INPUT
    except BaseException:  # noqa: BLE001 - whatever it is, it must not be
        return BUG
    return 0


def serve():
    """Answer until the input ends."""
    for line in sys.stdin:
        gate, opener = os.pipe()
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            os._exit(_child(json.loads(line), gate))
        print(pid, flush=True)
        moment = sys.stdin.readline()
        os.write(opener, b"1")
        if moment.strip():
            time.sleep(float(moment))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(gate)
        os.close(opener)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
