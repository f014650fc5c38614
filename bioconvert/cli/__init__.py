"""The command line: one command a file, each parses, calls one function of the package, renders and exits."""
