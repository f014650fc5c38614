"""What a plan, a conversion, a drift or a checkpoint looks like in a terminal. Needs rich, never torch."""
