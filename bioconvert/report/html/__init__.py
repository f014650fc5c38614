"""One offline HTML page about a conversion: evidence → frozen numbers → drawings → a template."""
