"""Single files made of a model, to be used without bioconvert: one file for each format."""
