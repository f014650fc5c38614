"""What the experiments share: bars, data, training, the table and the JSON."""
