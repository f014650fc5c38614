"""Measurements against other packages; run by ``make bench``, never collected with the tests."""
