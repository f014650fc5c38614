"""``python -m bioconvert`` is the same as the script ``bioconvert``."""

from bioconvert.cli.main import run

if __name__ == "__main__":
    run()
