"""The zoo: what the promises of conversion are worth on other people's models, all with random weights."""
