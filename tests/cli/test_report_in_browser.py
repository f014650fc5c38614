"""A page about a real ResNet-50 in a real browser that has no network."""

import re
import shutil
import subprocess

import pytest
import torch

from bioconvert.checkpoint import import_torchvision

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
NO_HOST = "--host-resolver-rules=MAP * ~NOTFOUND"
"""No name leads anywhere, where the process can't be cut off from the network altogether."""
LOGGED = re.compile(r"INFO:CONSOLE|:CONSOLE:|Refused to|net::ERR|Uncaught|SyntaxError")
"""What Chromium writes about a page that isn't as it should be."""


def _without_network():
    """Give the words that start a program without any network; none where the system doesn't allow that."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return []
    for words in ([unshare, "-n"], [unshare, "-rn"]):
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            return words
    return []


@pytest.fixture
def opened(tmp_path):
    """Open a file in a browser of its own; gives the document as the browser has it, and what it logged."""

    def run(file, *more):
        words = [*_without_network(), CHROMIUM, *QUIET, NO_HOST, f"--user-data-dir={tmp_path / 'profile'}"]
        log = ["--enable-logging=stderr", "--v=0"]
        done = subprocess.run(
            [*words, *log, *more, file.as_uri()], capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout, done.stderr

    return run


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which is not installed")
class TestInBrowser:
    @pytest.fixture
    def page(self, bioconvert, tmp_path):
        import_torchvision()
        from torchvision.models import resnet50

        torch.manual_seed(0)
        torch.save(resnet50().state_dict(), tmp_path / "resnet50.pt")
        words = ["convert", "resnet50.pt", "--arch", "torchvision:resnet50", "-r", "yat", "--out", "out"]
        ran = bioconvert(*words, "--input-shape", "1,3,64,64", "--report", "page.html")
        assert ran.code == 0, ran.err
        return tmp_path / "page.html"

    def test_opens_without_network_and_without_a_complaint(self, page, opened):
        """Every section is there, the console stays empty, and the file is below 1 MiB."""
        document, log = opened(page, "--dump-dom")
        assert page.stat().st_size <= 1 << 20
        for section in ("structure", "rules", "sizes", "weights", "drift", "facts", "use"):
            assert f'<section id="{section}"' in document
        assert "32 Conv2d became YatConv2d" in document
        assert LOGGED.search(log) is None, log

    def test_a_complaint_would_be_seen(self, page, opened):
        """The same page with a picture from elsewhere is refused by its own policy, and that is logged."""
        spoilt = page.with_name("spoilt.html")
        spoilt.write_text(page.read_text().replace("<main>", '<main><img src="https://example.org/x.png">'))
        _, log = opened(spoilt, "--dump-dom")
        assert LOGGED.search(log) is not None

    def test_can_be_printed(self, page, opened, tmp_path):
        """Printing gives a document of several pages."""
        target = tmp_path / "page.pdf"
        opened(page, f"--print-to-pdf={target}")
        assert target.read_bytes().startswith(b"%PDF")
