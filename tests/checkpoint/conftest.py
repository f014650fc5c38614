"""What the tests of checkpoints add to pytest."""

import fault_table


def pytest_terminal_summary(terminalreporter):
    """Show how the faults ended that were tried."""
    if fault_table.ROWS:
        terminalreporter.section("faults")
        for line in fault_table.lines():
            terminalreporter.write_line(line)
