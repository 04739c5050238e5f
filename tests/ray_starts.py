"""How often tests have Ray start: it gives its own processes 30 s, too few on a busy machine."""

RAY_STARTS = 3
RAY_IS_LATE = "The current node timed out during startup"
