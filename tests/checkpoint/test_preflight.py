"""Whether memory and disk space suffice is known before anything is read or written."""

import os
import resource
import subprocess
import sys

import pytest
from folder_writer import manifest

from bioconvert.checkpoint.output import preflight
from bioconvert.checkpoint.output.output_folder import Content, write_folder
from bioconvert.checkpoint.output.preflight import Limit, check_memory, check_space, memory_limit
from bioconvert.checkpoint.output.writing import Payload
from bioconvert.core.errors import ResourceError

MIB = 1 << 20


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Stand in for /proc and the control groups by files, each named by its path below."""
    monkeypatch.setattr(preflight, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(preflight, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(preflight.resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)

    def put(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return put


MACHINE = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 4096 kB\n"}
GROUPS = {
    "proc/self/cgroup": "0::/user/job\n",
    "groups/user/job/memory.max": "max\n",
    "groups/user/job/memory.current": "5\n",
    "groups/user/memory.max": f"{3 * MIB}\n",
    "groups/user/memory.current": f"{2 * MIB}\n",
    "groups/user/memory.stat": f"anon 7\ninactive_file {MIB // 2}\nactive_file 0\n",
}
OLD_GROUPS = {
    "proc/self/cgroup": "4:cpu,cpuacct:/\n3:memory:/job\n",
    "groups/memory/job/memory.limit_in_bytes": f"{MIB}\n",
    "groups/memory/job/memory.usage_in_bytes": f"{2 * MIB}\n",
}
SYSTEMS = [
    pytest.param(MACHINE, Limit(4 * MIB, "of the machine"), id="the machine"),
    pytest.param(
        {**MACHINE, **GROUPS}, Limit(3 * MIB // 2, "of the control group or container"), id="a group above"
    ),
    pytest.param(
        {**MACHINE, **OLD_GROUPS}, Limit(0, "of the control group or container"), id="version 1, used up"
    ),
    pytest.param({}, None, id="a system that doesn't tell"),
    pytest.param({"proc/self/cgroup": "0::/gone\n"}, None, id="groups that can't be read"),
]


class TestMemory:
    @pytest.mark.parametrize(("files", "limit"), SYSTEMS)
    def test_the_smallest_limit_counts(self, system, files, limit):
        """Machine, control groups with all above them, and the process's own limits are asked."""
        system(files)
        assert memory_limit() == limit

    def test_limits_of_the_process(self, system, monkeypatch):
        """What the process may address, less what it has, is a limit by its own name."""
        system({**MACHINE, "proc/self/statm": "10 5 1 1 0 4 0\n"})
        pages = {resource.RLIMIT_AS: 30, resource.RLIMIT_DATA: 90}
        page = resource.getpagesize()
        monkeypatch.setattr(preflight.resource, "getrlimit", lambda kind: (pages[kind] * page, -1))
        assert memory_limit() == Limit(20 * page, "of the process, by ulimit -v")

    def test_too_little_is_an_error_with_both_numbers(self, system):
        """The error says what is needed, what there is, what sets the limit and what to do."""
        system(MACHINE)
        check_memory(4 * MIB)
        with pytest.raises(ResourceError, match=r"5\.0 MiB .* only 4\.0 MiB .*of the machine.*--stream"):
            check_memory(5 * MIB)

    def test_a_real_limit_is_seen(self):
        """Under ulimit -v the limit of a real process is the smaller one."""
        code = (
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))\n"
            "from bioconvert.checkpoint.output.preflight import memory_limit; print(memory_limit())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "ulimit -v" in done.stdout


class TestSpace:
    def test_too_little_is_an_error_with_both_numbers(self, tmp_path):
        """More than is free can't be written; the folder need not exist yet."""
        found = os.statvfs(tmp_path)
        free = found.f_bavail * found.f_frsize
        check_space(tmp_path / "not" / "there", free // 2)
        with pytest.raises(ResourceError, match=r"TiB are to be written, but only .* of disk space are free"):
            check_space(tmp_path / "not" / "there", free + (1 << 42))

    def test_nothing_is_read_or_written_then(self, tmp_path):
        """A folder that can't fit leaves no trace, and its tensors are not asked for."""

        def never():
            raise AssertionError("was read")

        huge = Payload("a", "U8", (1 << 50,), 1 << 50, never)
        with pytest.raises(ResourceError, match=r"1,?024\.0 TiB are to be written"):
            write_folder(tmp_path / "out", Content([huge], (), (), 1 << 60), manifest(), overwrite=False)
        assert list(tmp_path.iterdir()) == []
