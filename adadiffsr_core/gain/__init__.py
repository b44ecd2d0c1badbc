"""How much a step still adds: Eq. 1 and 2, and the three estimators of quality."""
